"""The rounding of FULLY_CONNECTED: round(sum * factor) in float64, ties away from zero.

    factor = scale of x * scale of w / scale of y      (integer_ops/fully_connected.h)

Programs multiply by 31 bits. A sum gives another result then only if it lies between the two
factors' boundaries of a step, so that boundaries are compared: for results of 8 bits all of them,
and a multiplier is chosen with which they are the same. There is one for nearly all factors above
1e-4. For others, and for the 65,536 steps of 16 bits, the nearest one is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import quantized_multiplier
from npu_dialect.graph.attributes import RequantAttr
from npu_dialect.graph.quant import QuantType

GREATEST = dtypes.i32.high - 3
"""Boundaries beyond it are not those of sums of 32 bits."""

BLOCK = 1024
"""Channels that are looked at together."""


def recipe(factors: Sequence[float], element: QuantType) -> RequantAttr:
    """The recipe of sums that become `element`, by one factor or by one for each channel."""
    pairs = [quantized_multiplier(float(f)) for f in factors]
    multipliers = np.array([m for m, _ in pairs], np.int64)
    shifts = np.array([31 - e for _, e in pairs], np.int64)
    if element.storage_dtype.itemsize == 1:
        most = max(element.high - element.zero_point, element.zero_point - element.low)
        multipliers = exact(np.asarray(factors, np.float64), multipliers, shifts, most)
    return graph.requant_fixed(multipliers.tolist(), shifts.tolist(), "half_away")


def exact(factors: Array, multipliers: Array, shifts: Array, most: int) -> Array:
    """Multipliers that round to each of 1..`most` from the same sum on as the factors do."""
    found, steps = multipliers.copy(), np.arange(1, most + 1)
    for start in range(0, len(factors), BLOCK):
        part = slice(start, start + BLOCK)
        first = boundaries(factors[part, None], steps)
        odd = np.where(first > 0, (2 * steps - 1) << shifts[part, None], 0)
        m = multipliers[part, None]
        is_off = (first > 0) & ((2 * first * m < odd) | (2 * (first - 1) * m >= odd))
        for k in np.flatnonzero(is_off.any(1)):
            there = first[k] > 0
            found[start + k] = _between(first[k][there], odd[k][there], int(m[k, 0]))
    return found


def boundaries(factor: Array | float, steps: Array) -> Array:
    """The least sums of 32 bits that round to some numbers, 0 where none do; int64."""
    half, real = steps - 0.5, np.asarray(factor, np.float64)
    with np.errstate(divide="ignore"):
        guess = np.ceil(half / real)
    is_there = guess <= GREATEST
    guess = np.where(is_there, guess, 1)
    for sums in (guess, guess - 1):
        guess = np.where(sums * real >= half, np.minimum(sums, guess), guess)
    found = np.where(guess * real >= half, guess, guess + 1)
    return np.where(is_there, found, 0).astype(np.int64)


def _between(first: Array, odd: Array, m: int) -> int:
    """A multiplier near `m` with boundaries `first`; `m` where there is none."""
    pairs = list(zip(first.tolist(), odd.tolist(), strict=True))
    low = max(-(-o // (2 * f)) for f, o in pairs)
    high = min([*((o - 1) // (2 * f - 2) for f, o in pairs if f > 1), dtypes.i32.high])
    return min(max(m, low), high) if low <= high else m
