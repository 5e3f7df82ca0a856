"""RESCALE, TABLE and CAST, and the types of stored numbers.

TOSA reads and writes zero points, graph has them in types. `as_zero` gives the same stored numbers
another zero point, `stored` and `whole` go between stored numbers and i32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, is_quantized, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.registry import op
from npu_dialect.graph.attributes import RequantAttr
from npu_dialect.graph.quant import QuantType, uniform

I32 = dtypes.element_type(dtypes.i32)
KEEP = graph.requant_fixed(1, 0, "half_up")
"""The recipe that keeps the integers and changes their zero point."""

MODES = {"SINGLE_ROUND": "half_up", "DOUBLE_ROUND": "double"}


def quant_of(x: SSAValue) -> QuantType:
    """The quantized type of a tensor; Misfit for any other."""
    element = element_of(x)
    if not isinstance(element, QuantType):
        raise Misfit(f"an operand of {element}")
    return element


def as_zero(b: Builder, x: SSAValue, zero: int, *, unsigned: bool | None = False) -> SSAValue:
    """The stored numbers of `x` with another zero point, and with or without a sign; None leaves
    the sign. Floats, and numbers of more bits, stay what they are.
    """
    if not is_quantized(x):
        return x
    element = quant_of(x)
    dtype = element.storage_dtype if unsigned is None else _signed(element.storage_dtype, unsigned)
    if unsigned is not False and dtype.low == 0:
        zero %= 1 << 8 * dtype.itemsize
    if (element.zero_point, element.storage_dtype) == (zero, dtype):
        return x
    return as_element(b, x, uniform(dtype, element.scales[0], zero))


def _signed(dtype: DType, unsigned: bool) -> DType:
    return dtypes.BY_NAME[f"{'u' if unsigned else 'i'}{8 * dtype.itemsize}"]


def as_element(b: Builder, x: SSAValue, element: Any) -> SSAValue:
    """The same stored numbers as another quantized type; what is i32 is taken as stored numbers."""
    found = element_of(x)
    if found == element or not isinstance(element, QuantType):
        return x
    array = b.array(x)
    if array is not None and array.dtype.itemsize == element.storage_dtype.itemsize:
        return b.constant(array.view(element.storage_dtype.numpy), element)
    if dtype_of(x).itemsize == 1:
        every = np.arange(256).astype(np.uint8)
        bits = every if dtype_of(x) is dtypes.u8 else every ^ 128
        table = b.constant(bits.view(element.storage_dtype.numpy))
        return b.emit(graph.LookupOp(x, table, element))
    return stored(b, whole(b, x), element)


def whole(b: Builder, x: SSAValue) -> SSAValue:
    """The i32 numbers that are stored in a tensor, with their sign."""
    if not is_quantized(x):
        return b.recast(x, dtypes.i32) if dtype_of(x).itemsize < 4 else x
    element = quant_of(x)
    if element.storage_dtype.low == 0:
        x = as_zero(b, x, 0)
        element = quant_of(x)
    found = b.emit(graph.RequantizeOp(x, KEEP, I32))
    zero = element.zero_point
    return b.emit(graph.AddOp(found, b.i32(zero))) if zero else found


def stored(b: Builder, numbers: SSAValue, element: QuantType) -> SSAValue:
    """i32 numbers, modulo the storage type, as stored numbers of a quantized type."""
    dtype = element.storage_dtype
    low, high = b.ranges.of(numbers)
    if low < dtype.low or high > dtype.high:
        numbers = _modulo(b, numbers, dtype)
    zero = element.zero_point
    if zero:
        numbers = b.emit(graph.SubOp(numbers, b.i32(zero)))
    return b.emit(graph.RequantizeOp(numbers, KEEP, element))


def _modulo(b: Builder, numbers: SSAValue, dtype: DType) -> SSAValue:
    bits = 8 * dtype.itemsize
    low = b.emit(graph.AndOp(numbers, b.i32((1 << bits) - 1)))
    if dtype.low == 0:
        return low
    sign = b.emit(graph.AndOp(low, b.i32(1 << (bits - 1))))
    return b.emit(graph.SubOp(low, b.emit(graph.AddOp(sign, sign))))


# RESCALE


@op("rescale")
def rescale(
    b: Builder,
    input: SSAValue,
    multiplier: SSAValue,
    shift: SSAValue,
    input_zp: SSAValue,
    output_zp: SSAValue,
    *,
    scale32: bool,
    rounding_mode: str,
    per_channel: bool,
    input_unsigned: bool,
    output_unsigned: bool,
) -> SSAValue:
    """round((input - input_zp) * multiplier / 2**shift) + output_zp, saturated."""
    made = _recipe(b, multiplier, shift, rounding_mode, scale32=scale32)
    if per_channel and made.data.channels not in (1, shape_of(input)[-1]):
        raise Misfit(f"{made.data.channels} multipliers for {list(shape_of(input))}")
    if not per_channel and made.data.channels != 1:
        raise Misfit(f"{made.data.channels} multipliers for all channels")
    zero_in, zero_out = int(b.number(input_zp, "input_zp")), int(b.number(output_zp, "output_zp"))
    target: Any = b.element
    if isinstance(target, QuantType):
        zero = _written(zero_out, target)
        made_type = target if zero == target.zero_point else _moved(target, zero, output_unsigned)
        if is_quantized(input) and made == KEEP and _keeps(input, zero_in, made_type, zero):
            return b.emit(graph.RequantizeOp(input, KEEP, made_type))
        target = made_type
    elif zero_out:
        raise Misfit(f"a result of {b.dtype} with the zero point {zero_out}")
    x = as_zero(b, input, zero_in, unsigned=input_unsigned)
    if not is_quantized(x) and zero_in:
        raise Misfit(f"an operand of {dtype_of(x)} with the zero point {zero_in}")
    if made == KEEP and not isinstance(target, QuantType) and element_of(x) == target:
        return x
    return b.emit(graph.RequantizeOp(x, made, target))


def _written(zero: int, target: QuantType) -> int:
    dtype = target.storage_dtype
    return zero % (1 << 8 * dtype.itemsize) if dtype.low == 0 else zero


def _moved(target: QuantType, zero: int, unsigned: bool) -> QuantType:
    """The type that a result is written in before it becomes the one of its class."""
    return uniform(_signed(target.storage_dtype, unsigned), target.scales[0], zero)


def _keeps(input: SSAValue, zero_in: int, target: QuantType, zero_out: int) -> bool:
    """Whether the types' zero points differ as those of the operation do."""
    source = quant_of(input)
    if source.storage_dtype.low == 0:
        zero_in %= 1 << 8 * source.storage_dtype.itemsize
    return source.zero_point - zero_in == target.zero_point - zero_out


def _recipe(
    b: Builder, multiplier: SSAValue, shift: SSAValue, mode: str, *, scale32: bool
) -> RequantAttr:
    factors = b.known(multiplier, "the multiplier").astype(np.int64).reshape(-1)
    shifts = b.known(shift, "the shift").astype(np.int64).reshape(-1)
    if factors.size != shifts.size or (factors < 0).any() or (shifts < 2).any():
        raise Misfit(f"multipliers {factors.tolist()[:4]} and shifts {shifts.tolist()[:4]}")
    if mode not in MODES:
        raise NotExpressible(f"the rounding mode {mode}, which every machine defines for itself")
    if not scale32 and mode != "SINGLE_ROUND":
        raise Misfit(f"multipliers of 16 bits with {mode}")
    if factors.size == 1 and int(factors[0]) == 1 << int(shifts[0]):
        return KEEP
    return graph.requant_fixed(factors, shifts, MODES[mode])


# TABLE


@op("table")
def table(b: Builder, input1: SSAValue, table: SSAValue) -> SSAValue:
    """An entry for each of 256 numbers, or between two of 513 for 16 bits."""
    entries = b.known(table, "the table")
    if dtype_of(input1).itemsize == 1:
        if entries.size != 256 or not isinstance(b.element, QuantType):
            raise Misfit(f"a table of {entries.size} entries")
        x = as_zero(b, input1, quant_of(input1).zero_point)
        constant = b.constant(entries.reshape(256).view(b.dtype.numpy))
        return b.emit(graph.LookupOp(x, constant, b.element))
    if dtype_of(input1) is not dtypes.i16 or entries.size != 513:
        raise Misfit(f"a table of {entries.size} entries for {dtype_of(input1)}")
    wide = b.constant(entries.reshape(513).astype(np.int32) << 7)
    return b.emit(graph.InterpolateOp(input1, wide, I32))


# CAST


@op("cast")
def cast(b: Builder, input: SSAValue) -> SSAValue:
    """The numbers as another type; floats to the nearest integer, ties to even, saturated."""
    source = dtype_of(input)
    target = b.dtype
    if source.is_float:
        return _from_float(b, input, source, target)
    if source is dtypes.bool_:
        return b.recast(input, dtypes.i32 if isinstance(b.element, QuantType) else target)
    numbers = whole(b, input)
    if target is dtypes.bool_:
        return b.emit(graph.NeOp(numbers, b.scalar(0, numbers)))
    if isinstance(b.element, QuantType):
        return b.recast(numbers, dtypes.i32)
    return b.recast(numbers, target)


def _from_float(b: Builder, input: SSAValue, source: DType, target: DType) -> SSAValue:
    if target.is_float:
        return b.recast(input, target)
    if target is dtypes.bool_:
        return b.emit(graph.NeOp(input, b.scalar(0.0, input)))
    if source is not dtypes.f32:
        input = b.recast(input, dtypes.f32)
    number = b.recast(b.emit(graph.RoundOp(input)), dtypes.i32)
    if target is dtypes.i32:
        return number
    if target.itemsize > 4:
        raise NotExpressible("floats as numbers of 64 bits")
    return b.emit(graph.ClampOp(number, target.low, target.high))
