"""Comparisons, and choices by a condition.

Quantized operands are compared as 8 fractional bits of what they stand for, as reference/
comparisons.h rounds them, even where their scales are the same: steps of less than 1/256 may count
as equal.
"""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.arithmetic import binary, check, term
from npu_dialect.frontends.tflite.ops.rescaling import (
    KEEP,
    is_quantized,
    plain,
    quant_of,
    retyped,
    scale_of,
    stored_numbers,
)
from npu_dialect.frontends.tflite.registry import op

LEFT = 8
"""Fractional bits of what is compared."""


def compared(b: Builder, kind: type[Any], x: SSAValue, y: SSAValue) -> SSAValue:
    """A comparison; one of order of 16 bits is that of stored values, whatever their scales."""
    check(x, y)
    if not is_quantized(x):
        return binary(b, kind, x, y)
    if dtype_of(x).itemsize > 1 and kind not in (graph.EqOp, graph.NeOp):
        return binary(b, kind, stored_numbers(b, x), stored_numbers(b, y))
    greatest = max(scale_of(quant_of(v)) for v in (x, y))
    if greatest >= 1:
        raise NotExpressible(f"a scale of {greatest}, where TFLite compares with less than 1 only")
    return b.emit(kind(term(b, x, 1.0, LEFT), term(b, y, 1.0, LEFT)))


@op("EQUAL")
def equal(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x == y."""
    return compared(b, graph.EqOp, x, y)


@op("NOT_EQUAL")
def not_equal(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x != y."""
    return compared(b, graph.NeOp, x, y)


@op("LESS")
def less(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x < y."""
    return compared(b, graph.LtOp, x, y)


@op("LESS_EQUAL")
def less_equal(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x <= y."""
    return compared(b, graph.LeOp, x, y)


@op("GREATER")
def greater(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x > y."""
    return compared(b, graph.GtOp, x, y)


@op("GREATER_EQUAL")
def greater_equal(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x >= y."""
    return compared(b, graph.GeOp, x, y)


@op("SELECT_V2")
def select_v2(b: Builder, condition: SSAValue, x: SSAValue, y: SSAValue) -> SSAValue:
    """x where the condition holds, else y; of quantized tensors the stored values."""
    check(x, y)
    if not is_quantized(x):
        return where(b, condition, x, y)
    terms = [plain(b, retyped(b, v, b.quant)) for v in (x, y)]
    return b.emit(graph.RequantizeOp(where(b, condition, *terms), KEEP, b.quant))


@op("SELECT")
def select(b: Builder, condition: SSAValue, x: SSAValue, y: SSAValue) -> SSAValue:
    """The same, where a list of conditions is one for each part of the first dimension."""
    if len(shape_of(condition)) == 1 < len(shape_of(x)):
        rest = (1,) * (len(shape_of(x)) - 1)
        condition = reshape(b, condition, (*shape_of(condition), *rest))
    return select_v2(b, condition, x, y)
