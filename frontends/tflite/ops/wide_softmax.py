"""SOFTMAX of a 16-bit tensor, in integers (`SoftmaxInt16` of internal/reference/softmax.h).

e = exp(d)         d: what x is below the greatest of its row, at most 10; lines of a table
S = sum(e)         of 15 fractional bits
r = 1 / (1 + f)    S = (1 + f) * 2**k, 0 <= f < 1; lines of another table
y = e * r / 2**k   of 15 fractional bits, ties up
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import add, mul, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import I32, plain, recipe, scale_of
from npu_dialect.frontends.tflite.ops.wide_functions import HIGH, LOW, drawn, entries, symmetric
from npu_dialect.graph.quant import uniform

RANGE = 65535
REACH = 10.0
"""How far below the greatest element of a row an exponential is still told from exp(-10)."""

DISTANCE = uniform(dtypes.i16, REACH / RANGE, HIGH)
"""The type of differences from the greatest value: -10 to 0."""

FRACTION = uniform(dtypes.i16, 1.0 / RANGE, LOW)
"""The type of what a sum is above a power of two, as a part of it."""

PART = uniform(dtypes.i16, 2.0**-15)
"""The type of exponentials and of reciprocals."""

SHIFTS = (16, 8, 4, 2, 1)
"""What a sum is shifted left by, as often as its highest bit is below bit 30."""

LONGEST = 1 << 16
"""Elements of a row whose sum has less than 31 bits."""


@cache
def exponentials() -> Array:
    """exp(d) for d from -10 to 0: int16 [513]."""
    return entries(math.exp, REACH / RANGE, HIGH, 2.0 / RANGE, np.float64)


@cache
def reciprocals() -> Array:
    """1 / (1 + f) for f from 0 to 1: int16 [513]."""
    return entries(lambda f: 1 / (1 + f), 1.0 / RANGE, LOW, 2.0 / RANGE, np.float64)


def wide_softmax(b: Builder, x: SSAValue, beta: float) -> SSAValue:
    """exp(beta * x) over its sum along the last dimension, in steps of 2**-15."""
    quant, axis = symmetric(x), len(shape_of(x)) - 1
    if b.quant.zero_point or not math.isclose(scale_of(b.quant), 2.0**-15, rel_tol=0.001):
        raise NotExpressible(f"a softmax with a result of {b.quant}")
    if shape_of(x)[axis] > LONGEST:
        raise NotExpressible(f"a softmax of 16 bits along {shape_of(x)[axis]} elements")
    greatest = plain(b, b.emit(graph.ReduceMaxOp(x, (axis,))))
    below = b.emit(graph.SubOp(plain(b, x), greatest))
    scale = float(quant.scales[0] * np.float32(beta)) / (REACH / RANGE)
    distance = b.emit(graph.RequantizeOp(below, recipe([scale]), DISTANCE))
    e = drawn(b, distance, exponentials(), PART)
    shifted, factor, _ = normalized(b, b.emit(graph.ReduceSumOp(e, (axis,))))
    r = plain(b, drawn(b, _fraction(b, shifted), reciprocals(), PART))
    multiplier = b.emit(graph.MulOp(r, factor))
    return b.emit(graph.RescaleOp(e, multiplier, 30, b.quant, "half_up"))


def normalized(
    b: Builder, total: SSAValue, shifts: Sequence[int] = SHIFTS, step: int = 1
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """A positive i32 shifted left by n bits until bit 30 is set; 2**n, and n * step."""
    factor: SSAValue = b.scalar(1, total)
    bits: SSAValue = b.scalar(0, total)
    for shift in shifts:
        is_small = b.emit(graph.LtOp(total, b.scalar(1 << (31 - shift), total)))
        power = b.scalar(1 << shift, total)
        total = where(b, is_small, mul(b, total, power), total)
        factor = where(b, is_small, mul(b, factor, power), factor)
        bits = where(b, is_small, add(b, bits, b.scalar(shift * step, bits)), bits)
    return total, factor, bits


def _fraction(b: Builder, shifted: SSAValue) -> SSAValue:
    """f of a number (1 + f) * 2**30, in steps of 2**-16."""
    middle = b.scalar(3 << 29, shifted)
    centred = b.emit(graph.SubOp(shifted, middle))
    stored = b.emit(graph.RequantizeOp(centred, graph.requant_fixed(1, 14, "half_up"), I32))
    steps = b.emit(graph.SubOp(stored, b.scalar(LOW, stored)))
    return b.emit(graph.RequantizeOp(steps, graph.requant_fixed(1, 0, "half_up"), FRACTION))


__all__ = ["wide_softmax"]
