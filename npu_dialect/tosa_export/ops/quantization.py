"""Look-ups, and between floats and stored integers."""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.dialects.builtin import TensorType, f32, i1, i8, i16, i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.tosa_export.emitter import Emitter, Refused
from npu_dialect.tosa_export.ops.exactness import is_power_of_two
from npu_dialect.tosa_export.ops.movement import rows
from npu_dialect.tosa_export.ops.rescaling import kept, multiplied, narrowed, rescale, steps
from npu_dialect.tosa_export.registry import rule

LINE = 513
"""Entries of TOSA's table for 16 bits: one for every 128 values."""


@rule(graph.LookupOp)
def lookup(e: Emitter, op: graph.LookupOp) -> SSAValue:
    """A table of 8 bits; rows of a table of anything else."""
    x, table = e.value(op.x), op.table.owner
    if dtype_of(op.table).itemsize == 1 and isinstance(table, graph.ConstantOp):
        if dtype_of(op.table) is dtypes.bool_:
            return e.cast(e.same("table", x, e.const(table.array.astype(np.int8), i8)), i1)
        return e.same("table", x, e.value(op.table))
    index = kept(e, x, i32, -128)
    count = prod(shape_of(x))
    found = rows(e, e.reshape(e.value(op.table), (256, 1)), e.reshape(index, (count,)))
    return e.reshape(found, shape_of(x))


@rule(graph.InterpolateOp)
def interpolate(e: Emitter, op: graph.InterpolateOp) -> SSAValue:
    """A table of 16 bits, whose result has 7 bits more; they are rounded off."""
    owner = op.table.owner
    if not isinstance(owner, graph.ConstantOp) or owner.array.size != LINE:
        raise Refused(f"a table of {shape_of(op.table)[0]} entries", f"a table of {LINE}")
    table = owner.array.astype(np.int64)
    if np.abs(table).max() >= 1 << 15 or np.abs(np.diff(table)).max() >= 1 << 15:
        raise Refused("neighbours in a table that differ by 2**15 or more")
    operands = e.value(op.x), e.const(table, i16)
    found = e.op("table", operands, TensorType(i32, shape_of(op.x)))
    multiplier, shift = np.array([1 << 23]), np.array([30])
    if dtype_of(op.result) is dtypes.i16:
        return rescale(e, found, multiplier, shift, i16)
    number = rescale(e, found, multiplier, shift, i32)
    return number if dtype_of(op.result) is dtypes.i32 else _refused(op)


def _refused(op: graph.InterpolateOp) -> SSAValue:
    raise Refused(f"a table of {dtype_of(op.result)} for 16 bits")


def _of_one_scale(value: SSAValue) -> QuantType:
    """The type of a quantized value of run time."""
    quant = quant_of(value)
    assert quant is not None
    if quant.axis is not None:
        raise Refused("values of run time with a scale for each channel")
    return quant


@rule(graph.DequantizeOp)
def dequantize(e: Emitter, op: graph.DequantizeOp) -> SSAValue:
    """A conversion and a product, each rounded once."""
    quant = _of_one_scale(op.x)
    scale = e.const(quant.scales.reshape((1,) * len(shape_of(op.x))), f32)
    return multiplied(e, e.cast(steps(e, op.x), f32), scale)


@rule(graph.QuantizeOp)
def quantize(e: Emitter, op: graph.QuantizeOp) -> SSAValue:
    """The nearest step; where the scale is no power of two, by where each step begins."""
    quant = _of_one_scale(op.result)
    x = e.value(op.x)
    inverse = np.float32(1) / quant.scales
    quotient = multiplied(e, x, e.const(inverse.reshape((1,) * len(shape_of(x))), f32))
    if is_power_of_two(quant.scales):
        return narrowed(e, e.cast(quotient, i32), op.result)
    if quant.storage_dtype.itemsize > 1:
        e.open("a quotient as the product with a reciprocal")
        return narrowed(e, e.cast(quotient, i32), op.result)
    low, high = quant.low - quant.zero_point, quant.high - quant.zero_point
    held = e.cast(quotient, i32)
    held = e.spread("minimum", e.spread("maximum", held, e.like(low, held)), e.like(high, held))
    return narrowed(e, _corrected(e, x, held, quant.scales[0], low, high), op.result)


def _corrected(
    e: Emitter, x: SSAValue, steps: SSAValue, scale: np.float32, low: int, high: int
) -> SSAValue:
    """Steps that are off by one at most, one less or more as x lies before or behind their ends."""
    begins = np.array([least(k, scale) for k in range(low, high + 2)], np.float32)
    begins[0], begins[-1] = -np.inf, np.inf
    count = prod(shape_of(x))
    index = e.reshape(e.spread("sub", steps, e.like(low, steps)), (count,))
    first = e.reshape(rows(e, e.const(begins[:-1, None], f32), index), shape_of(x))
    last = e.reshape(rows(e, e.const(begins[1:, None], f32), index), shape_of(x))
    less = _counted(e, e.spread("greater", first, x, element=i1))
    more = _counted(e, e.spread("greater_equal", x, last, element=i1))
    return e.spread("add", e.spread("sub", steps, less), more)


def _counted(e: Emitter, truth: SSAValue) -> SSAValue:
    return e.cast(e.cast(truth, i8), i32)


def least(step: int, scale: np.float32) -> np.float32:
    """The least float32 x with rint(x / scale) >= step, the quotient rounded to float32.

    The quotient does not fall as x grows, so the search halves an interval of neighbours' ranks.
    """
    guess = np.float32((step - 0.5) * float(scale))

    def reaches(x: np.float32) -> bool:
        return bool(np.rint(np.float32(x / scale)) >= step)

    down, up = np.float32(-np.inf), np.float32(np.inf)
    while reaches(guess):
        guess = np.nextafter(guess, down)
    while not reaches(guess):
        guess = np.nextafter(guess, up)
    return guess
