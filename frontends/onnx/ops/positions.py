"""What depends on positions: one-hot codes, running sums."""

from __future__ import annotations

from typing import Any

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op


@op("OneHot")
def one_hot(
    b: Builder, indices: SSAValue, depth: SSAValue, values: SSAValue, *, axis: int
) -> SSAValue:
    """Compare with 0, 1, ... along a new axis; negative indices count from the end."""
    size = int(b.known(depth, "depth").reshape(-1)[0])
    b.reserve(size)
    rank = len(shape_of(indices)) + 1
    place = common.normalize_axis(axis, rank)
    shape = [*shape_of(indices)[:place], 1, *shape_of(indices)[place:]]
    index = common.reshape(b, common.cast(b, indices, dtypes.i32), shape)
    below = b.emit(graph.LtOp(index, b.scalar(0, index)))
    index = common.where(b, below, common.add(b, index, b.scalar(size, index)), index)
    hit = b.emit(graph.EqOp(index, common.iota(b, size, rank, place)))
    off, on = (common.reshape(b, common.along(b, values, 0, k, 1), ()) for k in (0, 1))
    return common.where(b, hit, on, off)


@op("CumSum")
def cumulative_sum(
    b: Builder, x: SSAValue, axis: SSAValue, *, exclusive: int, reverse: int
) -> SSAValue:
    """The sum of all elements up to each."""
    place = common.normalize_axis(b.ints(axis, "axis")[0], len(shape_of(x)))
    return _running(b, graph.AddOp, x, place, exclusive, reverse)


@op("CumProd", since=26)
def cumulative_product(
    b: Builder, x: SSAValue, axis: SSAValue, *, exclusive: int, reverse: int
) -> SSAValue:
    """The product of all elements up to each."""
    place = common.normalize_axis(b.ints(axis, "axis")[0], len(shape_of(x)))
    return _running(b, graph.MulOp, x, place, exclusive, reverse)


def _running(
    b: Builder, operation: type[Any], x: SSAValue, axis: int, exclusive: int, reverse: int
) -> SSAValue:
    """Each element with the one before, then with those 2, 4, ... before."""
    neutral = 1 if operation is graph.MulOp else 0

    def moved(distance: int) -> SSAValue:
        if distance >= size:
            return common.broadcast(b, b.scalar(neutral, x), shape_of(x))
        by = [(-distance if reverse else distance) if k == axis else 0 for k in range(rank)]
        return common.pad(b, x, by, [-p for p in by], neutral)

    size, rank = shape_of(x)[axis], len(shape_of(x))
    x = moved(1) if exclusive and size else x
    distance = 1
    while distance < size:
        x = b.emit(operation(x, moved(distance)))
        distance *= 2
    return x
