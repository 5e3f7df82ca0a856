"""AVERAGE_POOL_2D and MAX_POOL_2D."""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, functional, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    activated,
    as_result,
    is_quantized,
    quant_of,
)
from npu_dialect.frontends.tflite.ops.windows import pads_of
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.attributes import four, pair


@op("MAX_POOL_2D", options="Pool2DOptions")
def max_pool_2d(
    b: Builder,
    x: SSAValue,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    filter_height: int,
    filter_width: int,
    fused_activation_function: str,
) -> SSAValue:
    """The greatest value of each window."""
    kernel, steps = (filter_height, filter_width), (stride_h, stride_w)
    pads = _pads(x, kernel, steps, padding)
    found = b.emit(graph.MaxPool2DOp(x, kernel, steps, pads))
    return activated(b, as_result(b, found), fused_activation_function)


@op("AVERAGE_POOL_2D", options="Pool2DOptions")
def average_pool_2d(
    b: Builder,
    x: SSAValue,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    filter_height: int,
    filter_width: int,
    fused_activation_function: str,
) -> SSAValue:
    """The mean of each window, of the positions that are inside; ties away from zero."""
    kernel, steps = (filter_height, filter_width), (stride_h, stride_w)
    pads = _pads(x, kernel, steps, padding)
    if is_quantized(x):
        found = _stored_mean(b, b.emit(graph.SumPool2DOp(x, kernel, steps, pads)), x)
        found = as_result(b, found)
    else:
        found = b.emit(graph.AvgPool2DOp(x, kernel, steps, pads))
    return activated(b, found, fused_activation_function)


@op("L2_POOL_2D", options="Pool2DOptions")
def l2_pool_2d(
    b: Builder,
    x: SSAValue,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    filter_height: int,
    filter_width: int,
    fused_activation_function: str,
) -> SSAValue:
    """The root of the mean of squares of each window, of floats."""
    if is_quantized(x):
        raise NotExpressible("squares of a quantized tensor, which TFLite has not either")
    kernel, steps = (filter_height, filter_width), (stride_h, stride_w)
    pads = _pads(x, kernel, steps, padding)
    mean = b.emit(graph.AvgPool2DOp(b.emit(graph.MulOp(x, x)), kernel, steps, pads))
    return activated(b, b.emit(graph.SqrtOp(mean)), fused_activation_function)


def _pads(
    x: SSAValue, kernel: tuple[int, int], strides: tuple[int, int], padding: str
) -> tuple[int, int, int, int]:
    if len(shape_of(x)) != 4:
        raise Misfit(f"windows over {list(shape_of(x))}")
    return pads_of(shape_of(x)[1:3], kernel, strides, (1, 1), padding)


def _counts(sums: graph.SumPool2DOp) -> Array:
    """The positions of each window that lie inside: [1, OH, OW, 1]."""
    _, height, width, _ = shape_of(sums.x)
    ones = np.ones((1, height, width, 1), np.int8)
    return functional.sum_pool2d(
        ones, kernel=pair(sums.kernel), strides=pair(sums.strides), pads=four(sums.pads),
        dilations=pair(sums.dilations), x_zero=0,
    )  # fmt: skip


def _stored_mean(b: Builder, sums: SSAValue, x: SSAValue) -> SSAValue:
    """round(sum of stored values / count), where `sums` are of (x - zero point).

    Ties go away from the stored 0, so that the zero point is added before they are rounded, unless
    there are none, or unless all are on the same side of it and the quotients exact.
    """
    zero, element = quant_of(x).zero_point, quant_of(x)
    owner = sums.owner
    if not isinstance(owner, graph.SumPool2DOp):
        raise NotExpressible("a mean of constants")
    counts = _counts(owner)
    same = bool((counts == counts.reshape(-1)[0]).all())
    is_positive = dtype_of(x) is dtypes.u8
    is_exact = not bool((counts & (counts - 1)).any())
    if zero == 0 or bool((counts & 1).all()) or (is_positive and is_exact):
        rounding = "half_up" if is_positive else "half_away"
        return _divided(b, sums, counts, same, rounding, element)
    offset = counts.reshape(-1)[:1].reshape(()) if same else counts
    stored = b.emit(graph.AddOp(sums, b.constant(np.asarray(offset * zero, np.int32))))
    mean = _divided(b, stored, counts, same, "half_away", I32)
    steps = b.emit(graph.SubOp(mean, b.scalar(zero, mean)))
    return b.emit(graph.RequantizeOp(steps, KEEP, element))


def _divided(b: Builder, sums: SSAValue, counts: Array, same: bool, rounding: str, element: object):
    """sums / counts, rounded: exact, for |sum| < 2**bits * count.

    The multiplier ceil(2**s / count) is too great by less than 1, so that a quotient is off by less
    than 2**bits * count / 2**s < 1 / (2 * count): no nearer to another tie, and on the far side of
    its own.
    """
    most, bits = int(counts.max()), 8 * b.dtype.itemsize
    shift = bits + 2 + 2 * most.bit_length()
    multipliers = -((-1 << shift) // counts.astype(np.int64))
    if multipliers.max() >= 1 << 31 or prod(counts.shape) == 0:
        raise NotExpressible(f"windows of {most} positions")
    if same:
        made = graph.requant_fixed(int(multipliers.max()), shift, rounding)
        return b.emit(graph.RequantizeOp(sums, made, element))  # pyright: ignore[reportArgumentType]
    constant = b.constant(multipliers.astype(np.int32))
    return b.emit(graph.RescaleOp(sums, constant, shift, element, rounding))  # pyright: ignore[reportArgumentType]
