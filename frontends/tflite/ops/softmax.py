"""SOFTMAX; of 8-bit tensors in gemmlowp's fixed point (`Softmax` of internal/reference/softmax.h).

    e = exp(d)                     d: what x is below the greatest of its row; a table of 256
    S = sum(e), of 19 fractional bits
    r = 1 / (1 + f)                S = (1 + f) * 2**k, 0 <= f < 1; three steps of Newton's method
    y = e * r / 2**k               of 8 fractional bits, ties away from zero

Of 16 bits: wide_softmax.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import gemmlowp32
from npu_dialect.frontends.tflite.ops.fixed_steps import high, reciprocal
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    is_quantized,
    plain,
    quant_of,
    quantized_multiplier,
    scale_of,
)
from npu_dialect.frontends.tflite.ops.wide_softmax import normalized, wide_softmax
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import uniform

DISTANCES = uniform(dtypes.u8, 1.0, 255)
"""The type of differences from the greatest value: -255 to 0."""

DISTANCE_BITS, SUM_BITS = 5, 12
"""Integer bits of a scaled difference, and of a sum."""

SHIFTS = (8, 4, 2, 1)
"""What a sum is shifted left by, as often as its highest bit is below bit 30."""

LONGEST = (1 << SUM_BITS) - 1
"""Elements of a row whose sum has less than 31 bits."""


@op("SOFTMAX", options="SoftmaxOptions")
def softmax(b: Builder, x: SSAValue, *, beta: float) -> SSAValue:
    """exp(beta * x) over its sum along the last dimension."""
    if not shape_of(x):
        raise Misfit("a number")
    axis = len(shape_of(x)) - 1
    if is_quantized(x):
        is_wide = dtype_of(x).itemsize > 1
        return wide_softmax(b, x, beta) if is_wide else _in_fixed_point(b, x, beta)
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a softmax of {dtype_of(x)}")
    if beta != 1.0:
        x = b.emit(graph.MulOp(x, b.scalar(beta, x)))
    return b.emit(graph.SoftmaxOp(x, axis))


def _in_fixed_point(b: Builder, x: SSAValue, beta: float) -> SSAValue:
    quant = b.quant
    near = math.isclose(scale_of(quant), 1 / 256, rel_tol=0.001)
    if quant.storage_dtype is not dtype_of(x) or quant.zero_point != quant.low or not near:
        raise NotExpressible(f"a softmax of {quant_of(x)} with a result of {quant}")
    below = distances(b, x, beta)
    table = np.array([_exponential(step) for step in below.scaled], np.int32)
    e = b.emit(graph.LookupOp(below.index, b.constant(table), I32))
    shifted, power, _ = normalized(b, below.total, SHIFTS)
    found = high(b, e, reciprocal(b, shifted))
    return b.emit(graph.RescaleOp(found, power, SUM_BITS + 22, quant, "half_away"))


@dataclass(frozen=True)
class Distances:
    """How far the elements of a quantized tensor are below the greatest of their rows."""

    steps: SSAValue
    """The differences of stored values: -255 to 0."""
    index: SSAValue
    """The same as `DISTANCES`."""
    scaled: Sequence[int | None]
    """beta * scale * d for d from -255 to 0, of `DISTANCE_BITS`; None for what is too low."""
    total: SSAValue
    """The sum of the exponentials of each row, of `SUM_BITS`."""


def distances(b: Builder, x: SSAValue, beta: float) -> Distances:
    """Those of rows of `x`. NotExpressible for rows whose sums may be too great."""
    axis = len(shape_of(x)) - 1
    if shape_of(x)[axis] > LONGEST:
        raise NotExpressible(f"a softmax of 8 bits along {shape_of(x)[axis]} elements")
    greatest = plain(b, b.emit(graph.ReduceMaxOp(x, (axis,))))
    steps = b.emit(graph.SubOp(plain(b, x), greatest))
    index = b.emit(graph.RequantizeOp(steps, KEEP, DISTANCES))
    scaled = _scaled(float(np.float32(beta)), scale_of(quant_of(x)))
    parts = [gemmlowp32.halved(_exponential(step), SUM_BITS) for step in scaled]
    part = b.emit(graph.LookupOp(index, b.constant(np.array(parts, np.int32)), I32))
    return Distances(steps, index, scaled, b.emit(graph.ReduceSumOp(part, (axis,))))


@cache
def _scaled(beta: float, scale: float) -> tuple[int | None, ...]:
    """What `Distances.scaled` is."""
    real = min(beta * scale * (1 << (31 - DISTANCE_BITS)), 2.0**31 - 1)
    if real <= 1:
        raise NotExpressible(f"a softmax of a tensor of scale {scale}")
    m, left = quantized_multiplier(real / 2.0)
    left += 1
    least = -(((1 << DISTANCE_BITS) - 1) * (1 << (31 - DISTANCE_BITS)) >> left)
    return tuple(gemmlowp32.times(d << left, m) if d >= least else None for d in range(-255, 1))


@cache
def _exponential(step: int | None) -> int:
    """exp(d) of no integer bits."""
    return 0 if step is None else gemmlowp32.exp(step, DISTANCE_BITS)
