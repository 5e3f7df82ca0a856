"""Functions of one 16-bit tensor: lines between the entries of a table, as TFLite draws them.

    y = t[i] + ((t[i + 1] - t[i]) * d + 64 >> 7)      i and d: the high 9 bits of x and the low 7

(`LUTPopulateInt16` and `LUTLookup` of internal/common.h.) The sigmoid and the hyperbolic tangent
have a table of their own, of sigmoid(k / 24) for what is not negative (integer_ops/logistic.h and
tanh.h): x is brought to steps of 1 / (24 * 512) or half of that first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    plain,
    quant_of,
    recipe,
    rescaled,
    scale_of,
)
from npu_dialect.frontends.tflite.ops.wide_sums import exponent_of
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.numerics.arithmetic import quiet

Real = type[np.float32] | type[np.float64]

LOW, HIGH = dtypes.i16.low, dtypes.i16.high
STEPS = 512
"""Lines of a table."""

BYTE = uniform(dtypes.u8, 1.0)
"""The type of an index of 256 entries."""


def away(x: Array) -> Array:
    """Rounded to whole numbers, ties away from zero, in the type of `x`."""
    return np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x)


@quiet
def entries(
    function: Callable[[float], float],
    scale: float,
    zero: int,
    result_scale: float,
    real: Real = np.float32,
) -> Array:
    """The 513 entries of a function of numbers, int16; all is computed in `real`.

    An entry is off by half of what the line is off by in the middle, or 0 where that is no number
    (beside a result that overflows).
    """
    first, last = (real(scale) * real(n - zero) for n in (LOW, HIGH))
    step = (last - first) / real(STEPS)
    most = real(result_scale) * real(HIGH) - real(result_scale) * real(LOW)
    inverse = real(HIGH - LOW + 1) / most
    starts = first + np.arange(STEPS + 1).astype(real) * step

    def steps(x: Array) -> Array:
        return np.array([real(function(float(v))) for v in x], real) * inverse

    found, middle = steps(starts), away(steps(starts[:-1] + step / real(2)))
    line = away((found[1:] + away(found[:-1])) / real(2))
    inner = away(found[:-1]) - away((line - middle) / real(2))
    end = away(steps(np.array([last], real)))
    both = np.concatenate([inner, end])
    return np.clip(np.where(np.isnan(both), 0, both), LOW, HIGH).astype(np.int16)


def drawn(b: Builder, x: SSAValue, table: Array, element: QuantType) -> SSAValue:
    """What lies on the lines between the entries of a table of int16 [513].

    Where neighbours are 2**15 or more apart, TFLite's difference wraps: all results are a table.
    """
    if np.abs(np.diff(table.astype(np.int64))).max() <= HIGH:
        return b.emit(graph.InterpolateOp(x, b.constant(table), element))
    values = np.arange(LOW, HIGH + 1)
    ways = np.diff(table)[(values >> 7) + STEPS // 2].astype(np.int64)
    steps = table[:-1][(values >> 7) + STEPS // 2] + ((ways * (values & 127) + 64) >> 7)
    found = gathered(b, plain(b, x), steps.astype(np.int16))
    return b.emit(graph.RequantizeOp(found, KEEP, element))


def gathered(b: Builder, x: SSAValue, table: Array) -> SSAValue:
    """The entries, in i32, of a table of all results [65536] for whole numbers of 16 bits."""
    rows = b.constant(table.astype(np.int32).reshape(-1, 1))
    index = b.emit(graph.SubOp(x, b.scalar(LOW, x)))
    flat = reshape(b, index, (prod(shape_of(x)),))
    return reshape(b, b.emit(graph.GatherOp(rows, flat)), shape_of(x))


def real_function(b: Builder, x: SSAValue, function: Callable[[float], float]) -> SSAValue:
    """The lines of a function of real numbers."""
    quant = symmetric(x)
    table = entries(function, scale_of(quant), 0, scale_of(b.quant))
    return drawn(b, x, table, b.quant)


def symmetric(x: SSAValue) -> QuantType:
    """The type of a tensor of 16 bits; NotExpressible unless its zero point is 0."""
    quant = quant_of(x)
    if quant.zero_point or quant.storage_dtype is not dtypes.i16:
        raise NotExpressible(f"an operand of {quant}, where 16 bits have the zero point 0")
    return quant


def absolute(b: Builder, x: SSAValue) -> SSAValue:
    """|x|, rescaled with two roundings where the scales differ."""
    size, factor = b.emit(graph.AbsOp(plain(b, x))), ratio(symmetric(x), b.quant)
    made = KEEP if factor == 1.0 else recipe([factor])
    return b.emit(graph.RequantizeOp(size, made, b.quant))


def negative(b: Builder, x: SSAValue) -> SSAValue:
    """The negated stored values; the least one is its own."""
    steps = plain(b, x)
    stored = b.emit(graph.SubOp(b.scalar(-LOW, steps), steps))
    bits = b.emit(graph.AndOp(stored, b.scalar(HIGH - LOW, stored)))
    found = b.emit(graph.AddOp(bits, b.scalar(LOW, bits)))
    return b.emit(graph.RequantizeOp(found, KEEP, b.quant))


def root(b: Builder, x: SSAValue) -> SSAValue:
    """The square root, rounded down in float32; 0 where x is negative."""
    values = np.maximum(np.arange(LOW, HIGH + 1), 0).astype(np.float32)
    steps = np.sqrt(symmetric(x).scales[0] * values) / b.quant.scales[0]
    found = gathered(b, plain(b, x), np.clip(np.trunc(steps), LOW, HIGH).astype(np.int16))
    return b.emit(graph.RequantizeOp(found, KEEP, b.quant))


def leaky_relu(b: Builder, x: SSAValue, alpha: float) -> SSAValue:
    """x, times alpha where it is negative, either with two roundings."""
    steps, scale = plain(b, x), symmetric(x).scales[0]
    same = rescaled(b, steps, [ratio(symmetric(x), b.quant)], b.quant)
    slope = float(scale * np.float32(alpha) / b.quant.scales[0])
    less = rescaled(b, steps, [slope], b.quant)
    is_positive = b.emit(graph.GeOp(steps, b.scalar(0, steps)))
    return where(b, is_positive, same, less)


def ratio(source: QuantType, result: QuantType) -> float:
    """The quotient of two scales, in float32."""
    return float(source.scales[0] / result.scales[0])


# Sigmoid and tanh


def sigmoid(b: Builder, x: SSAValue) -> SSAValue:
    """1 / (1 + exp(-x)), in steps of 2**-15."""
    _check_result(b)
    v = _in_steps(b, x, (0,))
    return _mirrored(b, v, _half(b, v, 9, 65534), 0, (1 << 25) - 1, 10)


def tanh(b: Builder, x: SSAValue) -> SSAValue:
    """2 * sigmoid(2 * x) - 1, in steps of 2**-15."""
    _check_result(b)
    v = _in_steps(b, x, (0, 1))
    return _mirrored(b, v, _half(b, v, 8, 65535), -(1 << 23), (1 << 23) - 1, 8)


def _check_result(b: Builder) -> None:
    if b.quant.zero_point or exponent_of(scale_of(b.quant)) != -15:
        raise NotExpressible(f"a result of {b.quant}, where that of 16 bits has the scale 2**-15")


def _in_steps(b: Builder, x: SSAValue, shifts: tuple[int, ...]) -> SSAValue:
    """x in steps of 1 / 12288, in i32; exactly where its scale is 2**(n - 12), n of `shifts`."""
    scale = scale_of(symmetric(x))
    exponent = exponent_of(scale)
    if exponent is not None and exponent + 12 in shifts:
        factor, shift = 3 << (exponent + 12), 0
    else:
        real, shift = scale * 4096.0 * 3.0, 0
        while real <= 32767.0 / 2.0 and shift <= 30:
            real, shift = real * 2.0, shift + 1
        factor = int(real)
    if factor >= 1 << 16 or factor < 1:
        raise NotExpressible(f"a function of a tensor of scale {scale}")
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(factor, shift, "half_up"), I32))


def _half(b: Builder, v: SSAValue, bits: int, most: int) -> SSAValue:
    """sigmoid(|v|) times 2**(16 + bits), where entries lie 2**bits apart; `most` from 255 on.

    One look-up gives an entry (of 16 bits, the highest set) and the way to the next one: rounding
    to multiples of 2**16 therefore adds 1, which is taken from the way beforehand.
    """
    table = np.array(_sigmoids(), np.int64)
    ways = np.append(np.diff(table), 0)
    table[255] = most
    size = b.emit(graph.AbsOp(v))
    half = b.scalar(1 << (bits - 1), size)
    shift = graph.requant_fixed(1, bits, "half_up")
    index = b.emit(graph.RequantizeOp(b.emit(graph.SubOp(size, half)), shift, BYTE))
    packed = b.constant(((ways - 1) * 65536 + table).astype(np.int32))
    both = b.emit(graph.LookupOp(index, packed, I32))
    way = b.emit(graph.RequantizeOp(both, graph.requant_fixed(1, 16, "half_up"), I32))
    entry = b.emit(graph.AndOp(both, b.scalar(65535, both)))
    rest = b.emit(graph.AndOp(size, b.scalar((1 << bits) - 1, size)))
    start = b.emit(graph.MulOp(entry, b.scalar(1 << bits, entry)))
    return b.emit(graph.AddOp(start, b.emit(graph.MulOp(rest, way))))


@cache
def _sigmoids() -> tuple[int, ...]:
    """65536 * sigmoid(k / 24) [256], more by half of what a line is off by in its middle."""
    curve = [65536 / (1 + math.exp(-k / 48)) for k in range(513)]
    off = [curve[k + 1] - (curve[k] + curve[k + 2]) / 2 for k in range(0, 512, 2)]
    found = [math.floor(v + e / 2 + 0.5) for v, e in zip(curve[:-1:2], off, strict=True)]
    return *found[:-1], 65535


def _mirrored(
    b: Builder, v: SSAValue, half: SSAValue, above: int, below: int, bits: int
) -> SSAValue:
    """`half` + above where v is not negative, else below - `half`; over 2**bits."""
    positive = b.emit(graph.AddOp(half, b.scalar(above, half))) if above else half
    negative = b.emit(graph.SubOp(b.scalar(below, half), half))
    is_positive = b.emit(graph.GeOp(v, b.scalar(0, v)))
    found = where(b, is_positive, positive, negative)
    return b.emit(graph.RequantizeOp(found, graph.requant_fixed(1, bits, "half_up"), b.quant))
