"""What is known of the values of a tensor over many samples, in little memory.

    found = Statistics()
    for x in samples:
        found.add(x)
    found.low, found.high, found.counts

Values are counted in a histogram of a fixed number of bins around zero, of which the width doubles
when a value lies outside: neighbours are added up, so that the counts are those of one histogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 4096
"""Of the histogram; half of them for negative values."""
MOMENTUM = 0.9
"""Weight of the samples before in a moving average of extremes."""


@dataclass
class Statistics:
    """The finite values of one tensor."""

    samples: int = 0
    elements: int = 0
    strange: int = 0
    """NaNs and infinities, which nothing else counts."""
    low: float = inf
    high: float = -inf
    moving_low: float = 0.0
    moving_high: float = 0.0
    """Moving averages of the extremes of the samples (`MOMENTUM`)."""
    total: float = 0.0
    """Sum of the values."""
    width: float = 0.0
    """Of a bin; 0 before the first value that is not zero."""
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, sample: Array) -> None:
        """Count the values of a sample."""
        values = np.asarray(sample, np.float32).ravel()
        finite = values[np.isfinite(values)]
        self.elements += values.size
        self.strange += values.size - finite.size
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        self._average(low, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += float(finite.sum(dtype=np.float64))
        self._count(finite, max(abs(low), abs(high)))

    def _average(self, low: float, high: float) -> None:
        old = MOMENTUM if self.samples else 0.0
        self.moving_low = old * self.moving_low + (1 - old) * low
        self.moving_high = old * self.moving_high + (1 - old) * high
        self.samples += 1

    def _count(self, values: Array, greatest: float) -> None:
        half = BINS // 2
        if not self.width:
            # the first width is a power of two, so that statistics of parts of a data set add up
            self.width = float(2.0 ** np.ceil(np.log2(greatest / half))) if greatest else 0.0
        if not self.width:
            self.counts[half] += values.size
            return
        while greatest >= half * self.width:
            self._widen()
        bins = np.floor(values / np.float64(self.width)).astype(np.int64) + half
        self.counts += np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)

    def _widen(self) -> None:
        """Bins of twice the width."""
        quarter = BINS // 4
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[quarter : BINS - quarter] = pairs
        self.width *= 2

    @property
    def known(self) -> bool:
        """Whether there is any finite value."""
        return self.low <= self.high

    @property
    def mean(self) -> float:
        """Of the finite values; 0 without any."""
        count = self.elements - self.strange
        return self.total / count if count else 0.0

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        return np.asarray((np.arange(BINS) - BINS // 2 + 0.5) * (self.width or 1.0), np.float64)

    def joined(self, other: Statistics) -> Statistics:
        """The statistics of the values of both."""
        a, b = replace(self), replace(other)
        while 0 < a.width < b.width:
            a._widen()
        while 0 < b.width < a.width:
            b._widen()
        zeros = sum(int(each.counts.sum()) for each in (a, b) if not each.width)
        counts = sum((each.counts for each in (a, b) if each.width), np.zeros(BINS, np.int64))
        counts[BINS // 2] += zeros
        return Statistics(
            a.samples + b.samples,
            a.elements + b.elements,
            a.strange + b.strange,
            min(a.low, b.low),
            max(a.high, b.high),
            min(a.moving_low, b.moving_low),
            max(a.moving_high, b.moving_high),
            a.total + b.total,
            max(a.width, b.width),
            counts,
        )

    def outside(self, low: float, high: float) -> float:
        """The share of the values that are more than a hundredth of a range outside of it, as well
        as the bins tell.
        """
        if not self.width:
            return 0.0
        margin = (high - low) / 100
        low, high = low - margin, high + margin
        edges = (np.arange(BINS + 1) - BINS // 2) * self.width
        beyond = (edges[1:] <= low) | (edges[:-1] > high)
        return float(self.counts[beyond].sum() / max(1, self.counts.sum()))

    # --- saved --------------------------------------------------------------------------------

    NUMBERS = (
        "samples", "elements", "strange", "low", "high", "moving_low", "moving_high", "total",
        "width",
    )  # fmt: skip

    def to_arrays(self) -> tuple[Array, Array]:
        """The numbers and the counts, for a file."""
        return np.array([getattr(self, n) for n in self.NUMBERS], np.float64), self.counts

    @classmethod
    def of_arrays(cls, numbers: Array, counts: Array) -> Statistics:
        """The statistics that `to_arrays` gave. Raises ValueError for other arrays."""
        if numbers.shape != (len(cls.NUMBERS),) or counts.shape != (BINS,):
            raise ValueError("statistics must be as they were written")
        found: dict[str, Any] = dict(zip(cls.NUMBERS, numbers.tolist(), strict=True))
        for name in ("samples", "elements", "strange"):
            found[name] = int(found[name])
        return cls(**found, counts=counts.astype(np.int64))


Calibration = Mapping[str, Statistics]
"""Statistics by the name of the tensor."""
