"""1 / x of i32 numbers in a known range: a short division, and Newton's steps from there.

h  = x / 2**k               7 bits or more
y0 = (2**30 div h) * 2**j   2**(30 + b) / x with 2**b <= x, off by 4 % at most
y  = y0 * (2**31 - x * y0 / 2**b) / 2**30       twice
r  = y * factor
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from npu_dialect.passes.fixed_point.steps import Steps, exponent

START = 7
"""Bits of the smallest divisor that the first quotient is made of."""

WIDEST = 17
"""The range of x, in powers of two, that leaves the first quotient 5 bits and the result 12."""


@dataclass(frozen=True)
class Reciprocal:
    """`value` is factor * 2**shift / x, but for the part `error` of it."""

    value: SSAValue
    shift: int
    error: float


def reciprocal(
    steps: Steps, x: SSAValue, least: float, greatest: float, factor: float
) -> Reciprocal | None:
    """factor / x for x from `least` to `greatest` (less than 2**31); None out of reach.

    A row of x is divided once, so that only one element of a row pays for the division.
    """
    if least < 1 or greatest >= 2**31 or greatest / least > 2**WIDEST:
        return None
    b = exponent(least)
    bits = min(b, START)
    shift = 30 + b - exponent(factor) - 1
    if not 0 <= shift <= 62:
        return None
    head = steps.right(x, b - bits) if b > bits else x
    y = steps.times(steps.over(steps.number(2**30), head), steps.number(2**bits))
    for _ in range(2):
        # 2**31 does not fit, but the difference does: it is taken modulo 2**32.
        rest = steps.minus(steps.number(-(2**31)), steps.product(x, y, b))
        y = steps.product(y, rest, 30)
    value = steps.scaled(y, factor * 2.0 ** (shift - 30 - b))
    return Reciprocal(value, shift, error(least, greatest))


def error(least: float, greatest: float) -> float:
    """The relative error: what two Newton steps leave of the first quotient's, and the roundings of
    the last step and of the result, half a unit of their last places each.
    """
    unit = greatest / 2.0 ** (30 + exponent(least))
    start = 2.0 ** -(START + 1) + 2.0**START * unit
    return start**4 + 2 * unit
