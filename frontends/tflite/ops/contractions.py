"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: exact sums in i32, rescaled.

TFLite rounds the sums of convolutions twice. Those of FULLY_CONNECTED are rounded once
(single_rounding.py). Products of 16-bit activations are summed in i64, or in i32 where the bias is.
"""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops import hybrid, single_rounding
from npu_dialect.frontends.tflite.ops.rescaling import (
    activated,
    is_quantized,
    quant_of,
    rescaled,
    scale_of,
    wide_recipe,
)
from npu_dialect.frontends.tflite.ops.windows import pads_of
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import QuantType, uniform


def weight(b: Builder, w: SSAValue, permutation: tuple[int, ...]) -> SSAValue:
    """A constant weight with its dimensions in another order, its scales with them."""
    element, array = element_of(w), b.array(w)
    if array is None:
        return transpose(b, w, permutation)
    moved = np.ascontiguousarray(np.transpose(array, permutation))
    if isinstance(element, QuantType) and element.axis is not None:
        axis = permutation.index(element.axis)
        low, high = element.low, element.high
        element = uniform(element.storage_dtype, element.scales, element.zero(), axis, low, high)
    return b.constant(moved, element)


def factors(b: Builder, x: SSAValue, w: SSAValue, narrow: bool) -> list[float]:
    """What sums of products of `x` and `w` are multiplied by, for one channel or for each.

    `narrow`: the product of the scales is rounded to float32 first.
    """
    quant, scale = element_of(w), np.float64(scale_of(quant_of(x)))
    assert isinstance(quant, QuantType)
    products = scale * quant.scales.astype(np.float64)
    if narrow:
        products = products.astype(np.float32).astype(np.float64)
    return [float(p) for p in products / scale_of(b.quant)]


def convolved(b: Builder, sums: SSAValue, x: SSAValue, w: SSAValue, activation: str) -> SSAValue:
    """The result of a convolution: sums rescaled with two roundings, and bounded.

    Scales of u8 are multiplied in float32 (GetQuantizedConvolutionMultipler). Sums of 64 bits, of
    16-bit activations, are multiplied by 15 bits and rounded once.
    """
    if dtype_of(sums) is dtypes.i64:
        made = wide_recipe(factors(b, x, w, narrow=False))
        sums = b.emit(graph.RequantizeOp(sums, made, b.quant))
    elif is_quantized(x):
        sums = rescaled(b, sums, factors(b, x, w, dtype_of(x) is dtypes.u8), b.quant)
    return activated(b, sums, activation)


def is_wide(x: SSAValue) -> bool:
    """Whether products of a tensor are summed in 64 bits."""
    return is_quantized(x) and dtype_of(x) is dtypes.i16


def check(x: SSAValue, w: SSAValue, bias: SSAValue | None, stated: str = "INT64") -> str | None:
    """Refuse contractions of mixed types; "i32" where 16-bit activations have such sums.

    `stated`: the type of a bias of 16-bit activations, as the options state it; i64 by default.
    """
    wide = dtypes.i32 if stated == "INT32" else dtypes.i64
    if is_quantized(x) != is_quantized(w):
        raise NotExpressible(f"products of {element_of(x)} and {element_of(w)}")
    if is_wide(x) and dtype_of(w) is not dtypes.i8:
        raise NotExpressible(f"activations of 16 bits and weights of {dtype_of(w)}")
    if is_wide(x) and bias is not None and dtype_of(bias) is not wide:
        found = f"a bias of {dtype_of(bias)} that is stated to be {wide}"
        raise NotExpressible(f"activations of 16 bits and {found}")
    if not is_quantized(x) and dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"products of {dtype_of(x)}")
    return "i32" if is_wide(x) and wide is dtypes.i32 else None


@op("CONV_2D", options="Conv2DOptions")
def conv_2d(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    dilation_h_factor: int,
    dilation_w_factor: int,
    quantized_bias_type: str,
    fused_activation_function: str,
) -> SSAValue:
    """x [N, H, W, C], w [OC, KH, KW, C / groups]."""
    if len(shape_of(x)) != 4 or len(shape_of(w)) != 4:
        raise Misfit(f"{list(shape_of(x))} and {list(shape_of(w))}")
    w = weight(b, w, (1, 2, 3, 0))
    depth = shape_of(w)[2]
    if depth < 1 or shape_of(x)[3] % depth:
        raise Misfit(f"{shape_of(x)[3]} channels for weights of {depth}")
    steps, gaps = (stride_h, stride_w), (dilation_h_factor, dilation_w_factor)
    pads = pads_of(shape_of(x)[1:3], shape_of(w)[:2], steps, gaps, padding)
    groups = shape_of(x)[3] // depth

    def sums_of(x: SSAValue, bias: SSAValue | None, stated: str | None) -> SSAValue:
        return b.emit(graph.Conv2DOp(x, w, bias, steps, pads, gaps, groups, stated))

    if hybrid.is_hybrid(x, w):
        found = hybrid.convolution(b, x, w, bias, lambda q, stated: sums_of(q, None, stated))
        return hybrid.any_activation(b, found, fused_activation_function)
    if is_wide(x) and bias is None:
        raise NotExpressible("16-bit activations without a bias, which TFLite has not either")
    sums = sums_of(x, bias, check(x, w, bias, quantized_bias_type))
    return convolved(b, sums, x, w, fused_activation_function)


@op("DEPTHWISE_CONV_2D", options="DepthwiseConv2DOptions")
def depthwise_conv_2d(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    dilation_h_factor: int,
    dilation_w_factor: int,
    fused_activation_function: str,
) -> SSAValue:
    """x [N, H, W, C], w [1, KH, KW, C * m]; channel k of the result is of channel k // m."""
    if len(shape_of(x)) != 4 or len(shape_of(w)) != 4 or shape_of(w)[0] != 1:
        raise Misfit(f"{list(shape_of(x))} and {list(shape_of(w))}")
    w = weight(b, w, (1, 2, 0, 3))
    steps, gaps = (stride_h, stride_w), (dilation_h_factor, dilation_w_factor)
    pads = pads_of(shape_of(x)[1:3], shape_of(w)[:2], steps, gaps, padding)

    def sums_of(x: SSAValue, bias: SSAValue | None, stated: str | None) -> SSAValue:
        return b.emit(graph.Conv2DOp(x, w, bias, steps, pads, gaps, shape_of(x)[3], stated))

    if hybrid.is_hybrid(x, w):
        found = hybrid.convolution(b, x, w, bias, lambda q, stated: sums_of(q, None, stated), True)
        return hybrid.any_activation(b, found, fused_activation_function)
    check(x, w, bias)
    return convolved(b, sums_of(x, bias, None), x, w, fused_activation_function)


def _both_wide(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, stated: str
) -> SSAValue:
    """Products of 16-bit activations and weights, in 64 bits; a bias is i32 by default."""
    wide = dtypes.i64 if stated == "INT64" else dtypes.i32
    if bias is not None and dtype_of(bias) is not wide:
        raise NotExpressible(f"a bias of {dtype_of(bias)} that is stated to be {wide}")
    values = None if bias is None else b.constant(b.known(bias, "a bias").astype(np.int64))
    sums = b.emit(graph.MatmulOp(x, w, values))
    return convolved(b, sums, x, w, "NONE")


def _reach(b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None) -> Array:
    """How great the sums of a product become in magnitude: of each channel, int64."""
    values, quant, element = b.array(w), quant_of(x), element_of(w)
    assert isinstance(element, QuantType)
    most = max(quant.high - quant.zero_point, quant.zero_point - quant.low)
    if values is None or (bias is not None and b.array(bias) is None):
        return np.array([1 << 62])
    distance = np.abs(values.astype(np.int64) - np.asarray(element.zero(), np.int64))
    added = b.array(bias)
    return distance.sum(axis=0) * most + (0 if added is None else np.abs(added.astype(np.int64)))


@op("FULLY_CONNECTED", options="FullyConnectedOptions")
def fully_connected(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    weights_format: str,
    keep_num_dims: bool,
    asymmetric_quantize_inputs: bool,
    quantized_bias_type: str,
    fused_activation_function: str,
) -> SSAValue:
    """x of any shape as rows of K, w [N, K]."""
    del keep_num_dims  # the result's shape says it
    if weights_format != "DEFAULT":
        raise NotExpressible(f"weights in the format {weights_format}")
    if len(shape_of(w)) != 2 or not shape_of(w)[1]:
        raise Misfit(f"weights of {list(shape_of(w))}")
    width = shape_of(w)[1]
    if prod(shape_of(x)) % width:
        raise Misfit(f"{list(shape_of(x))} for weights of {list(shape_of(w))}")
    w = weight(b, w, (1, 0))
    rows = reshape(b, x, (prod(shape_of(x)) // width, width))
    if hybrid.is_hybrid(x, w):
        found = hybrid.matrix_product(b, rows, w, bias, asymmetric_quantize_inputs)
        found = hybrid.any_activation(b, found, fused_activation_function)
        return reshape(b, found, b.shape)
    if is_wide(x) and is_wide(w):
        found = _both_wide(b, rows, w, bias, quantized_bias_type)
        return reshape(b, activated(b, found, fused_activation_function), b.shape)
    narrow = check(x, w, bias, quantized_bias_type)
    sums = b.emit(graph.MatmulOp(rows, w, bias, narrow))
    if is_quantized(x):
        reach = _reach(b, rows, w, bias)
        sums = single_rounding.rounded(b, sums, factors(b, x, w, narrow=False), b.quant, reach)
    return reshape(b, activated(b, sums, fused_activation_function), b.shape)
