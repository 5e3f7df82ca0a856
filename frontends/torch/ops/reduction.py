"""Reductions, and sums along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    Number,
    SSAValue,
    shape_of,
    wrapped,
)
from npu_dialect.frontends.torch.ops.distance import norm_over
from npu_dialect.frontends.torch.registry import op

Dims = int | Sequence[int] | None


def _reduced(b: Builder, operation: type[Any], x: SSAValue, dims: Dims, keepdim: bool) -> SSAValue:
    x = common.cast(b, x, b.dtype)
    axes = wrapped(dims, len(shape_of(x)))
    return common.reduce(b, operation, x, axes, int(keepdim))


@op("mean.dim")
def mean(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """The mean."""
    return _reduced(b, graph.ReduceMeanOp, self, dim, keepdim)


@op("mean")
def mean_all(b: Builder, self: SSAValue) -> SSAValue:
    """The mean of everything."""
    return _reduced(b, graph.ReduceMeanOp, self, None, False)


@op("sum.dim_IntList")
def total(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """The sum."""
    return _reduced(b, graph.ReduceSumOp, self, dim, keepdim)


@op("sum")
def total_all(b: Builder, self: SSAValue) -> SSAValue:
    """The sum of everything."""
    return _reduced(b, graph.ReduceSumOp, self, None, False)


@op("prod.dim_int")
def product(b: Builder, self: SSAValue, dim: int, keepdim: bool) -> SSAValue:
    """The product."""
    return _reduced(b, graph.ReduceProdOp, self, dim, keepdim)


@op("prod")
def product_all(b: Builder, self: SSAValue) -> SSAValue:
    """The product of everything."""
    return _reduced(b, graph.ReduceProdOp, self, None, False)


@op("amax")
def amax(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """The greatest value."""
    return _reduced(b, graph.ReduceMaxOp, self, dim, keepdim)


@op("amin")
def amin(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """The smallest value."""
    return _reduced(b, graph.ReduceMinOp, self, dim, keepdim)


@op("max")
def max_all(b: Builder, self: SSAValue) -> SSAValue:
    """The greatest value of everything."""
    return _reduced(b, graph.ReduceMaxOp, self, None, False)


@op("min")
def min_all(b: Builder, self: SSAValue) -> SSAValue:
    """The smallest value of everything."""
    return _reduced(b, graph.ReduceMinOp, self, None, False)


@op("max.dim")
def max_dim(b: Builder, self: SSAValue, dim: int, keepdim: bool) -> list[SSAValue]:
    """The greatest value, and the first place where it is."""
    return _with_place(b, graph.ReduceMaxOp, self, dim, keepdim)


@op("min.dim")
def min_dim(b: Builder, self: SSAValue, dim: int, keepdim: bool) -> list[SSAValue]:
    """The smallest value, and the first place where it is."""
    return _with_place(b, graph.ReduceMinOp, self, dim, keepdim)


@op("argmax")
def argmax(b: Builder, self: SSAValue, dim: int | None, keepdim: bool) -> SSAValue:
    """The first place of the greatest value."""
    return _place(b, graph.ReduceMaxOp, self, dim, keepdim)


@op("argmin")
def argmin(b: Builder, self: SSAValue, dim: int | None, keepdim: bool) -> SSAValue:
    """The first place of the smallest value."""
    return _place(b, graph.ReduceMinOp, self, dim, keepdim)


def _place(
    b: Builder, operation: type[Any], x: SSAValue, dim: int | None, keepdim: bool
) -> SSAValue:
    if dim is None:
        x, dim = common.reshape(b, x, (prod(shape_of(x)),)), 0
        return common.reshape(b, _with_place(b, operation, x, dim, False)[1], b.shape)
    return _with_place(b, operation, x, dim, keepdim)[1]


def _with_place(
    b: Builder, operation: type[Any], x: SSAValue, dim: int, keepdim: bool
) -> list[SSAValue]:
    """The place is the smallest number of an element that is not exceeded."""
    if not shape_of(x):
        return [x, b.constant(np.zeros((), np.int64))]
    rank = len(shape_of(x))
    axis = common.normalize_axis(dim, rank)
    best = b.emit(operation(x, (axis,)))
    size = shape_of(x)[axis]
    numbers = common.iota(b, size, rank, axis)
    hit = b.emit(graph.EqOp(x, best))
    places = common.where(b, hit, numbers, b.scalar(size - 1, numbers))
    place = b.emit(graph.ReduceMinOp(places, (axis,)))
    found = [best, common.cast(b, place, dtypes.i64)]
    return found if keepdim else [common.squeeze(b, v, [axis]) for v in found]


@op("any.dim", "any.dims")
def any_dim(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """Whether some element differs from 0."""
    return _quantified(b, graph.ReduceMaxOp, self, dim, keepdim)


@op("any")
def any_all(b: Builder, self: SSAValue) -> SSAValue:
    """Whether some element of all differs from 0."""
    return _quantified(b, graph.ReduceMaxOp, self, None, False)


@op("all.dim", "all.dims")
def all_dim(b: Builder, self: SSAValue, dim: Dims, keepdim: bool) -> SSAValue:
    """Whether no element is 0."""
    return _quantified(b, graph.ReduceMinOp, self, dim, keepdim)


@op("all")
def all_all(b: Builder, self: SSAValue) -> SSAValue:
    """Whether no element of all is 0."""
    return _quantified(b, graph.ReduceMinOp, self, None, False)


def _quantified(
    b: Builder, operation: type[Any], x: SSAValue, dims: Dims, keepdim: bool
) -> SSAValue:
    truth = common.cast(b, common.truth(b, x), dtypes.i32)
    found = common.reduce(b, operation, truth, wrapped(dims, len(shape_of(x))), int(keepdim))
    return common.truth(b, found)


@op("var.correction")
def variance(
    b: Builder, self: SSAValue, dim: Dims, *, correction: Number | None, keepdim: bool
) -> SSAValue:
    """The mean square of the distance from the mean, over `count - correction`."""
    axes = wrapped(dim, len(shape_of(self)))
    centred = common.sub(b, self, common.reduce(b, graph.ReduceMeanOp, self, axes, 1))
    square = common.mul(b, centred, centred)
    square = common.reduce(b, graph.ReduceMeanOp, square, axes, 1)
    count = prod(shape_of(self)[axis] for axis in axes)
    rest = count - (1 if correction is None else correction)
    square = common.scaled(b, square, count / rest if rest else float("nan"))
    return square if keepdim else common.squeeze(b, square, axes)


@op("var.dim")
def variance_dim(b: Builder, self: SSAValue, dim: Dims, unbiased: bool, keepdim: bool) -> SSAValue:
    """The same over `count - 1`, or `count`."""
    return variance(b, self, dim, correction=int(unbiased), keepdim=keepdim)


@op("linalg_vector_norm")
def vector_norm(b: Builder, self: SSAValue, ord: Number, dim: Dims, keepdim: bool) -> SSAValue:
    """A norm of any order over some dimensions."""
    axes = wrapped(dim, len(shape_of(self)))
    return norm_over(b, common.cast(b, self, b.dtype), ord, axes, keepdim=keepdim)


@op("cumsum")
def cumulative_sum(b: Builder, self: SSAValue, dim: int) -> SSAValue:
    """Sums of 1, 2, 4, ... elements: an infinity or NaN counts from its position on."""
    if not shape_of(self):
        return self
    axis = common.normalize_axis(dim, len(shape_of(self)))
    return running_sums(b, common.cast(b, self, b.dtype), axis)


def running_sums(b: Builder, x: SSAValue, axis: int) -> SSAValue:
    """Sums of 1, 2, 4, ... elements, by additions of what lies before."""
    size, step = shape_of(x)[axis], 1
    while step < size:
        low = [step if k == axis else 0 for k in range(len(shape_of(x)))]
        kept = common.along(b, x, axis, 0, size - step)
        x = common.add(b, x, common.pad(b, kept, low, [0] * len(low)))
        step *= 2
    return x
