"""gemmlowp's exponential of 32-bit fixed-point numbers that are not positive.

The formulas are those of gemmlowp's fixedpoint.h for int32: a polynomial of the fourth degree on an
interval of 1/4, and constants for the bits of the rest. gemmlowp.py has those of 16 bits, and the
words: a number of no integer bits has 31 fractional ones.
"""

from __future__ import annotations

import math

LOW, HIGH = -(1 << 31), (1 << 31) - 1
ONE = HIGH
"""1, of no integer bits: the greatest number there is."""


def constant(x: float, bits: int = 0) -> int:
    """A number of `bits` integer bits."""
    return min(math.floor(x * (1 << (31 - bits)) + 0.5), HIGH)


def times(x: int, y: int) -> int:
    """The saturating rounding doubling high half of a product; the integer bits add up."""
    return min((x * y + (1 << 30)) >> 31, HIGH)


def halved(x: int, times: int) -> int:
    """x / 2**times, ties away from zero."""
    half = (1 << times) >> 1
    return (x + half) >> times if x >= 0 else -((-x + half) >> times)


def _near_zero(a: int) -> int:
    """exp(a) for -1/4 <= a < 0, of no integer bits."""
    term = constant(math.exp(-1 / 8))
    x = a + (1 << 28)
    x2 = times(x, x)
    x3, x4 = times(x2, x), times(x2, x2)
    rest = halved(times(halved(x4, 2) + x3, constant(1 / 3)) + x2, 1)
    return term + times(term, x + rest)


def exp(a: int, bits: int) -> int:
    """exp(a) for a <= 0 of `bits` integer bits, of none."""
    if a == 0:
        return ONE
    fraction = 31 - bits
    quarter = 1 << (fraction - 2)
    part = (a & (quarter - 1)) - quarter
    result = _near_zero(max(part << bits, LOW))
    for exponent in range(-2, bits):
        if ((part - a) >> (fraction + exponent)) & 1:
            result = times(result, constant(math.exp(-(2.0**exponent))))
    return result
