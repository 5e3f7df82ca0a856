"""DIV, FLOOR_DIV and FLOOR_MOD.

A quotient of 8 bits is the product of x with a reciprocal of 31 bits, rescaled; reciprocals, and
the powers of two that both are shifted by, are tables (`DivElementwise` of reference/div.h):

    q = (x << h) * (1 / |y| of 31 bits),  h so that x has 31 bits
    q * (scale of x / (scale of y * scale of the result)) / 2**(h + k),  k of the reciprocal
"""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import add, cast, mul, sub, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.arithmetic import binary, check
from npu_dialect.frontends.tflite.ops.fixed_point import reciprocal
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    activated,
    is_quantized,
    plain,
    quant_of,
    quantized_multiplier,
    stored_numbers,
)
from npu_dialect.frontends.tflite.ops.tables import steps_of, stored_values, tabled
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import QuantType

MOST_HEADROOM, MOST_BITS = 31, 7
"""Bits by which x is shifted at most, and those of a reciprocal of 8 bits."""


@op("DIV", options="DivOptions")
def div(b: Builder, x: SSAValue, y: SSAValue, *, fused_activation_function: str) -> SSAValue:
    """x / y; of integers rounded toward 0."""
    check(x, y)
    if not is_quantized(x):
        return activated(b, binary(b, graph.DivOp, x, y), fused_activation_function)
    values = b.array(y)
    if values is not None and values.size == 1 and b.shape == shape_of(x):
        every = stored_values(quant_of(x)).astype(dtype_of(x).numpy)
        table = b.array(_quotient(b, b.constant(every, quant_of(x)), y))
        assert table is not None, "all operands are known"
        found = tabled(b, x, table.reshape(-1).astype(np.int64))
    else:
        found = _quotient(b, x, y)
    return activated(b, found, fused_activation_function)


def _quotient(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Of quantized tensors."""
    scales = [quant_of(v).scales[0] for v in (x, y)]
    m, e = quantized_multiplier(float(scales[0] / (scales[1] * b.quant.scales[0])))
    inverse, divided = _inverses(steps_of(y))
    shifted, doubled = _shifted(b, x, y)
    high = b.emit(graph.RescaleOp(shifted, _looked_up(b, y, inverse), 31, I32, "half_up"))
    high = b.emit(graph.RequantizeOp(high, graph.requant_fixed(m, 31, "half_up"), I32))
    powers = mul(b, doubled, _looked_up(b, y, divided))
    shift = MOST_HEADROOM + MOST_BITS - e
    if not 0 <= shift <= 62:
        raise NotExpressible(f"a factor of 2**{e}")
    return b.emit(graph.RescaleOp(high, powers, shift, b.quant, "half_away"))


def _looked_up(b: Builder, x: SSAValue, table: Array) -> SSAValue:
    return b.emit(graph.LookupOp(x, b.constant(table.astype(np.int32)), I32))


def _inverses(steps: Array) -> tuple[Array, Array]:
    """1 / |y| of 31 bits, and 2**(7 - k) for a reciprocal that is shifted by k; 1 for 0."""
    pairs = [reciprocal(max(abs(int(n)), 1)) for n in steps]
    return np.array([r for r, _ in pairs]), np.array([1 << (MOST_BITS - k) for _, k in pairs])


def _shifted(b: Builder, x: SSAValue, y: SSAValue) -> tuple[SSAValue, SSAValue]:
    """x with the sign of y, of 31 bits, and 2**(31 - h) where it was shifted by h."""
    same, other = _headroom(steps_of(x)), _headroom(-steps_of(x))
    kept = [_looked_up(b, x, table) for table in same]
    if (steps_of(y) >= 0).all():
        return kept[0], kept[1]
    turned = [_looked_up(b, x, table) for table in other]
    divisor = plain(b, y)
    negative = b.emit(graph.LtOp(divisor, b.scalar(0, divisor)))
    first, second = (where(b, negative, t, k) for t, k in zip(turned, kept, strict=True))
    return first, second


def _headroom(steps: Array) -> tuple[Array, Array]:
    bits = [31 - int(n if n >= 0 else ~n).bit_length() for n in steps]
    shifted = [int(n) << h for n, h in zip(steps, bits, strict=True)]
    return np.array(shifted), np.array([1 << (MOST_HEADROOM - h) for h in bits])


@op("FLOOR_DIV")
def floor_div(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """x / y, rounded down; of quantized tensors that of stored values, as the kernels have it."""
    if dtype_of(x) is dtypes.f32 and dtype_of(y) is dtypes.f32:
        return b.emit(graph.FloorOp(binary(b, graph.DivOp, x, y)))
    first, second = _whole(b, x), _whole(b, y)
    quotient, rest, is_off = _floored(b, first, second)
    del rest
    found = where(b, is_off, sub(b, quotient, b.scalar(1, quotient)), quotient)
    return _as_stored(b, found)


@op("FLOOR_MOD")
def floor_mod(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """What is left of x, with the sign of y; of quantized tensors that of the stored values."""
    first, second = _whole(b, x), _whole(b, y)
    _, rest, is_off = _floored(b, first, second)
    return _as_stored(b, where(b, is_off, add(b, rest, second), rest))


def _whole(b: Builder, x: SSAValue) -> SSAValue:
    """Whole numbers in i32 or i64: those of narrower signed types as they are stored."""
    if dtype_of(x) not in (dtypes.i8, dtypes.i16, dtypes.i32, dtypes.i64):
        raise NotExpressible(f"a floored quotient of {dtype_of(x)}")
    if is_quantized(x):
        return stored_numbers(b, x)
    return cast(b, x, dtypes.i32) if dtype_of(x).itemsize < 4 else x


def _as_stored(b: Builder, x: SSAValue) -> SSAValue:
    """Whole numbers as the stored values of the result."""
    if isinstance(b.element, QuantType):
        steps = sub(b, x, b.scalar(b.quant.zero_point, x)) if b.quant.zero_point else x
        return b.emit(graph.RequantizeOp(steps, KEEP, b.quant))
    return cast(b, x, b.dtype)


def _floored(b: Builder, x: SSAValue, y: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
    """The quotient toward 0, what is left, and whether the next lower quotient is meant."""
    quotient = binary(b, graph.DivOp, x, y)
    rest = sub(b, x, mul(b, quotient, y))
    zero = b.scalar(0, rest)
    is_other = b.emit(graph.NeOp(b.emit(graph.LtOp(rest, zero)), b.emit(graph.LtOp(y, zero))))
    return quotient, rest, b.emit(graph.AndOp(is_other, b.emit(graph.NeOp(rest, zero))))
