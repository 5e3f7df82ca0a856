"""Sums, choices and factors of several quantized tensors, without a rounding in between.

    quantize(max(dequantize(a), dequantize(b) + dequantize(c) * 0.5))  ==>

    A, B, C = requantize(a), requantize(b), requantize(c)      in 2**-bits of a step of the result
    max(A, B + C * 0.5) / 2**bits, rounded to the result

Every operand has the same unit, so that sums, greatest and smallest values and comparisons with 0
are those of the integers; what is off is the rounding of each operand and of each factor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.fixed_point.steps import COARSEST, Array, Steps, exponent, narrow
from npu_dialect.passes.qdq.common import known, one_scale, reach, stored
from npu_dialect.passes.rewriting import location_of

MOST_BITS = 30
"""Bits of every number, sign apart."""

MOST_FRACTION = 20
"""Fractional bits of a step at most."""

MOST_OPERATIONS = 16
"""Operations that are looked through."""

FACTOR_BITS = 30
"""Bits of a factor in fixed point."""


@dataclass(frozen=True)
class Value:
    """A part of the chain: what bounds it, in steps of the result."""

    make: Callable[[Steps, int], SSAValue]
    """Its steps, for a number of fractional bits."""
    greatest: float
    """The greatest magnitude."""
    error: float
    """How far it may be off, in units of its last place."""


@dataclass
class Chain:
    """The values of a chain that were read already, and how to read others."""

    scale: float
    """Of the result."""
    found: dict[SSAValue, Value | None] = field(default_factory=dict[SSAValue, "Value | None"])
    made: dict[tuple[SSAValue, int], SSAValue] = field(
        default_factory=dict[tuple[SSAValue, int], SSAValue]
    )

    def read(self, value: SSAValue) -> Value | None:
        """`value` as a part of the chain; None where it is no such function."""
        if value not in self.found:
            if len(self.found) > MOST_OPERATIONS:
                return None
            self.found[value] = self._shared(value, self._read(value))
        return self.found[value]

    def _shared(self, value: SSAValue, part: Value | None) -> Value | None:
        """The part, whose steps are made once, however many read it."""
        if part is None:
            return None

        def make(steps: Steps, bits: int) -> SSAValue:
            key = (value, bits)
            if key not in self.made:
                self.made[key] = part.make(steps, bits)
            return self.made[key]

        return Value(make, part.greatest, part.error)

    def _read(self, value: SSAValue) -> Value | None:
        numbers = known(value)
        if numbers is not None:
            return self._constant(numbers)
        source = stored(value)
        if source is not None:
            return self._operand(source)
        op = value.owner
        if not isinstance(op, Operation) or type(op) not in READ:
            return None
        return READ[type(op)](self, op)

    def _constant(self, numbers: Array) -> Value | None:
        steps = numbers.astype(np.float64) / self.scale
        greatest = float(np.abs(steps).max(initial=0))
        if not np.isfinite(greatest):
            return None
        make: Callable[[Steps, int], SSAValue] = lambda s, bits: s.constant(  # noqa: E731
            np.rint(steps * 2.0**bits).astype(np.int32)
        )
        return Value(make, greatest, 0.5)

    def _operand(self, source: SSAValue) -> Value | None:
        quant = narrow(source)
        if quant is None:
            return None
        factor = quant.scale / self.scale
        make: Callable[[Steps, int], SSAValue] = lambda s, bits: s.scaled(  # noqa: E731
            source, factor * 2.0**bits
        )
        return Value(make, reach(quant) * factor, 0.5)


def chain(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(a chain of sums, choices and factors); None for something else."""
    result = one_scale(op.result)
    if result is None:
        return None
    parts = Chain(result.scale)
    whole = parts.read(op.x)
    if whole is None:
        return None
    greatest = max((p.greatest for p in parts.found.values() if p), default=0.0)
    bits = min(MOST_FRACTION, MOST_BITS - 1 - exponent(max(greatest, 1.0)))
    if bits < 1 or whole.error * 2.0**-bits > COARSEST:
        return None
    steps = Steps(location_of(op.x))
    steps.right(whole.make(steps, bits), bits, result)
    return steps


# --- the operations -------------------------------------------------------------------------------


def _two(
    step: Callable[[Steps, SSAValue, SSAValue], SSAValue], sums: bool
) -> Callable[[Chain, Operation], Value | None]:
    """An operation of two parts, whose magnitudes and errors add up in a sum."""

    def read(parts: Chain, op: Operation) -> Value | None:
        a, b = (parts.read(v) for v in op.operands)
        if a is None or b is None:
            return None
        greatest = a.greatest + b.greatest if sums else max(a.greatest, b.greatest)
        error = a.error + b.error if sums else max(a.error, b.error)
        return Value(lambda s, bits: step(s, a.make(s, bits), b.make(s, bits)), greatest, error)

    return read


def _scaled(parts: Chain, op: Operation) -> Value | None:
    """A product with, or a quotient by, constants."""
    for value, by in (tuple(op.operands), tuple(reversed(op.operands))):
        numbers = known(by)
        if numbers is None or (by is op.operands[0] and isinstance(op, graph.DivOp)):
            continue
        with np.errstate(all="ignore"):
            wide = numbers.astype(np.float64)
            factors = 1 / wide if isinstance(op, graph.DivOp) else wide
        part, most = parts.read(value), float(np.abs(factors).max(initial=0))
        if part is not None and most < 2.0**FACTOR_BITS / 2:
            return _product(part, factors, most)
    return None


def _product(part: Value, factors: Array, most: float) -> Value:
    shift = min(62, FACTOR_BITS - 1 - exponent(max(most, 2.0**-32)))

    def make(steps: Steps, bits: int) -> SSAValue:
        multiplier = steps.constant(np.rint(factors * 2.0**shift).astype(np.int32))
        return steps.product(part.make(steps, bits), multiplier, shift)

    # A factor is off by half a unit of 30 bits, so that the product is off by one unit at most.
    return Value(make, part.greatest * most, part.error * most + 1.5)


def _chosen(parts: Chain, op: Operation) -> Value | None:
    """One of two parts, by a condition that is computed exactly."""
    assert isinstance(op, graph.WhereOp)
    condition, a, b = _condition(parts, op.condition), parts.read(op.a), parts.read(op.b)
    if condition is None or a is None or b is None:
        return None

    def make(steps: Steps, bits: int) -> SSAValue:
        return steps.where(condition(steps, bits), a.make(steps, bits), b.make(steps, bits))

    return Value(make, max(a.greatest, b.greatest), max(a.error, b.error))


def _condition(parts: Chain, value: SSAValue) -> Callable[[Steps, int], SSAValue] | None:
    """A condition that floats have no part in, or whether a quantized tensor is below 0."""
    op = value.owner
    if not isinstance(op, Operation) or not any(dtype_of(v).is_float for v in op.operands):
        return lambda steps, bits: value
    zero = known(op.operands[1]) if isinstance(op, graph.LtOp) else None
    x = stored(op.operands[0])
    if x is None or zero is None or zero.any() or narrow(x) is None:
        return None
    return lambda steps, bits: steps.less(steps.distance(x), steps.number(0))


def _negative(parts: Chain, op: Operation) -> Value | None:
    part = parts.read(op.operands[0])
    if part is None:
        return None
    return Value(lambda s, b: s.minus(s.number(0), part.make(s, b)), part.greatest, part.error)


def _relu(parts: Chain, op: Operation) -> Value | None:
    part = parts.read(op.operands[0])
    if part is None:
        return None
    return Value(lambda s, b: s.larger(part.make(s, b), s.number(0)), part.greatest, part.error)


def _view(parts: Chain, op: Operation) -> Value | None:
    """A reshape of one part."""
    assert isinstance(op, graph.ReshapeOp)
    part, shape = parts.read(op.x), shape_of(op.result)
    if part is None:
        return None

    def make(steps: Steps, bits: int) -> SSAValue:
        inner = part.make(steps, bits)
        return steps.add(graph.ReshapeOp(inner, shape, location=steps.location))

    return Value(make, part.greatest, part.error)


READ: dict[type[Operation], Callable[[Chain, Operation], Value | None]] = {
    graph.AddOp: _two(Steps.plus, sums=True),
    graph.SubOp: _two(Steps.minus, sums=True),
    graph.MaxOp: _two(Steps.larger, sums=False),
    graph.MinOp: _two(Steps.smaller, sums=False),
    graph.MulOp: _scaled,
    graph.DivOp: _scaled,
    graph.WhereOp: _chosen,
    graph.NegOp: _negative,
    graph.ReluOp: _relu,
    graph.ReshapeOp: _view,
}
"""How each operation is read."""
