"""Fixed point of 32 bits as operations of graph, step by step as gemmlowp's fixedpoint.h has them.

A number of `n` integer bits has 31 - n fractional ones; the integer bits of a product add up.
`fixed_point.py` computes the same of numbers that are known when a model is imported.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import gemmlowp32
from npu_dialect.frontends.tflite.ops.rescaling import I32

STEPS = 3
"""Steps of Newton's method."""


def high(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The rounding doubling high half of a product."""
    return b.emit(graph.RescaleOp(x, y, 31, I32, "half_up"))


def high_of(b: Builder, x: SSAValue, y: int) -> SSAValue:
    """The same of a product with a constant."""
    return high(b, x, b.scalar(y, x))


def raised(b: Builder, x: SSAValue, bits: int) -> SSAValue:
    """x * 2**bits, saturated."""
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1 << bits, 0, "half_up"), I32))


def lowered(b: Builder, x: SSAValue, bits: int, rounding: str = "half_away") -> SSAValue:
    """x / 2**bits, rounded; ties away from zero."""
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1, bits, rounding), I32))


def reciprocal(b: Builder, half: SSAValue) -> SSAValue:
    """1 / (2 x) of x between 1/2 and 1, both of no integer bits."""
    first = b.scalar(gemmlowp32.constant(48 / 17, 2), half)
    x = b.emit(graph.AddOp(first, high_of(b, half, gemmlowp32.constant(-32 / 17, 2))))
    one = b.scalar(1 << 29, x)
    for _ in range(STEPS):
        off = b.emit(graph.SubOp(one, high(b, half, x)))
        x = b.emit(graph.AddOp(x, raised(b, high(b, x, off), 2)))
    return raised(b, x, 1)
