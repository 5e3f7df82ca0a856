"""Distances between rows."""

from __future__ import annotations

import math

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import Builder, Number, SSAValue, shape_of
from npu_dialect.frontends.torch.registry import op


@op("_cdist_forward")
def cdist(b: Builder, x1: SSAValue, x2: SSAValue, p: float, compute_mode: int | None) -> SSAValue:
    """Each row of x1 with each of x2, by their differences."""
    *outer, m, width = shape_of(x1)
    *other, n, _ = shape_of(x2)
    b.reserve(*b.shape, width)
    left = common.reshape(b, x1, (*outer, m, 1, width))
    right = common.reshape(b, x2, (*other, 1, n, width))
    return norm(b, common.sub(b, left, right), p)


@op("_pdist_forward")
def pdist(b: Builder, self: SSAValue, p: float) -> SSAValue:
    """Each row with those after it."""
    first, second = np.triu_indices(shape_of(self)[0], 1)
    parts = [rows.gather(b, self, b.constant(k.astype(np.int32)), 0) for k in (first, second)]
    return norm(b, common.sub(b, *parts), p)


def norm(b: Builder, x: SSAValue, p: Number) -> SSAValue:
    """The norm of order p along the last dimension, which goes."""
    return norm_over(b, x, p, (len(shape_of(x)) - 1,), keepdim=False)


def norm_over(
    b: Builder, x: SSAValue, p: Number, axes: tuple[int, ...], *, keepdim: bool
) -> SSAValue:
    """(sum of |x| ** p) ** (1 / p), with the limits that this has for 0 and the infinities."""

    def over(operation: type[graph.ReduceSumOp | graph.ReduceMaxOp | graph.ReduceMinOp],
             v: SSAValue) -> SSAValue:  # fmt: skip
        return common.reduce(b, operation, v, axes, int(keepdim))

    size = b.emit(graph.AbsOp(x))
    if p == math.inf:
        return over(graph.ReduceMaxOp, size)
    if p == -math.inf:
        return over(graph.ReduceMinOp, size)
    if p == 0:
        nonzero = b.emit(graph.NeOp(x, b.scalar(0, x)))
        return over(graph.ReduceSumOp, common.cast(b, nonzero, dtypes.f32))
    if p == 1:
        return over(graph.ReduceSumOp, size)
    if p == 2:
        return b.emit(graph.SqrtOp(over(graph.ReduceSumOp, common.mul(b, x, x))))
    total = over(graph.ReduceSumOp, b.emit(graph.PowOp(size, b.scalar(p, size))))
    return b.emit(graph.PowOp(total, b.scalar(1 / p, total)))
