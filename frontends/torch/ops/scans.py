"""Running combinations along a dimension: with what lies 1, 2, 4, ... elements before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import Builder, SSAValue, dtype_of, shape_of
from npu_dialect.frontends.torch.registry import op

Values = list[SSAValue]
Combine = Callable[[Values, Values], Values]
"""Makes one of two neighbouring parts, the earlier one first."""


def scan(b: Builder, values: Values, axis: int, neutral: list[float], combine: Combine) -> Values:
    """Each element combined with all before it; `neutral` stands before the first."""
    shape, step = shape_of(values[0]), 1
    while step < shape[axis]:
        low = [step if k == axis else 0 for k in range(len(shape))]
        high = [-p for p in low]
        earlier = [common.pad(b, v, low, high, n) for v, n in zip(values, neutral, strict=True)]
        values = combine(earlier, values)
        step *= 2
    return values


@op("cumprod")
def cumulative_product(b: Builder, self: SSAValue, dim: int) -> SSAValue:
    """The product of all elements up to each."""
    x = common.cast(b, self, b.dtype)
    if not shape_of(x):
        return x
    axis = common.normalize_axis(dim, len(shape_of(x)))
    return scan(b, [x], axis, [1], lambda p, q: [common.mul(b, p[0], q[0])])[0]


@op("logcumsumexp")
def cumulative_log_sum(b: Builder, self: SSAValue, dim: int) -> SSAValue:
    """The logarithm of the sum of exponentials up to each, relative to the greater part."""
    if not shape_of(self):
        return self
    axis = common.normalize_axis(dim, len(shape_of(self)))

    def combine(earlier: Values, later: Values) -> Values:
        (p,), (q,) = earlier, later
        most = b.emit(graph.MaxOp(p, q))
        parts = (b.emit(graph.ExpOp(common.sub(b, v, most))) for v in (p, q))
        total = common.add(b, most, b.emit(graph.LogOp(common.add(b, *parts))))
        is_finite = b.emit(graph.LtOp(b.emit(graph.AbsOp(most)), b.scalar(np.inf, most)))
        return [common.where(b, is_finite, total, most)]

    return scan(b, [self], axis, [-np.inf], combine)[0]


@op("cummax")
def cumulative_maximum(b: Builder, self: SSAValue, dim: int) -> Values:
    """The greatest element up to each, and where it was last."""
    return _extremes(b, self, dim, graph.GtOp, is_largest=True)


@op("cummin")
def cumulative_minimum(b: Builder, self: SSAValue, dim: int) -> Values:
    """The least element up to each, and where it was last."""
    return _extremes(b, self, dim, graph.LtOp, is_largest=False)


def _extremes(
    b: Builder,
    x: SSAValue,
    dim: int,
    beats: type[graph.GtOp | graph.LtOp],
    *,
    is_largest: bool,
) -> Values:
    shape, dtype = shape_of(x), dtype_of(x)
    if not shape:
        return [x, b.constant(np.zeros((), np.int64))]
    axis = common.normalize_axis(dim, len(shape))
    low, high = (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)
    places = common.broadcast(b, common.iota(b, shape[axis], len(shape), axis), shape)

    def combine(earlier: Values, later: Values) -> Values:
        wins = b.emit(beats(earlier[0], later[0]))
        if dtype.is_float:
            wins = b.emit(graph.OrOp(wins, _is_only_nan(b, earlier[0], later[0])))
        return [common.where(b, wins, p, q) for p, q in zip(earlier, later, strict=True)]

    best, place = scan(b, [x, places], axis, [low if is_largest else high, 0], combine)
    return [best, common.cast(b, place, dtypes.i64)]


def _is_only_nan(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x is NaN and y is not."""
    x_is, y_is_not = b.emit(graph.NeOp(x, x)), b.emit(graph.EqOp(y, y))
    return b.emit(graph.AndOp(x_is, y_is_not))
