"""The rounding of FULLY_CONNECTED: round(sum * factor) in float64, ties away from zero.

    factor = scale of x * scale of w / scale of y      (integer_ops/fully_connected.h)

Programs multiply by 31 bits. A sum gives another result then only if it lies between the two
factors' boundaries of a step, so that boundaries are compared: those of all results that sums can
reach. For 8 bits there is a multiplier with which they are the same for nearly all factors above
1e-4. Of the 65,536 results of 16 bits some are one off; they are put right in 32 bits, which may
wrap, with the fraction p / q of least odd q that has these boundaries:

    r = round(s * m / 2**shift)        nearly right
    y = r + round((s * p - r * q) / q)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops.common import add, mul, sub
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import I32, KEEP, quantized_multiplier
from npu_dialect.graph.quant import QuantType

GREATEST = dtypes.i32.high - 3
"""Boundaries beyond it are not those of sums of 32 bits."""

BLOCK = 1 << 18
"""Boundaries that are looked at together."""

MOST = 1 << 30
"""What q, and the results before they are bounded, must be below, so that nothing is lost."""


@dataclass(frozen=True)
class Multipliers:
    """What sums are multiplied by in fixed point, one number or one for each channel."""

    factors: Array
    """float64"""
    values: Array
    shifts: Array
    exact: Array
    """Whether they round as the factors do."""


def rounded(
    b: Builder, sums: SSAValue, factors: Sequence[float], element: QuantType, reach: Array
) -> SSAValue:
    """Sums as stored values, by one factor or by one for each channel.

    `reach`: how great sums become in magnitude, int64, for all channels or for each.
    """
    most = max(element.high - element.zero_point, element.zero_point - element.low)
    reach = reach.max(keepdims=True) if len(factors) == 1 else reach
    made = multipliers(factors, most, reach)
    fractions = None if made.exact.all() else _fractions(made.factors, most, reach)
    if fractions is None:
        recipe = graph.requant_fixed(made.values.tolist(), made.shifts.tolist(), "half_away")
        return b.emit(graph.RequantizeOp(sums, recipe, element))
    steps = _corrected(b, sums, made, fractions)
    return b.emit(graph.RequantizeOp(steps, KEEP, element))


def multipliers(factors: Sequence[float], most: int, reach: Array) -> Multipliers:
    """Those of results up to `most` in magnitude."""
    real = np.asarray(factors, np.float64)
    pairs = [quantized_multiplier(float(f)) for f in real]
    values = np.array([m for m, _ in pairs], np.int64)
    shifts = np.array([31 - e for _, e in pairs], np.int64)
    reached = _reached(real, most, reach)
    found, is_exact = exact(real, values, shifts, int(reached.max(initial=0)))
    return Multipliers(real, found, shifts, is_exact)


def _reached(factors: Array, most: int, reach: Array) -> Array:
    """How great results become in magnitude."""
    return np.minimum(np.ceil(reach * factors) + 1, most).astype(np.int64)


def exact(factors: Array, multipliers: Array, shifts: Array, most: int) -> tuple[Array, Array]:
    """Multipliers that round to each of 1..`most` from the same sum on as the factors do.

    And whether they do; where none does, the multiplier is the given one.
    """
    found, is_exact = multipliers.copy(), np.ones(len(multipliers), bool)
    steps = np.arange(1, most + 1)
    block = max(BLOCK // max(most, 1), 1)
    for start in range(0, len(factors), block):
        part = slice(start, start + block)
        first = boundaries(factors[part, None], steps)
        odd = np.where(first > 0, (2 * steps - 1) << shifts[part, None], 0)
        m = multipliers[part, None]
        is_off = (first > 0) & ((2 * first * m < odd) | (2 * (first - 1) * m >= odd))
        for k in np.flatnonzero(is_off.any(1)):
            there = first[k] > 0
            low, high = _range(first[k][there], odd[k][there])
            is_exact[start + k] = low <= high
            if low <= high:
                found[start + k] = min(max(int(m[k, 0]), low), high)
    return found, is_exact


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


def _range(first: Array, odd: Array) -> tuple[int, int]:
    """The least and the greatest multiplier with boundaries `first`."""
    low = -(-odd // (2 * first))
    above = first > 1
    high = (odd[above] - 1) // (2 * first[above] - 2)
    return int(low.max()), min(int(high.min(initial=dtypes.i32.high)), dtypes.i32.high)


def _fractions(factors: Array, most: int, reach: Array) -> list[Fraction] | None:
    """One for each factor, None where some results would need more than 32 bits."""
    if (np.ceil(reach * factors) >= MOST).any():
        return None
    reached = np.broadcast_to(_reached(factors, most, reach), factors.shape)
    found = [fraction(float(f), int(n)) for f, n in zip(factors, reached, strict=True)]
    return found if all(f.denominator < MOST for f in found) else None


def fraction(factor: float, most: int) -> Fraction:
    """p / q that rounds to each of 1..`most` from the same sum on as `factor`, never at a tie."""
    steps = np.arange(1, most + 1)
    first = boundaries(factor, steps)
    steps, first = steps[first > 0], first[first > 0]
    low = Fraction(0)
    if steps.size:
        k = int(np.argmax((2 * steps - 1) / first))
        low = Fraction(2 * int(steps[k]) - 1, 2 * int(first[k]))
    high = low + 1
    steps, first = steps[first > 1], first[first > 1]
    if steps.size:
        k = int(np.argmin((2 * steps - 1) / (first - 1)))
        high = Fraction(2 * int(steps[k]) - 1, 2 * int(first[k]) - 2)
    found = simplest(low, high)
    while found.denominator % 2 == 0:
        found = simplest(found, high)
    return found


def simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of least denominator between two others, of which it is neither."""
    whole = floor(low)
    if whole + 1 < high:
        return Fraction(whole + 1)
    if low == whole:
        return whole + Fraction(1, floor(1 / (high - whole)) + 1)
    return whole + 1 / simplest(1 / (high - whole), 1 / (low - whole))


def _corrected(
    b: Builder, sums: SSAValue, made: Multipliers, fractions: Sequence[Fraction]
) -> SSAValue:
    """round(sum * factor), not bounded yet."""
    s = b.emit(graph.RequantizeOp(sums, KEEP, I32))
    recipe = graph.requant_fixed(made.values.tolist(), made.shifts.tolist(), "half_away")
    near = b.emit(graph.RequantizeOp(s, recipe, I32))
    p, q = (
        b.constant(np.array(part, np.int32))
        for part in ([f.numerator for f in fractions], [f.denominator for f in fractions])
    )
    rest = sub(b, mul(b, s, p), mul(b, near, q))
    pairs = [quantized_multiplier(1 / f.denominator) for f in fractions]
    inverse = graph.requant_fixed([m for m, _ in pairs], [31 - e for _, e in pairs], "half_up")
    return add(b, near, b.emit(graph.RequantizeOp(rest, inverse, I32)))
