"""Elements that indices name, and indices of elements: gathers, scatters, the greatest ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops import selection
from npu_dialect.frontends.onnx.ops.common import (
    add,
    along,
    cast,
    concat,
    iota,
    mul,
    normalize_axis,
    reshape,
    sub,
    where,
    window,
)
from npu_dialect.frontends.onnx.ops.reductions import arg_extreme
from npu_dialect.frontends.onnx.ops.sorting import top
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import (
    KEEP,
    as_result,
    is_quantized,
    plain,
    quant_of,
)
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import uniform

# Where the greatest are

MOST_KEYS = 1 << 22
"""Elements whose numbers fit 32 bits beside a value of 8."""

KEYS = uniform(dtypes.i16, 1.0)
"""The type of values of 8 bits with a number of 8 bits."""


@op("ARG_MAX", options="ArgMaxOptions")
def arg_max(b: Builder, x: SSAValue, axis: SSAValue) -> SSAValue:
    """The first position of the greatest element along a dimension."""
    return _position(b, x, axis, is_greatest=True)


@op("ARG_MIN", options="ArgMinOptions")
def arg_min(b: Builder, x: SSAValue, axis: SSAValue) -> SSAValue:
    """The first position of the least element along a dimension."""
    return _position(b, x, axis, is_greatest=False)


def _position(b: Builder, x: SSAValue, axis: SSAValue, is_greatest: bool) -> SSAValue:
    (given,) = b.ints(axis, "an axis")
    place = normalize_axis(given, len(shape_of(x)))
    if not shape_of(x)[place]:
        raise Misfit(f"the greatest of {list(shape_of(x))} along {place}")
    if is_quantized(x) and dtype_of(x).itemsize == 1 and shape_of(x)[place] <= MOST_KEYS:
        found = _by_key(b, x, place, is_greatest)
    else:
        kind = graph.ReduceMaxOp if is_greatest else graph.ReduceMinOp
        numbers = plain(b, x) if is_quantized(x) else x
        found = arg_extreme(b, kind, numbers, place, 0)
    return cast(b, reshape(b, found, b.shape), b.dtype)


def _by_key(b: Builder, x: SSAValue, axis: int, is_greatest: bool) -> SSAValue:
    """The last bits of the greatest of value * 2**bits + elements behind it: one reduction."""
    size, rank = shape_of(x)[axis], len(shape_of(x))
    bits = max((size - 1).bit_length(), 1)
    quant = quant_of(x)
    middle = quant.zero_point - (quant.storage_dtype.low + quant.storage_dtype.high + 1) // 2
    factor, offset = (1, middle) if is_greatest else (-1, -1 - middle)
    behind = np.arange(size - 1, -1, -1).reshape([size if k == axis else 1 for k in range(rank)])
    numbers = plain(b, x)
    key = mul(b, numbers, b.scalar(factor << bits, numbers))
    key = add(b, key, b.constant((behind + (offset << bits)).astype(np.int32)))
    if bits <= 8:
        key = b.emit(graph.RequantizeOp(key, KEEP, KEYS))
    best = b.emit(graph.ReduceMaxOp(key, (axis,)))
    best = plain(b, best) if bits <= 8 else best
    left = b.emit(graph.AndOp(best, b.scalar((1 << bits) - 1, best)))
    return sub(b, b.scalar(size - 1, left), left)


@op("TOPK_V2")
def top_k(b: Builder, x: SSAValue, k: SSAValue) -> list[SSAValue]:
    """The greatest elements of the last dimension, in order, and where they are."""
    (count,) = b.ints(k, "the number of elements")
    if not shape_of(x):
        raise Misfit("the greatest of a number")
    numbers = plain(b, x) if is_quantized(x) else x
    if len(b.results) != 2:
        raise Misfit(f"{len(b.results)} results")
    kind = b.results[1].dtype
    values, places = top(b, numbers, count, -1, is_largest=True, index=kind)
    if is_quantized(x):
        values = b.emit(graph.RequantizeOp(values, KEEP, quant_of(x)))
        values = as_result(b, values)
    return [values, places]


# By indices


@op("GATHER", options="GatherOptions")
def gather(b: Builder, x: SSAValue, indices: SSAValue, *, axis: int, batch_dims: int) -> SSAValue:
    """The parts of x along a dimension that the indices name, those of each batch by its own."""
    rank = len(shape_of(x))
    axis = normalize_axis(axis, rank)
    batch = batch_dims + len(shape_of(indices)) if batch_dims < 0 else batch_dims
    if not 0 <= batch <= min(axis, len(shape_of(indices))):
        raise Misfit(f"{batch_dims} dimensions of batches, axis {axis}")
    if not batch:
        return as_result(b, selection.gather(b, x, indices, axis=axis))
    shape, many = shape_of(x), shape_of(indices)
    if shape[:batch] != many[:batch]:
        raise Misfit(f"batches of {list(shape)} and {list(many)}")
    outer, middle, size = prod(shape[:batch]), prod(shape[batch:axis]), shape[axis]
    inner, count = prod(shape[axis + 1 :]), prod(many[batch:])
    b.reserve(outer, middle)
    rows = reshape(b, x, (outer * middle * size, inner))
    first = np.arange(outer * middle, dtype=np.int32).reshape(outer, middle, 1) * size
    index = reshape(b, cast(b, indices, dtypes.i32), (outer, 1, count))
    index = reshape(b, add(b, index, b.constant(first.astype(np.int32))), (outer * middle * count,))
    return as_result(b, reshape(b, b.emit(graph.GatherOp(rows, index)), b.shape))


@op("GATHER_ND")
def gather_nd(b: Builder, x: SSAValue, indices: SSAValue) -> SSAValue:
    """The parts of x that tuples of indices name."""
    return as_result(b, selection.gather_nd(b, x, indices))


@op("EMBEDDING_LOOKUP")
def embedding_lookup(b: Builder, indices: SSAValue, x: SSAValue) -> SSAValue:
    """Parts of the first dimension."""
    if is_quantized(x) and b.results[0].quant is None:
        raise NotExpressible("quantized rows of which floats become")
    return as_result(b, selection.gather(b, x, indices, axis=0))


@op("SCATTER_ND")
def scatter_nd(b: Builder, indices: SSAValue, updates: SSAValue, shape: SSAValue) -> SSAValue:
    """Zeros with the sums of the updates where tuples of indices say; stored ones, if quantized."""
    del shape
    known = b.array(indices)
    are_different = known is not None and _are_different(known.reshape(-1, known.shape[-1]))
    if not are_different and dtype_of(updates) not in (dtypes.f32, dtypes.i32):
        what = "indices that are not known to be different"
        raise NotExpressible(f"{what}, and updates of {dtype_of(updates)}")
    b.reserve(*b.shape, itemsize=dtype_of(updates).itemsize)
    zeros = b.constant(np.zeros(b.shape, dtype_of(updates).numpy), element_of(updates))
    kind = "none" if are_different else "add"
    return as_result(b, selection.scatter_nd(b, zeros, indices, updates, reduction=kind))


def _are_different(rows: np.ndarray) -> bool:
    return len(np.unique(rows, axis=0)) == len(rows)


@op("DYNAMIC_UPDATE_SLICE")
def dynamic_update_slice(b: Builder, x: SSAValue, update: SSAValue, starts: SSAValue) -> SSAValue:
    """x with a part of it replaced; the start is moved so that the part is inside."""
    shape, part = shape_of(x), shape_of(update)
    if len(part) != len(shape) or any(n > size for n, size in zip(part, shape, strict=True)):
        raise Misfit(f"an update of {list(part)} of {list(shape)}")
    if element_of(x) != element_of(update):
        raise NotExpressible(f"an update of {element_of(update)} of {element_of(x)}")
    shorter = [k for k, (n, size) in enumerate(zip(part, shape, strict=True)) if n < size]
    if b.array(starts) is not None:
        found = b.ints(starts, "the start of an update")
        places = [min(max(s, 0), n - m) for s, n, m in zip(found, shape, part, strict=True)]
        return as_result(b, _replaced(b, x, update, places, shorter))
    if len(shorter) != 1:
        raise NotExpressible(f"an update of {list(part)} of {list(shape)} at a place of run time")
    return as_result(b, _rows_replaced(b, x, update, starts, shorter[0]))


def _replaced(
    b: Builder, x: SSAValue, update: SSAValue, places: Sequence[int], axes: Sequence[int]
) -> SSAValue:
    """By concatenation, one dimension in another."""
    if not axes:
        return update
    axis, start, size = axes[0], places[axes[0]], shape_of(update)[axes[0]]
    end = start + size
    inside = _replaced(b, along(b, x, axis, start, size), update, places, axes[1:])
    behind = along(b, x, axis, end, shape_of(x)[axis] - end)
    return concat(b, [along(b, x, axis, 0, start), inside, behind], axis)


def _rows_replaced(
    b: Builder, x: SSAValue, update: SSAValue, starts: SSAValue, axis: int
) -> SSAValue:
    shape, count = shape_of(x), shape_of(update)[axis]
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    start = cast(b, reshape(b, along(b, starts, 0, axis, 1), (1, 1)), dtypes.i32)
    start = b.emit(graph.ClampOp(start, 0, size - count))
    b.reserve(outer, count)
    first = np.arange(outer).reshape(-1, 1) * size + np.arange(count)
    index = reshape(b, add(b, start, b.constant(first.astype(np.int32))), (outer * count,))
    rows = reshape(b, x, (outer * size, inner))
    found = b.emit(graph.ScatterOp(rows, index, reshape(b, update, (outer * count, inner)), "set"))
    return reshape(b, found, shape)


@op("ONE_HOT", options="OneHotOptions")
def one_hot(
    b: Builder, indices: SSAValue, depth: SSAValue, on: SSAValue, off: SSAValue, *, axis: int
) -> SSAValue:
    """`on` where the index is the place along a new dimension, else `off`."""
    (size,) = b.ints(depth, "the depth")
    b.reserve(size)
    rank = len(shape_of(indices)) + 1
    place = normalize_axis(axis, rank)
    shape = [*shape_of(indices)[:place], 1, *shape_of(indices)[place:]]
    index = reshape(b, cast(b, indices, dtypes.i32), shape)
    hit = b.emit(graph.EqOp(index, iota(b, size, rank, place)))
    return as_result(b, where(b, hit, on, off))


# The other way round


@op("REVERSE_V2")
def reverse(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """The elements along some dimensions in the opposite order."""
    shape = shape_of(x)
    found = {normalize_axis(a, len(shape)) for a in b.ints(axes, "axes")}
    starts = [n - 1 if k in found else 0 for k, n in enumerate(shape)]
    strides = [-1 if k in found else 1 for k in range(len(shape))]
    return as_result(b, window(b, x, starts, shape, strides))


@op("REVERSE_SEQUENCE", options="ReverseSequenceOptions")
def reverse_sequence(
    b: Builder, x: SSAValue, lengths: SSAValue, *, seq_dim: int, batch_dim: int
) -> SSAValue:
    """The first elements of each sequence, as many as its length, in the opposite order."""
    if {seq_dim, batch_dim} != {0, 1}:
        raise NotExpressible(f"sequences along {seq_dim} of batches along {batch_dim}")
    found = selection.reverse_sequence(b, x, lengths, batch_axis=batch_dim, time_axis=seq_dim)
    return as_result(b, found)
