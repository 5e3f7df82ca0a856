"""1 / x of i32 numbers in a known range: a short division, and Newton's steps from there.

    h  = x / 2**k                 `start` bits of the least x, or more
    y0 = (2**30 div h) * 2**start   2**(30 + b) / x, with 2**b <= x
    y  = y0 * (2**31 - x * y0 / 2**b) / 2**30       none to two times
    r  = y * factor

The wider the range of x, the fewer bits do divisor and quotient have, and the more steps it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.ir import SSAValue

from npu_dialect.passes.fixed_point.steps import Steps, exponent

WIDEST = 17
"""The range of x, in powers of two, that leaves the first quotient 6 bits and the result 12."""

ENOUGH = 2.0**-15
"""The relative error that is worth no further step."""

MOST_STEPS = 2


@dataclass(frozen=True)
class Reciprocal:
    """`value` is factor * 2**shift / x, but for a small part of it (`error`)."""

    value: SSAValue
    shift: int


@dataclass(frozen=True)
class Range:
    """Where x lies, and what follows from it."""

    least: float
    greatest: float
    enough: float = ENOUGH
    """The relative error that is worth no further step."""

    @property
    def exponent(self) -> int:
        """b: 2**b <= x."""
        return exponent(self.least)

    @property
    def start(self) -> int:
        """Bits of the smallest divisor: as many as the smallest quotient has, where x has them."""
        wide = math.ceil(math.log2(self.greatest / self.least)) + 1
        return min(self.exponent, (30 - wide) // 2)

    @property
    def first_error(self) -> float:
        """The relative error of the first quotient: of the divisor, and of the division."""
        divisor = 2.0 ** -(self.start + 1) if self.exponent > self.start else 0.0
        return divisor + 1.1 * self.greatest / 2.0 ** (30 + self.exponent - self.start)

    @property
    def steps(self) -> int:
        """How many of Newton's steps it takes, each of which squares the error."""
        count = 0
        while count < MOST_STEPS and self.first_error ** (2**count) > self.enough:
            count += 1
        return count

    @property
    def error(self) -> float:
        """The relative error: what is left of the first, and the roundings of the last step and of
        the result, half a unit of their last places each.
        """
        unit = self.greatest / 2.0 ** (30 + self.exponent)
        return self.first_error ** (2**self.steps) + 2 * unit


def reciprocal(
    steps: Steps,
    x: SSAValue,
    least: float,
    greatest: float,
    factor: float,
    enough: float = ENOUGH,
) -> Reciprocal | None:
    """factor / x for x from `least` to `greatest` (less than 2**31); None out of reach.

    A row of x is divided once, so that only one element of a row pays for the division.
    """
    if least < 1 or greatest >= 2**31 or greatest / least > 2**WIDEST:
        return None
    found = Range(least, greatest, enough)
    b, bits = found.exponent, found.start
    shift = 30 + b - exponent(factor) - 1
    if not 0 <= shift <= 62:
        return None
    head = steps.right(x, b - bits) if b > bits else x
    y = steps.times(steps.over(steps.number(2**30), head), steps.number(2**bits))
    for _ in range(found.steps):
        # 2**31 does not fit, but the difference does: it is taken modulo 2**32.
        rest = steps.minus(steps.number(-(2**31)), steps.product(x, y, b))
        y = steps.product(y, rest, 30)
    value = steps.scaled(y, factor * 2.0 ** (shift - 30 - b))
    return Reciprocal(value, shift)


def error(least: float, greatest: float, enough: float = ENOUGH) -> float:
    """The relative error of the reciprocal of numbers from `least` to `greatest`."""
    return Range(least, greatest, enough).error
