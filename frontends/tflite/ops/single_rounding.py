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
    found = multipliers.copy()
    steps = np.arange(1, most + 1)
    for k, (factor, m, shift) in enumerate(zip(factors, multipliers, shifts, strict=True)):
        first = boundaries(factor, steps)
        odd = (2 * steps[: first.size] - 1) << shift
        if (2 * first * m < odd).any() or (2 * (first - 1) * m >= odd).any():
            found[k] = _between(first, odd, int(m))
    return found


def boundaries(factor: float, steps: Array) -> Array:
    """The least sums of 32 bits that round to each of some numbers, as far as there are any."""
    if not factor:
        return steps[:0]
    half = steps - 0.5
    guess = np.ceil(half / factor)
    half, guess = half[guess <= GREATEST], guess[guess <= GREATEST]
    for sums in (guess, guess - 1):
        guess = np.where(sums * factor >= half, np.minimum(sums, guess), guess)
    return np.where(guess * factor >= half, guess, guess + 1).astype(np.int64)


def _between(first: Array, odd: Array, m: int) -> int:
    """A multiplier near `m` with boundaries `first`; `m` where there is none."""
    low = max(-(-o // (2 * f)) for f, o in zip(first.tolist(), odd.tolist(), strict=True))
    below = [
        (o - 1) // (2 * f - 2) for f, o in zip(first.tolist(), odd.tolist(), strict=True) if f > 1
    ]
    high = min([*below, dtypes.i32.high])
    return min(max(m, low), high) if low <= high else m
