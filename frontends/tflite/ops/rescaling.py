"""TFLite's fixed-point factors, and what becomes of integers that are multiplied by them.

A factor is a multiplier of 31 bits and a power of two (`QuantizeMultiplier` in
tensorflow/lite/kernels/internal/quantization_util.cc); products are rounded twice
(`MultiplyByQuantizedMultiplier` in internal/common.h, built without TFLITE_SINGLE_ROUNDING).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from xdsl.ir import Attribute, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import element_of
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.graph.attributes import RequantAttr
from npu_dialect.graph.quant import QuantType

I32 = dtypes.element_type(dtypes.i32)
KEEP = graph.requant_fixed(1, 0, "half_up")
"""The recipe that keeps the integers and changes their zero point."""


def quantized_multiplier(factor: float) -> tuple[int, int]:
    """(m, e) with factor = m * 2**(e - 31), and m of 31 bits; (0, 0) for what is too small."""
    if not math.isfinite(factor) or factor < 0:
        raise NotExpressible(f"a factor of {factor}")
    fraction, exponent = math.frexp(factor)
    m = math.floor(fraction * (1 << 31) + 0.5)
    if m == 1 << 31:
        m, exponent = m // 2, exponent + 1
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise NotExpressible(f"a factor of {factor}")
    return m, exponent


def recipe(factors: Sequence[float], rounding: str = "double") -> RequantAttr:
    """The recipe of TFLite's rescaling by one factor, or by one for each channel."""
    pairs = [quantized_multiplier(float(f)) for f in factors]
    return graph.requant_fixed([m for m, _ in pairs], [31 - e for _, e in pairs], rounding)


def wide_recipe(factors: Sequence[float]) -> RequantAttr:
    """The recipe of TFLite's rescaling of 64-bit sums: multipliers of 15 bits, rounded once."""
    pairs = [quantized_multiplier(float(f)) for f in factors]
    reduced = [(m + (1 << 15)) >> 16 if m < 0x7FFF0000 else 0x7FFF for m, _ in pairs]
    return graph.requant_fixed(reduced, [15 - e for _, e in pairs], "half_up")


def rescaled(
    b: Builder,
    sums: SSAValue,
    factors: Sequence[float],
    element: QuantType,
    rounding: str = "double",
) -> SSAValue:
    """Sums times factors, as values of a quantized type."""
    return b.emit(graph.RequantizeOp(sums, recipe(factors, rounding), element))


def plain(b: Builder, x: SSAValue) -> SSAValue:
    """The whole numbers (x - zero point) of a quantized tensor, in i32."""
    return b.emit(graph.RequantizeOp(x, KEEP, I32))


def quant_of(x: SSAValue) -> QuantType:
    """The quantized type of a tensor with one scale; NotExpressible for any other."""
    element = element_of(x)
    if not isinstance(element, QuantType) or element.axis is not None:
        raise NotExpressible(f"an operand of {element}")
    return element


def is_quantized(x: SSAValue) -> bool:
    """Whether the type of a tensor has scales."""
    return isinstance(element_of(x), QuantType)


def scale_of(quant: QuantType) -> float:
    """The scale of a tensor: a float32, exactly."""
    return float(quant.scales[0])


def retyped(b: Builder, x: SSAValue, element: QuantType) -> SSAValue:
    """The same stored values as another quantized type of the same storage."""
    found = quant_of(x)
    if found == element:
        return x
    array = b.array(x)
    if array is not None:
        return b.constant(array, element)
    if found.storage_dtype is not element.storage_dtype:
        raise NotExpressible(f"a result of {element} from {found}")
    if found.zero_point == element.zero_point:
        return b.emit(graph.RequantizeOp(x, KEEP, element))
    steps = plain(b, x)
    off = b.scalar(found.zero_point - element.zero_point, steps)
    return b.emit(graph.RequantizeOp(b.emit(graph.AddOp(steps, off)), KEEP, element))


def as_type(b: Builder, x: SSAValue, element: Attribute) -> SSAValue:
    """The same stored values as another element type of the same storage. Raises Misfit."""
    if element_of(x) == element:
        return x
    if not isinstance(element, QuantType) or not is_quantized(x):
        raise Misfit(f"values of {element_of(x)}, where {element} is stated")
    if dtypes.of(element_of(x)) is not dtypes.of(element):
        raise Misfit(f"values of {dtypes.of(element_of(x))}, where {dtypes.of(element)} is stated")
    return retyped(b, x, element)


def as_result(b: Builder, x: SSAValue) -> SSAValue:
    """Stored values in the type of the result."""
    return retyped(b, x, b.quant) if is_quantized(x) else x


def stored_numbers(b: Builder, x: SSAValue) -> SSAValue:
    """The stored values of a quantized tensor, in i32."""
    steps, zero = plain(b, x), quant_of(x).zero_point
    return b.emit(graph.AddOp(steps, b.scalar(zero, steps))) if zero else steps


ACTIVATIONS = {
    "NONE": (-math.inf, math.inf), "RELU": (0.0, math.inf), "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0),
}  # fmt: skip
"""The bounds of the functions that an operator may apply to its result, or that are operators."""


def bounds(activation: str) -> tuple[float, float]:
    """The bounds of a function that an operator applies."""
    if activation not in ACTIVATIONS:
        raise NotExpressible(f"the fused function {activation}")
    return ACTIVATIONS[activation]


def activated(b: Builder, x: SSAValue, activation: str) -> SSAValue:
    """The function that an operator applies to its result `x`, of floats or quantized."""
    low, high = bounds(activation)
    if not is_quantized(x):
        return clamped(b, x, low, high)
    quant = quant_of(x)
    least, greatest = quant.low, quant.high
    if low > -math.inf:
        least = max(least, _stored(low, quant))
    if high < math.inf:
        greatest = min(greatest, _stored(high, quant))
    if (least, greatest) == (quant.low, quant.high):
        return x
    return b.emit(graph.ClampOp(x, min(least, greatest), greatest))


def clamped(b: Builder, x: SSAValue, low: float, high: float) -> SSAValue:
    """min(max(x, low), high) of floats."""
    if (low, high) == (-math.inf, math.inf):
        return x
    if (low, high) == (0.0, math.inf):
        return b.emit(graph.ReluOp(x))
    return b.emit(graph.ClampOp(x, low, high))


def _stored(real: float, quant: QuantType) -> int:
    """The stored value of a number: zero point + round(real / scale), ties away from zero."""
    steps = float(np.float32(real) / quant.scales[0])
    return quant.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def array_of(b: Builder, x: SSAValue, what: str) -> Array:
    """The stored values of a constant; NotExpressible for what is computed at run time."""
    return b.known(x, what)
