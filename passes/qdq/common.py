"""What the rules share: reading quantized operands, accumulators, and fixed-point factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import RequantAttr, requant_fixed
from npu_dialect.graph.base import dtype_of, quant_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.rewriting import constant

Array = npt.NDArray[Any]


def stored(value: SSAValue) -> SSAValue | None:
    """The quantized tensor that `value` is the dequantization of."""
    return value.owner.x if isinstance(value.owner, graph.DequantizeOp) else None


def type_of_stored(value: SSAValue) -> QuantType:
    """The quantized element type of a tensor that has one."""
    quant = quant_of(value)
    assert quant is not None, "verified"
    return quant


def one_scale(value: SSAValue) -> QuantType | None:
    """The element type of a tensor that is quantized with one scale."""
    quant = quant_of(value)
    return quant if quant is not None and quant.axis is None else None


def reach(quant: QuantType) -> int:
    """The greatest distance of a stored value from the zero point."""
    return max(quant.high - quant.zero_point, quant.zero_point - quant.low)


def known(value: SSAValue) -> Array | None:
    """The real numbers of a constant, also of a quantized one behind a dequantize."""
    array = constant(value)
    if array is not None:
        return array if quant_of(value) is None else None
    owner = value.owner
    if isinstance(owner, graph.DequantizeOp) and (inner := constant(owner.x)) is not None:
        return owner.evaluate(inner)[0]
    return None


def last_dimension(array: Array) -> Array | None:
    """[1] or [channels] values where an array varies along its last dimension only."""
    if not array.size:
        return None
    lines = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if not bool((lines == lines[0]).all()):
        return None
    row = lines[0]
    return row[:1] if bool((row == row[0]).all()) else row


@dataclass(frozen=True)
class Accumulator:
    """Real numbers that are whole multiples of a scale: cast(sums) * scales."""

    sums: SSAValue
    """i32 or i64."""
    scales: Array
    """f32, [1] or [channels], or of the rank of the sums."""


SUMS = (dtypes.i32, dtypes.i64)


def accumulator(value: SSAValue) -> Accumulator | None:
    """The accumulator that `value` is, as `scaled` writes it."""
    product = value.owner
    if not isinstance(product, graph.MulOp) or not isinstance(product.lhs.owner, graph.CastOp):
        return None
    sums = product.lhs.owner.x
    factor = constant(product.rhs)
    if factor is None or dtype_of(sums) not in SUMS or quant_of(sums) is not None:
        return None
    scales = last_dimension(factor)
    return Accumulator(sums, factor if scales is None else scales)


def scaled(sums: Operation, scales: Array) -> list[Operation]:
    """The operations of cast(sums) * scales, the last of which is the real numbers."""
    factor = scales.reshape(()) if scales.size == 1 else scales
    real = graph.CastOp(sums, dtypes.f32, location=sums.location)
    by = graph.ConstantOp(np.asarray(factor, np.float32), location=sums.location)
    return [real, by, graph.MulOp(real, by, location=sums.location)]


FIXED_BITS = 20
"""Fractional bits of sums in fixed point, where the range allows as many."""

COARSEST = 2.0**-9
"""The greatest error, in steps of the result, that fixed-point multipliers may make."""

LEAST_BITS = 10
"""With fewer fractional bits a sum would be too coarse, and stays in floats."""


def fraction_bits(greatest: float) -> int | None:
    """Fractional bits with which sums up to `greatest` (in steps of the result) fit i32.

    The bound: greatest * 2**bits + 2 < 2**31, where 2 covers the rounding of two terms.
    """
    if greatest <= 0:
        return FIXED_BITS
    bits = min(FIXED_BITS, math.floor(math.log2((2**31 - 2) / greatest)))
    return bits if bits >= LEAST_BITS else None


def fixed(factor: float) -> RequantAttr:
    """The recipe x * factor, with 31 significant bits, ties to even. Needs |factor| < 2**31."""
    if factor == 0:
        return requant_fixed(0, 0)
    shift = min(62, 30 - math.floor(math.log2(abs(factor))))
    multiplier = round(factor * 2.0**shift)
    if abs(multiplier) == 2**31:
        multiplier, shift = multiplier // 2, shift - 1
    return requant_fixed(multiplier, shift)


def fixed_product(
    x: Operation, greatest: float, multiplier: Array, quant: QuantType, op: graph.QuantizeOp
) -> list[Operation] | None:
    """What `op` gives for x * multiplier (in steps of its result), with multipliers in fixed point.

    `greatest` bounds the i32 values of `x`. None where the multipliers would be too coarse.
    """
    bits = fraction_bits(greatest * float(np.abs(multiplier).max(initial=0)))
    if bits is None or greatest * 0.5 * 2.0**-bits > COARSEST:
        return None
    steps = np.rint(multiplier.astype(np.float64) * 2.0**bits).astype(np.int32)
    factors = graph.ConstantOp(steps, location=x.location)
    product = graph.MulOp(x, factors, location=x.location)
    result = graph.RequantizeOp(product, whole(bits), quant, location=op.location)
    return [factors, product, result]


def whole(bits: int) -> RequantAttr:
    """The recipe x / 2**bits, ties to even."""
    return requant_fixed(1, bits)
