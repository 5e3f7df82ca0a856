"""Integers times fixed-point factors: `tosa.rescale`, and its rounding modes as graph has them.

    half_up     SINGLE_ROUND
    double      DOUBLE_ROUND: the same number for every multiplier >= 0 (docs/tosa.md has the proof)
    half_away   half_up of |x|, with the sign of x
    half_even   half_up, less one where half_up and half_down differ and half_up is odd

TOSA wants 2 <= shift <= 62 and -2**(shift - 1) <= x < 2**(shift - 1). The first is had by doubling
multiplier and power; the second is proved by `ranges`, or made so where the result saturates in any
case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerType, TensorType, f32, i1, i8, i16, i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph, numerics
from npu_dialect.graph.attributes import Requant
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.ranges import Bounds
from npu_dialect.tosa import RoundingModeAttr
from npu_dialect.tosa_export.emitter import (
    Emitter,
    Refused,
    bound,
    element_of,
    i48,
    offset,
    stored_as,
    word,
)
from npu_dialect.tosa_export.ops.wrapping import apart, power_of_two, saturated_shift
from npu_dialect.tosa_export.registry import rule

Array = NDArray[Any]
Up = Callable[[SSAValue], SSAValue]

LEAST_SHIFT, GREATEST_SHIFT = 2, 62
FULL_SHIFT = 31
"""With it, only the square of -2**31 leaves 32 bits."""

SATURATED = 1 << 17
"""No type of 16 bits, with any zero point, holds a result of so many steps."""

GREATEST_SINGLE = 31
"""The greatest shift with which DOUBLE_ROUND rounds once."""

MODES = {"half_up": "SINGLE_ROUND", "double": "DOUBLE_ROUND"}
I32 = (dtypes.i32.low, dtypes.i32.high)


def rescale(
    e: Emitter,
    x: SSAValue,
    multiplier: Array,
    shift: Array,
    element: Any,
    zero_in: int = 0,
    zero_out: int = 0,
    mode: str = "SINGLE_ROUND",
    *,
    unsigned: tuple[bool, bool] = (False, False),
) -> SSAValue:
    """One `tosa.rescale`; its preconditions are the caller's."""
    scale32 = element_of(x) != i48
    operands = (
        x,
        e.const(multiplier, i32 if scale32 else i16),
        e.const(shift, i8),
        e.fill(zero_in, element_of(x)),
        e.fill(zero_out, element),
    )
    return e.op(
        "rescale", operands, TensorType(element, shape_of(x)),
        scale32=scale32, rounding_mode=word(RoundingModeAttr, mode),
        per_channel=multiplier.size > 1, input_unsigned=unsigned[0], output_unsigned=unsigned[1],
    )  # fmt: skip


def kept(
    e: Emitter,
    x: SSAValue,
    element: Any,
    zero_in: int = 0,
    zero_out: int = 0,
    *,
    unsigned: tuple[bool, bool] = (False, False),
) -> SSAValue:
    """x - zero_in + zero_out, saturated; for |x - zero_in| < 2**29."""
    one, shift = np.array([1 << 30]), np.array([30])
    return rescale(e, x, one, shift, element, zero_in, zero_out, unsigned=unsigned)


def steps(e: Emitter, value: SSAValue) -> SSAValue:
    """The i32 numbers (stored - zero point) of a graph value of integers."""
    x = e.value(value)
    if element_of(x) == i32:
        return minus(e, x, e.zero_of(value))
    return kept(e, x, i32, e.zero_of(value))


def whole(e: Emitter, value: SSAValue) -> SSAValue:
    """The i32 numbers that are stored in a graph value of integers."""
    x = e.value(value)
    if element_of(x) == i32:
        return x
    if not isinstance(element_of(x), IntegerType) or element_of(x).width.data > 32:
        raise Refused(f"whole numbers of {element_of(x)}")
    if offset(dtype_of(value)):
        return kept(e, x, i32, -offset(dtype_of(value)))
    return e.cast(x, i32)


def minus(e: Emitter, x: SSAValue, zero: int) -> SSAValue:
    """x - zero, of i32."""
    return x if zero == 0 else e.spread("sub", x, e.like(zero, x))


def narrowed(e: Emitter, x: SSAValue, value: SSAValue) -> SSAValue:
    """i32 numbers as the stored ones of the graph value: plus its zero point, saturated."""
    quant = quant_of(value)
    if quant is None:
        return x
    low, high = quant.low - quant.zero_point, quant.high - quant.zero_point
    x = e.spread("minimum", e.spread("maximum", x, e.like(low, x)), e.like(high, x))
    zero = e.zero_of(value)
    x = x if zero == 0 else e.spread("add", x, e.like(zero, x))
    return e.cast(x, stored_as(quant.storage_dtype))


def bounded(e: Emitter, x: SSAValue, low: int, high: int) -> SSAValue:
    """min(max(x, low), high) of tosa values of 8 or 16 bits."""
    element = element_of(x)
    return e.same("clamp", x, min_val=bound(low, element), max_val=bound(high, element))


def rounded(e: Emitter, up: Up, x: SSAValue, rounding: str) -> SSAValue:
    """x times a factor in i32, rounded as graph says, where `up` rounds halves up."""
    zero = e.like(0, x)
    if rounding == "half_up":
        return up(x)
    if rounding == "half_away":
        sign = e.spread("greater", zero, x, element=IntegerType(1))
        found = up(e.same("abs", x))
        return e.spread("select", sign, e.spread("sub", zero, found), found)
    if rounding == "half_even":
        above = up(x)
        below = e.spread("sub", zero, up(e.spread("sub", zero, x)))
        both = e.spread("bitwise_and", e.spread("sub", above, below), above)
        return e.spread("sub", above, both)
    raise Refused(f"the rounding {rounding} of a factor of run time")


# graph.requantize


@rule(graph.RequantizeOp)
def requantize(e: Emitter, op: graph.RequantizeOp) -> SSAValue:
    """A recipe in fixed point as rescalings, one in floats as a product."""
    recipe = op.recipe.data
    if recipe.kind == "f32":
        return _by_float(e, op, recipe)
    if recipe.rounding == "double":
        _require_no_wrap(recipe, e.ranges.channels(op.x))
    multiplier, shift = normalized(recipe)
    left = _left_shift(recipe)
    if left and quant_of(op.result) is None and not _is_proved(shift, e.ranges.channels(op.x)):
        return saturated_shift(e, steps(e, op.x), left)
    if recipe.rounding in MODES:
        return _direct(e, op, multiplier, shift, MODES[recipe.rounding])
    if dtype_of(op.x) is dtypes.i64:
        raise Refused(f"sums of 64 bits rounded {recipe.rounding}")
    low, high = e.ranges.channels(op.x)
    most = np.maximum(np.abs(low), np.abs(high))
    _require(multiplier, shift, (-most, most))

    def up(x: SSAValue) -> SSAValue:
        return rescale(e, x, multiplier, shift, i32)

    x = steps(e, op.x)
    if int(low.min()) > I32[0]:
        return narrowed(e, rounded(e, up, x, recipe.rounding), op.result)
    return narrowed(e, _without_least(e, up, x, recipe), op.result)


def _without_least(e: Emitter, up: Up, x: SSAValue, recipe: Requant) -> SSAValue:
    """x rescaled, where -2**31, which has no opposite in i32, becomes a constant."""
    held = e.spread("maximum", x, e.like(I32[0] + 1, x))
    found = rounded(e, up, held, recipe.rounding)
    least = np.full(recipe.channels, I32[0], np.int32)
    factor = recipe.multiplier, recipe.shift
    constant = numerics.requantize_fixed(least, *factor, recipe.rounding)
    is_least = e.spread("equal", x, e.like(I32[0], x), element=i1)
    return e.spread("select", is_least, e.const(_along(constant, x), i32), found)


def normalized(recipe: Requant) -> tuple[Array, Array]:
    """Multipliers as great as they can be, and shifts, of the same factors. Raises Refused.

    The greater the shift, the greater are the numbers that TOSA takes.
    """
    multiplier = recipe.multiplier.astype(np.int64)
    shift = recipe.shift.astype(np.int64)
    if (multiplier < 0).any():
        raise Refused("a factor below 0")
    most = GREATEST_SHIFT if recipe.rounding != "double" else GREATEST_SINGLE
    for _ in range(most):
        more = (multiplier < 1 << 30) & (shift < most)
        multiplier, shift = multiplier << more, shift + more
    shift[multiplier == 0] = GREATEST_SHIFT
    if (shift < LEAST_SHIFT).any():
        raise Refused(f"a factor of {multiplier.max()} / 2**{shift.min()}")
    return multiplier, shift


def is_kept(recipe: Requant) -> bool:
    """Whether a recipe in fixed point multiplies by 1."""
    if recipe.kind != "fixed" or recipe.channels != 1:
        return False
    return int(recipe.multiplier[0]) == 1 << int(recipe.shift[0])


def _left_shift(recipe: Requant) -> int:
    """k of a recipe that multiplies by 2**k, and rounds nothing; else 0."""
    found = power_of_two(recipe.multiplier)
    if found is None or recipe.channels != 1 or recipe.rounding == "double":
        return 0
    return max(found - int(recipe.shift[0]), 0)


def _direct(
    e: Emitter, op: graph.RequantizeOp, multiplier: Array, shift: Array, mode: str
) -> SSAValue:
    """One rescaling, where the zero point of the result can be part of it."""
    x, quant = e.value(op.x), quant_of(op.result)
    zero_in, is_plain = e.zero_of(op.x), quant is None
    if element_of(x) == i48:
        return _wide(e, op, multiplier, shift)
    if is_plain and is_kept(op.recipe.data) and element_of(x) == i32:
        return minus(e, x, zero_in)
    if zero_in and element_of(x) != i8:
        x, zero_in = steps(e, op.x), 0
    bounds = e.ranges.channels(op.x)
    if not _is_proved(shift, bounds):
        x, zero_in = _held(e, op, x, zero_in, (multiplier, shift), bounds), 0
    element = i32 if quant is None else stored_as(quant.storage_dtype)
    zero = e.zero_of(op.result)
    if zero and element != i8:
        found = rescale(e, x, multiplier, shift, i32, zero_in, 0, mode)
        return narrowed(e, found, op.result)
    found = rescale(e, x, multiplier, shift, element, zero_in, zero, mode)
    return within(e, found, op.result)


def within(e: Emitter, x: SSAValue, value: SSAValue) -> SSAValue:
    """Saturate to the range of a quantized type that is narrower than its storage."""
    quant = quant_of(value)
    if quant is None:
        return x
    storage = quant.storage_dtype
    if (quant.low, quant.high) == (storage.low, storage.high):
        return x
    return bounded(e, x, quant.low - offset(storage), quant.high - offset(storage))


def _is_proved(shift: Array, bounds: Bounds) -> bool:
    """Whether TOSA's precondition holds for all numbers within bounds, for each channel or all."""
    least = np.left_shift(np.int64(1), shift - 1)
    return bool((-least <= bounds[0]).all() and (bounds[1] < least).all())


def _require_no_wrap(recipe: Requant, bounds: Bounds) -> None:
    """Refuse numbers that graph's double rounding shifts out of 32 bits, before it multiplies."""
    shift = recipe.shift.astype(np.int64)
    if not _is_proved(np.minimum(shift, GREATEST_SINGLE) + 1, bounds):
        raise Refused(
            f"{bounds[0].min()} to {bounds[1].max()} rounded twice with a shift of {shift.min()}, "
            f"which leave 32 bits on the way"
        )


def _require(multiplier: Array, shift: Array, bounds: Bounds) -> None:
    if not _is_proved(shift, bounds):
        raise Refused(
            f"{bounds[0].min()} to {bounds[1].max()} times {multiplier.max()} / 2**{shift.min()}, "
            f"of which TOSA takes numbers below 2**{shift.min() - 1}",
        )


def _held(
    e: Emitter,
    op: graph.RequantizeOp,
    x: SSAValue,
    zero_in: int,
    factor: tuple[Array, Array],
    bounds: Bounds,
) -> SSAValue:
    """x - zero_in, held within TOSA's limits where the result saturates beyond them anyway."""
    multiplier, shift = factor
    limit = np.left_shift(np.int64(1), shift - 1) - 1
    least = (limit * multiplier) >> shift
    if quant_of(op.result) is None or (least < SATURATED).any():
        _require(multiplier, shift, bounds)
    x = kept(e, x, i32, zero_in) if element_of(x) != i32 else minus(e, x, zero_in)
    limit = _along(np.minimum(limit, I32[1]), x)
    x = e.spread("maximum", x, e.const(-limit, i32))
    return e.spread("minimum", x, e.const(limit, i32))


def _along(array: Array, x: SSAValue) -> Array:
    """One number, or one for each index of the last dimension of `x`, with the rank of `x`."""
    rank = len(shape_of(x))
    return array.reshape((1,) * (rank - 1) + (-1,)) if rank else array.reshape(())


def _wide(e: Emitter, op: graph.RequantizeOp, multiplier: Array, shift: Array) -> SSAValue:
    """Sums of 48 bits, which TOSA multiplies by 15 bits."""
    quant = quant_of(op.result)
    if (multiplier >= 1 << 15).any() or op.recipe.data.rounding != "half_up":
        raise Refused("sums of 64 bits times more than 15 bits", "15 bits, as TFLite")
    low, high = e.ranges.of(op.x)
    if low < -(1 << 47) or high >= 1 << 47 or e.zero_of(op.result):
        raise Refused(f"sums from {low} to {high}, which 48 bits cannot hold")
    pairs = list(zip(multiplier.tolist(), shift.tolist(), strict=True))
    products = [(v * m) >> s for v in (low, high) for m, s in pairs]
    if min(products) <= I32[0] or max(products) >= I32[1]:
        raise Refused("rescaled sums that 32 bits cannot hold")
    element = i32 if quant is None else stored_as(quant.storage_dtype)
    return within(e, rescale(e, e.value(op.x), multiplier, shift, element), op.result)


def _by_float(e: Emitter, op: graph.RequantizeOp, recipe: Requant) -> SSAValue:
    """rint(f32(x - zero point) * multiplier): a conversion, a product and a conversion."""
    if dtype_of(op.x) is dtypes.i64:
        raise Refused("sums of 64 bits times a float")
    x = e.cast(steps(e, op.x), f32)
    product = multiplied(e, x, e.const(_along(recipe.multiplier, x), f32))
    return narrowed(e, e.cast(product, i32), op.result)


def multiplied(e: Emitter, a: SSAValue, b: SSAValue) -> SSAValue:
    """a * b, of equal element types."""
    return _mul(e, a, b, 0)


def _mul(e: Emitter, a: SSAValue, b: SSAValue, shift: int) -> SSAValue:
    rank = max(len(shape_of(a)), len(shape_of(b)))
    a, b = (e.reshape(v, (1,) * (rank - len(shape_of(v))) + shape_of(v)) for v in (a, b))
    shape = np.broadcast_shapes(shape_of(a), shape_of(b))
    return e.op("mul", (a, b, e.fill(shift, i8)), TensorType(element_of(a), shape))


# graph.rescale


@rule(graph.RescaleOp)
def rescale_at_run_time(e: Emitter, op: graph.RescaleOp) -> SSAValue:
    """x times a factor of run time: a product with a shift."""
    shift, rounding = op.shift.value.data, op.rounding.data
    a, b = e.ranges.steps(op.x)
    c, d = e.ranges.of(op.multiplier)
    most = max(abs(a), abs(b)) * max(abs(c), abs(d))
    multiplier, x = e.value(op.multiplier), None
    if shift == FULL_SHIFT and most == 1 << 62 and rounding == "half_up":
        x = apart(e, steps(e, op.x), multiplier)
    elif (most + (1 << shift >> 1)) >> shift > I32[1]:
        raise Refused(f"a product of up to {most} / 2**{shift}, which 32 bits cannot hold")
    if rounding == "double":
        raise Refused("a factor of run time that is rounded twice")

    def up(x: SSAValue) -> SSAValue:
        return _mul(e, x, multiplier, shift)

    x = x or steps(e, op.x)
    if rounding == "half_up" or shift == 0:
        return narrowed(e, up(x), op.result)
    if a <= I32[0]:
        raise Refused(f"what may be -2**31 times a factor of run time, rounded {rounding}")
    if c < 0:
        raise Refused(f"a factor of run time below 0 that is rounded {rounding}")
    shape = np.broadcast_shapes(shape_of(x), shape_of(multiplier))
    if shape != shape_of(x):
        x = _mul(e, x, e.const(np.ones(shape, np.int32), i32), 0)
    return narrowed(e, rounded(e, up, x, rounding), op.result)


# The boundary


def retagged(e: Emitter, x: SSAValue, value: SSAValue, *, is_result: bool) -> SSAValue:
    """An argument or result of 8 bits without a sign, which are so at the boundary."""
    if dtype_of(value) is dtypes.i64 and is_result:
        raise Refused("results of 64 bits")
    if dtype_of(value) is not dtypes.u8:
        return x
    if is_result:
        return kept(e, x, i8, -128, 0, unsigned=(False, True))
    return kept(e, x, i8, 0, -128, unsigned=(True, False))
