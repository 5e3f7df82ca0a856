"""Operators of truth values and of bits."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops import bits
from npu_dialect.frontends.onnx.ops.common import cast, reduce, reshape
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.reductions import axes_of
from npu_dialect.frontends.tflite.ops.rescaling import is_quantized
from npu_dialect.frontends.tflite.registry import op


@op("LOGICAL_AND")
def logical_and(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Whether both hold."""
    return b.emit(graph.AndOp(x, y))


@op("LOGICAL_OR")
def logical_or(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Whether at least one holds."""
    return b.emit(graph.OrOp(x, y))


@op("LOGICAL_NOT")
def logical_not(b: Builder, x: SSAValue) -> SSAValue:
    """Whether x does not hold."""
    return b.emit(graph.NotOp(x))


def _along(b: Builder, kind: type[Any], x: SSAValue, axes: SSAValue) -> SSAValue:
    """The greatest or least of 0 and 1 along dimensions."""
    if dtype_of(x) is not dtypes.bool_:
        raise NotExpressible(f"truth values of {dtype_of(x)}")
    found = reduce(b, kind, cast(b, x, dtypes.i32), axes_of(b, x, axes), 1)
    return cast(b, reshape(b, found, b.shape), dtypes.bool_)


@op("REDUCE_ANY")
def reduce_any(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """Whether one holds along dimensions."""
    return _along(b, graph.ReduceMaxOp, x, axes)


@op("REDUCE_ALL")
def reduce_all(b: Builder, x: SSAValue, axes: SSAValue) -> SSAValue:
    """Whether all hold along dimensions."""
    return _along(b, graph.ReduceMinOp, x, axes)


@op("BITWISE_XOR")
def bitwise_xor(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The bits that are set in one of both."""
    if is_quantized(x):
        raise NotExpressible("bits of a quantized tensor")
    return b.emit(graph.XorOp(x, y))


@op("RIGHT_SHIFT")
def right_shift(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x without its last y bits, in its type."""
    if is_quantized(x) or dtype_of(x).itemsize > 4 or dtype_of(x) is not dtype_of(y):
        raise NotExpressible(f"a shift of {dtype_of(x)} by {dtype_of(y)}")
    last = dtype_of(x).itemsize * 8 - 1
    amount = b.emit(graph.ClampOp(cast(b, y, dtypes.i32), 0, last))
    found = bits.bit_shift(b, cast(b, x, dtypes.i32), amount, direction="RIGHT")
    return cast(b, found, dtype_of(x))
