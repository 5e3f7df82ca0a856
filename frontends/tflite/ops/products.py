"""BATCH_MATMUL and CONV_3D."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, pad, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.contractions import factors
from npu_dialect.frontends.tflite.ops.rescaling import (
    activated,
    is_quantized,
    recipe,
    wide_recipe,
)
from npu_dialect.frontends.tflite.ops.windows import ends_of, pads_of
from npu_dialect.frontends.tflite.registry import op

PRODUCTS = (
    (dtypes.i8, dtypes.i8), (dtypes.i16, dtypes.i16), (dtypes.i16, dtypes.i8),
    (dtypes.f32, dtypes.f32),
)  # fmt: skip
"""The operands of BATCH_MATMUL."""


def _turned(b: Builder, x: SSAValue) -> SSAValue:
    """With the last two dimensions exchanged."""
    rank = len(shape_of(x))
    return transpose(b, x, (*range(rank - 2), rank - 1, rank - 2))


@op("BATCH_MATMUL", options="BatchMatMulOptions")
def batch_matmul(b: Builder, x: SSAValue, y: SSAValue, *, adj_x: bool, adj_y: bool) -> SSAValue:
    """x [..., M, K] times y [..., K, N]; sums of quantized ones are rescaled with two roundings.

    Sums of 16 bits have 64, and are multiplied by 15 bits and rounded once.
    """
    if min(len(shape_of(x)), len(shape_of(y))) < 2:
        raise Misfit(f"{list(shape_of(x))} and {list(shape_of(y))}")
    if is_quantized(x) != is_quantized(y) or (dtype_of(x), dtype_of(y)) not in PRODUCTS:
        raise NotExpressible(f"products of {element_of(x)} and {element_of(y)}")
    x, y = _turned(b, x) if adj_x else x, _turned(b, y) if adj_y else y
    sums = b.emit(graph.MatmulOp(x, y))
    if not is_quantized(x):
        return sums
    made = wide_recipe if dtype_of(sums) is dtypes.i64 else recipe
    return b.emit(graph.RequantizeOp(sums, made(factors(b, x, y, narrow=False)), b.quant))


@op("CONV_3D", options="Conv3DOptions")
def conv_3d(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    *,
    padding: str,
    stride_d: int,
    stride_w: int,
    stride_h: int,
    fused_activation_function: str,
    dilation_d_factor: int,
    dilation_w_factor: int,
    dilation_h_factor: int,
) -> SSAValue:
    """x [N, D, H, W, C], w [KD, KH, KW, C, OC] of floats.

    One convolution of planes, whose channels are those of all planes that a window touches.
    """
    if len(shape_of(x)) != 5 or len(shape_of(w)) != 5 or shape_of(x)[4] != shape_of(w)[3]:
        raise Misfit(f"{list(shape_of(x))} and {list(shape_of(w))}")
    if dtype_of(x) is not dtypes.f32 or dtype_of(w) is not dtypes.f32:
        raise NotExpressible(f"products of {dtype_of(x)}, which TFLite has not either")
    taps, *kernel, channels, results = shape_of(w)
    steps, gaps = (stride_h, stride_w), (dilation_h_factor, dilation_w_factor)
    deep = ends_of((shape_of(x)[1],), (taps,), (stride_d,), (dilation_d_factor,), padding)
    pads = pads_of(shape_of(x)[2:4], kernel, steps, gaps, padding)
    x = pad(b, x, (0, *deep[0], 0, 0, 0), (0, *deep[1], 0, 0, 0))
    n, _, height, width, _ = shape_of(x)
    depth = b.shape[1] if len(b.shape) == 5 else 0
    places = [k * dilation_d_factor for k in range(taps)]
    if places[-1] + (depth - 1) * stride_d >= shape_of(x)[1] or depth < 1:
        raise Misfit(f"a result of {list(b.shape)} from {list(shape_of(x))}")
    planes = concat(b, [along(b, x, 1, k, depth, stride_d) for k in places], 4)
    planes = reshape(b, planes, (n * depth, height, width, taps * channels))
    w = reshape(b, transpose(b, w, (1, 2, 0, 3, 4)), (*kernel, taps * channels, results))
    found = b.emit(graph.Conv2DOp(planes, w, bias, steps, pads, gaps, 1))
    found = reshape(b, found, (n, depth, *shape_of(found)[1:]))
    return activated(b, found, fused_activation_function)
