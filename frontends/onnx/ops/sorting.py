"""The greatest and least elements, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
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


def top(
    b: Builder,
    x: SSAValue,
    k: int,
    axis: int,
    *,
    is_largest: bool,
    index: DType = dtypes.i64,
) -> list[SSAValue]:
    """The first `k` elements in order and where they are, picked one after the other.

    NaN is the greatest, as in torch; ONNX states no place for it, and onnxruntime's depends on
    the number of elements.
    """
    axis = common.normalize_axis(axis, len(shape_of(x)))
    size = shape_of(x)[axis]
    if not 0 <= k <= size:
        raise Misfit(f"the {k} greatest of {size}")
    if not 0 < k <= MAX_TOP:
        raise NotExpressible(f"the {k} greatest elements, where {MAX_TOP} are picked one by one")
    b.reserve(size)
    values: list[SSAValue] = []
    places: list[SSAValue] = []
    picks = _Picks.of(b, x, axis, is_largest)
    for _ in range(k):
        value, place = picks.best(b)
        picks = picks.without(b, place)
        values.append(value)
        places.append(place)
    place = common.cast(b, common.concat(b, places, axis), index)
    return [common.concat(b, values, axis), place]


@dataclass(frozen=True)
class _Picks:
    """Elements along one axis, of which some are left.

    NaN counts as infinity among `numbers`. The `order` of those that are equal (i32) is their
    position; what comes last of infinity and NaN has `size` more.
    """

    axis: int
    is_largest: bool
    is_float: bool
    numbers: SSAValue
    order: SSAValue
    left: SSAValue | None = None

    @classmethod
    def of(cls, b: Builder, x: SSAValue, axis: int, is_largest: bool) -> _Picks:
        """All elements of x."""
        size, rank = shape_of(x)[axis], len(shape_of(x))
        order = common.iota(b, size, rank, axis)
        if not dtype_of(x).is_float:
            return cls(axis, is_largest, False, x, order)
        is_number = b.emit(graph.EqOp(x, x))
        numbers = common.where(b, is_number, x, b.scalar(np.inf, x))
        later = common.add(b, order, b.scalar(size, order))
        first, last = (later, order) if is_largest else (order, later)
        order = common.where(b, is_number, first, last)
        return cls(axis, is_largest, True, numbers, order)

    def best(self, b: Builder) -> tuple[SSAValue, SSAValue]:
        """The greatest (or least) element of those that are left, and its first position (i32)."""
        rest = self.numbers
        if self.left is not None:
            rest = common.where(b, self.left, rest, _worst(b, rest, is_largest=self.is_largest))
        operation = graph.ReduceMaxOp if self.is_largest else graph.ReduceMinOp
        value = b.emit(operation(rest, (self.axis,)))
        hit = b.emit(graph.EqOp(rest, value))
        hit = hit if self.left is None else b.emit(graph.AndOp(hit, self.left))
        size = shape_of(rest)[self.axis]
        end = b.scalar((2 if self.is_float else 1) * size - 1, self.order)
        place = b.emit(graph.ReduceMinOp(common.where(b, hit, self.order, end), (self.axis,)))
        return self._named(b, value, place) if self.is_float else (value, place)

    def _named(self, b: Builder, value: SSAValue, place: SSAValue) -> tuple[SSAValue, SSAValue]:
        """A value, or NaN if the place is one of those, and the position."""
        size = b.scalar(shape_of(self.numbers)[self.axis], place)
        is_late = b.emit(graph.GeOp(place, size))
        nan = b.scalar(np.nan, value)
        value = common.where(b, is_late, *((value, nan) if self.is_largest else (nan, value)))
        return value, common.where(b, is_late, common.sub(b, place, size), place)

    def without(self, b: Builder, place: SSAValue) -> _Picks:
        """The others."""
        rank = len(shape_of(self.numbers))
        numbers = common.iota(b, shape_of(self.numbers)[self.axis], rank, self.axis)
        others = b.emit(graph.NeOp(numbers, place))
        left = others if self.left is None else b.emit(graph.AndOp(self.left, others))
        return replace(self, left=left)


def _worst(b: Builder, x: SSAValue, *, is_largest: bool) -> SSAValue:
    dtype = dtype_of(x)
    low, high = (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)
    return b.scalar(low if is_largest else high, x)
