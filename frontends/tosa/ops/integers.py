"""Shifts and bits of i32, as products and choices.

A shift to the left by n is a product with 2**n, modulo 2**32. One to the right is a product with
2**(31 - n) / 2**31, rounded where TOSA rounds, of a number whose lower n bits are cleared where it
does not. An amount of run time looks its power up.
"""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import Array, dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.elementwise import plain
from npu_dialect.frontends.tosa.ops.rescaling import I32, stored
from npu_dialect.frontends.tosa.registry import op
from npu_dialect.graph.quant import QuantType

AMOUNTS = np.arange(32, dtype=np.int64)


def _of_amount(b: Builder, amount: SSAValue, every: Array) -> SSAValue:
    """every[n] for each shift n, as i32."""
    table = every.astype(np.uint32).view(np.int32) if every.min() >= 0 else every.astype(np.int32)
    known = b.array(amount)
    if known is not None:
        if ((known < 0) | (known > 31)).any():
            raise Misfit("a shift outside 0 to 31")
        return b.constant(table[known])
    rows = b.emit(
        graph.GatherOp(
            b.constant(table.reshape(32, 1)), reshape(b, amount, (prod(shape_of(amount)),))
        )
    )
    return reshape(b, rows, shape_of(amount))


def _i32(b: Builder, x: SSAValue, y: SSAValue) -> tuple[SSAValue, SSAValue]:
    found = plain(b, x), plain(b, y)
    if any(dtype_of(v) is not dtypes.i32 for v in found):
        raise NotExpressible(f"shifts of {dtype_of(x)}")
    return found


@op("logical_left_shift")
def left_shift(b: Builder, input1: SSAValue, input2: SSAValue) -> SSAValue:
    """x * 2**n modulo the type."""
    x, amount = _i32(b, input1, input2)
    found = b.emit(graph.MulOp(x, _of_amount(b, amount, 1 << AMOUNTS)))
    return stored(b, found, b.quant) if isinstance(b.element, QuantType) else found


@op("arithmetic_right_shift")
def right_shift(b: Builder, input1: SSAValue, input2: SSAValue, *, round: bool) -> SSAValue:
    """x / 2**n, downwards or to the nearest, halves up."""
    x, amount = _i32(b, input1, input2)
    found = _shifted(b, x, amount, round=round)
    return stored(b, found, b.quant) if isinstance(b.element, QuantType) else found


def _shifted(b: Builder, x: SSAValue, amount: SSAValue, *, round: bool) -> SSAValue:
    if not round:
        x = b.emit(graph.AndOp(x, _of_amount(b, amount, -(1 << AMOUNTS))))
    known = b.array(amount)
    if known is not None and known.size == 1 and x.type == _result_type(b, x, amount):
        made = graph.requant_fixed(1, int(known.reshape(-1)[0]), "half_up")
        return b.emit(graph.RequantizeOp(x, made, I32))
    powers = _of_amount(b, amount, 1 << np.minimum(31 - AMOUNTS, 30))
    found = b.emit(graph.RescaleOp(x, powers, 31, I32, "half_up"))
    is_none = b.emit(graph.EqOp(amount, b.scalar(0, amount)))
    return b.emit(graph.WhereOp(is_none, x, found))


def _result_type(b: Builder, x: SSAValue, amount: SSAValue) -> object:
    del b
    shape = np.broadcast_shapes(shape_of(x), shape_of(amount))
    return graph.tensor_type(shape, I32)


@op("logical_right_shift")
def logical_right_shift(b: Builder, input1: SSAValue, input2: SSAValue) -> SSAValue:
    """x / 2**n of the bits as an unsigned number."""
    if isinstance(b.element, QuantType):
        raise NotExpressible(f"the bits of {dtype_of(input1)} as unsigned numbers")
    x, amount = _i32(b, input1, input2)
    found = _shifted(b, x, amount, round=False)
    masks = np.where(AMOUNTS == 0, 0xFFFFFFFF, (1 << (32 - AMOUNTS)) - 1)
    return b.emit(graph.AndOp(found, _of_amount(b, amount, masks)))


@op("bitwise_not")
def bitwise_not(b: Builder, input1: SSAValue) -> SSAValue:
    """-1 - x."""
    x = plain(b, input1)
    return b.emit(graph.SubOp(b.scalar(-1, x), x))


@op("clz")
def leading_zeros(b: Builder, input1: SSAValue) -> SSAValue:
    """How many of 2**0 to 2**31 are greater than x; 0 below 0."""
    x = plain(b, input1)
    if dtype_of(x) is not dtypes.i32:
        raise NotExpressible(f"tosa.clz of {dtype_of(input1)}")
    b.reserve(*shape_of(x), 32)
    wide = reshape(b, x, (*shape_of(x), 1))
    powers = b.i32((1 << np.arange(31)).astype(np.int32))
    below = b.recast(b.emit(graph.LtOp(wide, powers)), dtypes.i32)
    total = b.emit(graph.ReduceSumOp(below, (len(shape_of(x)),)))
    count = b.emit(graph.AddOp(reshape(b, total, shape_of(x)), b.i32(1)))
    is_negative = b.emit(graph.LtOp(x, b.scalar(0, x)))
    return b.emit(graph.WhereOp(is_negative, b.scalar(0, count), count))
