"""Reductions, axis by axis."""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.tosa_export.emitter import Emitter, Refused, element_of
from npu_dialect.tosa_export.ops.arithmetic import fits, plain
from npu_dialect.tosa_export.ops.contractions import FLOAT_SUMS
from npu_dialect.tosa_export.ops.exactness import ordered_sum
from npu_dialect.tosa_export.ops.rescaling import steps
from npu_dialect.tosa_export.registry import rule


def _reduced(e: Emitter, name: str, x: SSAValue, axes: tuple[int, ...]) -> SSAValue:
    for axis in axes:
        shape = [1 if k == axis else n for k, n in enumerate(shape_of(x))]
        x = e.op(name, (x,), TensorType(element_of(x), shape), axis=axis)
    return x


@rule(graph.ReduceMaxOp, graph.ReduceMinOp)
def extreme(e: Emitter, op: graph.ReduceMaxOp | graph.ReduceMinOp) -> SSAValue:
    """The same, axis by axis."""
    return _reduced(e, op.name.removeprefix("graph."), e.value(op.x), values(op.axes))


@rule(graph.ReduceSumOp)
def total(e: Emitter, op: graph.ReduceSumOp) -> SSAValue:
    """The sum of i32, of (x - zero point); of floats in order where integers depend on it."""
    axes = values(op.axes)
    if not dtype_of(op.x).is_float:
        fits(e, op)
        x = steps(e, op.x) if dtype_of(op.x) is not dtypes.i64 else plain(e, op.x)
        return _reduced(e, "reduce_sum", x, axes)
    x = e.value(op.x)
    if e.is_deciding and not e.is_open:
        return _in_order(e, x, axes)
    e.open(FLOAT_SUMS)
    return _reduced(e, "reduce_sum", x, axes)


def _in_order(e: Emitter, x: SSAValue, axes: tuple[int, ...]) -> SSAValue:
    """The sum over all axes in row-major order."""
    shape = shape_of(x)
    kept = [k for k in range(len(shape)) if k not in axes]
    rows = e.transpose(x, (*kept, *axes))
    count = prod(shape[k] for k in axes)
    rows = e.reshape(rows, (*(shape[k] for k in kept), count))
    found = ordered_sum(e, rows, len(kept))
    return e.reshape(found, [1 if k in axes else n for k, n in enumerate(shape)])


@rule(graph.ReduceProdOp)
def product(e: Emitter, op: graph.ReduceProdOp) -> SSAValue:
    """The product of floats."""
    if not dtype_of(op.x).is_float:
        raise Refused(f"the product of {dtype_of(op.x)}")
    e.open("the order in which floats are multiplied")
    return _reduced(e, "reduce_product", e.value(op.x), values(op.axes))
