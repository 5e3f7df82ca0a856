"""An exact search for offsets that keep every buffer below a capacity.

Buffers are placed from the bottom up: each rests on the ones below it (or on zero), and offsets
never decrease from one step to the next, so that every placement is met in one order only. A branch
ends when, at some moment, the buffers still to be placed cannot be stacked below the capacity even
one by one (the bound of one machine with release times). The search is bounded in steps; several
orders of preference share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Instance:
    """Buffers with half-open lifetimes, and the tables that the search looks things up in."""

    def __init__(
        self, lower: Ints, upper: Ints, size: Ints, alignment: Ints, capacity: int
    ) -> None:
        self.size, self.alignment, self.capacity = size, alignment, capacity
        self.span = upper - lower
        self.count = size.size
        self.meet: Mask = (lower[:, None] < upper) & (upper[:, None] > lower)
        np.fill_diagonal(self.meet, False)
        moments = _maximal_moments(lower, upper)
        self.live: Mask = (lower <= moments[:, None]) & (upper > moments[:, None])
        """[moment, buffer]: whether the buffer is live."""
        self.load: Ints = np.where(self.live, size, 0)
        pressure = np.where(self.live, self.load.sum(1)[:, None], 0)
        self.pressure: Ints = pressure.max(0, initial=0)
        """The greatest live sum during each buffer's lifetime."""


def _maximal_moments(lower: Ints, upper: Ints) -> Ints:
    """Moments at which the set of live buffers is not part of another's: starts that are followed
    by an end.
    """
    starts, ends = set(lower.tolist()), set(upper.tolist())
    moments: list[int] = []
    previous = None
    for time in sorted(starts | ends):
        if time in ends and previous is not None:
            moments.append(previous)
            previous = None
        if time in starts:
            previous = time
    if previous is not None:
        moments.append(previous)
    return np.array(moments, np.int64)


@dataclass(frozen=True)
class Result:
    """The offsets that were found, or none; `exhausted` says that there are none to be found."""

    offsets: list[int] | None
    exhausted: bool
    steps: int


def search(instance: Instance, steps: int) -> Result:
    """Offsets below the capacity, looked for in at most `steps` steps.

    The search restarts often, each time with another preference. Buffers that took part in dead
    ends weigh more the next time and are placed earlier, since a bad choice near the root costs a
    whole subtree.
    """
    preferences = [rank / max(1, instance.count) for rank in _preferences(instance)]
    chance = np.random.default_rng(0)
    blame = np.zeros(instance.count)
    used = attempt = 0
    while used < steps:
        key = preferences[attempt % len(preferences)] - chance.uniform(0, 2, instance.count) * (
            blame / max(1.0, float(blame.max()))
        )
        if attempt >= len(preferences):
            key += chance.uniform(0, 0.3, instance.count)
        budget = int(60 * 1.3 ** (attempt % 12))
        result = _Search(instance, _rank(key), blame).run(min(budget, steps - used))
        used += result.steps
        if result.offsets is not None or result.exhausted:
            return Result(result.offsets, result.exhausted, used)
        blame *= 0.97
        attempt += 1
    return Result(None, False, used)


def _rank(key: NDArray[np.float64]) -> Ints:
    """The place of each entry in ascending order."""
    rank = np.empty(key.size, np.int64)
    rank[np.argsort(key, kind="stable")] = np.arange(key.size)
    return rank


def _preferences(instance: Instance) -> Iterator[Ints]:
    """Which buffer to try first: a rank for each, by different judgements of what is hardest to
    place.
    """
    span, size, pressure = instance.span, instance.size, instance.pressure
    number = np.arange(instance.count)
    keys = [
        (-pressure, -span * size, -span),
        (-span, -span * size, -pressure),
        (-span * size, -pressure, -span),
        (-pressure, -span, -span * size),
        (-size, -span, -pressure),
    ]
    for first, second, third in keys:
        order = np.lexsort((number, third, second, first))
        rank = np.empty(instance.count, np.int64)
        rank[order] = number
        yield rank


@dataclass
class _Level:
    """One step of the search: the state before it, and the choices that are left."""

    floor: Ints
    left: Mask
    last: int
    choices: list[int]


class _Search:
    """Depth-first search with one rank of preference; buffers at dead ends get `blame`."""

    def __init__(self, instance: Instance, rank: Ints, blame: NDArray[np.float64]) -> None:
        self.instance, self.rank, self.blame = instance, rank, blame
        self.offsets = [0] * instance.count

    def run(self, steps: int) -> Result:
        instance = self.instance
        floor = np.zeros(instance.count, np.int64)
        left = np.ones(instance.count, np.bool_)
        stack = [_Level(floor, left, 0, self.choices(floor, left, 0))]
        for used in range(1, steps + 1):
            while stack and not stack[-1].choices:
                stack.pop()
            if not stack:
                return Result(None, True, used)
            level = stack[-1]
            number = level.choices.pop(0)
            below = self.place(level, number)
            if below is None:
                continue
            if not below.left.any():
                return Result(self.offsets, False, used)
            stack.append(below)
        return Result(None, False, steps)

    def place(self, level: _Level, number: int) -> _Level | None:
        """The state after the buffer is put on its floor; None where that leads nowhere."""
        instance = self.instance
        offset = int(level.floor[number])
        self.offsets[number] = offset
        left = level.left.copy()
        left[number] = False
        top = offset + int(instance.size[number])
        raised = np.where(instance.meet[number], np.maximum(level.floor, top), level.floor)
        raised += -raised % instance.alignment
        if not self.feasible(raised, left, offset):
            return None
        return _Level(raised, left, offset, self.choices(raised, left, offset))

    def choices(self, floor: Ints, left: Mask, last: int) -> list[int]:
        """The buffers that may come next, in order of preference.

        One that starts above the end of another is not among them: that other would fit below it.
        """
        open_ = np.flatnonzero(left)
        tops = np.maximum(floor[open_], last) + self.instance.size[open_]
        limit = int(tops.min(initial=self.instance.capacity + 1))
        starts = floor[open_]
        able = open_[(starts >= last) & (starts < limit)]
        return able[np.lexsort((self.rank[able], floor[able]))].tolist()

    def feasible(self, floor: Ints, left: Mask, last: int) -> bool:
        """Whether at every moment the remaining buffers could be stacked, each above its floor."""
        instance = self.instance
        start = np.maximum(floor, last)
        order = np.argsort(-start)
        order = order[left[order]]
        if order.size == 0:
            return True
        heights = np.cumsum(instance.load[:, order], axis=1)
        heights += start[order]
        heights[~instance.live[:, order]] = 0
        over = heights.max(1) > instance.capacity
        if not over.any():
            return True
        self.blame += instance.live[over].any(0) & left
        return False
