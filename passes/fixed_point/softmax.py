"""Softmax of an 8-bit tensor: a table of the exponential, its sum, and one division for a row.

    quantize(softmax(dequantize(x)))  ==>

    e = table[x]                 round(A * exp(scale * (x - greatest value)))
    r = 2**k / (sum(e) * scale of the result)
    rescale(e, r)                e * r / 2**k, rounded to the result

Where the range of x is so wide that the rest of a row without great values would be lost, the table
is read at x - max(x) + 255. The table has 16 bits where that is enough, else 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point import reciprocal
from npu_dialect.passes.fixed_point.steps import (
    COARSEST,
    Array,
    Steps,
    eight_bits,
    span,
    stored_values,
)
from npu_dialect.passes.qdq.common import one_scale, stored

NEARLY_EXACT = 1 / 32
"""Steps of error that are worth no wider table."""

TOTAL_BITS = 30
"""Bits of the sum of a row at most."""


@dataclass(frozen=True)
class Plan:
    """How a row of `count` elements is computed."""

    count: int
    table: Array
    """[256]: the exponential of the 8-bit values."""
    from_greatest: bool
    """Whether the greatest value of a row is subtracted first."""
    result: QuantType

    @property
    def least(self) -> int:
        """A bound of the sum of a row from below."""
        if self.from_greatest:
            return int(self.table[-1]) + (self.count - 1) * int(self.table[0])
        return self.count * int(self.table.min())

    @property
    def greatest(self) -> int:
        """A bound of the sum of a row from above."""
        return self.count * int(self.table.max())

    @property
    def error(self) -> float:
        """The greatest error in steps of the result, before it is rounded.

        A row in which one element is great has a great sum, so that roundings of the table change
        it less than they change one of small elements, whose results are small.
        """
        if self.least < 1:
            return np.inf
        entries = self.table.astype(np.float64)
        totals = np.maximum(self.least, entries + (self.count - 1) * entries.min())
        rounding = 0.5 * self.count
        if self.least <= rounding:
            return np.inf
        results = np.minimum(entries / (totals * self.result.scale), span(self.result) + 1)
        total = float((results / (totals - rounding)).max()) * rounding
        entry = 0.5 / ((self.least - rounding) * self.result.scale)
        division = reciprocal.error(self.least, self.greatest)
        return entry + total + division * (span(self.result) + 1)


def softmax(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(softmax(dequantize(x))); None where `op` is something else, or the
    steps would be off by more than `COARSEST`.
    """
    inner, result = op.x.owner, one_scale(op.result)
    if not isinstance(inner, graph.SoftmaxOp) or result is None:
        return None
    x = stored(inner.x)
    quant = None if x is None else eight_bits(x)
    if x is None or quant is None:
        return None
    axis = inner.axis.value.data
    plan = best_plan(shape_of(x)[axis], quant, result)
    return None if plan is None else _steps(plan, x, axis, Steps(inner.location))


def best_plan(count: int, quant: QuantType, result: QuantType) -> Plan | None:
    """The cheapest way that is exact enough, else the most exact one within `COARSEST`."""
    found = [p for p in _plans(count, quant, result) if p.error <= COARSEST]
    good = [p for p in found if p.error <= NEARLY_EXACT]
    return good[0] if good else min(found, key=lambda p: p.error, default=None)


def _plans(count: int, quant: QuantType, result: QuantType) -> Iterator[Plan]:
    """The ways, the cheaper ones first."""
    if not count:
        return
    wide = 2**TOTAL_BITS // count
    for from_greatest in (False, True):
        for top, dtype in ((min(wide, 2**16 - 1), dtypes.u16), (wide, dtypes.i32)):
            steps = np.arange(-255, 1) if from_greatest else stored_values(quant) - quant.high
            entries = np.rint(top * np.exp(np.minimum(steps, 0) * quant.scale))
            yield Plan(count, entries.astype(dtype.numpy), from_greatest, result)


def _steps(plan: Plan, x: SSAValue, axis: int, steps: Steps) -> Steps | None:
    index = _below_greatest(x, axis, steps) if plan.from_greatest else x
    e = steps.lookup(index, plan.table)
    total = steps.total(e, [axis])
    factor = 1 / plan.result.scale
    inverse = reciprocal.reciprocal(steps, total, plan.least, plan.greatest, factor)
    if inverse is None:
        steps.discard()
        return None
    wide = e if plan.table.dtype == np.int32 else steps.wide(e)
    steps.product(wide, inverse.value, inverse.shift, plan.result)
    return steps


def _below_greatest(x: SSAValue, axis: int, steps: Steps) -> SSAValue:
    """x - max(x) + 255, as u8."""
    greatest = steps.distance(steps.greatest(x, axis))
    moved = steps.minus(greatest, steps.number(255))
    index = steps.minus(steps.distance(x), moved)
    return steps.add(graph.CastOp(index, dtypes.u8, location=steps.location))
