"""Sums, products and powers of more than two tensors or elements, of floats and plain integers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops import positions
from npu_dialect.frontends.onnx.ops.common import along, mul, reduce, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.reductions import axes_of
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    is_quantized,
    plain,
    quant_of,
    scale_of,
    wide_recipe,
)
from npu_dialect.frontends.tflite.registry import op

MOST_FACTORS = 256
"""Those of a product of a quantized tensor, each of which is operations of its own."""


def _plain(x: SSAValue) -> None:
    if is_quantized(x):
        raise NotExpressible("this function of a quantized tensor")


@op("ADD_N")
def add_n(b: Builder, *parts: SSAValue) -> SSAValue:
    """The sum of tensors of one shape, from the first to the last."""
    if not parts:
        raise Misfit("no tensors")
    _plain(parts[0])
    found = parts[0]
    for part in parts[1:]:
        found = b.emit(graph.AddOp(found, part))
    return found


@op("CUMSUM", options="CumsumOptions")
def cumulative_sum(
    b: Builder, x: SSAValue, axis: SSAValue, *, exclusive: bool, reverse: bool
) -> SSAValue:
    """The sum of all elements up to each."""
    _plain(x)
    more = {"exclusive": int(exclusive), "reverse": int(reverse)}
    return positions.cumulative_sum(b, x, axis, **more)


@op("REDUCE_PROD")
def reduce_prod(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """The product along dimensions; of a quantized tensor rescaled after each factor."""
    found = axes_of(b, x, axes)
    if is_quantized(x):
        return reshape(b, _rescaled_product(b, x, found), b.shape)
    return reshape(b, reduce(b, graph.ReduceProdOp, x, found, 1), b.shape)


def _rescaled_product(b: Builder, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    """(((x0 * x1 * f) * x2 * f) ...) * f of steps from zero, with f of 15 bits (reduce.h)."""
    shape, kept = shape_of(x), [k for k in range(len(shape_of(x))) if k not in axes]
    count = prod(shape[k] for k in axes)
    if dtype_of(x) not in (dtypes.i8, dtypes.i16):
        raise NotExpressible(f"a product of quantized {dtype_of(x)}, which TFLite has not either")
    if not 1 <= count <= MOST_FACTORS:
        raise NotExpressible(f"a product of {count} quantized factors (1 to {MOST_FACTORS})")
    factor = scale_of(quant_of(x)) / scale_of(b.quant) ** (1.0 / count)
    recipe = wide_recipe([factor])
    multiplier, shift = (int(v[0]) for v in (recipe.data.multiplier, recipe.data.shift))
    ordered = transpose(b, plain(b, x), [*axes, *kept])
    rows = reshape(b, ordered, (count, *(shape[k] for k in kept)))
    found = along(b, rows, 0, 0, 1)
    for k in range(1, count):
        part = along(b, rows, 0, k, 1)
        scaled = mul(b, part, b.scalar(multiplier, part))
        found = b.emit(graph.RescaleOp(found, scaled, shift, I32, "half_up"))
    return b.emit(graph.RequantizeOp(found, recipe, b.quant))


@op("POW")
def power(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x ** y of floats."""
    if dtype_of(x) is not dtypes.f32 or dtype_of(y) is not dtypes.f32:
        raise NotExpressible(f"a power of {dtype_of(x)}")
    return b.emit(graph.PowOp(x, y))
