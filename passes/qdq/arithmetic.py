"""Sums, differences and products of quantized tensors.

    quantize(dequantize(a) + dequantize(b))  ==>
        requantize(requantize(a) + requantize(b))

The inner recipes give i32 with up to 20 fractional bits of a step of the result: as many as leave
the sum below 2**31 for all stored values. The outer recipe drops these bits, ties to even. The sum
is off by at most 2**-bits steps, so it rounds as the real sum does except that near to a tie.

    quantize(dequantize(a) * dequantize(b))  ==>  requantize((a - zero) * (b - zero))
    quantize(dequantize(a) * constant by channel)      ==>  requantize(a) by channel
    quantize(dequantize(a) * other constants)  ==>  requantize((a - zero) * fixed-point constants)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import LocationAttr, i32
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.graph.attributes import requant_f32, requant_fixed
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.qdq.common import (
    Array,
    fixed,
    fixed_product,
    fraction_bits,
    known,
    last_dimension,
    one_scale,
    reach,
    stored,
    whole,
)
from npu_dialect.passes.rewriting import Rules, discard, location_of, replace


@dataclass(frozen=True)
class Term:
    """An operand of a sum: a quantized tensor or constant real numbers."""

    source: SSAValue | None
    quant: QuantType | None
    numbers: Array | None

    def greatest(self, scale: float) -> float:
        """The greatest magnitude in steps of `scale`."""
        if self.quant is not None:
            return reach(self.quant) * self.quant.scale / scale
        assert self.numbers is not None
        return float(np.abs(self.numbers).max(initial=0)) / scale

    def in_fixed_point(self, scale: float, bits: int, location: LocationAttr) -> Operation:
        """The term in steps of `scale` / 2**bits, i32."""
        if self.quant is not None:
            assert self.source is not None
            recipe = fixed(self.quant.scale / scale * 2.0**bits)
            return graph.RequantizeOp(self.source, recipe, i32, location=location)
        assert self.numbers is not None
        steps = np.rint(self.numbers.astype(np.float64) / scale * 2.0**bits)
        return graph.ConstantOp(steps.astype(np.int32), location=location)


def _term(value: SSAValue) -> Term | None:
    source = stored(value)
    quant = None if source is None else one_scale(source)
    if quant is not None and quant.storage_dtype.itemsize <= 2:
        return Term(source, quant, None)
    numbers = known(value)
    if numbers is None or not np.isfinite(numbers).all():
        return None
    return Term(None, None, numbers)


def add(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """A sum or difference, in fixed point."""
    total, quant = op.x.owner, one_scale(op.result)
    if not isinstance(total, graph.AddOp | graph.SubOp) or quant is None:
        return
    terms = [t for t in map(_term, total.operands) if t is not None]
    if len(terms) < 2 or all(t.quant is None for t in terms):
        return
    bits = fraction_bits(sum(t.greatest(quant.scale) for t in terms))
    if bits is None:
        return
    parts = [t.in_fixed_point(quant.scale, bits, total.location) for t in terms]
    joined = type(total)(*parts, location=total.location)
    result = graph.RequantizeOp(joined, whole(bits), quant, location=op.location)
    replace(rewriter, op, *parts, joined, result)


def multiply(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """A product of two quantized tensors, exact in i32."""
    product, quant = op.x.owner, one_scale(op.result)
    if not isinstance(product, graph.MulOp) or quant is None:
        return
    a, b = (_term(v) for v in product.operands)
    if a is None or b is None or a.quant is None or b.quant is None:
        return
    if reach(a.quant) * reach(b.quant) >= 2**31:
        return
    assert a.source is not None and b.source is not None
    inner = [_difference(v, product.location) for v in (a.source, b.source)]
    joined = graph.MulOp(*inner, location=product.location)
    recipe = requant_f32(a.quant.scales * b.quant.scales / quant.scales)
    result = graph.RequantizeOp(joined, recipe, quant, location=op.location)
    replace(rewriter, op, *inner, joined, result)


def _difference(source: SSAValue, location: LocationAttr) -> Operation:
    """x - zero point, as i32."""
    return graph.RequantizeOp(source, requant_fixed(1, 0), i32, location=location)


def scale(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """A product with, or quotient by, constants."""
    product, quant = op.x.owner, one_scale(op.result)
    if not isinstance(product, graph.MulOp | graph.DivOp) or quant is None:
        return
    found = _scaled_term(product)
    if found is None:
        return
    term, factors = found
    assert term.quant is not None and term.source is not None
    multiplier = _multiplier(term.quant, factors, product) / quant.scales
    if not np.isfinite(multiplier).all():
        return
    row = last_dimension(multiplier)
    if row is not None and shape_of(term.source) == shape_of(product.result):
        recipe = requant_f32(row)
        new = graph.RequantizeOp(term.source, recipe, quant, location=op.location)
        replace(rewriter, op, new)
    else:
        _scale_by_tensor(op, term, multiplier, quant, rewriter)


def _scaled_term(product: graph.MulOp | graph.DivOp) -> tuple[Term, Array] | None:
    """The quantized operand and the constant one."""
    pairs = [(product.lhs, product.rhs)]
    if isinstance(product, graph.MulOp):
        pairs.append((product.rhs, product.lhs))
    for value, factor in pairs:
        term, factors = _term(value), known(factor)
        if term is not None and term.quant is not None and factors is not None:
            return term, factors
    return None


def _scale_by_tensor(
    op: graph.QuantizeOp,
    term: Term,
    multiplier: Array,
    quant: QuantType,
    rewriter: PatternRewriter,
) -> None:
    assert term.quant is not None and term.source is not None
    inner = _difference(term.source, location_of(op.x))
    product = fixed_product(inner, reach(term.quant), multiplier, quant, op)
    if product is None:
        discard(inner)
    else:
        replace(rewriter, op, inner, *product)


def _multiplier(quant: QuantType, factors: Array, product: Operation) -> Array:
    """What the distance of a stored value from its zero point is multiplied by."""
    with np.errstate(all="ignore"):
        if isinstance(product, graph.DivOp):
            return quant.scales / factors.astype(np.float32)
        return quant.scales * factors.astype(np.float32)


RULES: Rules = {graph.QuantizeOp: [scale, add, multiply]}
