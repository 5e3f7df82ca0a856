"""gemmlowp's sigmoid and tanh of 16-bit numbers as steps of 32-bit integers.

The formulas, names and numbers are those of gemmlowp.py, whose tables have all results; here they
are operations, for machines that read no tables of 65,536 elements.
"""

from __future__ import annotations

import math

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops.common import where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.gemmlowp import HIGH, LOW, ONE, ONE_2, constant
from npu_dialect.frontends.tflite.ops.rescaling import I32


def _times(b: Builder, x: SSAValue, y: SSAValue | int) -> SSAValue:
    """The rounding doubling high half of a product."""
    if isinstance(y, int):
        return b.emit(graph.RequantizeOp(x, graph.requant_fixed(y, 15, "half_up"), I32))
    return b.emit(graph.RescaleOp(x, y, 15, I32, "half_up"))


def _halved(b: Builder, x: SSAValue, times: int) -> SSAValue:
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1, times, "half_away"), I32))


def _plus(b: Builder, x: SSAValue, y: SSAValue | int) -> SSAValue:
    return b.emit(graph.AddOp(x, b.scalar(y, x) if isinstance(y, int) else y))


def _shifted(b: Builder, x: SSAValue, bits: int) -> SSAValue:
    return b.emit(graph.MulOp(x, b.scalar(1 << bits, x)))


def _near_zero(b: Builder, a: SSAValue) -> SSAValue:
    """exp(a) for -1/4 <= a < 0, of no integer bits."""
    term = constant(math.exp(-1 / 8))
    x = _plus(b, a, 1 << 12)
    x2 = _times(b, x, x)
    x3, x4 = _times(b, x2, x), _times(b, x2, x2)
    third = _times(b, _plus(b, _halved(b, x4, 2), x3), constant(1 / 3))
    rest = _halved(b, _plus(b, third, x2), 1)
    return _plus(b, _times(b, _plus(b, x, rest), term), term)


def _exp(b: Builder, a: SSAValue, bits: int) -> SSAValue:
    """exp(a) for a <= 0 of `bits` integer bits, of none."""
    fraction = 15 - bits
    quarter = 1 << (fraction - 2)
    part = _plus(b, b.emit(graph.AndOp(a, b.scalar(quarter - 1, a))), -quarter)
    result = _near_zero(b, _shifted(b, part, bits))
    rest, zero = b.emit(graph.SubOp(part, a)), b.scalar(0, a)
    for exponent in range(-2, bits):
        bit = b.emit(graph.AndOp(rest, b.scalar(1 << (fraction + exponent), rest)))
        less = _times(b, result, constant(math.exp(-(2.0**exponent))))
        result = where(b, b.emit(graph.NeOp(bit, zero)), less, result)
    return where(b, b.emit(graph.EqOp(a, zero)), b.scalar(ONE, result), result)


def _newton(b: Builder, a: SSAValue) -> SSAValue:
    """2 / (1 + a) for 0 <= a <= 1, of two integer bits."""
    half = graph.requant_fixed(1, 1, "half_up")
    denominator = b.emit(graph.RequantizeOp(_plus(b, a, ONE), half, I32))
    x = _plus(b, _times(b, denominator, constant(-32 / 17, 2)), constant(48 / 17, 2))
    for _ in range(3):
        product = _times(b, denominator, x)
        off = b.emit(graph.SubOp(b.scalar(ONE_2, product), product))
        x = _plus(b, x, _shifted(b, _times(b, x, off), 2))
    return x


def _of_size(b: Builder, a: SSAValue, bits: int) -> SSAValue:
    """2 / (1 + exp(-|a|)), of two integer bits."""
    return _newton(b, _exp(b, b.emit(graph.NegOp(b.emit(graph.AbsOp(a)))), bits))


def sigmoid(b: Builder, a: SSAValue) -> SSAValue:
    """1 / (1 + exp(-a)) of a in -8..8 (three integer bits), of none; in i32."""
    found = _shifted(b, _of_size(b, a, 3), 1)
    positive = b.emit(graph.ClampOp(found, LOW, HIGH))
    zero = b.scalar(0, a)
    rest = b.emit(graph.SubOp(b.scalar(ONE, positive), positive))
    found = where(b, b.emit(graph.GtOp(a, zero)), positive, rest)
    return where(b, b.emit(graph.EqOp(a, zero)), b.scalar(1 << 14, found), found)


def tanh(b: Builder, a: SSAValue, bits: int) -> SSAValue:
    """tanh(a) of a of `bits` integer bits, of none; in i32."""
    found = _shifted(b, _plus(b, _of_size(b, a, bits + 1), -ONE_2), 2)
    positive = b.emit(graph.ClampOp(found, LOW, HIGH))
    zero = b.scalar(0, a)
    found = where(b, b.emit(graph.LtOp(a, zero)), b.emit(graph.NegOp(positive)), positive)
    return where(b, b.emit(graph.EqOp(a, zero)), zero, found)
