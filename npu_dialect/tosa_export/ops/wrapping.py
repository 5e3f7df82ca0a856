"""Integers of 32 bits that wrap or saturate, where TOSA leaves an overflow undefined.

A sum is made of halves of 16 bits, which cannot overflow; shifts to the left are modulo 2**32 in
TOSA as in graph.
"""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import i1
from xdsl.ir import SSAValue

from npu_dialect import dtypes
from npu_dialect.tosa_export.emitter import Emitter

HALF, MASK = 16, 0xFFFF
LOW, HIGH = dtypes.i32.low, dtypes.i32.high


def shifted_left(e: Emitter, x: SSAValue, amount: int) -> SSAValue:
    """x * 2**amount modulo 2**32."""
    return e.spread("logical_left_shift", x, e.like(amount, x)) if amount else x


def _shifted_right(e: Emitter, x: SSAValue) -> SSAValue:
    return e.spread("arithmetic_right_shift", x, e.like(HALF, x), round=False)


def _masked(e: Emitter, x: SSAValue) -> SSAValue:
    return e.spread("bitwise_and", x, e.like(MASK, x))


def wrapped_sum(e: Emitter, a: SSAValue, b: SSAValue, *, negates: bool = False) -> SSAValue:
    """a + b modulo 2**32; with `negates` a - b, which is a + not b + 1."""
    if negates:
        b = e.same("bitwise_not", b)
    low = e.spread("add", _masked(e, a), _masked(e, b))
    high = e.spread("add", _shifted_right(e, a), _shifted_right(e, b))
    if negates:
        low = e.spread("add", low, e.like(1, low))
    high = e.spread("add", high, _shifted_right(e, low))
    return e.spread("bitwise_or", shifted_left(e, high, HALF), _masked(e, low))


def saturated_shift(e: Emitter, x: SSAValue, amount: int) -> SSAValue:
    """x * 2**amount, saturated."""
    most = HIGH >> amount
    held = e.spread("maximum", x, e.like(LOW >> amount, x))
    is_over = e.spread("greater", x, e.like(most, x), element=i1)
    return e.spread("select", is_over, e.like(HIGH, x), shifted_left(e, held, amount))


def apart(e: Emitter, x: SSAValue, y: SSAValue) -> SSAValue:
    """x, where it is -2**31 and y is that too one more: then x * y / 2**31 rounds to 2**31 - 1."""
    is_least = e.spread("equal", y, e.like(LOW, y), element=i1)
    return e.spread("select", is_least, e.spread("maximum", x, e.like(LOW + 1, x)), x)


def power_of_two(array: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> int | None:
    """k where all elements of a constant are 2**k, k from 0 to 30, else None."""
    values = set(array.reshape(-1).tolist())
    if len(values) != 1:
        return None
    (value,) = values
    return value.bit_length() - 1 if value > 0 and value & (value - 1) == 0 else None
