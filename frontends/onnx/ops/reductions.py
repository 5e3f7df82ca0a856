"""Reductions, with axes as an attribute (older operator sets) or as an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, SSAValue, dtype_of, shape_of
from npu_dialect.frontends.onnx.registry import op, register

Reduction = Callable[[Builder, SSAValue, Sequence[int], int], SSAValue]


def _simple(operation: type[Any]) -> Reduction:
    def reduction(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
        return common.reduce(b, operation, x, axes, keepdims)

    return reduction


def _extreme(operation: type[Any]) -> Reduction:
    """Of truth values too: as 0 and 1, where the extreme of nothing is the other one."""

    def reduction(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
        if dtype_of(x) is not dtypes.bool_:
            return common.reduce(b, operation, x, axes, keepdims)
        number = common.cast(b, x, dtypes.i32)
        result = common.reduce(b, operation, number, axes, keepdims)
        return b.emit(graph.GtOp(result, b.scalar(0, result)))

    return reduction


def _l1(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    return common.reduce(b, graph.ReduceSumOp, b.emit(graph.AbsOp(x)), axes, keepdims)


def _sum_square(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    return common.reduce(b, graph.ReduceSumOp, common.mul(b, x, x), axes, keepdims)


def _l2(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    return b.emit(graph.SqrtOp(_sum_square(b, x, axes, keepdims)))


def _log_sum(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    return b.emit(graph.LogOp(common.reduce(b, graph.ReduceSumOp, x, axes, keepdims)))


def _log_sum_exp(b: Builder, x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    """The maximum is taken out first, so that nothing overflows."""
    peak = common.reduce(b, graph.ReduceMaxOp, x, axes, 1)
    total = common.reduce(
        b, graph.ReduceSumOp, b.emit(graph.ExpOp(common.sub(b, x, peak))), axes, 1
    )
    result = common.add(b, b.emit(graph.LogOp(total)), peak)
    return result if keepdims else common.squeeze(b, result, axes)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(graph.ReduceMaxOp),
    "ReduceMean": _simple(graph.ReduceMeanOp),
    "ReduceMin": _extreme(graph.ReduceMinOp),
    "ReduceProd": _simple(graph.ReduceProdOp),
    "ReduceSum": _simple(graph.ReduceSumOp),
    "ReduceSumSquare": _sum_square,
}

AXES_INPUT_SINCE = {"ReduceSum": 13}
"""The others have their axes as an input since 18."""


def _register(name: str, reduction: Reduction) -> None:
    def with_attribute(
        b: Builder, x: SSAValue, *, axes: Sequence[int] | None, keepdims: int
    ) -> SSAValue:
        return reduction(b, x, _axes(x, axes), keepdims)

    def with_input(
        b: Builder,
        x: SSAValue,
        axes: SSAValue | None = None,
        *,
        keepdims: int,
        noop_with_empty_axes: int,
    ) -> SSAValue:
        given = b.ints(axes, "axes") if axes is not None else ()
        if not given and noop_with_empty_axes:
            return reduction(b, x, (), 1)
        return reduction(b, x, _axes(x, given), keepdims)

    register(with_attribute, name)
    register(with_input, name, since=AXES_INPUT_SINCE.get(name, 18))


def _axes(x: SSAValue, axes: Sequence[int] | None) -> tuple[int, ...]:
    rank = len(shape_of(x))
    return common.normalize_axes(axes, rank) if axes else tuple(range(rank))


for _name, _reduction in REDUCTIONS.items():
    _register(_name, _reduction)


@op("ArgMax")
def arg_max(
    b: Builder, x: SSAValue, *, axis: int, keepdims: int, select_last_index: int = 0
) -> SSAValue:
    """The first (or last) position of the maximum."""
    return _arg(b, graph.ReduceMaxOp, x, axis, keepdims, select_last_index)


@op("ArgMin")
def arg_min(
    b: Builder, x: SSAValue, *, axis: int, keepdims: int, select_last_index: int = 0
) -> SSAValue:
    """The first (or last) position of the minimum."""
    return _arg(b, graph.ReduceMinOp, x, axis, keepdims, select_last_index)


def _arg(
    b: Builder, operation: type[Any], x: SSAValue, axis: int, keepdims: int, last: int
) -> SSAValue:
    axes = (common.normalize_axis(axis, len(shape_of(x))),)
    index = arg_extreme(b, operation, x, axes[0], last)
    index = common.cast(b, index, dtypes.i64)
    return index if keepdims else common.squeeze(b, index, axes)


def arg_extreme(b: Builder, operation: type[Any], x: SSAValue, axis: int, last: int) -> SSAValue:
    """The first (or last) position along `axis` of the extreme value, i32, keepdims."""
    hit = b.emit(graph.EqOp(x, b.emit(operation(x, (axis,)))))
    size, rank = shape_of(x)[axis], len(shape_of(x))
    b.reserve(size)
    miss = b.constant(np.array(-1 if last else size, np.int32))
    positions = common.where(b, hit, common.iota(b, size, rank, axis), miss)
    pick = graph.ReduceMaxOp if last else graph.ReduceMinOp
    return b.emit(pick(positions, (axis,)))


@op("Hardmax", since=13)
def hardmax(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """1 at the first maximum along `axis`, else 0."""
    return _hardmax(b, x, common.normalize_axis(axis, len(shape_of(x))))


@op("Hardmax")
def hardmax_1(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """Before opset 13: over all dimensions from `axis` on together."""
    shape = shape_of(x)
    axis = axis + len(shape) if axis < 0 else axis
    rows = int(np.prod(shape[:axis]))
    flat = common.reshape(b, x, (rows, int(np.prod(shape[axis:]))))
    return common.reshape(b, _hardmax(b, flat, 1), shape)


def _hardmax(b: Builder, x: SSAValue, axis: int) -> SSAValue:
    index = arg_extreme(b, graph.ReduceMaxOp, x, axis, 0)
    size, rank = shape_of(x)[axis], len(shape_of(x))
    hit = b.emit(graph.EqOp(index, common.iota(b, size, rank, axis)))
    return common.cast(b, hit, dtype_of(x))
