"""The options that say how layers are to be mapped: of all tools that compile a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from npu_dialect.diagnostics import Code, error

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

OPTIONS = {"objective": "latency", "scratchpad": None, "raw_constants": False}
"""What they are where they are not given."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add --objective, --scratchpad and --raw-constants."""
    add = parser.add_argument
    add(
        "--objective",
        choices=("latency", "energy", "memory", "balanced"),
        default=OPTIONS["objective"],
        help="what tiles and cascades are chosen for: the fewest cycles (default), the least "
        "energy by the target's tables, the least scratchpad with which the program is estimated "
        "to take no more than twice the cycles (memory), or the least bytes times squared cycles "
        "(balanced)",
    )
    add(
        "--scratchpad",
        metavar="BYTES",
        type=int,
        help="how many bytes of the scratchpad the program may use (default: all that there are)",
    )
    add(
        "--raw-constants",
        action="store_true",
        help="store constants as they are, where the target's dma engine could decode them",
    )


def asked(args: argparse.Namespace) -> list[str]:
    """The options that are given."""
    names = [name for name, default in OPTIONS.items() if getattr(args, name) != default]
    return [f"--{name.replace('_', '-')}" for name in names]


def note(args: argparse.Namespace, module: ModuleOp) -> None:
    """Note on a module what was asked for. Raises CompileError (NPU0004)."""
    from xdsl.dialects.builtin import IntegerAttr, StringAttr, UnitAttr, i64

    if args.raw_constants:
        module.attributes["npu.uncoded"] = UnitAttr()
    if args.objective != OPTIONS["objective"]:
        module.attributes["npu.objective"] = StringAttr(args.objective)
    if args.scratchpad is None:
        return
    if args.scratchpad <= 0:
        rule, found = "must be a number of bytes above 0", str(args.scratchpad)
        raise error(Code.OPTION, rule, found=found, source="--scratchpad")
    module.attributes["npu.scratchpad"] = IntegerAttr(args.scratchpad, i64)
