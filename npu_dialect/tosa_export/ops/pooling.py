"""Windows of images: the greatest value, the sum, the mean of floats."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import TensorType, f32, i8, i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import four, pair
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.tosa_export.emitter import Emitter, Refused, element_of
from npu_dialect.tosa_export.ops.contractions import FLOAT_SUMS
from npu_dialect.tosa_export.ops.windows import fitted
from npu_dialect.tosa_export.registry import rule


def _without_dilation(op: graph.MaxPool2DOp | graph.AvgPool2DOp) -> None:
    if pair(op.dilations) != (1, 1):
        raise Refused(f"windows with gaps of {list(pair(op.dilations))}")


@rule(graph.MaxPool2DOp)
def max_pool2d(e: Emitter, op: graph.MaxPool2DOp) -> SSAValue:
    """The same; padding counts in neither."""
    _without_dilation(op)
    kernel, strides = pair(op.kernel), pair(op.strides)
    x, pad = fitted(e, e.value(op.x), kernel, strides, (1, 1), four(op.pads))
    type = TensorType(element_of(x), shape_of(op.result))
    return e.op("max_pool2d", (x,), type, kernel=kernel, stride=strides, pad=pad)


@rule(graph.SumPool2DOp)
def sum_pool2d(e: Emitter, op: graph.SumPool2DOp) -> SSAValue:
    """A depthwise convolution with ones: padding holds the zero point in both."""
    if dtype_of(op.x).itemsize > 1:
        raise Refused(f"sums of windows of {dtype_of(op.x)}")
    kernel, strides, dilations = pair(op.kernel), pair(op.strides), pair(op.dilations)
    x, pad = fitted(e, e.value(op.x), kernel, strides, dilations, four(op.pads))
    channels = shape_of(x)[3]
    ones = e.const(np.ones((*kernel, channels, 1), np.int8), i8)
    zeros = e.fill(e.zero_of(op.x), i8), e.fill(0, i8)
    operands = (x, ones, e.const(np.zeros(channels), i32), *zeros)
    return e.op(
        "depthwise_conv2d", operands, TensorType(i32, shape_of(op.result)),
        pad=pad, stride=strides, dilation=dilations, acc_type=i32,
    )  # fmt: skip


@rule(graph.AvgPool2DOp)
def avg_pool2d(e: Emitter, op: graph.AvgPool2DOp) -> SSAValue:
    """The mean of what is inside; with the padding counted in, of an input padded before."""
    _without_dilation(op)
    if dtype_of(op.x) is not dtypes.f32:
        raise Refused(f"the mean of {dtype_of(op.x)}")
    e.open(FLOAT_SUMS)
    kernel, strides = pair(op.kernel), pair(op.strides)
    x, pad = fitted(e, e.value(op.x), kernel, strides, (1, 1), four(op.pads))
    if op.count_include_pad.value.data and any(pad):
        n, height, width, channels = shape_of(x)
        sizes = (n, height + pad[0] + pad[1], width + pad[2] + pad[3], channels)
        border = e.shape((0, 0, *pad, 0, 0))
        x, pad = e.op("pad", (x, border, e.fill(0.0, f32)), TensorType(f32, sizes)), (0, 0, 0, 0)
    type = TensorType(f32, shape_of(op.result))
    zeros = e.fill(0.0, f32), e.fill(0.0, f32)
    return e.op(
        "avg_pool2d", (x, *zeros), type, kernel=kernel, stride=strides, pad=pad, acc_type=f32
    )
