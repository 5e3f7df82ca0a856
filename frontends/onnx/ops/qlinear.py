"""Integer contractions: QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger.

Products are summed exactly in i32; the recipe that rescales the sums is onnxruntime's:
f32(f32(x_scale * w_scale) / y_scale), multiplied in f32 and rounded half to even.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common, unbound
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    element_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import (
    Ints,
    check_kernel,
    conv_image,
    windows,
)
from npu_dialect.frontends.onnx.ops.linear import product
from npu_dialect.frontends.onnx.ops.quantization import quant_type, quantized
from npu_dialect.frontends.onnx.registry import op
from npu_dialect.graph.quant import QuantType, uniform


def typed(
    b: Builder, x: SSAValue, scale: SSAValue, zero: SSAValue | None, axis: int = 0
) -> SSAValue:
    """The integers `x` with their scale and zero point in the type."""
    return quantized(b, x, quant_type(b, dtype_of(x), scale, zero, len(shape_of(x)), axis))


def quant_of(x: SSAValue) -> QuantType:
    """The quantized element type of `x`."""
    element = element_of(x)
    assert isinstance(element, QuantType)
    return element


def rescaled(
    b: Builder, sums: SSAValue, x: SSAValue, w: SSAValue, result: QuantType, alpha: float = 1.0
) -> SSAValue:
    """Sums of products of `x` and `w` as values of the type `result`."""
    scale = np.float32(alpha) * quant_of(x).scales * quant_of(w).scales / result.scales
    recipe = graph.requant_f32(scale.astype(np.float32))
    return b.emit(graph.RequantizeOp(sums, recipe, result))


def result_type(b: Builder, scale: SSAValue, zero: SSAValue) -> QuantType:
    """The type of a result, of one scale and zero point."""
    return quant_type(b, dtype_of(zero), scale, zero, 0, 0)


def _is_known(b: Builder, x: SSAValue | None) -> bool:
    return x is None or b.array(x) is not None


@op("QLinearConv", storage=True)
def qlinear_conv(
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
    auto_pad: str,
    dilations: Ints,
    group: int,
    kernel_shape: Ints,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """An integer convolution, rescaled."""
    found = windows(
        shape_of(x)[2:], check_kernel(w, kernel_shape), strides, dilations, pads, auto_pad
    )
    if not all(_is_known(b, v) for v in (x_scale, x_zero, w_scale, w_zero, y_scale, y_zero)):
        sums = unbound.convolution(b, (x, x_zero), (w, w_zero), found, group)
        sums = common.add(b, sums, bias) if bias is not None else sums
        y = unbound.rescaled(b, sums, (x_scale, w_scale, y_scale), y_zero)
        return common.from_image(b, y, len(shape_of(x)))
    result = result_type(b, y_scale, y_zero)
    x, w = typed(b, x, x_scale, x_zero), typed(b, w, w_scale, w_zero)
    sums = conv_image(b, x, w, bias, found, group)
    return common.from_image(b, rescaled(b, sums, x, w, result), len(shape_of(x)))


@op("QLinearMatMul", storage=True)
def qlinear_matmul(
    b: Builder,
    x: SSAValue,
    x_scale: SSAValue,
    x_zero: SSAValue,
    y: SSAValue,
    y_scale: SSAValue,
    y_zero: SSAValue,
    z_scale: SSAValue,
    z_zero: SSAValue,
) -> SSAValue:
    """An integer matrix product, rescaled."""
    if not all(_is_known(b, v) for v in (x_scale, x_zero, y_scale, y_zero, z_scale, z_zero)):
        sums = unbound.product(b, (x, x_zero), (y, y_zero))
        scales = unbound.as_rows(b, x_scale), y_scale, unbound.as_rows(b, z_scale)
        return unbound.rescaled(b, sums, scales, z_zero)
    result = result_type(b, z_scale, z_zero)
    x = typed(b, x, x_scale, x_zero)
    y = typed(b, y, y_scale, y_zero, axis=-1)
    if len(shape_of(y)) == 1 and quant_of(y).axis is not None:
        raise NotExpressible("a vector with several scales")
    return rescaled(b, product(b, x, y), x, y, result)


@op("ConvInteger", storage=True)
def conv_integer(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    x_zero: SSAValue | None = None,
    w_zero: SSAValue | None = None,
    *,
    auto_pad: str,
    dilations: Ints,
    group: int,
    kernel_shape: Ints,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """An integer convolution: i32 sums."""
    found = windows(
        shape_of(x)[2:], check_kernel(w, kernel_shape), strides, dilations, pads, auto_pad
    )
    if not _is_known(b, x_zero) or not _is_known(b, w_zero):
        sums = unbound.convolution(b, (x, x_zero), (w, w_zero), found, group)
        return common.from_image(b, sums, len(shape_of(x)))
    x, w = unscaled(b, x, x_zero, 0), unscaled(b, w, w_zero, 0)
    return common.from_image(b, conv_image(b, x, w, None, found, group), len(shape_of(x)))


@op("MatMulInteger", storage=True)
def matmul_integer(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    x_zero: SSAValue | None = None,
    y_zero: SSAValue | None = None,
) -> SSAValue:
    """An integer matrix product: i32 sums."""
    if not _is_known(b, x_zero) or not _is_known(b, y_zero):
        return unbound.product(b, (x, x_zero), (y, y_zero))
    x, y = unscaled(b, x, x_zero, -2), unscaled(b, y, y_zero, -1)
    return product(b, x, y)


def unscaled(b: Builder, x: SSAValue, zero: SSAValue | None, axis: int) -> SSAValue:
    """The integers `x` with a zero point (one, or one per index of `axis`) and scale 1."""
    zeros = [0] if zero is None else b.ints(zero, "a zero point")
    if len(zeros) == 1:
        return quantized(b, x, uniform(dtype_of(x), 1.0, zeros[0]))
    place = common.normalize_axis(axis, len(shape_of(x)))
    ones = np.ones(len(zeros), np.float32)
    return quantized(b, x, uniform(dtype_of(x), ones, _int_array(zeros), axis=place))


def _int_array(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtypes.i64.numpy)
