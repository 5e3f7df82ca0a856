"""ADD and SUB of 16-bit tensors whose scales are powers of two (`AddInt16` of reference/add.h).

y = x + round(z / 2**n)     ties away from zero; one operand at least has the result's scale
"""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import I32, KEEP, quant_of, scale_of

NEAR = 1e-3
"""How far a scale's logarithm may be from a whole number (`CheckedLog2`)."""


def exponent_of(scale: float) -> int | None:
    """The power of two that a scale is taken for, if it is."""
    exponent = math.log2(scale)
    whole = math.floor(exponent + 0.5)
    return whole if abs(exponent - whole) < NEAR else None


def shifts_of(b: Builder, x: SSAValue, y: SSAValue) -> tuple[int, int] | None:
    """By how many bits the operands of 16 bits are shifted right; None for other scales."""
    if dtype_of(x) is not dtypes.i16:
        return None
    ends = exponent_of(scale_of(b.quant))
    starts = [exponent_of(scale_of(quant_of(v))) for v in (x, y)]
    if ends is None or starts[0] is None or starts[1] is None:
        return None
    first, second = ends - starts[0], ends - starts[1]
    if min(first, second):
        raise NotExpressible(
            f"a sum of 16 bits, shifted right by {first} and {second} bits; one must have the "
            "result's scale, the other a smaller one"
        )
    return first, second


def summed(
    b: Builder, kind: type[Any], x: SSAValue, y: SSAValue, shifts: tuple[int, int]
) -> SSAValue:
    """The sum or difference, saturated."""
    terms = [_shifted(b, v, n) for v, n in zip((x, y), shifts, strict=True)]
    return b.emit(graph.RequantizeOp(b.emit(kind(*terms)), KEEP, b.quant))


def _shifted(b: Builder, x: SSAValue, bits: int) -> SSAValue:
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1, bits, "half_away"), I32))
