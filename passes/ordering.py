"""Orders of tasks with little memory: which of many topological orders keeps the fewest bytes.

    tasks = Tasks(before=[[], [0], [0]], touched=[[0], [0, 1], [0, 2]], sizes=[8, 4, 4])
    least_order(tasks, capacity=12)

A value lives from the first task that touches it to the last one. A beam of partial orders is kept,
of which no two have done the same tasks; the original order is among those compared at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 24
"""Partial orders that are kept."""


@dataclass(frozen=True)
class Tasks:
    """Tasks by number, in an order that is correct."""

    before: Sequence[Sequence[int]]
    """By task, those that must come first."""
    touched: Sequence[Sequence[int]]
    """By task, the values that it reads or writes, each once."""
    sizes: Sequence[int]
    """By value, bytes."""


@dataclass(frozen=True)
class Pressure:
    """What an order asks of a memory."""

    peak: int
    """The most bytes that are live at once."""
    excess: int
    """Bytes beyond the memory's size, summed over the tasks."""


def pressure(tasks: Tasks, order: Sequence[int], capacity: int) -> Pressure:
    """Of one order."""
    left = _touches(tasks)
    live = peak = excess = 0
    seen: set[int] = set()
    for task in order:
        live += sum(tasks.sizes[v] for v in tasks.touched[task] if v not in seen)
        seen.update(tasks.touched[task])
        peak, excess = max(peak, live), excess + max(0, live - capacity)
        for value in tasks.touched[task]:
            left[value] -= 1
            live -= tasks.sizes[value] if not left[value] else 0
    return Pressure(peak, excess)


def _touches(tasks: Tasks) -> list[int]:
    left = [0] * len(tasks.sizes)
    for values in tasks.touched:
        for value in values:
            left[value] += 1
    return left


@dataclass(frozen=True)
class _State:
    """A partial order: tasks done (as bits), what is ready, and touches left of live values."""

    done: int
    ready: tuple[int, ...]
    left: dict[int, int]
    live: int
    peak: int
    excess: int
    task: int = -1
    parent: _State | None = None

    def order(self) -> list[int]:
        found: list[int] = []
        state: _State | None = self
        while state is not None and state.task >= 0:
            found.append(state.task)
            state = state.parent
        return found[::-1]


def least_order(tasks: Tasks, capacity: int, width: int = WIDTH) -> list[int]:
    """An order with little excess over `capacity`, then a low peak; the original one where none
    that is found is better.
    """
    count = len(tasks.before)
    original = list(range(count))
    search = _Search(tasks, capacity)
    states = [search.start()]
    for _ in range(count):
        found: dict[int, _State] = {}
        for state in states:
            for task in state.ready:
                after = search.after(state, task)
                other = found.get(after.done)
                if other is None or _rank(after) < _rank(other):
                    found[after.done] = after
        states = sorted(found.values(), key=_rank)[:width]
    best = states[0].order()
    old, new = (pressure(tasks, o, capacity) for o in (original, best))
    return best if (new.excess, new.peak) < (old.excess, old.peak) else original


def _rank(state: _State) -> tuple[int, int, int]:
    return state.excess, state.peak, state.live


class _Search:
    """What all states of a search share."""

    def __init__(self, tasks: Tasks, capacity: int) -> None:
        self.tasks, self.capacity = tasks, capacity
        self.touches = _touches(tasks)
        self.needed = [sum(1 << t for t in set(before)) for before in tasks.before]
        self.after_: list[list[int]] = [[] for _ in tasks.before]
        for task, before in enumerate(tasks.before):
            for earlier in set(before):
                self.after_[earlier].append(task)

    def start(self) -> _State:
        ready = tuple(t for t, needed in enumerate(self.needed) if not needed)
        return _State(0, ready, {}, 0, 0, 0)

    def after(self, state: _State, task: int) -> _State:
        """The state once a task is done."""
        left, live, sizes = dict(state.left), state.live, self.tasks.sizes
        for value in self.tasks.touched[task]:
            if value not in left:
                left[value] = self.touches[value]
                live += sizes[value]
        peak, excess = max(state.peak, live), state.excess + max(0, live - self.capacity)
        for value in self.tasks.touched[task]:
            left[value] -= 1
            if not left[value]:
                del left[value]
                live -= sizes[value]
        done = state.done | 1 << task
        new = (t for t in self.after_[task] if self.needed[t] & done == self.needed[t])
        ready = (*(t for t in state.ready if t != task), *new)
        return _State(done, ready, left, live, peak, excess, task, state)
