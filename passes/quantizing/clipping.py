"""The range of a tensor of which only a clipped part is read.

    max_pool(batch_norm(x))  ->  relu       the stored batch_norm needs no negative values

What saturates gives what the activation would: half of the steps would be for nothing.
"""

from __future__ import annotations

import math

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.passes.quantizing.ranges import Range

MOVES = (graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.MaxPool2DOp)
"""What keeps values, and their order, between a tensor and the activations that read it."""


def clipped(value: SSAValue, own: Range) -> Range:
    """The range of a tensor, as far as its readers tell parts of it apart."""
    low, high = bounds(value)
    return Range.around(max(own.low, low), min(own.high, high))


def bounds(value: SSAValue) -> tuple[float, float]:
    """The least and the greatest value between which the readers of a tensor clip it; infinite
    where one does not.
    """
    found = [_bounds_of(use.operation, use.index) for use in value.uses]
    if not found:
        return -math.inf, math.inf
    return min(low for low, _ in found), max(high for _, high in found)


def _bounds_of(op: object, operand: int) -> tuple[float, float]:
    if isinstance(op, graph.ReluOp):
        return 0.0, math.inf
    if isinstance(op, graph.ClampOp):
        return op.bounds
    if isinstance(op, MOVES) and operand == 0:
        return bounds(op.results[0])
    return -math.inf, math.inf
