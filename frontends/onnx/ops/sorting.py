"""The greatest and least elements, in order."""

from __future__ import annotations

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.registry import op

MAX_TOP = 32
"""So many elements are picked one after the other; to sort more is left to the host."""


@op("TopK", since=1)
def top_k_1(b: Builder, x: SSAValue, *, axis: int, k: int) -> list[SSAValue]:
    """The number as an attribute; the greatest."""
    return top(b, x, k, axis, is_largest=True)


@op("TopK", since=10)
def top_k(
    b: Builder, x: SSAValue, k: SSAValue, *, axis: int, largest: int = 1, sorted: int = 1
) -> list[SSAValue]:
    """Sorted, whether that is asked for or not; of equal elements the first comes first."""
    del sorted
    return top(b, x, b.ints(k, "k")[0], axis, is_largest=bool(largest))


def top(b: Builder, x: SSAValue, k: int, axis: int, *, is_largest: bool) -> list[SSAValue]:
    """The first `k` elements in order and where they are, picked one after the other."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    if not 0 <= k <= size:
        raise Misfit(f"the {k} greatest of {size}")
    if not 0 < k <= MAX_TOP:
        raise NotExpressible(f"the {k} greatest elements, where {MAX_TOP} are picked one by one")
    b.reserve(size)
    left: SSAValue | None = None
    values: list[SSAValue] = []
    places: list[SSAValue] = []
    for _ in range(k):
        value, place = _extreme(b, x, axis, left, is_largest=is_largest)
        others = b.emit(graph.NeOp(common.iota(b, size, len(shape_of(x)), axis), place))
        left = others if left is None else b.emit(graph.AndOp(left, others))
        values.append(value)
        places.append(place)
    index = common.cast(b, common.concat(b, places, axis), dtypes.i64)
    return [common.concat(b, values, axis), index]


def _extreme(
    b: Builder, x: SSAValue, axis: int, left: SSAValue | None, *, is_largest: bool
) -> tuple[SSAValue, SSAValue]:
    """The greatest (or least) element of those that are left, and its first position (i32)."""
    size, rank = shape_of(x)[axis], len(shape_of(x))
    rest = x if left is None else common.where(b, left, x, _worst(b, x, is_largest=is_largest))
    value = b.emit((graph.ReduceMaxOp if is_largest else graph.ReduceMinOp)(rest, (axis,)))
    hit = b.emit(graph.EqOp(rest, value))
    hit = hit if left is None else b.emit(graph.AndOp(hit, left))
    end = b.constant(np.array(size - 1, np.int32))
    places = common.where(b, hit, common.iota(b, size, rank, axis), end)
    return value, b.emit(graph.ReduceMinOp(places, (axis,)))


def _worst(b: Builder, x: SSAValue, *, is_largest: bool) -> SSAValue:
    dtype = dtype_of(x)
    low, high = (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)
    return b.scalar(low if is_largest else high, x)
