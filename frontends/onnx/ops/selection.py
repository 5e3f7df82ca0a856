"""Selection by index."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op

MAX_SLICES = 16
"""A gather of at most so many separate rows is a concatenation of slices."""


@op("Gather", storage=True)
def gather(b: Builder, x: SSAValue, indices: SSAValue, *, axis: int) -> SSAValue:
    """By known indices: one slice if they are evenly spaced, else a few of them."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    index = b.known(indices, "an index")
    flat = [int(k) + size if k < 0 else int(k) for k in index.reshape(-1)]
    if any(not 0 <= k < size for k in flat):
        raise Misfit(f"an index outside of {size}")
    taken = _taken(b, x, axis, flat)
    shape = shape_of(x)
    return common.reshape(b, taken, (*shape[:axis], *index.shape, *shape[axis + 1 :]))


def _taken(b: Builder, x: SSAValue, axis: int, flat: list[int]) -> SSAValue:
    steps = {q - p for p, q in pairwise(flat)}
    if len(flat) <= 1 or (len(steps) == 1 and 0 not in steps):
        start, step = (flat or [0])[0], (steps or {1}).pop()
        return common.along(b, x, axis, start, len(flat), step)
    array = b.array(x)
    if array is not None:
        return b.constant(np.take(array, flat, axis), common.element_of(x))
    if len(flat) > MAX_SLICES:
        raise NotExpressible(f"{len(flat)} scattered indices")
    return common.concat(b, [common.along(b, x, axis, k, 1) for k in flat], axis)


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
    """A product with a triangle of ones."""
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"CumSum of {dtype_of(x)}")
    rank = len(shape_of(x))
    place = common.normalize_axis(b.ints(axis, "axis")[0], rank)
    size = shape_of(x)[place]
    b.reserve(size, size)
    triangle = np.triu(np.ones((size, size), np.float32), 1 if exclusive else 0)
    order = [k for k in range(rank) if k != place] + [place]
    last = common.transpose(b, x, order)
    rows = last if rank > 1 else common.reshape(b, last, (1, size))
    total = b.emit(graph.MatmulOp(rows, b.constant(triangle.T if reverse else triangle)))
    total = common.reshape(b, total, shape_of(last))
    return common.transpose(b, total, [int(k) for k in np.argsort(order)])
