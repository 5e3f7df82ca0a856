"""Offsets in one memory for buffers with known lifetimes: the register allocation of a scratchpad.

Before: buffers with half-open lifetimes, sizes and alignments. After: an offset for each, such that
no two that live at the same time overlap:

    a: [0, 3) 64 bytes       a: 0
    b: [1, 4) 32 bytes  ->   b: 64
    c: [3, 5) 64 bytes       c: 0

Several greedy placements come first; where none fits the capacity, an improvement of orders and
then an exact search (`allocation_search`), both bounded in steps and not in seconds, so that the
result is the same on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def allocate(buffers: Sequence[Buffer], capacity: int, effort: int = 1) -> dict[int, int]:
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
    orders = list(_orders(placement))
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
    times = np.unique(np.concatenate((placement.lower, placement.upper)))
    first, last = np.searchsorted(times, placement.lower), np.searchsorted(times, placement.upper)
    change = np.zeros(times.size + 1, np.int64)
    np.add.at(change, first, placement.size)
    np.subtract.at(change, last, placement.size)
    live = np.cumsum(change)
    return np.array([live[a:b].max(initial=0) for a, b in zip(first, last, strict=True)], np.int64)


# --- where no greedy order fits -------------------------------------------------------------------

SMALL = 1500
"""Buffers up to which the searches, which look at all pairs, are tried."""


def _improve(placement: _Placement, start: Ints, capacity: int, effort: int) -> tuple[Ints, bool]:
    """The best offsets that the searches find, and whether it is proven that none fit."""
    if placement.count > SMALL:
        return start, False
    best = _climb(placement, start, capacity, 400 * effort)
    if placement.height(best) <= capacity:
        return best, False
    instance = Instance(
        placement.lower, placement.upper, placement.size, placement.alignment, capacity
    )
    result = search(instance, 40_000 * effort)
    if result.offsets is not None:
        return np.array(result.offsets, np.int64), False
    return best, result.exhausted


def _climb(placement: _Placement, start: Ints, capacity: int, steps: int) -> Ints:
    """Hill climbing on ranks: a buffer that reaches over the capacity, or one beside it, moves."""
    chance = random.Random(placement.count)
    ranks = min(map(_ranks, _orders(placement)), key=lambda r: placement.height(placement.stack(r)))
    offsets = placement.stack(ranks)
    peak = placement.height(offsets)
    best = start
    for _ in range(steps):
        trial = _moved(placement, ranks, offsets, capacity, chance)
        found = placement.stack(trial)
        height = placement.height(found)
        if height <= peak:
            ranks, offsets, peak = trial, found, height
        if height < placement.height(best):
            best = found
        if height <= capacity:
            break
    return best


def _moved(
    placement: _Placement, ranks: Floats, offsets: Ints, capacity: int, chance: random.Random
) -> Floats:
    """Ranks with a buffer at the top, or one that lives beside it, brought forward or exchanged."""
    over = np.flatnonzero(offsets + placement.size > capacity)
    top = int(over[chance.randrange(over.size)])
    meet = (placement.lower < placement.upper[top]) & (placement.upper > placement.lower[top])
    beside = np.flatnonzero(meet)
    pick = top if chance.random() < 0.5 else int(beside[chance.randrange(beside.size)])
    trial = ranks.copy()
    if chance.random() < 0.7:
        trial[pick] -= chance.random() * placement.count / 2
    else:
        other = int(beside[chance.randrange(beside.size)])
        trial[pick], trial[other] = ranks[other], ranks[pick]
    return trial
