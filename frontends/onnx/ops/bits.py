"""Bits of integers: shifts, complements, other readings of the same bits."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
)
from npu_dialect.frontends.onnx.registry import op

MAX_SHIFT = 16
"""A shift by so many bits, or more, leaves nothing of the types that are shifted."""


@op("BitShift")
def bit_shift(b: Builder, x: SSAValue, y: SSAValue, *, direction: str) -> SSAValue:
    """x * 2**y, or x / 2**y without the fraction, in i32; what leaves the type is lost."""
    if direction not in ("LEFT", "RIGHT"):
        raise Misfit(f"the direction {direction}")
    if dtype_of(x) is not dtypes.i32:
        raise NotExpressible(f"a shift of {dtype_of(x)}")
    factor = _power_of_two(b, y)
    return common.mul(b, x, factor) if direction == "LEFT" else common.div(b, x, factor)


def _power_of_two(b: Builder, y: SSAValue) -> SSAValue:
    """2**min(y, 16), by the bits of y."""
    y = b.emit(graph.ClampOp(y, 0, MAX_SHIFT))
    result, zero = b.scalar(1, y), b.scalar(0, y)
    for bit in range(MAX_SHIFT.bit_length()):
        hit = b.emit(graph.NeOp(b.emit(graph.AndOp(y, b.scalar(1 << bit, y))), zero))
        raised = common.mul(b, result, b.scalar(1 << (1 << bit), y))
        result = common.where(b, hit, raised, result)
    return result


@op("BitwiseNot")
def bitwise_not(b: Builder, x: SSAValue) -> SSAValue:
    """The other value of every bit."""
    ones = np.invert(np.zeros((), dtype_of(x).numpy))
    return b.emit(graph.XorOp(x, b.constant(ones)))


@op("BitCast", since=26)
def bit_cast(b: Builder, x: SSAValue, *, to: int) -> SSAValue:
    """Between integers of one size a cast, which wraps; of a constant all."""
    if to == TensorProto.UNDEFINED:
        raise Misfit("a cast to no type")
    before, after = dtype_of(x), tensors.dtype_of(to, b.source)
    if before.itemsize != after.itemsize:
        raise Misfit(f"the bits of {before} as {after}")
    array = b.array(x)
    if array is not None:
        return b.constant(np.ascontiguousarray(array).view(after.numpy).reshape(array.shape))
    if before == after or (before.is_int and after.is_int):
        return common.cast(b, x, after)
    raise NotExpressible(f"the bits of {before} as {after}")
