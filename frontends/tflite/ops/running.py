"""Sums, products and powers of more than two tensors or elements, of floats and plain integers."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops import positions
from npu_dialect.frontends.onnx.ops.common import reduce, reshape
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.reductions import axes_of
from npu_dialect.frontends.tflite.ops.rescaling import is_quantized
from npu_dialect.frontends.tflite.registry import op


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
    """The product along dimensions."""
    _plain(x)
    return reshape(b, reduce(b, graph.ReduceProdOp, x, axes_of(b, x, axes), 1), b.shape)


@op("POW")
def power(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x ** y of floats."""
    if dtype_of(x) is not dtypes.f32 or dtype_of(y) is not dtypes.f32:
        raise NotExpressible(f"a power of {dtype_of(x)}")
    return b.emit(graph.PowOp(x, y))


@op("LOG_SOFTMAX")
def log_softmax(b: Builder, x: SSAValue) -> SSAValue:
    """The logarithm of the softmax along the last dimension."""
    _plain(x)
    return b.emit(graph.LogSoftmaxOp(x, len(shape_of(x)) - 1))
