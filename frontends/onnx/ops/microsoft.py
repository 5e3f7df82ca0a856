"""Operators on quantized values in onnxruntime's own domain, com.microsoft."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, SSAValue, shape_of
from npu_dialect.frontends.onnx.ops.convolution import Ints
from npu_dialect.frontends.onnx.ops.linear import as_row, product
from npu_dialect.frontends.onnx.ops.normalization import softmax, softmax_1
from npu_dialect.frontends.onnx.ops.pooling import average, pooling_windows
from npu_dialect.frontends.onnx.ops.qlinear import (
    qlinear_conv,
    quant_of,
    rescaled,
    result_type,
    typed,
)
from npu_dialect.frontends.onnx.registry import MICROSOFT, op, register


def _real(b: Builder, x: SSAValue, scale: SSAValue, zero: SSAValue | None) -> SSAValue:
    return b.emit(graph.DequantizeOp(typed(b, x, scale, zero)))


def _stored(b: Builder, x: SSAValue, scale: SSAValue, zero: SSAValue | None) -> SSAValue:
    zero = zero if zero is not None else b.constant(np.array(0, np.uint8))
    return b.emit(graph.QuantizeOp(x, result_type(b, scale, zero)))


def _register_binary(name: str, operation: type[Any]) -> None:
    def binary(
        b: Builder,
        x: SSAValue,
        x_scale: SSAValue,
        x_zero: SSAValue | None,
        y: SSAValue,
        y_scale: SSAValue,
        y_zero: SSAValue | None,
        z_scale: SSAValue,
        z_zero: SSAValue | None = None,
    ) -> SSAValue:
        left, right = _real(b, x, x_scale, x_zero), _real(b, y, y_scale, y_zero)
        return _stored(b, b.emit(operation(left, right)), z_scale, z_zero)

    register(binary, name, domain=MICROSOFT, storage=True)


for _name, _operation in {"QLinearAdd": graph.AddOp, "QLinearMul": graph.MulOp}.items():
    _register_binary(_name, _operation)


def _unary(
    b: Builder,
    operation: Callable[[SSAValue], SSAValue],
    x: SSAValue,
    parameters: Sequence[SSAValue | None],
) -> SSAValue:
    """A function of real numbers between a `dequantize` and a `quantize`."""
    x_scale, x_zero, y_scale, y_zero = parameters
    assert x_scale is not None and y_scale is not None
    return _stored(b, operation(_real(b, x, x_scale, x_zero)), y_scale, y_zero)


@op("QLinearSigmoid", domain=MICROSOFT, storage=True)
def qlinear_sigmoid(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue | None,
    y_scale: SSAValue,
    y_zero: SSAValue | None = None,
) -> SSAValue:
    """A sigmoid of quantized values."""
    parameters = (x_scale, x_zero, y_scale, y_zero)
    return _unary(b, lambda v: b.emit(graph.SigmoidOp(v)), x, parameters)


@op("QLinearLeakyRelu", domain=MICROSOFT, storage=True)
def qlinear_leaky_relu(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue | None,
    y_scale: SSAValue,
    y_zero: SSAValue | None = None,
    *,
    alpha: float = 0.01,
) -> SSAValue:
    """A leaky relu of quantized values."""
    parameters = (x_scale, x_zero, y_scale, y_zero)
    return _unary(b, lambda v: b.emit(graph.LeakyReluOp(v, alpha)), x, parameters)


@op("QLinearSoftmax", domain=MICROSOFT, storage=True)
def qlinear_softmax(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue | None,
    y_scale: SSAValue,
    y_zero: SSAValue,
    *,
    axis: int = -1,
    opset: int,
) -> SSAValue:
    """`opset` is that whose Softmax is meant."""
    along = softmax if opset >= 13 else softmax_1
    parameters = (x_scale, x_zero, y_scale, y_zero)
    return _unary(b, lambda v: along(b, v, axis=axis), x, parameters)


@op("QLinearAveragePool", domain=MICROSOFT, storage=True)
def qlinear_average_pool(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue | None,
    y_scale: SSAValue,
    y_zero: SSAValue | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> SSAValue:
    """Means over windows of quantized values."""
    if channels_last:
        x = common.channels_first(b, x)
    found = pooling_windows(x, kernel_shape, strides, None, pads, auto_pad)
    parameters = (x_scale, x_zero, y_scale, y_zero)
    y = _unary(b, lambda v: average(b, v, found, ceil_mode, count_include_pad), x, parameters)
    return common.channels_last(b, y) if channels_last else y


@op("QLinearGlobalAveragePool", domain=MICROSOFT, storage=True)
def qlinear_global_average_pool(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue,
    *,
    channels_last: int = 0,
) -> SSAValue:
    """The mean over all positions of quantized values."""
    rank = len(shape_of(x))
    axes = range(1, rank - 1) if channels_last else range(2, rank)
    parameters = (x_scale, x_zero, y_scale, y_zero)
    return _unary(b, lambda v: common.reduce(b, graph.ReduceMeanOp, v, axes, 1), x, parameters)


@op("QLinearReduceMean", domain=MICROSOFT, storage=True)
def qlinear_reduce_mean(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue | None,
    y_scale: SSAValue,
    y_zero: SSAValue | None = None,
    *,
    axes: Sequence[int],
    keepdims: int,
) -> SSAValue:
    """The mean of quantized values along some axes."""
    places = common.normalize_axes(axes, len(shape_of(x)))
    parameters = (x_scale, x_zero, y_scale, y_zero)

    def mean(v: SSAValue) -> SSAValue:
        return common.reduce(b, graph.ReduceMeanOp, v, places, keepdims)

    return _unary(b, mean, x, parameters)


@op("QLinearWhere", domain=MICROSOFT, storage=True)
def qlinear_where(
    b: Builder,
    condition: SSAValue,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue,
    y: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue,
    z_scale: SSAValue,
    z_zero: SSAValue,
) -> SSAValue:
    """x where the condition holds, else y, each brought to the scale of the result."""
    left, right = _real(b, x, x_scale, x_zero), _real(b, y, y_scale, y_zero)
    return _stored(b, common.where(b, condition, left, right), z_scale, z_zero)


@op("QLinearConv", domain=MICROSOFT, storage=True)
def qlinear_conv_of_images(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue,
    w: SSAValue,
    w_scale: SSAValue,
    w_zero: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue,
    bias: SSAValue | None = None,
    *,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> SSAValue:
    """As in ONNX, on data with the channels first or last."""
    x = common.channels_first(b, x) if channels_last else x
    y = qlinear_conv(
        b, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, auto_pad=auto_pad,
        dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    return common.channels_last(b, y) if channels_last else y


@op("QLinearConcat", domain=MICROSOFT, storage=True)
def qlinear_concat(b: Builder, *xs: SSAValue, axis: int) -> SSAValue:
    """y_scale, y_zero_point, then a tensor, its scale and its zero point for each part."""
    y_scale, y_zero, *triples = xs
    parts = [_real(b, *triples[k : k + 3]) for k in range(0, len(triples), 3)]
    axis = common.normalize_axis(axis, len(shape_of(parts[0])))
    return _stored(b, common.concat(b, parts, axis), y_scale, y_zero)


@op("QGemm", domain=MICROSOFT, storage=True)
def qgemm(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue,
    y: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue,
    c: SSAValue | None = None,
    z_scale: SSAValue | None = None,
    z_zero: SSAValue | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> SSAValue:
    """alpha * x @ y + c, `c` in units of alpha * x_scale * y_scale; f32 without `z_scale`."""
    x = typed(b, x, x_scale, x_zero)
    y = typed(b, y, y_scale, y_zero, axis=0 if transB else 1)
    x = common.transpose(b, x, (1, 0)) if transA else x
    y = common.transpose(b, y, (1, 0)) if transB else y
    row = as_row(b, c, shape_of(y)[1]) if c is not None else None
    sums = product(b, x, y, row)
    sums = common.add(b, sums, c) if c is not None and row is None else sums
    if z_scale is not None and z_zero is not None:
        return rescaled(b, sums, x, y, result_type(b, z_scale, z_zero), alpha)
    scale = np.float32(alpha) * quant_of(x).scales * quant_of(y).scales
    return common.mul(b, common.cast(b, sums, dtypes.f32), b.constant(scale))
