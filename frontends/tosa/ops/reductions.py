"""Reductions along an axis."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, is_quantized
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import squeeze
from npu_dialect.frontends.onnx.ops.reductions import arg_extreme
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.pooling import propagates
from npu_dialect.frontends.tosa.ops.rescaling import whole
from npu_dialect.frontends.tosa.registry import op


def _extreme(name: str, kind: type[Any]) -> None:
    @op(name)
    def reduce(b: Builder, input: SSAValue, *, axis: int, nan_mode: str) -> SSAValue:
        propagates(input, nan_mode)
        return b.emit(kind(input, (axis,)))

    reduce.__doc__ = f"`{kind.name}`; of floats where NaN propagates."


_extreme("reduce_max", graph.ReduceMaxOp)
_extreme("reduce_min", graph.ReduceMinOp)


@op("reduce_sum")
def reduce_sum(b: Builder, input: SSAValue, *, axis: int) -> SSAValue:
    """The sum of i32, or of floats from first to last."""
    if is_quantized(input):
        raise NotExpressible(f"sums of {dtype_of(input)}")
    return b.emit(graph.ReduceSumOp(input, (axis,)))


@op("reduce_product")
def reduce_product(b: Builder, input: SSAValue, *, axis: int) -> SSAValue:
    """The product of floats from first to last."""
    return b.emit(graph.ReduceProdOp(input, (axis,)))


@op("reduce_all")
def reduce_all(b: Builder, input: SSAValue, *, axis: int) -> SSAValue:
    """Whether all hold: the smallest of 0 and 1."""
    return _truth(b, graph.ReduceMinOp, input, axis)


@op("reduce_any")
def reduce_any(b: Builder, input: SSAValue, *, axis: int) -> SSAValue:
    """Whether any holds: the greatest of 0 and 1."""
    return _truth(b, graph.ReduceMaxOp, input, axis)


@op("argmax")
def argmax(b: Builder, input: SSAValue, *, axis: int, nan_mode: str) -> SSAValue:
    """The first place of the greatest element."""
    propagates(input, nan_mode)
    x = whole(b, input) if is_quantized(input) else input
    return squeeze(b, arg_extreme(b, graph.ReduceMaxOp, x, axis, 0), (axis,))


def _truth(b: Builder, kind: type[Any], x: SSAValue, axis: int) -> SSAValue:
    found = b.emit(kind(b.recast(x, dtypes.i32), (axis,)))
    return b.emit(graph.NeOp(found, b.scalar(0, found)))
