"""How many operations a tile function executes: with loops unrolled, as instructions are made."""

from __future__ import annotations

from collections import Counter

from xdsl.dialects.func import FuncOp
from xdsl.ir import Block

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, error
from npu_dialect.tile import CopyOp, ForOp, HostOp, KernelOp

LONGEST = 1_000_000
"""Operations executed. Each takes about 1 ms to lower and to schedule, so that more would take the
better part of an hour; the longest programs of the benchmarks have less than 10,000 instructions.
"""


def check_length(function: FuncOp, most: int = LONGEST) -> None:
    """Raises CompileError where a function executes more than `most` operations."""
    found = executed(function)
    if found.total() > most:
        layer, count = found.most_common(1)[0]
        raise error(
            Code.NOT_LOWERABLE,
            f"a program must execute at most {most:,} operations on tiles",
            found=f"{found.total():,} of them, {count:,} for {layer}: its tiles are very small",
            remedy="a target with a larger scratchpad or larger accumulators, or a smaller model",
            source=function.sym_name.data,
        )


def executed(function: FuncOp) -> Counter[str]:
    """Copies and computations that are executed, by layer."""
    found = Counter[str]()
    _count(function.body.block, 1, found)
    return found


def _count(block: Block, times: int, found: Counter[str]) -> None:
    for op in block.ops:
        if isinstance(op, ForOp):
            _count(op.body.block, times * op.trips.value.data, found)
        elif isinstance(op, CopyOp | KernelOp | HostOp):
            found[(*provenance.sources(op), op.name)[0]] += times
