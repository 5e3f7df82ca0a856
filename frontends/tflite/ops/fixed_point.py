"""Fixed point of 32 bits, number by number, as gemmlowp's fixedpoint.h computes it.

A number of `n` integer bits has 31 - n fractional ones. These are for tables and constants, made
when a model is imported.
"""

from __future__ import annotations

import numpy as np

from npu_dialect import numerics
from npu_dialect.frontends.tflite.ops.rescaling import quantized_multiplier

LOW, HIGH = -(1 << 31), (1 << 31) - 1


def saturated(x: int) -> int:
    """The nearest number of 32 bits."""
    return min(max(x, LOW), HIGH)


def times(x: int, y: int) -> int:
    """The saturating rounding doubling high half of a product; the integer bits add up."""
    if x == y == LOW:
        return HIGH
    return (x * y + (1 << 30)) >> 31


def multiplied(x: int, m: int, exponent: int) -> int:
    """x * m * 2**(exponent - 31) with TFLite's two roundings."""
    found = numerics.requantize_fixed(np.array([x], np.int32), m, 31 - exponent, "double")
    return int(found[0])


def reciprocal(x: int) -> tuple[int, int]:
    """(r, bits) with 1 / x = r * 2**(-31 - bits), for x from 1: `GetReciprocal` of common.h."""
    bits = x.bit_length() - 1
    return _reciprocal((x << (31 - bits)) - (1 << 31)), bits


THREE_HALVES = (1 << 28) + (1 << 27)
"""3/2, of three integer bits."""

HALF_ROOT_2 = 1518500250
"""sqrt(2) / 2, of none."""


def _reciprocal(fraction: int) -> int:
    """1 / (1 + a) for 0 <= a < 1 of no integer bits, of none, by three steps of Newton's method."""
    half = (fraction + HIGH + 1) >> 1
    x = 1515870810 + times(half, -1010580540)
    for _ in range(3):
        off = (1 << 29) - times(half, x)
        x += saturated(times(x, off) << 2)
    return saturated(x << 1)


def _root(x: int) -> tuple[int, int]:
    """(r, shift) with 1 / sqrt(x) = r * 2**(-31 - shift): `GetInvSqrtQuantizedMultiplierExp`."""
    if x <= 1:
        return HIGH, 0
    shift = 11
    while x >= 1 << 29:
        x, shift = x // 4, shift + 1
    pairs = (32 - x.bit_length() - 1) // 2 - 1
    shift -= pairs
    whole = (x << 2 * pairs) >> 1
    half = (whole + 1) >> 1
    y = 1 << 28
    for _ in range(5):
        cube = saturated(times(times(y, y), y) << 6)
        y = saturated((times(THREE_HALVES, y) - times(half, cube)) << 3)
    y = times(y, HALF_ROOT_2)
    return (y << -shift, 0) if shift < 0 else (y, shift)


FINE = 20
"""Fractional bits of a root before it is scaled."""


def inverse_root(x: int, factor: float) -> int:
    """factor / sqrt(x) for x from 1, rounded as `RsqrtEvalQuantizedInt8` of elementwise.cc does."""
    root, shift = _root(x)
    m, exponent = quantized_multiplier(factor)
    return multiplied(multiplied(1, root, FINE - shift), m, exponent - FINE)
