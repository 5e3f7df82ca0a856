"""Products of floats with 8-bit weights: the floats of a row or an image are quantized at run time.

    symmetrically:   x = q * s          y = sum(q * w) * s
    with an offset:  x = (q - z) * s    y = (sum(q * w) - z * sum(w)) * s

(dynamic_scales.py; `EvalHybrid` of fully_connected.cc, conv.cc and depthwise_conv.cc.) s is
multiplied by the scale of the weights, and the bias is added last.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import cast
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops import dynamic_scales
from npu_dialect.frontends.tflite.ops.rescaling import KEEP, activated, is_quantized, plain
from npu_dialect.graph.quant import QuantType, uniform

WIDE = uniform(dtypes.i16, 1.0)
"""The type of quantized values less their offset."""


def is_hybrid(x: SSAValue, w: SSAValue) -> bool:
    """Whether a product is one of floats and quantized weights."""
    return dtype_of(x) is dtypes.f32 and is_quantized(w)


def scales_of(w: SSAValue) -> Array:
    """The scales of weights, float32: one, or one for each channel. Refuses zero points."""
    quant = element_of(w)
    if not isinstance(quant, QuantType) or quant.storage_dtype is not dtypes.i8:
        raise NotExpressible(f"products of floats and weights of {quant}")
    if np.any(quant.zero()):
        raise NotExpressible("products of floats and weights with a zero point")
    return quant.scales


def matrix_product(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, asymmetric: bool
) -> SSAValue:
    """x [M, K], each row quantized by itself, by the constant w [K, N]."""
    scales = scales_of(w)
    q = dynamic_scales.quantized(b, x, (1,), asymmetric)
    sums = b.emit(graph.MatmulOp(q.steps, w))
    if q.offset is not None:
        totals = b.known(w, "a weight").astype(np.int64).sum(0).astype(np.int32)
        missing = b.emit(graph.MulOp(q.offset, b.constant(totals)))
        sums = b.emit(graph.SubOp(sums, missing))
    factor = b.emit(graph.MulOp(q.scale, _constant(b, scales)))
    return _biased(b, b.emit(graph.MulOp(cast(b, sums, dtypes.f32), factor)), bias)


def convolution(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None,
    sums: Callable[[SSAValue, str | None], SSAValue],
    by_channel: bool = False,
) -> SSAValue:
    """x [N, H, W, C], each image quantized by itself, with an offset if w has several scales.

    `sums` makes the sums of the quantized values, of a stated type. `by_channel`: w must have a
    scale for each channel, and they may be the same.
    """
    scales = scales_of(w)
    if by_channel and scales.size != shape_of(w)[-1]:
        raise NotExpressible("depthwise products of floats and weights of one scale for all")
    quant = element_of(w)
    if by_channel and isinstance(quant, QuantType) and quant.low > dtypes.i8.low:
        raise NotExpressible("depthwise products of floats and 4 bits, which TFLite has not either")
    if not by_channel and (scales == scales[0]).all():
        q = dynamic_scales.quantized(b, x, (1, 2, 3), asymmetric=False)
        factor = b.emit(graph.MulOp(q.scale, _constant(b, scales[:1])))
        found = b.emit(graph.MulOp(cast(b, sums(q.steps, None), dtypes.f32), factor))
        return _biased(b, found, bias)
    q = dynamic_scales.quantized(b, x, (1, 2, 3), asymmetric=True)
    assert q.offset is not None
    steps = b.emit(graph.SubOp(plain(b, q.steps), q.offset))
    total = sums(b.emit(graph.RequantizeOp(steps, KEEP, WIDE)), "i32")
    found = cast(b, total, dtypes.f32)
    if by_channel:
        factor = b.emit(graph.MulOp(q.scale, _constant(b, scales)))
        return _biased(b, b.emit(graph.MulOp(found, factor)), bias)
    found = b.emit(graph.MulOp(found, _constant(b, scales)))
    return _biased(b, b.emit(graph.MulOp(found, q.scale)), bias)


def _constant(b: Builder, scales: Array) -> SSAValue:
    return b.constant(scales.reshape(()) if scales.size == 1 else scales)


def _biased(b: Builder, found: SSAValue, bias: SSAValue | None) -> SSAValue:
    return found if bias is None else b.emit(graph.AddOp(found, bias))


def any_activation(b: Builder, x: SSAValue, activation: str) -> SSAValue:
    """The function that an operator of floats applies, tanh too."""
    if activation == "TANH":
        return b.emit(graph.TanhOp(x))
    return activated(b, x, activation)
