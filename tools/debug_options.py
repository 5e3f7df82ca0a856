"""The options of `npu-run` that look at single instructions: --break and --sanitize."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from npu_dialect.diagnostics import Code, error
from npu_dialect.tools import common

if TYPE_CHECKING:
    from npu_dialect.ports import Array, Inputs
    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.sanitizer import Finding, Limits

SHOWN = 20
"""Findings that are printed."""
SATURATED = 0.01
"""Share of a layer's results at the end of their type from which on it is named."""


def add(parser: common.Parser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "debugging",
        "The instructions are executed one by one, by definition, in the order of --seed.",
    )
    group.add_argument(
        "--break",
        dest="stops",
        action="append",
        default=[],
        metavar="LAYER|#N",
        help="stop after the first instruction of a layer, or after instruction N, and take "
        "commands from the terminal or standard input (help lists them); may be repeated; start "
        "stops before the first instruction",
    )
    group.add_argument(
        "--sanitize",
        action="store_true",
        help="look at every instruction for bytes that were never written, sums that leave 32 "
        "bits, floats that are no numbers, results at the ends of their type, and accesses that "
        "no wait keeps apart; the exit code is 1 where something is wrong",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse what does not go together. Raises CompileError."""
    asked = "--break" if args.stops else "--sanitize" if args.sanitize else ""
    if args.stops and args.sanitize:
        rule = "must be given either --break or --sanitize"
        raise error(Code.OPTION, rule, found="both", source="npu-run")
    if asked and (args.compare or args.level != "npu" or args.tier not in ("auto", "plain")):
        rule = f"{asked} must be for instructions that are executed by definition"
        found = "--compare" if args.compare else f"--level {args.level}, --tier {args.tier}"
        raise error(Code.OPTION, rule, found=found, source="npu-run")


def debug(
    args: argparse.Namespace, program: Program, inputs: Inputs, state: Mapping[str, Array]
) -> int:
    """Run with stops."""
    from npu_dialect.runtime.debugger import Debugger
    from npu_dialect.tools import debugger as shell

    made = Debugger(program, inputs, entry=args.entry, seed=args.seed, state=state)
    for stop in args.stops:
        if stop != "start":
            made.stop_at(stop)
    shell.run(made, begin="start" in args.stops)
    return 0


def sanitize(
    args: argparse.Namespace, program: Program, inputs: Inputs, state: Mapping[str, Array]
) -> int:
    """Run and print what is suspicious."""
    from npu_dialect.runtime.sanitizer import Sanitizer, prove
    from npu_dialect.runtime.simulator import Session

    with common.progress("npu-run --sanitize"):
        session = Session(program, tier="plain", seed=args.seed)
        session.set_initial(state)
        entry = args.entry or program.entry_for(inputs)
        watch = Sanitizer(program, entry)
        session.run(inputs, entry=entry, observe=watch)
        report = watch.report()
        findings = [*prove(program), *report.findings]
    if args.json:
        found = report.to_json() | {"clean": not findings}
        print(json.dumps(found | {"findings": [vars(f) for f in findings]}, indent=2))
    else:
        _show(findings, report.limits)
    return common.EXIT_ERROR if findings else 0


def _show(findings: list[Finding], limits: Mapping[str, Limits]) -> None:
    from npu_dialect.tools import tables

    for finding in findings[:SHOWN]:
        print(finding)
    if len(findings) > SHOWN:
        print(f"and {len(findings) - SHOWN} more (--json lists all)")
    if not findings:
        print(
            "clean: all bytes that are read were written, no sum leaves 32 bits, every wait holds"
        )
    many = {
        name: found
        for name, found in limits.items()
        if max(found.lowest, found.highest) >= SATURATED * max(1, found.elements)
    }
    if not many:
        return
    table = tables.table(
        "\nresults at the ends of their type (zero after a ReLU may be one)",
        ("layer", "elements", "lowest", "highest"),
    )
    for name, found in many.items():
        shares = (f"{n / found.elements:.1%}" for n in (found.lowest, found.highest))
        table.add_row(name, f"{found.elements:,}", *shares)
    tables.console().print(table)
