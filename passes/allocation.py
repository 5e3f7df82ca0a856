"""Offsets in one memory for buffers with known lifetimes: the register allocation of a scratchpad.

Before: buffers with half-open lifetimes, sizes and alignments. After: an offset for each, such that
no two that live at the same time overlap:

    a: [0, 3) 64 bytes       a: 0
    b: [1, 4) 32 bytes  ->   b: 64
    c: [3, 5) 64 bytes       c: 0

Several greedy placements come first. Where none fits the capacity, an exact search follows for few
buffers (`allocation_search`), beam searches for many (`allocation_restarts`). Both are bounded in
steps and not in seconds, so that the result is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu_dialect.passes.allocation_beam import Strip
from npu_dialect.passes.allocation_restarts import beam_search
from npu_dialect.passes.allocation_search import Instance, search

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that must be kept during [lower, upper), at a multiple of `alignment`."""

    id: int
    lower: int
    upper: int
    size: int
    alignment: int = 1


class Overflow(ValueError):  # noqa: N818 - named for what happens, as in hardware
    """The buffers do not fit.

    `peak` is the least height that was reached, `bound` the greatest sum of live sizes, and `live`
    are the buffers of that sum. `proven` says that no placement exists; otherwise the search gave
    up. `over` are the ids of the buffers that reach over the capacity in the best placement.
    """

    def __init__(
        self,
        capacity: int,
        peak: int,
        bound: int,
        live: Sequence[Buffer],
        proven: bool,
        over: Sequence[int] = (),
    ) -> None:
        self.capacity, self.peak, self.bound = capacity, peak, bound
        self.live, self.proven = list(live), proven
        self.over = tuple(over) or tuple(b.id for b in self.live)
        super().__init__(self.explanation())

    def reason(self) -> str:
        """What was reached, and whether it could be better."""
        if self.bound > self.capacity:
            return f"{self.bound} bytes are live at once, which no placement can avoid"
        if self.proven:
            return (
                f"{self.bound} bytes are live at once, and an exhaustive search found no placement"
            )
        return (
            f"the best placement found takes {self.peak} bytes (at least {self.bound} are needed)"
        )

    def explanation(self) -> str:
        """What must fit, what was reached and which buffers are live at the peak, in words."""
        parts = ", ".join(f"{b.id} ({b.size})" for b in self.live[:8])
        more = f" and {len(self.live) - 8} smaller" if len(self.live) > 8 else ""
        rule = f"buffers must fit in {self.capacity} bytes"
        return f"{rule}, but {self.reason()}; live then: {parts}{more}"


def allocate(buffers: Sequence[Buffer], capacity: int, effort: float = 1) -> dict[int, int]:
    """Offsets by buffer id, all below `capacity` with their sizes.

    `effort` 0 only tries the greedy orders; 1 adds the bounded searches; more multiplies their
    bounds. Raises Overflow where the buffers cannot be placed or the searches found no way.
    """
    bound, moment = live_bound(buffers)
    if bound > capacity:
        raise Overflow(capacity, bound, bound, live_at(buffers, moment), proven=True)
    placement = _Placement(buffers)
    best = _greedy(placement, bound)
    proven = False
    if placement.height(best) > capacity and effort > 0:
        best, proven = _improve(placement, best, capacity, effort)
    peak = placement.height(best)
    if peak > capacity:
        over = [b.id for b, o in zip(buffers, best, strict=True) if o + b.size > capacity]
        raise Overflow(capacity, peak, bound, live_at(buffers, moment), proven, over)
    return {b.id: int(offset) for b, offset in zip(buffers, best, strict=True)}


def pack(buffers: Sequence[Buffer], effort: float = 1) -> dict[int, int]:
    """Offsets by buffer id in as little memory as is found within `effort`."""
    bound, _ = live_bound(buffers)
    placement = _Placement(buffers)
    best = _greedy(placement, bound)
    if effort > 0:
        best = _lower(placement, best, bound, effort)
    return {b.id: int(offset) for b, offset in zip(buffers, best, strict=True)}


def _lower(placement: _Placement, best: Ints, bound: int, effort: float) -> Ints:
    """Offsets as low as the bound where the search finds them, else on the way there."""
    for share, some in AIMS:
        height = placement.height(best)
        if height <= bound:
            break
        aim = bound + int((height - bound) * share)
        found, _ = _improve(placement, best, aim, effort * some)
        if placement.height(found) < height:
            return found
    return best


def live_bound(buffers: Iterable[Buffer]) -> tuple[int, int]:
    """(greatest sum of sizes that are live at once, the first moment at which it is reached)."""
    events: dict[int, int] = {}
    for b in buffers:
        if b.lower < b.upper:
            events[b.lower] = events.get(b.lower, 0) + b.size
            events[b.upper] = events.get(b.upper, 0) - b.size
    best, moment, live = 0, 0, 0
    for time in sorted(events):
        live += events[time]
        if live > best:
            best, moment = live, time
    return best, moment


def live_at(buffers: Iterable[Buffer], moment: int) -> list[Buffer]:
    """The buffers live at a moment, greatest first."""
    return sorted((b for b in buffers if b.lower <= moment < b.upper), key=lambda b: -b.size)


class _Placement:
    """Places buffers one after the other, each at the lowest offset that is free during its
    lifetime.
    """

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.lower = np.array([b.lower for b in buffers], np.int64)
        self.upper = np.array([b.upper for b in buffers], np.int64)
        self.size = np.array([b.size for b in buffers], np.int64)
        self.alignment = np.array([b.alignment for b in buffers], np.int64)
        self.count = len(buffers)

    def part(self, members: Ints) -> _Placement:
        """Some of the buffers."""
        part = copy(self)
        part.lower, part.upper = self.lower[members], self.upper[members]
        part.size, part.alignment = self.size[members], self.alignment[members]
        part.count = members.size
        return part

    def height(self, offsets: Ints) -> int:
        """One past the greatest byte that is used."""
        return int((offsets + self.size).max(initial=0))

    def place(self, order: Sequence[int]) -> Ints:
        """Offsets of all buffers, taken in this order."""
        offsets = np.zeros(self.count, np.int64)
        sequence = np.array(order, np.int64)
        lower, upper = self.lower[sequence], self.upper[sequence]
        low, high = np.zeros(self.count, np.int64), np.zeros(self.count, np.int64)
        for k, number in enumerate(order):
            meet = (lower[:k] < upper[k]) & (upper[:k] > lower[k])
            size, alignment = int(self.size[number]), int(self.alignment[number])
            low[k] = _first_gap(low[:k][meet], high[:k][meet], size, alignment)
            high[k] = low[k] + size
        offsets[sequence] = low
        return offsets

    def stack(self, ranks: Floats) -> Ints:
        """Offsets from the bottom up: the buffer with the lowest floor next, of equals the first in
        rank.
        """
        offsets = np.zeros(self.count, np.int64)
        floor = np.zeros(self.count, np.int64)
        left = np.arange(self.count)
        while left.size:
            lowest = left[floor[left] == floor[left].min()]
            number = int(lowest[np.argmin(ranks[lowest])])
            offsets[number] = floor[number]
            left = left[left != number]
            meet = (self.lower[left] < self.upper[number]) & (self.upper[left] > self.lower[number])
            raised = left[meet]
            top = floor[number] + self.size[number]
            floor[raised] = np.maximum(floor[raised], top + -top % self.alignment[raised])
        return offsets


def _first_gap(low: Ints, high: Ints, size: int, alignment: int) -> int:
    """The lowest aligned offset at which `size` bytes avoid all of the intervals [low, high)."""
    if low.size == 0:
        return 0
    order = np.argsort(low)
    starts = low[order]
    tops = np.maximum.accumulate(high[order])
    candidates = np.concatenate(([0], tops))
    candidates += -candidates % alignment
    fits = candidates[:-1] + size <= starts
    at = int(np.argmax(fits))
    return int(candidates[at] if fits[at] else candidates[-1])


def _greedy(placement: _Placement, bound: int) -> Ints:
    """The lowest of the greedy placements; the first one that is as low as can be."""
    best: Ints | None = None
    for offsets in _placements(placement):
        if best is None or placement.height(offsets) < placement.height(best):
            best = offsets
        if placement.height(best) <= bound:
            break
    assert best is not None
    return best


def _placements(placement: _Placement) -> Iterator[Ints]:
    orders = list(_orders(placement))[: None if placement.count <= SMALL else FIRST]
    for order in orders:
        yield placement.stack(_ranks(order))
    for order in orders:
        yield placement.place(order.tolist())


def _orders(placement: _Placement) -> Iterator[Ints]:
    """Orders that work well: by how much each is in the way, by lifetime, by lifetime x size, by
    size.
    """
    span, size = placement.upper - placement.lower, placement.size
    pressure = _pressure(placement)
    keys: list[tuple[Ints, ...]] = [
        (-pressure, -span, -size),
        (-pressure, -span * size, -span),
        (-span, -size, placement.lower),
        (-span * size, -pressure, -span),
        (-size, -span, placement.lower),
    ]
    number = np.arange(placement.count)
    for first, second, third in keys:
        yield np.lexsort((number, third, second, first))


def _ranks(order: Ints) -> Floats:
    """The place of each buffer in an order."""
    ranks = np.empty(order.size)
    ranks[order] = np.arange(order.size)
    return ranks


def _pressure(placement: _Placement) -> Ints:
    """The greatest live sum during the lifetime of each buffer: its conflict degree, weighed by
    sizes.
    """
    times = np.array(sorted({*placement.lower.tolist(), *placement.upper.tolist()}), np.int64)
    first, last = np.searchsorted(times, placement.lower), np.searchsorted(times, placement.upper)
    change = np.zeros(times.size + 1, np.int64)
    np.add.at(change, first, placement.size)
    np.subtract.at(change, last, placement.size)
    live = np.cumsum(change)
    return np.array([live[a:b].max(initial=0) for a, b in zip(first, last, strict=True)], np.int64)


# --- where no greedy order fits -------------------------------------------------------------------

SMALL = 2000
"""Buffers up to which the searches, which look at all pairs, and all greedy orders are tried."""
FIRST = 2
"""Of the greedy orders, those that are tried for more buffers; each takes 1 s for 10,000."""
FEW = 24
"""Buffers up to which a search for all placements is tried, which may prove that there is none."""
EXACT_STEPS = 1000
AIMS = ((0.0, 1.0), (0.125, 0.2), (0.5, 0.2))
"""What is aimed at where memory is to be least: the part of the way back from the greatest live sum
to what is known, and the part of the effort.
"""
BEAM_CELLS = 300_000_000
"""The work of a search for each unit of effort: about 1 s."""


def _improve(placement: _Placement, start: Ints, capacity: int, effort: float) -> tuple[Ints, bool]:
    """The best offsets that the searches find, and whether it is proven that none fit.

    What shares no moment with the rest is placed by itself.
    """
    offsets = start.copy()
    for members in _components(placement, np.flatnonzero(placement.lower < placement.upper)):
        part = placement.part(members)
        if part.height(start[members]) > capacity:
            found, proven = _search(part, capacity, effort)
            if found is None:
                return offsets, proven
            offsets[members] = found
    return offsets, False


def _search(placement: _Placement, capacity: int, effort: float) -> tuple[Ints | None, bool]:
    """Offsets below the capacity or None, and whether it is proven that there are none."""
    if placement.count > SMALL:
        return None, False
    tables = placement.lower, placement.upper, placement.size, placement.alignment
    if placement.count <= FEW:
        result = search(Instance(*tables, capacity), int(EXACT_STEPS * effort))
        if result.offsets is not None or result.exhausted:
            found = None if result.offsets is None else np.array(result.offsets, np.int64)
            return found, result.exhausted
    offsets = beam_search(Strip(*tables, capacity), int(BEAM_CELLS * effort))
    return None if offsets is None else np.array(offsets, np.int64), False


def _components(placement: _Placement, members: Ints) -> list[Ints]:
    """The members between moments at which nothing lives."""
    order = members[np.argsort(placement.lower[members], kind="stable")]
    ends = np.maximum.accumulate(placement.upper[order])
    return np.split(order, np.flatnonzero(placement.lower[order][1:] >= ends[:-1]) + 1)
