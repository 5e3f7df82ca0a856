"""Sorting by counting: the place of an element is the number of those that come before it.

    before = where(j < i, not (x[j] > x[i]), x[j] < x[i])        [..., i, j]
    place  = sum of before over j                                 [..., i]

So equal elements keep their order, and all places are computed at once. NaN is the greatest.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.torch.registry import op

MAX_COMPARED = 1 << 26
"""Each element is compared with each other one along the dimension."""

BLOCK = 1 << 22
"""So many comparisons are one step."""

FEW = 32
"""So many of a long dimension are picked one after the other."""


@op("sort")
def sort(b: Builder, self: SSAValue, dim: int, descending: bool) -> list[SSAValue]:
    """The elements in order, and where each was."""
    return _sorted(b, self, dim, descending)


@op("sort.stable")
def sort_stable(
    b: Builder, self: SSAValue, *, stable: bool | None, dim: int, descending: bool
) -> list[SSAValue]:
    """The same; equal elements keep their order in any case."""
    return _sorted(b, self, dim, descending)


@op("topk")
def topk(
    b: Builder, self: SSAValue, k: int, dim: int, largest: bool, sorted: bool
) -> list[SSAValue]:
    """The first ones of all in order, whether an order is asked for or not; few of many are picked
    one after the other.
    """
    if not shape_of(self):
        return _sorted(b, self, dim, largest)
    axis = common.normalize_axis(dim, len(shape_of(self)))
    if 0 < k <= FEW and _comparisons(self, axis) > BLOCK:
        return common.top(b, self, k, axis, is_largest=largest)
    return [common.along(b, v, axis, 0, k) for v in _sorted(b, self, dim, largest)]


@op("kthvalue")
def kthvalue(b: Builder, self: SSAValue, k: int, dim: int, keepdim: bool) -> list[SSAValue]:
    """The k-th smallest element, and where it is."""
    if not shape_of(self):
        return _sorted(b, self, dim, False)
    axis = common.normalize_axis(dim, len(shape_of(self)))
    found = [common.along(b, v, axis, k - 1, 1) for v in _sorted(b, self, dim, False)]
    return [common.reshape(b, v, b.shape) for v in found]


def _sorted(b: Builder, x: SSAValue, dim: int, descending: bool) -> list[SSAValue]:
    shape = shape_of(x)
    if not shape or 0 in shape:
        return [x, b.constant(np.zeros(shape, np.int64))]
    axis = common.normalize_axis(dim, len(shape))
    order = [k for k in range(len(shape)) if k != axis] + [axis]
    last = common.transpose(b, x, order)
    place = _places(b, last, descending)
    numbers = common.iota(b, shape[axis], len(shape), len(shape) - 1)
    numbers = common.broadcast(b, numbers, shape_of(last))
    found = [rows.scatter_elements(b, v, place, v, len(shape) - 1, "set") for v in (last, numbers)]
    back = [int(k) for k in np.argsort(order)]
    values, where = (common.transpose(b, v, back) for v in found)
    return [values, common.cast(b, where, dtypes.i64)]


def _comparisons(x: SSAValue, axis: int) -> int:
    return prod(shape_of(x)) * shape_of(x)[axis]


def _places(b: Builder, x: SSAValue, descending: bool) -> SSAValue:
    """The place of each element along the last dimension (i32)."""
    *outer, size = shape_of(x)
    if _comparisons(x, len(outer)) > MAX_COMPARED:
        raise NotExpressible(
            f"sorting {size} elements {prod(outer)} times, where {MAX_COMPARED} comparisons "
            "are the most"
        )
    x = common.cast(b, x, dtypes.i32) if dtype_of(x) is dtypes.bool_ else x
    step = max(BLOCK // (prod(outer) * size), 1)
    parts = [_counted(b, x, first, min(step, size - first), descending)
             for first in range(0, size, step)]  # fmt: skip
    return common.concat(b, parts, len(outer))


def _counted(b: Builder, x: SSAValue, first: int, count: int, descending: bool) -> SSAValue:
    """The places of the elements from `first` on."""
    *outer, size = shape_of(x)
    mine = common.along(b, x, len(outer), first, count)
    mine = common.reshape(b, mine, (*outer, count, 1))
    other = common.reshape(b, x, (*outer, 1, size))
    less, greater = _ordered(b, other, mine), _ordered(b, mine, other)
    less, greater = (greater, less) if descending else (less, greater)
    earlier = b.constant(np.tri(count, size, first - 1, np.bool_))
    before = common.where(b, earlier, b.emit(graph.NotOp(greater)), less)
    total = b.emit(graph.ReduceSumOp(common.cast(b, before, dtypes.i32), (len(outer) + 1,)))
    return common.reshape(b, total, (*outer, count))


def _ordered(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x < y, where NaN is greater than numbers."""
    less = b.emit(graph.LtOp(x, y))
    if not dtype_of(x).is_float:
        return less
    is_number = b.emit(graph.EqOp(x, x))
    return b.emit(graph.OrOp(less, b.emit(graph.AndOp(is_number, _is_nan(b, y)))))


@op("bucketize.Tensor")
def bucketize(
    b: Builder, self: SSAValue, boundaries: SSAValue, *, out_int32: bool, right: bool
) -> SSAValue:
    """How many boundaries are before each value."""
    return _before(b, boundaries, self, right)


@op("searchsorted.Tensor")
def searchsorted(
    b: Builder,
    sorted_sequence: SSAValue,
    self: SSAValue,
    *,
    out_int32: bool,
    right: bool,
    side: str | None,
    sorter: SSAValue | None,
) -> SSAValue:
    """How many elements of a sorted sequence are before each value."""
    if sorter is not None:
        raise NotExpressible("a search with a sorter")
    return _before(b, sorted_sequence, self, side == "right" if side else right)


def _before(b: Builder, sequence: SSAValue, x: SSAValue, right: bool) -> SSAValue:
    """The number of elements less than each value, or (right) not greater."""
    *outer, size = shape_of(sequence)
    if prod(shape_of(x)) * size > MAX_COMPARED:
        raise NotExpressible(f"a search for {prod(shape_of(x))} values among {size}")
    dtype = common.promoted(sequence, x)
    sequence, value = (common.cast(b, v, dtype) for v in (sequence, x))
    middle = [1] * (len(shape_of(x)) - len(outer))
    sequence = common.reshape(b, sequence, (*outer, *middle, size))
    value = common.reshape(b, value, (*shape_of(x), 1))
    if right:
        counts = b.emit(graph.NotOp(_ordered(b, value, sequence)))
    else:
        counts = _ordered(b, sequence, value)
    found = common.cast(b, counts, dtypes.i32)
    return common.reduce(b, graph.ReduceSumOp, found, (len(shape_of(found)) - 1,), 0)


def _is_nan(b: Builder, x: SSAValue) -> Any:
    return b.emit(graph.NeOp(x, x))
