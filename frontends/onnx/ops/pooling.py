"""Pooling over windows and over everything, channels-last as convolutions are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
        return _max_of_taps(b, x, found, storage_order)
    if len(kernel_shape) > 2:
        return _max_of_taps(b, x, found, None)[:1]
    found = found.image()
    y = graph.MaxPool2DOp(
        common.as_image(b, x),
        kernel=found.kernel,
        strides=found.strides,
        pads=found.pads,
        dilations=found.dilations,
    )
    return common.from_image(b, b.emit(y), len(shape_of(x)))


def _max_of_taps(b: Builder, x: SSAValue, w: Windows, order: int | None) -> list[SSAValue]:
    """The same in any number of dimensions, tap by tap; with positions unless `order` is None.

    A position counts the elements of the whole tensor, row by row (0) or column by column (1).
    """
    if prod(w.kernel) > MAX_TAPS or is_quantized(x):
        raise NotExpressible(f"windows of {prod(w.kernel)} elements")
    shape, dtype = shape_of(x), dtype_of(x)
    b.reserve(*shape)
    lowest = -np.inf if dtype.is_float else dtype.low
    low, high = (0, 0, *w.low), (0, 0, *w.high)
    padded = common.pad(b, x, low, high, lowest)
    places = _positions(shape, low, high, order or 0)
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
        if order is not None:
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
