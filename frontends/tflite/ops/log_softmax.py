"""LOG_SOFTMAX; of 8-bit tensors in gemmlowp's fixed point (`LogSoftmax` of log_softmax.h).

    S = sum(exp(d))    d: what x is below the greatest of its row; 19 fractional bits
    l = log(S)         S = 2**k * r with r near 1: l = k * log(2) + (a quotient of polynomials of r)
    y = d - l          of 4 fractional bits, ties away from zero; 0 is the greatest

The logarithm is `log_x_for_x_greater_than_or_equal_to_1` of internal/common.h.
"""

from __future__ import annotations

import math

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import add, sub, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.fixed_steps import high, high_of, lowered, raised, reciprocal
from npu_dialect.frontends.tflite.ops.gemmlowp32 import LOW, constant
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    is_quantized,
    quant_of,
    quantized_multiplier,
    recipe,
    scale_of,
)
from npu_dialect.frontends.tflite.ops.softmax import (
    DISTANCE_BITS,
    SHIFTS,
    SUM_BITS,
    distances,
)
from npu_dialect.frontends.tflite.ops.wide_softmax import normalized
from npu_dialect.frontends.tflite.registry import op

STEP = 1 / 16
"""The scale of a quantized result, whose greatest value is 0."""

RESULT_BITS = 4
"""Integer bits of a result."""

WHOLE = 31 - DISTANCE_BITS - 1
"""The fractional bits of a logarithm while it is computed."""

ROOT = 2.0**-0.25
"""What a sum is compared with once it is brought near to it by a power of two."""


@op("LOG_SOFTMAX")
def log_softmax(b: Builder, x: SSAValue) -> SSAValue:
    """The logarithm of the softmax along the last dimension."""
    if not shape_of(x):
        raise Misfit("a number")
    if is_quantized(x):
        return _in_fixed_point(b, x)
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"the logarithm of a softmax of {dtype_of(x)}")
    return b.emit(graph.LogSoftmaxOp(x, len(shape_of(x)) - 1))


def _in_fixed_point(b: Builder, x: SSAValue) -> SSAValue:
    quant = b.quant
    is_result = quant.storage_dtype is dtype_of(x) and quant.zero_point == quant.high
    if dtype_of(x).itemsize > 1 or not is_result or scale_of(quant) != STEP:
        raise NotExpressible(f"a logarithm of a softmax of {quant_of(x)} as {quant}")
    below = distances(b, x, 1.0)
    log = _log(b, below.total)
    least = _least(b, log, scale_of(quant_of(x)))
    table = np.array([step or 0 for step in below.scaled], np.int32)
    scaled = b.emit(graph.LookupOp(below.index, b.constant(table), I32))
    steps = lowered(b, sub(b, scaled, log), WHOLE - RESULT_BITS + 1)
    is_within = b.emit(graph.GtOp(below.steps, least))
    found = where(b, is_within, steps, b.scalar(quant.low - quant.high, steps))
    return b.emit(graph.RequantizeOp(found, graph.requant_fixed(1, 0, "half_up"), quant))


def _least(b: Builder, log: SSAValue, scale: float) -> SSAValue:
    """What d must be above, so that d - log(S) has 32 bits."""
    m, left = quantized_multiplier(min(scale * (1 << (31 - DISTANCE_BITS)), 2.0**31 - 1))
    radius = math.floor(((1 << DISTANCE_BITS) - 1) * 2.0 ** (31 - DISTANCE_BITS - left))
    lowest = add(b, log, b.scalar(LOW, log))
    back = b.emit(graph.RequantizeOp(lowest, recipe([2.0 ** (31 - left) / m]), I32))
    return b.emit(graph.MaxOp(back, b.scalar(-radius - 1, back)))


def _log(b: Builder, total: SSAValue) -> SSAValue:
    """log(S) of five integer bits, for S from 1 of twelve; S is brought near to `ROOT`."""
    half, quarter = constant(2.0**-0.5), 1 << (WHOLE - 2)
    shifted, _, bits = normalized(b, total, SHIFTS, 1 << WHOLE)
    near = raised(b, high_of(b, shifted, half), 1)
    _, power, others = normalized(b, high_of(b, total, half), SHIFTS, 1 << WHOLE)
    other = b.emit(graph.RescaleOp(total, power, 0, I32, "half_up"))
    first = sub(b, b.scalar(((SUM_BITS - 1) << WHOLE) + quarter, bits), bits)
    second = sub(b, b.scalar((SUM_BITS << WHOLE) - quarter, others), others)
    k = b.emit(graph.MaxOp(first, second))
    rest = _log_near_one(b, b.emit(graph.MinOp(near, other)))
    return raised(b, add(b, high_of(b, k, constant(math.log(2))), rest), 1)


def _log_near_one(b: Builder, r: SSAValue) -> SSAValue:
    """log(r / ROOT) of six integer bits, for r near to `ROOT`."""
    root = constant(ROOT)
    off = sub(b, r, b.scalar(root, r))
    p = add(b, lowered(b, off, 1, "half_up"), b.scalar(root, off))
    q = add(b, off, off)
    square = high(b, q, q)
    over = add(b, high(b, q, r), high_of(b, high(b, q, square), constant(11 / 240 / ROOT)))
    inner = add(b, q, high_of(b, square, constant(1 / 20 / ROOT)))
    inner = add(b, inner, b.scalar(constant(2 * ROOT - 1 / ROOT), inner))
    under = add(b, high(b, p, inner), high_of(b, q, constant(1 / 4 / ROOT)))
    halved = b.emit(graph.DivOp(under, b.scalar(2, under)))
    halved = add(b, halved, b.scalar(1 << 30, halved))
    return high(b, lowered(b, over, 31 - WHOLE), reciprocal(b, halved))
