"""Pooling over windows and over everything, channels-last as convolutions are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, NotExpressible, SSAValue, shape_of
from npu_dialect.frontends.onnx.ops.convolution import Ints, Windows, windows
from npu_dialect.frontends.onnx.registry import op


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
) -> SSAValue:
    """`storage_order` is about the indices, which are not computed."""
    del storage_order
    if b.wants(1):
        raise NotExpressible("MaxPool with indices")
    found = pooling_windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    found = ceiled(found, shape_of(x)[2:], ceil_mode).image()
    y = graph.MaxPool2DOp(
        common.as_image(b, x),
        kernel=found.kernel,
        strides=found.strides,
        pads=found.pads,
        dilations=found.dilations,
    )
    return common.from_image(b, b.emit(y), len(shape_of(x)))


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
