"""MEAN, SUM and the greatest or smallest value along axes."""

from __future__ import annotations

from math import prod
from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import normalize_axis, reduce, reshape
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import (
    is_quantized,
    quant_of,
    quantized_multiplier,
    rescaled,
    retyped,
    scale_of,
)
from npu_dialect.frontends.tflite.registry import op


def axes_of(b: Builder, x: SSAValue, axes: SSAValue) -> tuple[int, ...]:
    """The axes of a reduction from the front, each once, ascending."""
    rank = len(shape_of(x))
    return tuple(sorted({normalize_axis(a, rank) for a in b.ints(axes, "axes")}))


@op("MEAN", options="ReducerOptions")
def mean(b: Builder, x: SSAValue, axes: SSAValue, *, keep_dims: bool) -> SSAValue:
    """The mean; of a quantized tensor, its sum times one factor that has the count in it."""
    del keep_dims  # the result's shape says it
    found = axes_of(b, x, axes)
    if not is_quantized(x):
        if dtype_of(x) is not dtypes.f32:
            raise NotExpressible(f"a mean of {dtype_of(x)}")
        return reshape(b, reduce(b, graph.ReduceMeanOp, x, found, 1), b.shape)
    count = prod(shape_of(x)[a] for a in found)
    sums = b.emit(graph.ReduceSumOp(x, found))
    made = mean_recipe(scale_of(quant_of(x)) / scale_of(b.quant), count)
    return reshape(b, b.emit(graph.RequantizeOp(sums, made, b.quant)), b.shape)


def mean_recipe(factor: float, count: int) -> graph.RequantAttr:
    """The factor over the count, as reference/integer_ops/mean.h divides a multiplier."""
    m, e = quantized_multiplier(factor)
    shift = min(count.bit_length() - 1, 32, 31 + e)
    return graph.requant_fixed((m << shift) // count, 31 - (e - shift), "double")


def extreme(b: Builder, kind: type[Any], x: SSAValue, axes: SSAValue) -> SSAValue:
    """The greatest or smallest value."""
    found = reshape(b, reduce(b, kind, x, axes_of(b, x, axes), 1), b.shape)
    return retyped(b, found, b.quant) if is_quantized(x) else found


@op("REDUCE_MAX")
def reduce_max(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """The greatest value."""
    return extreme(b, graph.ReduceMaxOp, x, axes)


@op("REDUCE_MIN")
def reduce_min(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """The smallest value."""
    return extreme(b, graph.ReduceMinOp, x, axes)


@op("SUM")
def sum_(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """The sum; of a quantized tensor, exact and then rescaled."""
    found = axes_of(b, x, axes)
    if not is_quantized(x):
        return reshape(b, reduce(b, graph.ReduceSumOp, x, found, 1), b.shape)
    sums = b.emit(graph.ReduceSumOp(x, found))
    factor = scale_of(quant_of(x)) / scale_of(b.quant)
    return reshape(b, rescaled(b, sums, [factor], b.quant), b.shape)
