"""Rows and elements that indices name, known ones or of run time.

`graph.gather` and `graph.scatter` know rows of a matrix. What names an element along one of several
axes becomes the number of its row, computed in i32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Array,
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
    """By known indices a slice, or a few; by others rows."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    index = b.array(indices)
    taken = None if index is None else _taken(b, x, axis, index)
    if taken is None:
        taken = _rows_along(b, x, axis, indices)
    shape = shape_of(x)
    return common.reshape(b, taken, (*shape[:axis], *shape_of(indices), *shape[axis + 1 :]))


def _taken(b: Builder, x: SSAValue, axis: int, index: Array) -> SSAValue | None:
    """The parts of `x` at known indices, unless there are many."""
    size = shape_of(x)[axis]
    flat = [int(k) + size if k < 0 else int(k) for k in index.reshape(-1)]
    if any(not 0 <= k < size for k in flat):
        raise Misfit(f"an index outside of {size}")
    steps = {q - p for p, q in pairwise(flat)}
    if len(flat) <= 1 or (len(steps) == 1 and 0 not in steps):
        start, step = (flat or [0])[0], (steps or {1}).pop()
        return common.along(b, x, axis, start, len(flat), step)
    array = b.array(x)
    if array is not None:
        return b.constant(np.take(array, flat, axis), common.element_of(x))
    if len(flat) > MAX_SLICES:
        return None
    return common.concat(b, [common.along(b, x, axis, k, 1) for k in flat], axis)


def _rows_along(b: Builder, x: SSAValue, axis: int, indices: SSAValue) -> SSAValue:
    """The rows along one axis; those of the leading dimensions are numbered one after the other."""
    shape, count = shape_of(x), prod(shape_of(indices))
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    rows = common.reshape(b, x, (outer * size, inner))
    index = common.reshape(b, indices, (1, count))
    if outer != 1:
        _check_countable(outer * size)
        first = common.iota(b, outer, 2, 0)
        first = common.mul(b, first, b.scalar(size, first))
        index = common.add(b, _from_the_front(b, index, size), first)
    return b.emit(graph.GatherOp(rows, common.reshape(b, index, (outer * count,))))


def _check_countable(rows: int) -> None:
    if rows > dtypes.i32.high:
        raise NotExpressible(f"indices of {rows} rows")


def _from_the_front(b: Builder, index: SSAValue, size: int | Array) -> SSAValue:
    """Indices as i32, the negative ones counted from the end of `size`."""
    index = common.cast(b, index, dtypes.i32)
    end = b.constant(np.asarray(size, np.int32))
    below = b.emit(graph.LtOp(index, b.scalar(0, index)))
    return common.where(b, below, common.add(b, index, end), index)


def _scaled(b: Builder, index: SSAValue, factor: int) -> SSAValue:
    return index if factor == 1 else common.mul(b, index, b.scalar(factor, index))


def _element_rows(b: Builder, shape: Sequence[int], indices: SSAValue, axis: int) -> SSAValue:
    """For elements that `indices` name along one axis, and that lie in the other dimensions where
    the index does: their numbers in row-major order.
    """
    extents = shape_of(indices)
    if len(extents) != len(shape):
        raise Misfit(f"indices of shape {list(extents)} for {list(shape)}")
    _check_countable(prod(shape))
    others = [1 if k == axis else size for k, size in enumerate(extents)]
    b.reserve(*others)
    strides = [prod(shape[k + 1 :]) for k in range(len(shape))]
    grid = np.indices(others, np.int32).reshape(len(shape), *others)
    first = b.constant(np.tensordot(np.array(strides, np.int32), grid, 1).astype(np.int32))
    index = _from_the_front(b, indices, shape[axis])
    index = common.add(b, _scaled(b, index, strides[axis]), first)
    return common.reshape(b, index, (prod(extents),))


@op("GatherElements", storage=True)
def gather_elements(b: Builder, x: SSAValue, indices: SSAValue, *, axis: int) -> SSAValue:
    """Rows of one element."""
    shape = shape_of(x)
    rows = _element_rows(b, shape, indices, common.normalize_axis(axis, len(shape)))
    found = b.emit(graph.GatherOp(common.reshape(b, x, (prod(shape), 1)), rows))
    return common.reshape(b, found, shape_of(indices))


def _tuple_rows(
    b: Builder, shape: Sequence[int], indices: SSAValue, batch_dims: int
) -> tuple[SSAValue, int, int]:
    """What tuples of indices [batch, ..., length] name as numbers of rows; how many rows there are,
    and the elements of each.
    """
    *extents, length = shape_of(indices)
    sizes = shape[batch_dims : batch_dims + length]
    if len(sizes) != length or tuple(extents[:batch_dims]) != tuple(shape[:batch_dims]):
        raise Misfit(f"indices of shape {[*extents, length]} for {list(shape)}")
    batch, inner = prod(shape[:batch_dims]), prod(shape[batch_dims + length :])
    rows = batch * prod(sizes)
    _check_countable(rows)
    index = common.reshape(b, indices, (batch, prod(extents[batch_dims:]), length))
    index = _from_the_front(b, index, np.array(sizes, np.int32))
    if length != 1:
        strides = [prod(sizes[k + 1 :]) for k in range(length)]
        index = common.mul(b, index, b.constant(np.array(strides, np.int32)))
        index = common.reduce(b, graph.ReduceSumOp, index, (2,), 1)
    if batch != 1:
        index = common.add(b, index, _scaled(b, common.iota(b, batch, 3, 0), prod(sizes)))
    return common.reshape(b, index, (prod(extents),)), rows, inner


@op("GatherND", storage=True)
def gather_nd(b: Builder, x: SSAValue, indices: SSAValue, *, batch_dims: int = 0) -> SSAValue:
    """Rows that tuples of indices name."""
    shape, (*extents, length) = shape_of(x), shape_of(indices)
    index, rows, inner = _tuple_rows(b, shape, indices, batch_dims)
    found = b.emit(graph.GatherOp(common.reshape(b, x, (rows, inner)), index))
    return common.reshape(b, found, (*extents, *shape[batch_dims + length :]))


SCATTERS = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}
"""Kinds of `graph.scatter` by what ONNX calls the reduction."""


def _scattered(
    b: Builder, rows: SSAValue, index: SSAValue, updates: SSAValue, reduction: str
) -> SSAValue:
    if reduction not in SCATTERS:
        raise Misfit(f"the reduction {reduction}")
    count = (*shape_of(index), shape_of(rows)[1])
    updates = common.reshape(b, updates, count)
    return b.emit(graph.ScatterOp(rows, index, updates, SCATTERS[reduction]))


@op("ScatterElements")
def scatter_elements(
    b: Builder,
    x: SSAValue,
    indices: SSAValue,
    updates: SSAValue,
    *,
    axis: int,
    reduction: str = "none",
) -> SSAValue:
    """Rows of one element."""
    shape = shape_of(x)
    index = _element_rows(b, shape, indices, common.normalize_axis(axis, len(shape)))
    rows = common.reshape(b, x, (prod(shape), 1))
    return common.reshape(b, _scattered(b, rows, index, updates, reduction), shape)


@op("Scatter")
def scatter(
    b: Builder, x: SSAValue, indices: SSAValue, updates: SSAValue, *, axis: int
) -> SSAValue:
    """ScatterElements as it was called before opset 11."""
    return scatter_elements(b, x, indices, updates, axis=axis)


@op("ScatterND")
def scatter_nd(
    b: Builder, x: SSAValue, indices: SSAValue, updates: SSAValue, *, reduction: str = "none"
) -> SSAValue:
    """Rows that tuples of indices name."""
    index, rows, inner = _tuple_rows(b, shape_of(x), indices, 0)
    data = common.reshape(b, x, (rows, inner))
    return common.reshape(b, _scattered(b, data, index, updates, reduction), shape_of(x))


@op("ReverseSequence", storage=True)
def reverse_sequence(
    b: Builder, x: SSAValue, lengths: SSAValue, *, batch_axis: int, time_axis: int
) -> SSAValue:
    """The first elements of each sequence, as many as its length, in the opposite order."""
    shape = shape_of(x)
    if len(shape) < 2 or {batch_axis, time_axis} != {0, 1}:
        raise Misfit(f"batch axis {batch_axis} and time axis {time_axis} of {list(shape)}")
    time = common.iota(b, shape[time_axis], 2, time_axis)
    batch = common.iota(b, shape[batch_axis], 2, batch_axis)
    dims = [1, 1]
    dims[batch_axis] = shape[batch_axis]
    length = common.reshape(b, common.cast(b, lengths, dtypes.i32), dims)
    last = common.sub(b, length, b.scalar(1, length))
    inside = b.emit(graph.LtOp(time, length))
    at = common.where(b, inside, common.sub(b, last, time), time)
    outer, inner = (at, batch) if time_axis == 0 else (batch, at)
    rows = shape[0] * shape[1]
    _check_countable(rows)
    index = common.reshape(b, common.add(b, _scaled(b, outer, shape[1]), inner), (rows,))
    data = common.reshape(b, x, (rows, prod(shape[2:])))
    return common.reshape(b, b.emit(graph.GatherOp(data, index)), shape)


@op("TensorScatter", since=24)
def tensor_scatter(
    b: Builder,
    cache: SSAValue,
    update: SSAValue,
    starts: SSAValue | None = None,
    *,
    axis: int,
    mode: str,
) -> SSAValue:
    """The cache with an update along one axis, from a start of its own for each of the batch."""
    shape, new = shape_of(cache), shape_of(update)
    axis = common.normalize_axis(axis, len(shape))
    if axis == 0 or new[:axis] != shape[:axis] or new[axis + 1 :] != shape[axis + 1 :]:
        raise Misfit(f"an update of shape {list(new)} along axis {axis} of {list(shape)}")
    batch, middle, inner = shape[0], prod(shape[1:axis]), prod(shape[axis + 1 :])
    length, count = shape[axis], new[axis]
    _check_countable(batch * middle * length)
    at = common.iota(b, count, 3, 2)
    if starts is not None:
        start = common.reshape(b, common.cast(b, starts, dtypes.i32), (batch, 1, 1))
        at = common.add(b, start, at)
    if mode == "circular":
        beyond = b.emit(graph.GeOp(at, b.scalar(length, at)))
        at = common.where(b, beyond, common.sub(b, at, b.scalar(length, at)), at)
    first = np.arange(batch * middle, dtype=np.int32).reshape(batch, middle, 1) * length
    index = common.reshape(b, common.add(b, b.constant(first), at), (batch * middle * count,))
    rows = common.reshape(b, cache, (batch * middle * length, inner))
    return common.reshape(b, _scattered(b, rows, index, update, "none"), shape)


@op("MaxUnpool")
def max_unpool(
    b: Builder,
    x: SSAValue,
    places: SSAValue,
    output_shape: SSAValue | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> SSAValue:
    """Each element at its place among zeros; places count the elements of the whole result."""
    shape, rank = shape_of(x), len(kernel_shape)
    if len(shape) != rank + 2:
        raise Misfit(f"a window of {rank} dimensions for {list(shape)}")
    strides, pads = strides or (1,) * rank, pads or (0,) * 2 * rank
    whole = list(shape)
    for k, size in enumerate(kernel_shape):
        whole[k + 2] = (shape[k + 2] - 1) * strides[k] + size - pads[k] - pads[k + rank]
    _check_countable(prod(whole))
    b.reserve(*whole)
    zeros = b.constant(np.zeros((prod(whole), 1), dtype_of(x).numpy))
    index = common.cast(b, common.reshape(b, places, (prod(shape),)), dtypes.i32)
    result = common.reshape(b, _scattered(b, zeros, index, x, "none"), whole)
    if output_shape is None:
        return result
    wanted = b.ints(output_shape, "the shape of the output")
    if len(wanted) != len(whole):
        raise Misfit(f"an output of shape {list(wanted)}")
    missing = [new - old for new, old in zip(wanted, whole, strict=True)]
    return common.pad(b, result, [0] * len(whole), missing)
