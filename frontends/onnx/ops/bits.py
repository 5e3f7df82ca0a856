"""Bits of integers: shifts, complements, other readings of the same bits."""

from __future__ import annotations

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
)
from npu_dialect.frontends.onnx.registry import op


@op("BitShift")
def bit_shift(b: Builder, x: SSAValue, y: SSAValue, *, direction: str) -> SSAValue:
    """By the bits of y: a shift by 1, by 2, by 4 and so on, each or not.

    A negative shift, or one by the width of the type or more, leaves the sign (to the right) or 0.
    """
    if direction not in ("LEFT", "RIGHT"):
        raise Misfit(f"the direction {direction}")
    if dtype_of(x) not in (dtypes.i32, dtypes.i64) or dtype_of(y) != dtype_of(x):
        raise NotExpressible(f"a shift of {dtype_of(x)} by {dtype_of(y)}")
    last = dtype_of(x).itemsize * 8 - 1
    wrong = b.emit(graph.LtOp(y, b.scalar(0, y)))
    wrong = b.emit(graph.OrOp(wrong, b.emit(graph.GtOp(y, b.scalar(last, y)))))
    amount = common.where(b, wrong, b.scalar(last, y), y)
    shifted = x
    for bit in range(last.bit_length()):
        hit = b.emit(graph.AndOp(amount, b.scalar(1 << bit, y)))
        hit = b.emit(graph.NeOp(hit, b.scalar(0, y)))
        moved = _left(b, shifted, 1 << bit) if direction == "LEFT" else _right(b, shifted, 1 << bit)
        shifted = common.where(b, hit, moved, shifted)
    return common.where(b, wrong, b.scalar(0, x), shifted) if direction == "LEFT" else shifted


def _left(b: Builder, x: SSAValue, count: int) -> SSAValue:
    """What leaves the type is lost."""
    return common.mul(b, x, b.scalar(1 << count, x))


def _right(b: Builder, x: SSAValue, count: int) -> SSAValue:
    """Without the last bits a division is exact, so that negative numbers are rounded down."""
    last = b.emit(graph.AndOp(x, b.scalar((1 << count) - 1, x)))
    return common.div(b, common.sub(b, x, last), b.scalar(1 << count, x))


@op("BitwiseNot")
def bitwise_not(b: Builder, x: SSAValue) -> SSAValue:
    """The other value of every bit."""
    ones = np.invert(np.zeros((), dtype_of(x).numpy))
    return b.emit(graph.XorOp(x, b.constant(ones)))


@op("BitCast", since=26)
def bit_cast(b: Builder, x: SSAValue, *, to: int) -> SSAValue:
    """Between integers of one size a cast, which wraps; of a constant all."""
    from onnx import TensorProto

    from npu_dialect.frontends.onnx import tensors

    if to == TensorProto.UNDEFINED:
        raise Misfit("a cast to no type")
    before, after = dtype_of(x), tensors.dtype_of(to, b.source)
    if before.itemsize != after.itemsize:
        raise Misfit(f"the bits of {before} as {after}")
    array = b.array(x)
    if array is not None:
        return b.constant(np.ascontiguousarray(array).view(after.numpy).reshape(array.shape))
    if before == after or (after.is_int and (before.is_int or before is dtypes.bool_)):
        return common.cast(b, x, after)
    raise NotExpressible(f"the bits of {before} as {after}")
