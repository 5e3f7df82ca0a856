"""L2_NORMALIZATION: x over the length of its last dimension.

Of 8 bits in fixed point of 32 bits, as `L2Normalization` and `GetInvSqrtQuantizedMultiplierExp`
compute it: the sum s of squares is shifted left by 2 p bits, so that it has 28 or 29,

    y = 1 / sqrt(s * 2**(2 p))      five steps of Newton's method
    result = x * y * 2**p           two roundings; 7 fractional bits
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import mul, sub, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.fixed_point import HALF_ROOT_2, HIGH, THREE_HALVES
from npu_dialect.frontends.tflite.ops.fixed_steps import high, raised
from npu_dialect.frontends.tflite.ops.rescaling import I32, is_quantized, plain, quant_of
from npu_dialect.frontends.tflite.registry import op

BITS = 29
"""Those of a sum of squares at most."""

LEAST = 1e-6
"""The least length of floats."""


@op("L2_NORMALIZATION", options="L2NormOptions")
def l2_normalization(b: Builder, x: SSAValue, *, fused_activation_function: str) -> SSAValue:
    """x over the root of the sum of its squares along the last dimension."""
    if fused_activation_function != "NONE" or not shape_of(x):
        raise NotExpressible(f"the fused function {fused_activation_function}")
    axes = (len(shape_of(x)) - 1,)
    if is_quantized(x):
        return _of_integers(b, x, axes)
    squares = b.emit(graph.ReduceSumOp(b.emit(graph.MulOp(x, x)), axes))
    norm = b.emit(graph.SqrtOp(squares))
    return b.emit(graph.DivOp(x, b.emit(graph.MaxOp(norm, b.scalar(LEAST, norm)))))


def _of_integers(b: Builder, x: SSAValue, axes: tuple[int, ...]) -> SSAValue:
    most = max(quant_of(x).high - quant_of(x).zero_point, quant_of(x).zero_point - quant_of(x).low)
    if dtype_of(x).itemsize > 1 or shape_of(x)[-1] * most * most >= 1 << BITS:
        raise NotExpressible(f"the length of {shape_of(x)[-1]} elements of {dtype_of(x)}")
    steps = plain(b, x)
    total = b.emit(graph.ReduceSumOp(mul(b, steps, steps), axes))
    root = _root(b, total)
    if dtype_of(x) is dtypes.u8:
        found = high(b, mul(b, steps, b.scalar(128, steps)), root.factor)
        kept = b.emit(graph.MinOp(root.power, b.scalar(1 << 11, root.power)))
        return b.emit(graph.RescaleOp(found, kept, 11, b.quant, "half_away"))
    sixteenth = b.emit(graph.DivOp(root.power, b.scalar(16, root.power)))
    left = b.emit(graph.ClampOp(sixteenth, 1, 128))
    kept = b.emit(graph.MinOp(root.power, b.scalar(16, root.power)))
    found = high(b, mul(b, steps, left), root.factor)
    return b.emit(graph.RescaleOp(found, kept, 4, b.quant, "half_away"))


@dataclass(frozen=True)
class Root:
    """1 / sqrt(s) = factor * 2**(-31 - 11) * power; the power is one of two."""

    factor: SSAValue
    power: SSAValue


def _root(b: Builder, total: SSAValue) -> Root:
    whole, power = _shifted(b, total)
    whole = b.emit(graph.DivOp(whole, b.scalar(2, whole)))
    half = b.emit(graph.RequantizeOp(whole, graph.requant_fixed(1, 1, "half_up"), I32))
    y = b.scalar(1 << 28, whole)
    three_halves = b.scalar(THREE_HALVES, whole)
    for _ in range(5):
        cube = raised(b, high(b, high(b, y, y), y), 6)
        less = sub(b, high(b, three_halves, y), high(b, half, cube))
        y = raised(b, less, 3)
    y = high(b, y, b.scalar(HALF_ROOT_2, y))
    spare = b.emit(graph.DivOp(power, b.scalar(1 << 11, power)))
    y = mul(b, y, b.emit(graph.MaxOp(spare, b.scalar(1, spare))))
    is_small = b.emit(graph.LtOp(total, b.scalar(2, total)))
    one = b.scalar(1 << 11, power)
    return Root(where(b, is_small, b.scalar(HIGH, y), y), where(b, is_small, one, power))


def _shifted(b: Builder, total: SSAValue) -> tuple[SSAValue, SSAValue]:
    """The sum with 28 or 29 bits, and 2**p for a shift by 2 p."""
    power = b.scalar(1, total)
    for bits in (16, 8, 4, 2):
        is_low = b.emit(graph.LtOp(total, b.scalar(1 << (BITS - bits), total)))
        total = where(b, is_low, mul(b, total, b.scalar(1 << bits, total)), total)
        power = where(b, is_low, mul(b, power, b.scalar(1 << bits // 2, power)), power)
    return total, power
