"""SOFTMAX; of an 8-bit tensor, the one of TFLite's tables of exponentials, in float32.
(Of 16 bits: wide_softmax.py.)

    d = x - max(x)                    whole numbers, from -255
    e = table[d]                      exp(-beta * scale * -d), rounded to float32
    y = round(e * (1 / (sum(e) * scale of y))), ties away from zero

(`PopulateSoftmaxLookupTable` and `Softmax` of internal/optimized/optimized_ops.h, which the
reference resolver has too.)
"""

from __future__ import annotations

import math

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.quantization import away, stored
from npu_dialect.frontends.tflite.ops.rescaling import (
    KEEP,
    is_quantized,
    plain,
    quant_of,
)
from npu_dialect.frontends.tflite.ops.wide_softmax import wide_softmax
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import uniform

DISTANCES = uniform(dtypes.u8, 1.0, 255)
"""The type of differences from the greatest value: -255 to 0."""


@op("SOFTMAX", options="SoftmaxOptions")
def softmax(b: Builder, x: SSAValue, *, beta: float) -> SSAValue:
    """exp(beta * x) over its sum along the last dimension."""
    if not shape_of(x):
        raise Misfit("a number")
    axis = len(shape_of(x)) - 1
    if is_quantized(x):
        is_wide = dtype_of(x).itemsize > 1
        return wide_softmax(b, x, beta) if is_wide else _by_table(b, x, beta, axis)
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a softmax of {dtype_of(x)}")
    if beta != 1.0:
        x = b.emit(graph.MulOp(x, b.scalar(beta, x)))
    return b.emit(graph.SoftmaxOp(x, axis))


def _by_table(b: Builder, x: SSAValue, beta: float, axis: int) -> SSAValue:
    quant = quant_of(x)
    if b.dtype.itemsize > 1:
        raise NotExpressible(f"a softmax of {quant.storage_dtype} with a result of 16 bits")
    greatest = plain(b, b.emit(graph.ReduceMaxOp(x, (axis,))))
    distance = b.emit(graph.SubOp(plain(b, x), greatest))
    index = b.emit(graph.RequantizeOp(distance, KEEP, DISTANCES))
    factor = -quant.scales[0] * np.float32(beta)
    exponents = factor * np.arange(255, -1, -1).astype(np.float32)
    table = np.array([math.exp(float(v)) for v in exponents], np.float32)
    e = b.emit(graph.LookupOp(index, b.constant(table), dtypes.element_type(dtypes.f32)))
    total = b.emit(graph.ReduceSumOp(e, (axis,)))
    scale = b.constant(np.array(b.quant.scales[0], np.float32))
    whole = b.emit(graph.MulOp(total, scale))
    inverse = b.emit(graph.DivOp(b.scalar(1.0, whole), whole))
    return stored(b, away(b, b.emit(graph.MulOp(e, inverse))), b.quant)
