"""Amounts over time as steps: rates (bytes, energy) and levels (what is held)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

Cycles = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NOISE = 1e-9
"""Part of the greatest value under which a sum of floats counts as zero."""


@dataclass(frozen=True, eq=False)
class Series:
    """`values[k]` holds from `times[k]` on, until the next time; the last value is the last."""

    times: Cycles
    values: Floats

    @property
    def peak(self) -> float:
        """The greatest value, or 0 where there is none."""
        return float(self.values.max(initial=0.0))

    @property
    def mean_of_some(self) -> float:
        """The mean over the times at which there is something, or 0."""
        durations, values = np.diff(self.times), self.values[:-1]
        some = values > 0
        return float(np.average(values[some], weights=durations[some])) if some.any() else 0.0

    def means(self, end: int, bins: int) -> Series:
        """The mean of each of `bins` equal parts of [0, end]; itself where it has no more steps."""
        if len(self.times) <= bins:
            return self
        edges, times, values = self._cut(end, bins)
        area = values * np.diff(times, append=end)
        sums = np.add.reduceat(area, np.searchsorted(times, edges[:-1]))
        return Series(edges[:-1], sums / np.diff(edges))

    def peaks(self, end: int, bins: int) -> Series:
        """The greatest of each of `bins` equal parts of [0, end]; itself where it has no more
        steps.
        """
        if len(self.times) <= bins:
            return self
        edges, times, values = self._cut(end, bins)
        most = np.maximum.reduceat(values, np.searchsorted(times, edges[:-1]))
        return Series(edges[:-1], cast("Floats", most))

    def _cut(self, end: int, bins: int) -> tuple[Cycles, Cycles, Floats]:
        """The edges of the parts, and the steps with a step at each edge."""
        edges = np.unique(np.linspace(0, end, bins + 1).astype(np.int64))
        times = np.unique(np.concatenate((edges[:-1], self.times[self.times < end])))
        at = np.searchsorted(self.times, times, side="right") - 1
        values = np.where(at >= 0, self.values[np.maximum(at, 0)], 0.0)
        return edges, times, values


def levels(begin: Cycles, end: Cycles, amount: npt.ArrayLike) -> Series:
    """The sum of the amounts that are held, each from its begin to its end."""
    held = np.broadcast_to(np.asarray(amount, np.float64), begin.shape)
    times, place = np.unique(np.concatenate((begin, end)), return_inverse=True)
    change = np.bincount(place, np.concatenate((held, -held)), len(times))
    values = np.asarray(np.cumsum(change), np.float64)
    values[np.abs(values) < NOISE * np.abs(values).max(initial=0.0)] = 0.0
    return Series(times.astype(np.int64), values)


def rates(begin: Cycles, end: Cycles, amount: npt.ArrayLike) -> Series:
    """Amounts per cycle: each is spread evenly from its begin to its end. What has no duration
    adds nothing.
    """
    duration = end - begin
    some = duration > 0
    spread = np.broadcast_to(np.asarray(amount, np.float64), begin.shape)[some] / duration[some]
    return levels(begin[some], end[some], spread)


def total(*series: Series, end: int) -> Series:
    """The sum of several, from 0 to `end`; each is 0 before its first time."""
    known = [each for each in series if len(each.times)]
    times = np.unique(np.concatenate([np.zeros(1, np.int64), *(each.times for each in known)]))
    values = np.zeros(len(times))
    for each in known:
        at = np.searchsorted(each.times, times, side="right") - 1
        values += np.where(at >= 0, each.values[np.maximum(at, 0)], 0.0)
    inside = times < max(end, 1)
    return Series(times[inside], values[inside])
