"""Functions of two tensors: sums, differences and products, quantized or not; extremes.

Quantized sums are those of reference/add.h: each operand is shifted left by 20 bits and multiplied
by its scale over twice the greater one, and the sum by what is left.
"""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import wide_sums
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    activated,
    is_quantized,
    plain,
    quant_of,
    quantized_multiplier,
    rescaled,
    retyped,
    scale_of,
)
from npu_dialect.frontends.tflite.registry import op

LEFT, LEFT_16 = 20, 15
"""Bits by which the operands of a quantized sum are shifted left: those of 8 bits, and of 16."""


def check(x: SSAValue, y: SSAValue) -> None:
    """Both operands must be quantized in as many bits, or both not."""
    if is_quantized(x) != is_quantized(y):
        raise NotExpressible(f"operands of {element_of(x)} and {element_of(y)}")
    if is_quantized(x) and dtype_of(x) is not dtype_of(y):
        raise NotExpressible(f"operands of {dtype_of(x)} and {dtype_of(y)}")


def term(b: Builder, x: SSAValue, twice: float, left: int) -> SSAValue:
    """(x - zero point) * 2**left * scale / twice in i32, with the two roundings of TFLite.

    The first of them, of a product with 31 bits, has no need of the shift to the left.
    """
    m, e = quantized_multiplier(scale_of(quant_of(x)) / twice)
    while not m & 1 and left < 31:
        m, left = m >> 1, left + 1
    found = b.emit(graph.RequantizeOp(x, graph.requant_fixed(m, 31 - left, "half_up"), I32))
    if e == 0:
        return found
    return b.emit(graph.RequantizeOp(found, graph.requant_fixed(1, -e, "half_away"), I32))


def summed(b: Builder, kind: type[Any], x: SSAValue, y: SSAValue) -> SSAValue:
    """The sum or difference of quantized tensors."""
    twice = 2 * max(scale_of(quant_of(x)), scale_of(quant_of(y)))
    left = LEFT if dtype_of(x).itemsize == 1 else LEFT_16
    found = b.emit(kind(term(b, x, twice, left), term(b, y, twice, left)))
    return rescaled(b, found, [twice / ((1 << left) * scale_of(b.quant))], b.quant)


def binary(b: Builder, kind: type[Any], x: SSAValue, y: SSAValue) -> SSAValue:
    """An operation of tensors that are not quantized."""
    if dtype_of(x) is not dtype_of(y):
        raise NotExpressible(f"operands of {dtype_of(x)} and {dtype_of(y)}")
    return b.emit(kind(x, y))


def added(b: Builder, kind: type[Any], x: SSAValue, y: SSAValue, pot_scale_int16: bool) -> SSAValue:
    """The sum or difference; `pot_scale_int16`: scales that are powers of two are only shifted."""
    if not is_quantized(x):
        return binary(b, kind, x, y)
    shifts = wide_sums.shifts_of(b, x, y) if pot_scale_int16 else None
    return summed(b, kind, x, y) if shifts is None else wide_sums.summed(b, kind, x, y, shifts)


@op("ADD", options="AddOptions")
def add(
    b: Builder, x: SSAValue, y: SSAValue, *, fused_activation_function: str, pot_scale_int16: bool
) -> SSAValue:
    """x + y."""
    check(x, y)
    found = added(b, graph.AddOp, x, y, pot_scale_int16)
    return activated(b, found, fused_activation_function)


@op("SUB", options="SubOptions")
def sub(
    b: Builder, x: SSAValue, y: SSAValue, *, fused_activation_function: str, pot_scale_int16: bool
) -> SSAValue:
    """x - y."""
    check(x, y)
    found = added(b, graph.SubOp, x, y, pot_scale_int16)
    return activated(b, found, fused_activation_function)


@op("MUL", options="MulOptions")
def mul(b: Builder, x: SSAValue, y: SSAValue, *, fused_activation_function: str) -> SSAValue:
    """x * y; the factor of quantized ones is computed in float32."""
    check(x, y)
    if is_quantized(x):
        factor = quant_of(x).scales[0] * quant_of(y).scales[0] / b.quant.scales[0]
        product = b.emit(graph.MulOp(plain(b, x), plain(b, y)))
        found = rescaled(b, product, [float(factor)], b.quant)
    else:
        found = binary(b, graph.MulOp, x, y)
    return activated(b, found, fused_activation_function)


def chosen(b: Builder, kind: type[Any], x: SSAValue, y: SSAValue) -> SSAValue:
    """The greater or smaller one; quantized tensors have the quantization of the result."""
    check(x, y)
    if not is_quantized(x):
        return binary(b, kind, x, y)
    terms = [plain(b, retyped(b, v, b.quant)) for v in (x, y)]
    return b.emit(graph.RequantizeOp(b.emit(kind(*terms)), KEEP, b.quant))


@op("MAXIMUM")
def maximum(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The greater of both."""
    return chosen(b, graph.MaxOp, x, y)


@op("MINIMUM")
def minimum(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The smaller of both."""
    return chosen(b, graph.MinOp, x, y)


@op("SQUARED_DIFFERENCE")
def squared_difference(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """(x - y)**2; operands of quantized ones are shifted left by 7 bits."""
    check(x, y)
    if is_quantized(x) and dtype_of(x) is not dtypes.i8:
        raise NotExpressible(f"operands of {dtype_of(x)}, which TFLite has not either")
    if not is_quantized(x):
        found = binary(b, graph.SubOp, x, y)
        return b.emit(graph.MulOp(found, found))
    twice = 2 * max(scale_of(quant_of(x)), scale_of(quant_of(y)))
    found = b.emit(graph.SubOp(term(b, x, twice, 7), term(b, y, twice, 7)))
    product = b.emit(graph.MulOp(found, found))
    return rescaled(b, product, [twice * twice / ((1 << 14) * scale_of(b.quant))], b.quant)
