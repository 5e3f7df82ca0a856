"""Pooling over windows and over everything, channels-last as convolutions are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import is_quantized
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import Ints, Windows, windows
from npu_dialect.frontends.onnx.registry import op

Pool = Callable[..., graph.GraphOp]
Ints64 = NDArray[np.int64]

_padded_mean = partial(graph.AvgPool2DOp, count_include_pad=True)

MAX_TAPS = 64
"""Windows larger than this are not worked out tap by tap."""


def pooling_windows(
    x: SSAValue, kernel: Sequence[int], strides: Ints, dilations: Ints, pads: Ints, auto_pad: str
) -> Windows:
    """The windows over the spatial dimensions of N C ..."""
    return windows(shape_of(x)[2:], kernel, strides, dilations, pads, auto_pad)


def ceiled(w: Windows, size: Sequence[int], ceil_mode: int) -> Windows:
    """Windows with as much padding at the end as `ceil_mode` needs.

    A last window that would start in the padding at the end is dropped.
    """
    if not ceil_mode:
        return w
    high: list[int] = []
    for k, n in enumerate(size):
        room = n + w.low[k] + w.high[k] - w.extents[k]
        last = -(-room // w.strides[k]) * w.strides[k]
        if last >= n + w.low[k]:
            last -= w.strides[k]
        high.append(max(last + w.extents[k] - n - w.low[k], w.high[k]))
    return replace(w, high=tuple(high))


@op("MaxPool", storage=True)
def max_pool(
    b: Builder,
    x: SSAValue,
    *,
    auto_pad: str,
    ceil_mode: int = 0,
    dilations: Ints,
    kernel_shape: Sequence[int],
    pads: Ints,
    storage_order: int,
    strides: Ints,
) -> SSAValue | list[SSAValue]:
    """The greatest value of each window, and its position if that is wanted."""
    found = pooling_windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    found = ceiled(found, shape_of(x)[2:], ceil_mode)
    found.counts(shape_of(x)[2:])
    if b.wants(1):
        return max_of_taps(b, x, found, storage_order)
    return pooled(b, graph.MaxPool2DOp, x, found)


def pooled(b: Builder, operation: Pool, x: SSAValue, w: Windows) -> SSAValue:
    """A pooling in one to three spatial dimensions; in three those of a plane go first.

    What is pooled of a plane, all channels in a row, is a column of an image of one column.
    """
    rank = len(shape_of(x))
    if rank < 5:
        return common.from_image(b, _pool(b, operation, common.as_image(b, x), w.image()), rank)
    if rank > 5:
        raise NotExpressible(f"{rank - 2} spatial dimensions")
    n, c, d, *size = shape_of(x)
    planes = common.reshape(b, common.channels_last(b, x), (n * d, *size, c))
    y = _pool(b, operation, planes, w.part(1, 3))
    size = shape_of(y)[1:3]
    column = common.reshape(b, y, (n, d, 1, prod(size) * c))
    y = _pool(b, operation, column, w.part(0, 1).turned())
    return common.channels_first(b, common.reshape(b, y, (n, shape_of(y)[1], *size, c)))


def _pool(b: Builder, operation: Pool, x: SSAValue, w: Windows) -> SSAValue:
    pool = operation(x, kernel=w.kernel, strides=w.strides, pads=w.pads, dilations=w.dilations)
    return b.emit(pool)


def max_of_taps(b: Builder, x: SSAValue, w: Windows, order: int = 0) -> list[SSAValue]:
    """The same in any number of dimensions, tap by tap, and the positions.

    A position counts the elements of the whole tensor, row by row (0) or column by column (1).
    """
    if prod(w.kernel) > MAX_TAPS or is_quantized(x):
        raise NotExpressible(f"windows of {prod(w.kernel)} elements")
    shape, dtype = shape_of(x), dtype_of(x)
    b.reserve(*shape)
    lowest = -np.inf if dtype.is_float else dtype.low
    low, high = (0, 0, *w.low), (0, 0, *w.high)
    padded = common.pad(b, x, low, high, lowest)
    places = _positions(shape, low, high, order)
    size = [*shape[:2], *w.counts(shape[2:])]
    steps = (1, 1, *w.strides)
    best: SSAValue | None = None
    where: SSAValue | None = None
    for tap in np.ndindex(*w.kernel):
        first = (0, 0, *(t * d for t, d in zip(tap, w.dilations, strict=True)))
        value = common.window(b, padded, first, size, steps)
        place = common.window(b, b.constant(places), first, size, steps)
        if best is None or where is None:
            best, where = value, place
            continue
        where = common.where(b, b.emit(graph.GtOp(value, best)), place, where)
        best = b.emit(graph.MaxOp(best, value))
    assert best is not None and where is not None
    return [best, common.cast(b, where, dtypes.i64)]


def _positions(
    shape: Sequence[int], low: Sequence[int], high: Sequence[int], order: int
) -> NDArray[np.int32]:
    """The position of each element of a padded tensor; 0 in the padding, which never wins."""
    spatial = tuple(range(2, len(shape)))
    turned = (0, 1, *(reversed(spatial) if order else spatial))
    count = np.arange(prod(shape), dtype=np.int32).reshape([shape[k] for k in turned])
    return np.pad(count.transpose(turned), list(zip(low, high, strict=True)))


@op("AveragePool", since=1)
def average_pool(
    b: Builder,
    x: SSAValue,
    *,
    auto_pad: str,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints,
    kernel_shape: Sequence[int],
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """The mean of each window."""
    found = pooling_windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    return average(b, x, found, ceil_mode, count_include_pad)


def average(
    b: Builder, x: SSAValue, found: Windows, ceil_mode: int, count_include_pad: int
) -> SSAValue:
    """The mean of each window; what `ceil_mode` adds at the end never counts."""
    full = ceiled(found, shape_of(x)[2:], ceil_mode)
    full.counts(shape_of(x)[2:])
    if count_include_pad and full != found:
        x = common.pad(b, x, (0, 0, *found.low), (0, 0, *found.high))
        high = tuple(p - q for p, q in zip(full.high, found.high, strict=True))
        full = replace(full, low=(0,) * len(high), high=high)
        count_include_pad = 0
    if len(full.kernel) == 3:
        return _average_volume(b, x, full, count_include_pad)
    image = full.image()
    y = graph.AvgPool2DOp(
        common.as_image(b, x),
        kernel=image.kernel,
        strides=image.strides,
        pads=image.pads,
        dilations=image.dilations,
        count_include_pad=bool(count_include_pad),
    )
    return common.from_image(b, b.emit(y), len(shape_of(x)))


def _average_volume(b: Builder, x: SSAValue, w: Windows, count_include_pad: int) -> SSAValue:
    """Means of means, of which padding takes part; then without it, by how many elements count."""
    mean = pooled(b, _padded_mean, x, w)
    counts = [_counts(n, *how) for n, *how in zip(shape_of(x)[2:], *w.by_axis(), strict=True)]
    if count_include_pad or all((c == k).all() for c, k in zip(counts, w.kernel, strict=True)):
        return mean
    inside = np.einsum("i,j,k->ijk", *counts)
    factor = np.float32(prod(w.kernel)) / np.maximum(inside, 1).astype(np.float32)
    return common.mul(b, mean, b.constant(factor))


def _counts(size: int, kernel: int, stride: int, dilation: int, low: int, high: int) -> Ints64:
    """How many elements of each window along one dimension are not padding."""
    inside = np.pad(np.ones(size, np.int64), (low, high))
    count = (len(inside) - (kernel - 1) * dilation - 1) // stride + 1
    taps = np.arange(count)[:, None] * stride + np.arange(kernel) * dilation
    return inside[taps].sum(1)


@op("LpPool", since=1)
def lp_pool(
    b: Builder,
    x: SSAValue,
    *,
    auto_pad: str,
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    p: float,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """(sum of |x|^p)^(1/p) of each window: of the mean, padding included, and the window's size."""
    found = pooling_windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    found = ceiled(found, shape_of(x)[2:], ceil_mode)
    mean = pooled(b, _padded_mean, _power(b, x, p), found)
    return _root(b, common.scaled(b, mean, prod(found.kernel)), p)


@op("GlobalLpPool", since=1)
def global_lp_pool(b: Builder, x: SSAValue, *, p: float) -> SSAValue:
    """(sum of |x|^p)^(1/p) over all positions."""
    axes = range(2, len(shape_of(x)))
    return _root(b, common.reduce(b, graph.ReduceSumOp, _power(b, x, p), axes, 1), p)


def _power(b: Builder, x: SSAValue, p: float) -> SSAValue:
    """|x|^p"""
    if p == 2:
        return common.mul(b, x, x)
    size = b.emit(graph.AbsOp(x))
    return size if p == 1 else b.emit(graph.PowOp(size, b.scalar(p, x)))


def _root(b: Builder, x: SSAValue, p: float) -> SSAValue:
    """x^(1/p)"""
    if p == 2:
        return b.emit(graph.SqrtOp(x))
    return x if p == 1 else b.emit(graph.PowOp(x, b.scalar(1 / p, x)))


@op("GlobalAveragePool")
def global_average_pool(b: Builder, x: SSAValue) -> SSAValue:
    """The mean over all positions."""
    size = shape_of(x)[2:]
    if len(size) not in (1, 2):
        return common.reduce(b, graph.ReduceMeanOp, x, range(2, 2 + len(size)), 1)
    return average(b, x, windows(size, size, None, None, None, "NOTSET"), 0, 0)


@op("GlobalMaxPool")
def global_max_pool(b: Builder, x: SSAValue) -> SSAValue:
    """The maximum over all positions."""
    size = shape_of(x)[2:]
    if len(size) not in (1, 2):
        return common.reduce(b, graph.ReduceMaxOp, x, range(2, 2 + len(size)), 1)
    image = common.as_image(b, x)
    kernel = shape_of(image)[1:3]
    y = graph.MaxPool2DOp(image, kernel=kernel, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    return common.from_image(b, b.emit(y), len(shape_of(x)))
