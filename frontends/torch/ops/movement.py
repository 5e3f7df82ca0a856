"""Shapes, slices, joins and padding."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    Number,
    Operand,
    SSAValue,
    normalize_axis,
    operand,
    shape_of,
)
from npu_dialect.frontends.torch.registry import op

Ints = Sequence[int]
Part = Callable[[Builder, SSAValue, int, int, bool], list[SSAValue]]
"""What extends a tensor along an axis, by how much, and whether at the front."""


@op("reshape")
def reshape(b: Builder, self: SSAValue, shape: Ints) -> SSAValue:
    """The shape is that of the result."""
    return common.reshape(b, self, b.shape)


@op("view", "_unsafe_view")
def view(b: Builder, self: SSAValue, size: Ints) -> SSAValue:
    """The shape is that of the result."""
    return common.reshape(b, self, b.shape)


@op("unsqueeze", "squeeze.dim")
def unsqueeze(b: Builder, self: SSAValue, dim: int) -> SSAValue:
    """A dimension of size 1 more, or less."""
    return common.reshape(b, self, b.shape)


@op("squeeze")
def squeeze(b: Builder, self: SSAValue) -> SSAValue:
    """Without the dimensions of size 1."""
    return common.reshape(b, self, b.shape)


@op("squeeze.dims")
def squeeze_dims(b: Builder, self: SSAValue, dim: Ints) -> SSAValue:
    """Without these, if they have size 1."""
    return common.reshape(b, self, b.shape)


@op("permute")
def permute(b: Builder, self: SSAValue, dims: Ints) -> SSAValue:
    """Result dimension k is dimension dims[k]."""
    rank = len(shape_of(self))
    return common.transpose(b, self, [normalize_axis(d, rank) for d in dims])


@op("transpose.int")
def transpose(b: Builder, self: SSAValue, dim0: int, dim1: int) -> SSAValue:
    """Two dimensions exchanged."""
    order = list(range(len(shape_of(self))))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return common.transpose(b, self, order)


@op("t")
def turn(b: Builder, self: SSAValue) -> SSAValue:
    """A matrix turned; vectors stay."""
    return common.transpose(b, self, list(reversed(range(len(shape_of(self))))))


@op("expand")
def expand(b: Builder, self: SSAValue, size: Ints, *, implicit: bool) -> SSAValue:
    """Repeated to the shape of the result."""
    return common.broadcast(b, self, b.shape)


@op("repeat")
def repeat(b: Builder, self: SSAValue, repeats: Ints) -> SSAValue:
    """Whole copies along each dimension."""
    shape = shape_of(self)
    shape = (1,) * (len(repeats) - len(shape)) + shape
    apart = common.reshape(b, self, [d for n in shape for d in (1, n)])
    pairs = [d for r, n in zip(repeats, shape, strict=True) for d in (r, n)]
    return common.reshape(b, common.broadcast(b, apart, pairs), b.shape)


@op("cat")
def cat(b: Builder, tensors: Sequence[SSAValue], dim: int) -> SSAValue:
    """One after the other; empty vectors are left out."""
    parts = [common.cast(b, x, b.dtype) for x in tensors if shape_of(x) != (0,)]
    if not parts:
        return common.cast(b, tensors[0], b.dtype)
    return common.concat(b, parts, normalize_axis(dim, len(b.shape)))


@op("stack")
def stack(b: Builder, tensors: Sequence[SSAValue], dim: int) -> SSAValue:
    """One after the other along a new dimension."""
    axis = normalize_axis(dim, len(b.shape))
    one = [1 if k == axis else n for k, n in enumerate(b.shape)]
    parts = [common.reshape(b, common.cast(b, x, b.dtype), one) for x in tensors]
    return common.concat(b, parts, axis)


@op("slice.Tensor")
def slice(
    b: Builder, self: SSAValue, dim: int, start: int | None, end: int | None, step: int
) -> SSAValue:
    """Bounds as in Python."""
    first, count = _bounds(self, dim, start, end, step)
    return common.along(b, self, normalize_axis(dim, len(shape_of(self))), first, count, step)


def _bounds(
    x: SSAValue, dim: int, start: int | None, end: int | None, step: int
) -> tuple[int, int]:
    size = shape_of(x)[dim]
    kept = range(*builtins.slice(start, end, step).indices(size))
    return (kept.start if kept else 0), len(kept)


@op("select.int")
def select(b: Builder, self: SSAValue, dim: int, index: int) -> SSAValue:
    """One element along a dimension, which goes."""
    axis = normalize_axis(dim, len(shape_of(self)))
    index = index + shape_of(self)[axis] if index < 0 else index
    return common.reshape(b, common.along(b, self, axis, index, 1), b.shape)


@op("split_with_sizes")
def split_with_sizes(b: Builder, self: SSAValue, split_sizes: Ints, dim: int) -> list[SSAValue]:
    """Parts of given sizes."""
    axis = normalize_axis(dim, len(shape_of(self)))
    starts = [sum(split_sizes[:k]) for k in range(len(split_sizes))]
    pairs = zip(starts, split_sizes, strict=True)
    return [common.along(b, self, axis, start, size) for start, size in pairs]


@op("unbind.int")
def unbind(b: Builder, self: SSAValue, dim: int) -> list[SSAValue]:
    """All elements along a dimension."""
    axis = normalize_axis(dim, len(shape_of(self)))
    count = shape_of(self)[axis]
    return [common.squeeze(b, common.along(b, self, axis, k, 1), [axis]) for k in range(count)]


@op("flip")
def flip(b: Builder, self: SSAValue, dims: Ints) -> SSAValue:
    """Backwards along some dimensions."""
    for axis in common.normalize_axes(dims, len(shape_of(self))):
        size = shape_of(self)[axis]
        self = common.along(b, self, axis, size - 1, size, -1) if size > 1 else self
    return self


@op("roll")
def roll(b: Builder, self: SSAValue, shifts: Ints, dims: Ints) -> SSAValue:
    """Elements that leave at one end come in at the other."""
    shape = shape_of(self)
    x = self if dims else common.reshape(b, self, (int(np.prod(shape)),))
    for shift, axis in zip(shifts, dims or (0,), strict=True):
        size = shape_of(x)[axis]
        cut = -shift % size if size else 0
        if cut:
            axis = normalize_axis(axis, len(shape_of(x)))
            parts = [common.along(b, x, axis, cut, size - cut), common.along(b, x, axis, 0, cut)]
            x = common.concat(b, parts, axis)
    return common.reshape(b, x, shape)


@op("slice_scatter")
def slice_scatter(
    b: Builder,
    self: SSAValue,
    src: SSAValue,
    dim: int,
    start: int | None,
    end: int | None,
    step: int,
) -> SSAValue:
    """`self` with a part replaced."""
    axis = normalize_axis(dim, len(shape_of(self)))
    first, count = _bounds(self, dim, start, end, step)
    if step != 1:
        size = shape_of(self)[axis]
        places = np.arange(size)
        places[first : first + (count - 1) * step + 1 : step] = size + np.arange(count)
        both = common.concat(b, [self, common.cast(b, src, b.dtype)], axis)
        return rows.gather(b, both, b.constant(places.astype(np.int32)), axis)
    return _replaced(b, self, common.cast(b, src, b.dtype), axis, first, count)


@op("select_scatter")
def select_scatter(b: Builder, self: SSAValue, src: SSAValue, dim: int, index: int) -> SSAValue:
    """`self` with one element along a dimension replaced."""
    axis = normalize_axis(dim, len(shape_of(self)))
    index = index + shape_of(self)[axis] if index < 0 else index
    one = [1 if k == axis else n for k, n in enumerate(shape_of(self))]
    src = common.reshape(b, common.cast(b, src, b.dtype), one)
    return _replaced(b, self, src, axis, index, 1)


def _replaced(
    b: Builder, x: SSAValue, part: SSAValue, axis: int, start: int, count: int
) -> SSAValue:
    rest = shape_of(x)[axis] - start - count
    before = [common.along(b, x, axis, 0, start)] if start else []
    after = [common.along(b, x, axis, start + count, rest)] if rest else []
    return common.concat(b, [*before, *([part] if count else []), *after], axis)


@op("copy")
def copy(b: Builder, self: SSAValue, src: SSAValue, non_blocking: bool) -> SSAValue:
    """The values of `src` in the shape and type of `self`."""
    return common.broadcast(b, common.cast(b, src, b.dtype), b.shape)


@op("fill.Scalar", "fill.Tensor")
def fill(b: Builder, self: SSAValue, value: Operand) -> SSAValue:
    """One value everywhere."""
    return common.broadcast(b, operand(b, value, b.dtype), b.shape)


@op("full_like")
def full_like(b: Builder, self: SSAValue, fill_value: Number) -> SSAValue:
    """One value everywhere."""
    return _full(b, fill_value)


@op("zeros_like")
def zeros_like(b: Builder, self: SSAValue) -> SSAValue:
    """0 everywhere."""
    return _full(b, 0)


@op("ones_like")
def ones_like(b: Builder, self: SSAValue) -> SSAValue:
    """1 everywhere."""
    return _full(b, 1)


def _full(b: Builder, value: Number) -> SSAValue:
    b.reserve(*b.shape)
    return b.constant(np.full(b.shape, value, b.dtype.numpy))


def _sides(pad: Ints, rank: int) -> tuple[list[int], list[int]]:
    """Pads of torch, the last dimension first, as those before and after each dimension."""
    low, high = [0] * rank, [0] * rank
    for k in range(len(pad) // 2):
        low[rank - 1 - k], high[rank - 1 - k] = pad[2 * k], pad[2 * k + 1]
    return low, high


@op("constant_pad_nd")
def constant_pad(b: Builder, self: SSAValue, pad: Ints, value: Number) -> SSAValue:
    """One value around."""
    low, high = _sides(pad, len(shape_of(self)))
    return common.pad(b, self, low, high, value)


@op("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(b: Builder, self: SSAValue, padding: Ints) -> SSAValue:
    """The elements next to the edge, backwards."""
    return _extended(b, self, padding, _reflected)


@op("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(b: Builder, self: SSAValue, padding: Ints) -> SSAValue:
    """The element at the edge, again."""
    return _extended(b, self, padding, _replicated)


def _extended(b: Builder, x: SSAValue, padding: Ints, part: Part) -> SSAValue:
    low, high = _sides(padding, len(shape_of(x)))
    for axis in range(len(shape_of(x))):
        before = part(b, x, axis, low[axis], True) if low[axis] else []
        after = part(b, x, axis, high[axis], False) if high[axis] else []
        x = common.concat(b, [*before, x, *after], axis)
    return x


def _reflected(b: Builder, x: SSAValue, axis: int, count: int, front: bool) -> list[SSAValue]:
    start = count if front else shape_of(x)[axis] - 2
    return [common.along(b, x, axis, start, count, -1)]


def _replicated(b: Builder, x: SSAValue, axis: int, count: int, front: bool) -> list[SSAValue]:
    edge = common.along(b, x, axis, 0 if front else shape_of(x)[axis] - 1, 1)
    shape = [count if k == axis else n for k, n in enumerate(shape_of(x))]
    return [common.broadcast(b, edge, shape)]


@op("tril")
def tril(b: Builder, self: SSAValue, diagonal: int) -> SSAValue:
    """0 above a diagonal."""
    return _triangle(b, self, np.tril(np.ones(shape_of(self)[-2:], np.bool_), diagonal))


@op("triu")
def triu(b: Builder, self: SSAValue, diagonal: int) -> SSAValue:
    """0 below a diagonal."""
    return _triangle(b, self, np.triu(np.ones(shape_of(self)[-2:], np.bool_), diagonal))


def _triangle(b: Builder, x: SSAValue, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> SSAValue:
    return b.emit(graph.WhereOp(b.constant(keep), x, b.scalar(0, x)))


@op("diagonal")
def diagonal(b: Builder, self: SSAValue, offset: int, dim1: int, dim2: int) -> SSAValue:
    """Elements at known places of two dimensions, which go; a new last one has them."""
    rank = len(shape_of(self))
    axes = [normalize_axis(dim1, rank), normalize_axis(dim2, rank)]
    order = [k for k in range(rank) if k not in axes] + axes
    x = common.transpose(b, self, order)
    *outer, height, width = shape_of(x)
    places = np.arange(b.shape[-1]) * (width + 1) + max(offset, 0) + max(-offset, 0) * width
    flat = common.reshape(b, x, (*outer, height * width))
    return rows.gather(b, flat, b.constant(places.astype(np.int32)), axis=rank - 2)


@op("as_strided")
def as_strided(
    b: Builder, self: SSAValue, size: Ints, stride: Ints, storage_offset: int | None
) -> SSAValue:
    """Elements of a contiguous tensor, by their places."""
    steps = [np.arange(n) * s for n, s in zip(size, stride, strict=True)]
    places = sum(np.ix_(*steps)) if steps else np.zeros(())
    places = np.asarray(places).reshape(tuple(size)) + (storage_offset or 0)
    flat = common.reshape(b, self, (int(np.prod(shape_of(self))),))
    return rows.gather(b, flat, b.constant(places.astype(dtypes.i32.numpy)), axis=0)


@op("unfold")
def unfold(b: Builder, self: SSAValue, dimension: int, size: int, step: int) -> SSAValue:
    """Windows along one dimension, their elements along a new last one."""
    self = rows.at_least_1d(b, self)
    axis = normalize_axis(dimension, len(shape_of(self)))
    if not shape_of(self)[axis] or len(b.shape) == 1:
        return common.reshape(b, self, b.shape)
    count = b.shape[axis]
    taps = [common.along(b, self, axis, k, count, step) for k in range(size)]
    parts = [common.reshape(b, tap, (*shape_of(tap), 1)) for tap in taps]
    return common.concat(b, parts, len(b.shape) - 1)
