"""Softmax of a 16-bit tensor: the exponential by lines between a table's entries, and a division.

    quantize(softmax(dequantize(x)))  ==>

    e = interpolate(x - max(x) + 32767)      A * exp(scale * (x - max(x))), A nearly 2**31 / count
    e = high[h] * low[j - 256 h]             the same where steps are too great for lines,
                                             j = max(x) - x, h = j / 256 rounded
    r = 2**k / (sum(e) * scale of the result)
    rescale(e, r)                            e * r / 2**k, rounded to the result

It is softmax.py with a table that has 4096 intervals, or two of 256 entries, rather than one of all
values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph, numerics
from npu_dialect.graph.base import quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point import reciprocal
from npu_dialect.passes.fixed_point.steps import BYTE, Array, Steps, exponent, span
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

MIDDLE = 128
"""Where the second table of a product has A."""
COARSEST_SCALE = 0.05
"""The greatest step for which the second table has enough bits."""

FARTHEST = 0.99
"""The greatest error, in steps of the result before it is rounded: less than one, so that a result
is at most one step from what the exact function rounds to.
"""


@dataclass(frozen=True)
class Plan(ABC):
    """How a row of `count` elements is computed."""

    count: int
    scale: float
    """Of x."""
    result: QuantType

    @property
    def top(self) -> int:
        """A, so that the sum of a row stays below 2**31, and the last entry too."""
        return int((1 - MARGIN) * 2**31 / self.count) - 2

    @property
    @abstractmethod
    def found(self) -> Array:
        """[65536] i32: what stands for the exponentials, by the distance below the greatest."""

    @abstractmethod
    def exponentials(self, steps: Steps, x: SSAValue, greatest: SSAValue) -> SSAValue:
        """The same for the elements of `x`, of whose rows i32 `greatest` is the greatest."""

    @cached_property
    def relative(self) -> float:
        """The greatest relative error of the exponentials, beyond what rounding makes."""
        exact = self.top * np.exp(-self.scale * np.arange(1 << 16))
        off = np.abs(self.found - exact) - ROUNDING
        return float((off[off > 0] / exact[off > 0]).max(initial=0.0))

    @property
    def least(self) -> int:
        """A bound of the sum of a row from below."""
        return int(self.top * (1 - self.relative) - ROUNDING)

    @cached_property
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


@dataclass(frozen=True)
class Lines(Plan):
    """Lines between entries, which are near enough where a step is small."""

    @cached_property
    def table(self) -> Array:
        """[4097] i32. Nodes lie below the curve by half of what it is off a line in the middle."""
        steps = np.arange(0, (1 << 16) + 1, 1 << SHIFT) - (1 << 15) - TOP
        exact = self.top * np.exp(steps * self.scale)
        bent = (self.scale * (1 << SHIFT)) ** 2 / 16
        return np.minimum(np.rint(exact * (1 - bent)), 2**31 - 1).astype(np.int32)

    @property
    def found(self) -> Array:
        x = TOP - np.arange(1 << 16, dtype=np.int32)
        return numerics.interpolate(x, self.table, SHIFT)

    def exponentials(self, steps: Steps, x: SSAValue, greatest: SSAValue) -> SSAValue:
        below = steps.minus(steps.distance(x), steps.minus(greatest, steps.number(TOP)))
        index = steps.add(graph.CastOp(below, dtypes.i16, location=steps.location))
        table = steps.constant(self.table)
        return steps.add(graph.InterpolateOp(index, table, i32, location=steps.location))


@dataclass(frozen=True)
class Products(Plan):
    """exp(-s j) = exp(-256 s h) * exp(-s l), j = 256 h + l, each from a table of 256 entries."""

    @cached_property
    def high(self) -> Array:
        """[256] i32: exp(-256 s h) * 2**30."""
        with np.errstate(under="ignore"):
            entries = np.rint(2.0**30 * np.exp(-256 * self.scale * np.arange(256)))
        return entries.astype(np.int32)

    @cached_property
    def low(self) -> Array:
        """[256] i32: A * exp(-s (k - 128)) * 2**(shift - 30)."""
        low = np.exp(-self.scale * (np.arange(256) - MIDDLE))
        return np.rint(self.top * 2.0 ** (self.shift - 30) * low).astype(np.int32)

    @property
    def shift(self) -> int:
        """By how many bits a product is moved to the right: the greatest entry of the second table
        has 30 bits.
        """
        return 59 - exponent(self.top * math.exp(self.scale * MIDDLE))

    @property
    def found(self) -> Array:
        j = np.arange(1 << 16, dtype=np.int64)
        h = np.minimum((2 * j + 257) >> 9, 255)
        low = np.minimum(j - 256 * h + MIDDLE, 255)
        product = self.high.astype(np.int64)[h] * self.low.astype(np.int64)[low]
        return numerics.requantize_fixed(
            product, 1, self.shift, "half_even", 0, 0, -(2**31), 2**31 - 1
        )

    def exponentials(self, steps: Steps, x: SSAValue, greatest: SSAValue) -> SSAValue:
        j = steps.minus(greatest, steps.distance(x))
        odd = steps.plus(steps.plus(j, j), steps.number(1))  # no ties
        h = steps.right(odd, 9, BYTE)
        near = steps.minus(j, steps.times(steps.distance(h), steps.number(256)))
        low = steps.right(steps.plus(near, steps.number(MIDDLE)), 0, BYTE)
        first, second = steps.lookup(h, self.high), steps.lookup(low, self.low)
        return steps.product(first, second, self.shift)


def best_plan(count: int, scale: float, result: QuantType) -> Plan | None:
    """Lines, which take less, if they are exact enough; else products, or None."""
    if not count:
        return None
    lines = Lines(count, scale, result)
    if lines.error <= FARTHEST:
        return lines
    products = Products(count, scale, result)
    return products if scale <= COARSEST_SCALE and products.error <= FARTHEST else None


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
    plan = best_plan(shape_of(x)[axis], quant.scale, result)
    if plan is None:
        return None
    steps = Steps(inner.location)
    e = plan.exponentials(steps, x, steps.distance(steps.greatest(x, axis)))
    total, factor = steps.total(e, [axis]), 1 / result.scale
    inverse = reciprocal.reciprocal(steps, total, plan.least, 2**31 - 1, factor, ENOUGH)
    if inverse is None:
        steps.discard()
        return None
    steps.product(e, inverse.value, inverse.shift, result)
    return steps
