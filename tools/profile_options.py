"""What npu-run tells about time and energy: its options, files and tables."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.tools import common

if TYPE_CHECKING:
    from npu_dialect.runtime.run import Run


def add(parser: common.Parser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "time and energy", "They do not depend on data; docs/reports.md explains every figure."
    )
    add = group.add_argument
    add("--timing", action="store_true", help="time, energy, layers, without running: no inputs")
    output = common.output_file
    add(
        "--trace",
        metavar="FILE",
        type=output,
        help="a timeline for ui.perfetto.dev, .json or .json.gz",
    )
    add("--report", metavar="FILE", type=output, help="a report, .html or .json")
    add(
        "--baseline",
        metavar="FILE",
        type=common.input_file,
        help="compare with another run: what --json or --report r.json wrote, or a .npu",
    )
    add("--operating-point", metavar="NAME", help="at another voltage and clock of the target")
    add(
        "--frames-per-second",
        type=float,
        metavar="N",
        help="the energy of a frame at each operating point, and the best that is in time",
    )
    add(
        "--shared-ports",
        action="store_true",
        help="also the time if the engines shared one port of each memory",
    )
    add("--json", action="store_true", help="print JSON, not tables")


def check(args: argparse.Namespace) -> None:
    """Refuse values and combinations that mean nothing. Raises CompileError (NPU0004)."""
    rate = args.frames_per_second
    if rate is not None and not 0 < rate < float("inf"):
        raise _refused("--frames-per-second must be a number greater than zero", f"{rate:g}")
    if not args.timing:
        return
    others = {
        "--input": args.input,
        "--random": args.random is not None,
        "--output": args.output,
        "--dump": args.dump,
        "--compare": args.compare,
        "--initial": args.initial,
        "--save-states": args.save_states,
        "--labels": args.labels,
        "--sequence": args.sequence,
        "--jobs": args.jobs is not None,
        "--seed": args.seed is not None,
        f"--level {args.level}": args.level != "npu",
    }
    found = ", ".join(name for name, given in others.items() if given)
    if found:
        raise _refused("--timing must stand without what runs a program on data", found)


def _refused(rule: str, found: str) -> Exception:
    return error(Code.OPTION, rule, found=found, source="npu-run")


def asked(args: argparse.Namespace) -> list[str]:
    """The options about time and energy that are given, without --json."""
    given = {
        "--trace": args.trace,
        "--report": args.report,
        "--baseline": args.baseline,
        "--operating-point": args.operating_point,
        "--frames-per-second": args.frames_per_second,
        "--shared-ports": args.shared_ports,
        "--timing": args.timing,
    }
    return [name for name, value in given.items() if value]


def at_point(args: argparse.Namespace, run: Run) -> Run:
    """The run at the operating point that is asked for. Raises CompileError (NPU0004, NPU0301)."""
    if not args.operating_point:
        return run
    return replace(run, profile=run.profile.at(args.operating_point))


def save(args: argparse.Namespace, run: Run, fidelity: Mapping[str, Any] | None = None) -> None:
    """Write the files of time and energy that are asked for; the page has a section of what
    quantization costs where that is known. Raises CompileError.
    """
    if args.trace:
        run.save_trace(args.trace)
    if args.report:
        run.save_report(
            args.report,
            baseline=_baseline(args),
            frames_per_second=args.frames_per_second,
            name=Path(args.program).stem,
            fidelity=fidelity,
        )


def to_json(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    """The summary of the run, with what else is asked for."""
    from npu_dialect.runtime import baseline, contention, power, summary

    found = run.summary()
    if args.frames_per_second:
        found["operating_points"] = summary.frames(
            power.frames(run.profile, args.frames_per_second)
        )
    if args.shared_ports:
        found["shared_ports"] = contention.of(run.profile).to_json()
    before = _baseline(args)
    if before is not None:
        found["baseline"] = baseline.compare(before, found).to_json()
    return found


def show(args: argparse.Namespace, run: Run) -> None:
    """Print the tables of the run."""
    from npu_dialect.runtime import baseline, contention, power
    from npu_dialect.tools import profile_tables

    profile_tables.show_run(run)
    if args.frames_per_second:
        rate = args.frames_per_second
        profile_tables.show_frames(power.frames(run.profile, rate), rate)
    if args.shared_ports:
        profile_tables.show_contention(run.cycles, contention.of(run.profile))
    before = _baseline(args)
    if before is not None:
        profile_tables.show_comparison(baseline.compare(before, run.summary()))


def _baseline(args: argparse.Namespace) -> Mapping[str, Any] | None:
    if not args.baseline:
        return None
    from npu_dialect.runtime import baseline

    return baseline.load(args.baseline)
