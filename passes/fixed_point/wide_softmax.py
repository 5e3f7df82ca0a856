"""Softmax of a 16-bit tensor: the exponential by lines between a table's entries, and a division.

    quantize(softmax(dequantize(x)))  ==>

    e = interpolate(x - max(x) + 32767)      A * exp(scale * (x - max(x))), A nearly 2**31 / count
    r = 2**k / (sum(e) * scale of the result)
    rescale(e, r)                            e * r / 2**k, rounded to the result

It is softmax.py with a table that has 4096 intervals rather than all values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.dialects.builtin import i32

from npu_dialect import dtypes, graph, numerics
from npu_dialect.graph.base import quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point import reciprocal
from npu_dialect.passes.fixed_point.steps import Array, Steps, span
from npu_dialect.passes.qdq.common import one_scale, stored

INTERVALS = 4096
SHIFT = 4
"""Bits of a value that lie between two entries."""

TOP = (1 << 15) - 1
"""Where the greatest value of a row is read."""

ROUNDING = 1.0
"""Entries and what lies between them are rounded, by a half each."""

MARGIN = 2.0**-9
"""The part of 2**31 that is left for errors, and for the entry behind the greatest value."""

ENOUGH = 2.0**-20
"""The relative error of the reciprocal that is worth no further step."""


FARTHEST = 0.99
"""The greatest error, in steps of the result before it is rounded: less than one, so that a result
is at most one step from what the exact function rounds to.
"""


@dataclass(frozen=True)
class Plan:
    """How a row of `count` elements is computed."""

    count: int
    scale: float
    """Of x."""
    result: QuantType

    @property
    def top(self) -> int:
        """A, so that the sum of a row stays below 2**31, and the last entry too."""
        return int((1 - MARGIN) * 2**31 / self.count) - 2

    @cached_property
    def table(self) -> Array:
        """[4097] i32. Nodes lie below the curve by half of what it is off a line in the middle."""
        steps = np.arange(0, (1 << 16) + 1, 1 << SHIFT) - (1 << 15) - TOP
        exact = self.top * np.exp(steps * self.scale)
        bent = (self.scale * (1 << SHIFT)) ** 2 / 16
        return np.minimum(np.rint(exact * (1 - bent)), 2**31 - 1).astype(np.int32)

    @cached_property
    def relative(self) -> float:
        """The greatest relative error of the lines, beyond what rounding makes."""
        x = np.arange(-(1 << 15), 1 << 15, dtype=np.int32)
        exact = self.top * np.exp((x.astype(np.float64) - TOP) * self.scale)
        off = np.abs(numerics.interpolate(x, self.table, SHIFT) - exact)
        return float(((off - ROUNDING) / exact).max(initial=0.0))

    @property
    def least(self) -> int:
        """A bound of the sum of a row from below."""
        return int(self.top * (1 - self.relative) - ROUNDING)

    @property
    def error(self) -> float:
        """The greatest error in steps of the result, before it is rounded."""
        if (
            self.relative > MARGIN / 2
            or self.least < 1
            or 2**31 / self.least > 2**reciprocal.WIDEST
        ):
            return np.inf
        entry = ROUNDING / (self.least * self.result.scale)
        total = self.count * ROUNDING / self.least
        division = reciprocal.error(self.least, 2**31 - 1, ENOUGH)
        most = min(span(self.result) + 1, 1 / self.result.scale)
        return entry + (2 * self.relative + total + division) * most


def wide_softmax(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(softmax(dequantize(x))) for x of 16 bits; None where `op` is something
    else, or the steps would be off by more than `FARTHEST`.
    """
    inner, result = op.x.owner, one_scale(op.result)
    if not isinstance(inner, graph.SoftmaxOp) or result is None:
        return None
    x = stored(inner.x)
    quant = None if x is None else quant_of(x)
    if x is None or quant is None or quant.axis is not None or quant.storage_dtype.itemsize != 2:
        return None
    axis = inner.axis.value.data
    plan = Plan(shape_of(x)[axis], quant.scale, result)
    if not plan.count or plan.error > FARTHEST:
        return None
    steps = Steps(inner.location)
    greatest = steps.distance(steps.greatest(x, axis))
    below = steps.minus(steps.distance(x), steps.minus(greatest, steps.number(TOP)))
    index = steps.add(graph.CastOp(below, dtypes.i16, location=steps.location))
    table = steps.constant(plan.table)
    e = steps.add(graph.InterpolateOp(index, table, i32, location=steps.location))
    total, factor = steps.total(e, [axis]), 1 / result.scale
    inverse = reciprocal.reciprocal(steps, total, plan.least, 2**31 - 1, factor, ENOUGH)
    if inverse is None:
        steps.discard()
        return None
    steps.product(e, inverse.value, inverse.shift, result)
    return steps
