"""The range of real numbers that a quantized type shall cover, from what is known of a tensor.

    minmax       all that was seen
    moving       moving averages of the extremes of the samples
    percentile   all but a share of the values, at both ends
    mse          the least mean of squared errors, of rounding and of saturation
    entropy      the least divergence (Kullback-Leibler) of the quantized distribution from that of
                 the values, as in TensorRT's calibration (Migacz, GTC 2017), for both ends at once

A range always has zero in it, for zero must be a stored value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npu_dialect.passes.quantizing.statistics import Statistics

Floats = npt.NDArray[np.float64]

PERCENTILE = 99.99
"""Percent of the values that the range covers, where nothing else is said."""
CANDIDATES = 48
"""Parts of the whole range that are tried at each end."""
LEAST = 0.05
"""The least part of the whole range that is tried."""
COARSE = 512
"""Bins to which a histogram is brought for the searches."""


@dataclass(frozen=True)
class Range:
    """The least and the greatest real number; zero lies between."""

    low: float
    high: float

    @property
    def is_zero(self) -> bool:
        """Whether there is nothing but zero."""
        return self.low == self.high == 0

    @property
    def is_finite(self) -> bool:
        """Whether it has ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @staticmethod
    def around(low: float, high: float) -> Range:
        """The range with zero in it."""
        return Range(min(low, 0.0), max(high, 0.0))


Estimator = Callable[[Statistics, int], Range]
"""From statistics, and the number of values of the type, to a range."""


def minmax(found: Statistics, levels: int) -> Range:
    """All that was seen."""
    return Range.around(found.low, found.high)


def moving(found: Statistics, levels: int) -> Range:
    """Moving averages of the extremes of the samples."""
    return Range.around(found.moving_low, found.moving_high)


def percentile(found: Statistics, levels: int, percent: float = PERCENTILE) -> Range:
    """All but a share of the values, half of it at each end where there are values at both."""
    if not found.width:
        return minmax(found, levels)
    shares = np.cumsum(found.counts) / found.counts.sum()
    outside = (100 - percent) / 100
    edges = (np.arange(len(shares) + 1) - len(shares) // 2) * found.width
    both = found.low < 0 < found.high
    share = outside / 2 if both else outside
    low = edges[int(np.searchsorted(shares, share, "right"))]
    high = edges[int(np.searchsorted(shares, 1 - share, "left")) + 1]
    return Range.around(max(float(low), found.low), min(float(high), found.high))


def mse(found: Statistics, levels: int) -> Range:
    """The range with the least squared error."""
    if not found.width:
        return minmax(found, levels)
    whole = minmax(found, levels)
    centers, counts = _coarse(found)
    parts = np.linspace(LEAST, 1.0, CANDIDATES)
    lows = whole.low * parts if whole.low < 0 else np.zeros(1)
    highs = whole.high * parts if whole.high > 0 else np.zeros(1)
    low, high = (grid.ravel() for grid in np.meshgrid(lows, highs, indexing="ij"))
    errors = _squared(low, high, levels, found.width, centers, counts)
    best = int(np.argmin(errors))
    return Range(float(low[best]), float(high[best]))


def _squared(
    low: Floats, high: Floats, levels: int, width: float, centers: Floats, counts: Floats
) -> Floats:
    """Squared errors of ranges: of a value inside, that of rounding to steps, but not less than a
    bin can tell; outside, the distance to the end.
    """
    step = (high - low) / (levels - 1)
    beyond = np.maximum(low[:, None] - centers, 0) + np.maximum(centers - high[:, None], 0)
    inside = beyond == 0
    return (beyond**2 @ counts) + (inside @ counts) * step**2 / 12


def entropy(found: Statistics, levels: int) -> Range:
    """The range with the least divergence."""
    whole = minmax(found, levels)
    if not found.width:
        return whole
    best, least = whole, np.inf
    half = len(found.counts) // 2
    counts = found.counts.astype(np.float64)
    counts[half] = min(counts[half], counts[half + 1])  # zeros that a ReLU made are stored exactly
    for part in np.linspace(1.0, LEAST, CANDIDATES):
        low, high = whole.low * part, whole.high * part
        first = max(0, half + int(np.floor(low / found.width)))
        last = min(len(found.counts), half + int(np.ceil(high / found.width)))
        if last - first < min(levels, len(found.counts) // 4):
            break  # as many groups as bins tell nothing of rounding
        divergence = _divergence(counts, first, last, levels)
        if divergence < least - 1e-12:
            best, least = Range(low, high), divergence
    return best


def _divergence(counts: Floats, first: int, last: int, levels: int) -> float:
    """Of the counts [first, last) in `levels` groups from the counts with what is cut off."""
    inside = counts[first:last]
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    groups = np.minimum(np.arange(len(inside)) * levels // len(inside), levels - 1)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sums = np.add.reduceat(inside, starts)
    filled = np.add.reduceat((inside > 0).astype(np.float64), starts)
    mean = np.divide(sums, filled, out=np.zeros_like(sums), where=filled > 0)
    spread = mean[np.searchsorted(starts, np.arange(len(inside)), "right") - 1] * (inside > 0)
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1e-300)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))


def _coarse(found: Statistics) -> tuple[Floats, Floats]:
    """Centers and counts of fewer bins, without empty ones."""
    step = len(found.counts) // COARSE
    counts = found.counts.reshape(COARSE, step).sum(axis=1).astype(np.float64)
    centers = found.centers.reshape(COARSE, step).mean(axis=1)
    used = counts > 0
    return np.clip(centers[used], found.low, found.high), counts[used]


ESTIMATORS: dict[str, Estimator] = {
    "minmax": minmax,
    "moving": moving,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
"""The estimators by name."""
