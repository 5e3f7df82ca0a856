"""Gathers and scatters along a dimension, as rows of a matrix: what `graph.gather` takes.

An index along one of several dimensions becomes the number of a row, computed in i32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import Array, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import (
    SSAValue,
    add,
    along,
    broadcast,
    cast,
    iota,
    mul,
    normalize_axis,
    reshape,
    where,
)
from npu_dialect.frontends.torch.builder import Builder


def at_least_1d(b: Builder, x: SSAValue) -> SSAValue:
    """A tensor without dimensions as a vector of one element."""
    return x if shape_of(x) else reshape(b, x, (1,))


def from_the_front(b: Builder, index: SSAValue, size: int) -> SSAValue:
    """Indices as i32, the negative ones counted from the end of `size`."""
    index = cast(b, index, dtypes.i32)
    below = b.emit(graph.LtOp(index, b.scalar(0, index)))
    return where(b, below, add(b, index, b.scalar(size, index)), index)


def gather(b: Builder, x: SSAValue, indices: SSAValue, axis: int) -> SSAValue:
    """The parts of `x` at the indices, whose shape takes the place of the dimension `axis`."""
    x = at_least_1d(b, x)
    shape = shape_of(x)
    axis = normalize_axis(axis, len(shape))
    index = b.array(indices)
    taken = _taken(b, x, axis, index) if index is not None else None
    if taken is None:
        taken = _gathered(b, x, axis, indices)
    return reshape(b, taken, (*shape[:axis], *shape_of(indices), *shape[axis + 1 :]))


def _taken(b: Builder, x: SSAValue, axis: int, index: Array) -> SSAValue | None:
    """By known indices: a part of a constant, or a slice if they are evenly spaced."""
    size = shape_of(x)[axis]
    flat = [int(k) + size if k < 0 else int(k) for k in index.reshape(-1)]
    if any(not 0 <= k < size for k in flat):
        raise Misfit(f"an index outside of {size}")
    array = b.array(x)
    if array is not None:
        return b.constant(np.take(array, flat, axis), element_of(x))
    steps = {q - p for p, q in pairwise(flat)}
    if len(flat) <= 1 or (len(steps) == 1 and 0 not in steps):
        return along(b, x, axis, (flat or [0])[0], len(flat), (steps or {1}).pop())
    return None


def _gathered(b: Builder, x: SSAValue, axis: int, indices: SSAValue) -> SSAValue:
    """Rows along one axis; those of the leading dimensions are numbered one after the other."""
    shape, count = shape_of(x), prod(shape_of(indices))
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    check_countable(outer * size)
    index = reshape(b, indices, (1, count))
    if outer != 1:
        first = iota(b, outer, 2, 0)
        first = mul(b, first, b.scalar(size, first))
        index = add(b, from_the_front(b, index, size), first)
    rows = reshape(b, x, (outer * size, inner))
    return b.emit(graph.GatherOp(rows, reshape(b, index, (outer * count,))))


def check_countable(rows: int) -> None:
    """Rows are numbered in i32."""
    if rows > dtypes.i32.high:
        raise NotExpressible(f"indices of {rows} rows")


def _element_rows(b: Builder, shape: Sequence[int], indices: SSAValue, axis: int) -> SSAValue:
    """The numbers of the elements that indices name along one axis, where the index itself lies in
    the other dimensions.
    """
    extents = shape_of(indices)
    check_countable(prod(shape))
    others = [1 if k == axis else size for k, size in enumerate(extents)]
    strides = [prod(shape[k + 1 :]) for k in range(len(shape))]
    grid = np.indices(others, np.int32).reshape(len(shape), *others)
    first = b.constant(np.tensordot(np.array(strides, np.int32), grid, 1).astype(np.int32))
    index = from_the_front(b, indices, shape[axis])
    index = index if strides[axis] == 1 else mul(b, index, b.scalar(strides[axis], index))
    return reshape(b, add(b, index, first), (prod(extents),))


def gather_elements(b: Builder, x: SSAValue, indices: SSAValue, axis: int) -> SSAValue:
    """Single elements that indices name along one axis."""
    kept = shape_of(indices)
    x, indices = at_least_1d(b, x), at_least_1d(b, indices)
    shape = shape_of(x)
    if 0 in kept:
        return broadcast(b, b.scalar(0, x), kept)
    index = _element_rows(b, shape, indices, normalize_axis(axis, len(shape)))
    found = b.emit(graph.GatherOp(reshape(b, x, (prod(shape), 1)), index))
    return reshape(b, found, kept)


def scatter_elements(
    b: Builder, x: SSAValue, indices: SSAValue, updates: SSAValue, axis: int, kind: str
) -> SSAValue:
    """Single elements put (or added, ...) where indices say."""
    if 0 in shape_of(indices):
        return x
    kept = shape_of(x)
    x, indices, updates = (at_least_1d(b, v) for v in (x, indices, updates))
    shape = shape_of(x)
    index = _element_rows(b, shape, indices, normalize_axis(axis, len(shape)))
    rows, values = reshape(b, x, (prod(shape), 1)), reshape(b, updates, (*shape_of(index), 1))
    return reshape(b, b.emit(graph.ScatterOp(rows, index, values, kind)), kept)
