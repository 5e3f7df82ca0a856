"""What whole numbers a value can have, by what computes it.

    %1 = graph.conv2d %x, %w, %b      sums of |w| * max |x - zero point|, and the bias
    %2 = graph.requantize %1          the range of its type
    %3 = graph.add %2, %2             the sum of both

An interval is (least, greatest), of the stored numbers of a value.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, quant_of, shape_of

Interval = tuple[int, int]
Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]

SAME = (
    graph.ReshapeOp, graph.TransposeOp, graph.SliceOp, graph.BroadcastToOp, graph.GatherOp,
    graph.MaxPool2DOp, graph.ReduceMaxOp, graph.ReduceMinOp,
)  # fmt: skip
"""Operations whose results are some of the numbers of their first operand."""


class Ranges:
    """The intervals of the values of a function, found when they are asked for."""

    def __init__(self) -> None:
        self.known: dict[SSAValue, Interval] = {}

    def of(self, value: SSAValue) -> Interval:
        """The least and greatest stored number of an integer value."""
        if value not in self.known:
            self.known[value] = self._find(value)
        return self.known[value]

    def steps(self, value: SSAValue) -> Interval:
        """The least and greatest (stored number - zero point)."""
        quant = quant_of(value)
        zero = quant.zero_point if quant is not None else 0
        low, high = self.of(value)
        return low - zero, high - zero

    def channels(self, value: SSAValue) -> Bounds:
        """`steps`, for each index of the last dimension where that is known, as two arrays."""
        owner = value.owner
        low, high = self.steps(value)
        if not isinstance(owner, graph.Conv2DOp | graph.MatmulOp):
            return np.array([low]), np.array([high])
        lows, highs = _contractions(self, owner)
        if lows.min() < low or highs.max() > high:
            return np.array([low]), np.array([high])
        return lows, highs

    def _find(self, value: SSAValue) -> Interval:
        found = whole(value)
        owner = value.owner
        if not isinstance(owner, Operation):
            return found
        if isinstance(owner, graph.ConstantOp):
            array = owner.array
            return (int(array.min()), int(array.max())) if array.size else (0, 0)
        rule = RULES.get(type(owner))
        if isinstance(owner, SAME):
            return _within(self.of(owner.operands[0]), found)
        return found if rule is None else _within(rule(self, owner), found)


def whole(value: SSAValue) -> Interval:
    """All that a type can store."""
    quant, dtype = quant_of(value), dtype_of(value)
    if quant is not None:
        return quant.low, quant.high
    if dtype is dtypes.bool_:
        return 0, 1
    if dtype.is_float:
        return 0, 0
    return dtype.low, dtype.high


def _within(found: Interval, limits: Interval) -> Interval:
    """An interval that stays in a type, else all of the type: it wraps."""
    if limits[0] <= found[0] and found[1] <= limits[1]:
        return found
    return limits


def _add(ranges: Ranges, op: Any) -> Interval:
    (a, b), (c, d) = ranges.of(op.lhs), ranges.of(op.rhs)
    return a + c, b + d


def _sub(ranges: Ranges, op: Any) -> Interval:
    (a, b), (c, d) = ranges.of(op.lhs), ranges.of(op.rhs)
    return a - d, b - c


def _mul(ranges: Ranges, op: Any) -> Interval:
    (a, b), (c, d) = ranges.of(op.lhs), ranges.of(op.rhs)
    products = (a * c, a * d, b * c, b * d)
    return min(products), max(products)


def _div(ranges: Ranges, op: Any) -> Interval:
    a, b = ranges.of(op.lhs)
    most = max(abs(a), abs(b))
    return -most, most


def _max(ranges: Ranges, op: Any) -> Interval:
    (a, b), (c, d) = ranges.of(op.lhs), ranges.of(op.rhs)
    return max(a, c), max(b, d)


def _min(ranges: Ranges, op: Any) -> Interval:
    (a, b), (c, d) = ranges.of(op.lhs), ranges.of(op.rhs)
    return min(a, c), min(b, d)


def _where(ranges: Ranges, op: Any) -> Interval:
    return _union(ranges.of(op.a), ranges.of(op.b))


def _concat(ranges: Ranges, op: Any) -> Interval:
    found = [ranges.of(v) for v in op.operands]
    return min(a for a, _ in found), max(b for _, b in found)


def _union(*found: Interval) -> Interval:
    return min(a for a, _ in found), max(b for _, b in found)


def _neg(ranges: Ranges, op: Any) -> Interval:
    a, b = ranges.of(op.operands[0])
    return -b, -a


def _abs(ranges: Ranges, op: Any) -> Interval:
    a, b = ranges.of(op.operands[0])
    return (0 if a <= 0 <= b else min(abs(a), abs(b))), max(abs(a), abs(b))


def _clamp(ranges: Ranges, op: Any) -> Interval:
    low, high = (int(v) for v in op.bounds)
    a, b = ranges.of(op.operands[0])
    return min(max(a, low), high), min(max(b, low), high)


def _relu(ranges: Ranges, op: Any) -> Interval:
    a, b = ranges.of(op.operands[0])
    quant = quant_of(op.result)
    zero = quant.zero_point if quant is not None else 0
    return max(a, zero), max(b, zero)


def _pad(ranges: Ranges, op: Any) -> Interval:
    value = int(op.value.value.data)
    return _union(ranges.of(op.operands[0]), (value, value))


def _cast(ranges: Ranges, op: Any) -> Interval:
    x = op.operands[0]
    if dtype_of(x).is_float or dtype_of(op.result) is dtypes.bool_:
        return whole(op.result)
    return ranges.of(x)


def _sums(ranges: Ranges, op: Any) -> Interval:
    """A sum of `count` numbers less the zero point."""
    shape, reduced = shape_of(op.operands[0]), values(op.axes)
    count = prod(shape[axis] for axis in reduced)
    a, b = ranges.steps(op.operands[0])
    return a * count, b * count


def _pooled(ranges: Ranges, op: Any) -> Interval:
    count = prod(values(op.kernel))
    a, b = ranges.steps(op.operands[0])
    return min(a * count, 0), max(b * count, 0)


def _contraction(ranges: Ranges, op: Any) -> Interval:
    """Sums of products, by the weights where they are constants."""
    lows, highs = _contractions(ranges, op)
    return int(lows.min()), int(highs.max())


def _contractions(ranges: Ranges, op: Any) -> Bounds:
    """The least and greatest sums of each channel, or of all."""
    a, b = ranges.steps(op.operands[0])
    low, high = _products(ranges, op, op.operands[1], min(a, 0), max(b, 0))
    if len(op.operands) == 2:
        return low, high
    owner = op.operands[2].owner
    if isinstance(owner, graph.ConstantOp):
        bias = owner.array.astype(np.int64)
        return low + bias, high + bias
    c, d = ranges.of(op.operands[2])
    return low + c, high + d


def _products(ranges: Ranges, op: Any, w: SSAValue, a: int, b: int) -> Bounds:
    owner, quant = w.owner, quant_of(w)
    is_conv = isinstance(op, graph.Conv2DOp)
    if isinstance(owner, graph.ConstantOp) and (is_conv or owner.array.ndim == 2):
        zero: Any = quant.zero() if quant is not None else 0
        steps = owner.array.astype(np.int64) - zero
        axes = tuple(range(steps.ndim - 1))
        up, down = np.maximum(steps, 0).sum(axes), np.minimum(steps, 0).sum(axes)
        return up * a + down * b, up * b + down * a
    shape = shape_of(w)
    count = prod(shape[:3]) if is_conv else shape[-2]
    if quant is not None and quant.axis is not None:
        low, high = whole(op.result)
        return np.array([low]), np.array([high])
    c, d = ranges.steps(w)
    found = (a * c, a * d, b * c, b * d)
    return np.array([min(*found, 0) * count]), np.array([max(*found, 0) * count])


def _requantized(ranges: Ranges, op: Any) -> Interval:
    """A plain result of a recipe in fixed point; that of a float is as far off as a rounding."""
    target, recipe = quant_of(op.result), op.recipe.data
    a, b = ranges.steps(op.operands[0])
    if recipe.kind == "f32":
        factors = [float(m) for m in recipe.multiplier]
        found = [x * f for x in (a, b) for f in factors]
        slack = 2 + max(abs(f) for f in found) * 2.0**-22
        low, high = int(min(found) - slack), int(max(found) + slack)
    else:
        pairs = zip(recipe.multiplier.tolist(), recipe.shift.tolist(), strict=True)
        quotients = [(x * m) >> s for m, s in pairs for x in (a, b)]
        low, high = min(quotients), max(quotients) + 1
    zero = target.zero_point if target is not None else 0
    least, most = whole(op.result)
    return min(max(low + zero, least), most), min(max(high + zero, least), most)


def _rescaled(ranges: Ranges, op: Any) -> Interval:
    """Products of run time, rounded."""
    target, shift = quant_of(op.result), int(op.shift.value.data)
    (a, b), (c, d) = ranges.steps(op.x), ranges.of(op.multiplier)
    products = (a * c, a * d, b * c, b * d)
    zero = target.zero_point if target is not None else 0
    low, high = (min(products) >> shift) + zero, (max(products) >> shift) + 1 + zero
    least, most = whole(op.result)
    return min(max(low, least), most), min(max(high, least), most)


def _looked_up(ranges: Ranges, op: Any) -> Interval:
    return ranges.of(op.operands[1])


Rule = Callable[[Ranges, Any], Interval]

RULES: dict[type[Operation], Rule] = {
    graph.AddOp: _add, graph.SubOp: _sub, graph.MulOp: _mul, graph.DivOp: _div, graph.MaxOp: _max,
    graph.MinOp: _min, graph.WhereOp: _where, graph.ConcatOp: _concat, graph.NegOp: _neg,
    graph.AbsOp: _abs, graph.ClampOp: _clamp, graph.ReluOp: _relu, graph.PadOp: _pad,
    graph.CastOp: _cast, graph.ReduceSumOp: _sums, graph.SumPool2DOp: _pooled,
    graph.Conv2DOp: _contraction, graph.MatmulOp: _contraction,
    graph.RequantizeOp: _requantized, graph.RescaleOp: _rescaled,
    graph.LookupOp: _looked_up, graph.InterpolateOp: _looked_up,
}  # fmt: skip
"""How an operation's interval follows from those of its operands."""
