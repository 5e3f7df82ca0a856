"""gemmlowp's fixed-point sigmoid and tanh of 16-bit numbers, as tables of all 65,536 of them.

The formulas are those of gemmlowp's fixedpoint.h for int16: an exponential by a polynomial of the
fourth degree on an interval of 1/4 and by constants for the bits of the rest, and a reciprocal by
three steps of Newton's method. A number of `bits` integer bits has 15 - `bits` fractional ones.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from npu_dialect.frontends.tflite.model import Array

LOW, HIGH = -(1 << 15), (1 << 15) - 1
ONE = HIGH
"""1, of no integer bits: the greatest number there is."""

ONE_2 = 1 << 13
"""1, of two integer bits."""


def constant(x: float, bits: int = 0) -> int:
    """A number of `bits` integer bits."""
    return min(math.floor(x * (1 << (15 - bits)) + 0.5), HIGH)


def _wrap(x: Array) -> Array:
    return x.astype(np.int16).astype(np.int64)


def _saturate(x: Array) -> Array:
    return np.clip(x, LOW, HIGH)


def times(x: Array, y: Array | int) -> Array:
    """The saturating rounding doubling high half of a product; the integer bits add up."""
    product = x * y
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.minimum(np.where(nudged >= 0, nudged >> 15, -(-nudged >> 15)), HIGH)


def halved(x: Array, times: int) -> Array:
    """x / 2**times, ties away from zero."""
    half = 1 << (times - 1)
    return np.where(x >= 0, (x + half) >> times, -((-x + half) >> times))


def _exp_near_zero(a: Array) -> Array:
    """exp(a) for -1/4 <= a < 0, of no integer bits."""
    term = constant(math.exp(-1 / 8))
    x = a + (1 << 12)
    x2 = times(x, x)
    x3, x4 = times(x2, x), times(x2, x2)
    rest = halved(times(_wrap(halved(x4, 2) + x3), constant(1 / 3)) + x2, 1)
    return _saturate(term + times(_wrap(x + rest), term))


def _exp(a: Array, bits: int) -> Array:
    """exp(a) for a <= 0 of `bits` integer bits, of none."""
    fraction = 15 - bits
    quarter = 1 << (fraction - 2)
    part = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(_saturate(part << bits))
    rest = part - a
    for exponent in range(-2, bits):
        bit = (rest >> (fraction + exponent)) & 1
        result = np.where(bit, times(result, constant(math.exp(-(2.0**exponent)))), result)
    return np.where(a == 0, ONE, result)


def _newton(a: Array) -> Array:
    """2 / (1 + a) for 0 <= a <= 1, of two integer bits."""
    total = a + ONE
    denominator = (total + np.where(total >= 0, 1, -1)) // 2
    x = constant(48 / 17, 2) + times(denominator, constant(-32 / 17, 2))
    for _ in range(3):
        off = _wrap(ONE_2 - times(denominator, x))
        x = _wrap(x + _saturate(times(x, off) << 2))
    return x


def _all() -> Array:
    return np.arange(LOW, HIGH + 1, dtype=np.int64)


@cache
def sigmoid() -> Array:
    """1 / (1 + exp(-a)) of a in -8..8 (three integer bits), of none: int16 [65536]."""
    a = _all()
    positive = _saturate(_newton(_exp(-np.abs(a), 3)) << 1)
    found = np.where(a > 0, positive, ONE - positive)
    return np.where(a == 0, 1 << 14, found).astype(np.int16)


@cache
def tanh(bits: int) -> Array:
    """tanh(a) of a of `bits` integer bits, of none: int16 [65536]."""
    a = _all()
    positive = _saturate((_newton(_exp(-np.abs(a), bits + 1)) - ONE_2) << 2)
    found = np.where(a < 0, -positive, positive)
    return np.where(a == 0, 0, found).astype(np.int16)
