"""A list schedule that gives values their places: a task that begins a value waits until there is
room for it.

    dma  load 1, load 2, load 3, ...        load 3 waits: 1 and 2 take what there is
    mxu          conv 1, conv 2, conv 3     conv 1 ends, its weights are dead, load 3 starts

A value takes its bytes from the start of the first task that touches it until the last one is
complete. That a schedule never gets stuck follows from one that is known: a basis, an order of the
tasks with offsets at which they fit one by one. A task may run ahead of it only if its values take
no byte that another value, which has not begun, has in the basis while they live there. So the
first task of the basis that has not started can always start, with the offsets that it has there,
once those that run are complete.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from npu_dialect.passes.live_profile import LiveProfile
from npu_dialect.passes.schedule import Edges, Schedule, Tasks
from npu_dialect.passes.webs import Web

Ints = NDArray[np.int64]

LOOK = 4
"""Ready tasks that an engine considers where the first ones find no room."""
TOO_SMALL = 1 << 62
PATIENCE = 16
"""An engine idles for up to this part of a task's time where a better task will be ready then."""


@dataclass(frozen=True)
class Rooms:
    """What tasks take room for."""

    sizes: list[int]
    """By value, its bytes."""
    alignments: list[int]
    touched: list[list[int]]
    """By value, the tasks that touch it, ascending."""
    capacity: int
    """Bytes that there are for all of them."""

    @staticmethod
    def of(webs: Mapping[int, Web], capacity: int) -> Rooms:
        """What webs take, in their order."""
        return Rooms(
            [web.high - web.start for web in webs.values()],
            [web.alignment for web in webs.values()],
            [sorted(set(web.touched)) for web in webs.values()],
            capacity,
        )

    @cached_property
    def of_task(self) -> dict[int, list[int]]:
        """By task, the values that it touches."""
        found: dict[int, list[int]] = {}
        for value, tasks in enumerate(self.touched):
            for task in tasks:
                found.setdefault(task, []).append(value)
        return found

    def needed(self, basis: Sequence[int]) -> list[int]:
        """Bytes that are live at each place of an order in which tasks run one by one."""
        places = _places(basis)
        changes = [0] * (len(basis) + 1)
        for size, tasks in zip(self.sizes, self.touched, strict=True):
            changes[min(places[t] for t in tasks)] += size
            changes[max(places[t] for t in tasks) + 1] -= size
        return list(accumulate(changes))[:-1]

    def lives(self, schedule: Schedule) -> list[tuple[int, int]]:
        """When each value begins and ends."""
        starts, ends = schedule.starts, schedule.ends
        return [(min(starts[t] for t in ts), max(ends[t] for t in ts)) for ts in self.touched]


def _places(order: Sequence[int]) -> list[int]:
    """By task, its place in an order."""
    places = [0] * len(order)
    for place, task in enumerate(order):
        places[task] = place
    return places


@dataclass(frozen=True)
class Basis:
    """A solution that is known: the tasks in an order, and offsets at which they fit one by one."""

    order: Sequence[int]
    offsets: Sequence[int]
    """By value."""


@dataclass(frozen=True)
class Rule:
    """Which task an engine prefers, and how far ahead of the basis it may run."""

    rank: Sequence[int]
    """By task; the least comes first."""
    window: int
    """Places of the basis that a task which takes room may be ahead of the first one left."""


def schedule_in_room(
    tasks: Tasks, rooms: Rooms, basis: Basis, rule: Rule
) -> tuple[Schedule, list[int]]:
    """A schedule, and offsets of the values for it."""
    room = _Offsets(rooms, basis)
    run = _Run(tasks, tasks.edges, tasks.latencies, room, rule)
    run.all()
    return Schedule(run.starts, run.ends), room.offsets


def schedule_backwards(tasks: Tasks, rooms: Rooms, order: Sequence[int], rule: Rule) -> Schedule:
    """A schedule in time that runs backwards from the tasks that nothing depends on, for a basis in
    that direction; without offsets, as if what fits in sum fitted.
    """
    run = _Run(tasks, tasks.edges[::-1], [0] * tasks.count, _Room(rooms, order), rule)
    run.all()
    return Schedule(run.starts, run.ends)


class _Run:
    """A simulation of engines and room."""

    def __init__(
        self,
        tasks: Tasks,
        edges: Sequence[Edges],
        latencies: Sequence[int],
        room: _Room,
        rule: Rule,
    ) -> None:
        self.tasks, self.latencies, self.room = tasks, latencies, room
        self.rank, self.window = rule.rank, rule.window
        self.after, before = edges
        self.missing = [len(found) for found in before]
        self.starts, self.ends = [0] * tasks.count, [0] * tasks.count
        self.ready_at = [0] * tasks.count
        engines, self.also = tasks.engines, tasks.also
        self.idle = [True] * engines
        self.changes = 0
        """How often a task started or bytes became free."""
        self.stuck = [-1] * engines
        """By engine, `changes` when none of the tasks that are ready now might start."""
        self.complete = [0] * engines
        self.ready: list[list[tuple[int, int]]] = [[] for _ in range(engines)]
        """By engine, a heap of (rank, task); some may have started out of their turn."""
        self.waits = [False] * tasks.count
        """Whether a task is ready and has not started."""
        self.soon: list[list[tuple[int, int]]] = [[] for _ in range(engines)]
        """By engine, (time, task) of those that will be ready then."""
        self.events = [(0, 0, task) for task, count in enumerate(self.missing) if count == 0]
        """A heap of (time, 0, task that becomes ready), (time, 1, engine that becomes free) and
        (time, 2, task that is complete).
        """
        heapify(self.events)

    def all(self) -> None:
        """Runs to the end."""
        events, queues = self.events, self.tasks.queues
        while events:
            now = events[0][0]
            while events and events[0][0] == now:
                _, kind, number = heappop(events)
                if kind == 0:
                    self.waits[number] = True
                    heappush(self.ready[queues[number]], (self.rank[number], number))
                    self.stuck[queues[number]] = -1
                elif kind == 1:
                    self.idle[number] = True
                    self.changes += bool(self.also)
                elif self.room.complete(number):
                    self.changes += 1
            while self.serve_one(now):
                pass
        assert self.room.first_left is None, "the basis must be a solution"

    def serve_one(self, now: int) -> bool:
        """Starts a task of the first engine that is idle and has one ready that has room."""
        if self.also:
            return self.serve_turns(now)
        for engine, ready in enumerate(self.ready):
            if ready and self.idle[engine] and self.serve(engine, now):
                return True
        return False

    def serve_turns(self, now: int) -> bool:
        """The same where some tasks take two engines: that with the best ready task is first."""
        engines = [e for e, ready in enumerate(self.ready) if ready and self.idle[e]]
        engines.sort(key=lambda e: self.ready[e][0])
        return any(self.serve(engine, now) for engine in engines)

    def serve(self, engine: int, now: int) -> bool:
        """Starts a task of an engine that is idle where one is ready that has room."""
        if self.stuck[engine] == self.changes:
            return False
        task = self.choose(engine)
        if task is None:
            self.stuck[engine] = self.changes
            return False
        if self.is_worth_waiting(engine, task, now):
            heappush(self.ready[engine], (self.rank[task], task))
            return False
        self.room.take(task)
        self.changes += 1
        self.start(task, engine, now)
        return True

    def choose(self, engine: int) -> int | None:
        """The best ready task of an engine that may start; the one that must be able to, too."""
        ready, passed = self.ready[engine], list[tuple[int, int]]()
        found = None
        while ready and len(passed) < LOOK and found is None:
            entry = heappop(ready)
            if not self.waits[entry[1]]:
                continue
            if self.has_engines(entry[1]) and self.room.admits(entry[1], self.window):
                found = entry[1]
            else:
                passed.append(entry)
        first = self.room.first_left
        if found is None and first is not None and self.is_ready(first, engine):
            found = first if self.has_engines(first) and self.room.admits(first, 0) else None
        for entry in passed:
            heappush(ready, entry)
        return found

    def has_engines(self, task: int) -> bool:
        """Whether the other engine that a task needs is idle, if it needs one."""
        return task not in self.also or self.idle[self.also[task]]

    def is_ready(self, task: int, engine: int) -> bool:
        """Whether a task waits for an engine."""
        return self.waits[task] and self.tasks.queues[task] == engine

    def is_worth_waiting(self, engine: int, task: int, now: int) -> bool:
        """Whether a better task than this one will be ready in a small part of its time."""
        self.soon[engine] = [entry for entry in self.soon[engine] if entry[0] > now]
        limit = now + self.tasks.cycles[task] // PATIENCE
        rank = self.rank[task]
        return any(t < limit and self.rank[n] < rank for t, n in self.soon[engine])

    def start(self, task: int, engine: int, now: int) -> None:
        """The engine takes the task; what only waited for it gets its time."""
        latency = self.latencies[task]
        end = now + self.tasks.cycles[task]
        complete = max(self.complete[engine], end + latency)
        self.starts[task], self.ends[task], self.complete[engine] = now, complete, complete
        self.idle[engine], self.waits[task] = False, False
        heappush(self.events, (end, 1, engine))
        if task in self.also:
            self.idle[self.also[task]] = False
            heappush(self.events, (end, 1, self.also[task]))
        heappush(self.events, (complete, 2, task))
        ready_at, missing = self.ready_at, self.missing
        for later, lag in self.after[task]:
            ready = end + lag
            if lag == latency and ready < complete:
                ready = complete
            if ready > ready_at[later]:
                ready_at[later] = ready
            missing[later] -= 1
            if not missing[later]:
                heappush(self.events, (ready_at[later], 0, later))
                self.soon[self.tasks.queues[later]].append((ready_at[later], later))


class _Room:
    """What is taken, now and at each place of the basis once it comes there."""

    def __init__(self, rooms: Rooms, order: Sequence[int]) -> None:
        self.rooms, self.sizes, self.of_task = rooms, rooms.sizes, rooms.of_task
        self.order = order
        self.place = _places(order)
        self.left = [len(tasks) for tasks in rooms.touched]
        """By value, the tasks that touch it and are not complete."""
        self.begun = [False] * len(rooms.sizes)
        self.first = [min(self.place[t] for t in tasks) for tasks in rooms.touched]
        self.last = [max(self.place[t] for t in tasks) for tasks in rooms.touched]
        self.needed = LiveProfile(rooms.needed(order))
        """By place of the basis, bytes taken once it comes there."""
        self.live = 0
        self.started = [False] * len(order)
        self.next_place = 0
        """The first place of the basis whose task has not started."""

    @property
    def first_left(self) -> int | None:
        """The first task of the basis that has not started."""
        return self.order[self.next_place] if self.next_place < len(self.order) else None

    def begins(self, task: int) -> list[int]:
        """The values that a task would begin now."""
        begun = self.begun
        return [v for v in self.of_task.get(task, ()) if not begun[v]]

    def admits(self, task: int, window: int) -> bool:
        """Whether there is room for a task, now and for what comes before it in the basis."""
        begins = self.begins(task)
        if not begins:
            return True
        place, here = self.place[task], self.next_place
        size = sum(self.sizes[v] for v in begins)
        if place > here + window or self.live + size > self.rooms.capacity:
            return False
        past = max(self.first[v] for v in begins)
        if place == here or past <= here:
            return True
        if len(begins) == 1:
            return self.needed.most(here, past) + size <= self.rooms.capacity
        for v in begins:
            self.needed.add(0, self.first[v], self.sizes[v])
        most = self.needed.most(here, past)
        for v in begins:
            self.needed.add(0, self.first[v], -self.sizes[v])
        return most <= self.rooms.capacity

    def take(self, task: int) -> None:
        """The task starts."""
        for v in self.begins(task):
            self.begun[v] = True
            self.live += self.sizes[v]
            self.needed.add(0, self.first[v], self.sizes[v])
        self.started[self.place[task]] = True
        while self.next_place < len(self.started) and self.started[self.next_place]:
            self.next_place += 1

    def complete(self, task: int) -> bool:
        """What no other task touches any more gives its bytes back; whether there is any."""
        is_over = False
        for v in self.of_task.get(task, ()):
            self.left[v] -= 1
            if self.left[v] == 0:
                is_over = True
                self.live -= self.sizes[v]
                self.needed.add(0, self.last[v] + 1, -self.sizes[v])
        return is_over


class _Offsets(_Room):
    """The same, and where it lies."""

    def __init__(self, rooms: Rooms, basis: Basis) -> None:
        super().__init__(rooms, basis.order)
        self.offsets = list(basis.offsets)
        sizes = np.array(rooms.sizes, np.int64)
        self.by_first = sorted(range(sizes.size), key=self.first.__getitem__)
        """The values in the order in which they begin in the basis."""
        self.firsts = [self.first[v] for v in self.by_first]
        self.number = _places(self.by_first)
        """By value, its number in that order; so in the arrays that follow."""
        self.low: Ints = np.array(basis.offsets, np.int64)[self.by_first]
        self.high: Ints = self.low + sizes[self.by_first]
        self.waiting = np.ones(sizes.size, np.bool_)
        """Whether it has not begun."""
        self.taken: dict[int, tuple[int, int]] = {}
        """By value that lives, its bytes."""
        self.found: dict[int, int] = {}
        """By value, the offset that it was last admitted with."""
        self.releases = 0
        """How often bytes became free."""
        self.refused: dict[int, int] = {}
        """By task that found no offsets, `releases` then."""

    def admits(self, task: int, window: int) -> bool:
        if self.refused.get(task) == self.releases or not super().admits(task, window):
            return False
        self.found = {}
        begins = self.begins(task)
        if len(begins) > 1:
            begins.sort(key=lambda v: -self.sizes[v])
        for value in begins:
            offset = self.offset(value, begins)
            if offset is None:
                self.refused[task] = self.releases
                return False
            self.found[value] = offset
        return True

    def offset(self, value: int, begins: Sequence[int]) -> int | None:
        """The value's offset in the basis, or else the smallest gap that holds it."""
        low, high = self.obstacles(value, begins)
        size, own = self.sizes[value], self.offsets[value]
        if not ((low < own + size) & (high > own)).any():
            return own
        order = np.argsort(low)
        ends = np.concatenate((low[order], (self.rooms.capacity,)))
        starts = np.concatenate(((0,), np.maximum.accumulate(high[order])))
        starts += -starts % self.rooms.alignments[value]
        gaps = ends - starts
        gaps[gaps < size] = TOO_SMALL
        best = int(gaps.argmin())
        return int(starts[best]) if gaps[best] < TOO_SMALL else None

    def obstacles(self, value: int, begins: Sequence[int]) -> tuple[Ints, Ints]:
        """Bytes [low, high) of what lives, of what lives in the basis before the value ends there,
        and of what the task begins with it.
        """
        first = bisect_left(self.firsts, self.next_place)
        past = bisect_right(self.firsts, self.last[value])
        waiting = self.waiting[first:past].copy()
        for v in begins:
            if first <= self.number[v] < past:
                waiting[self.number[v] - first] = False
        others = (
            (o := self.found.get(v, self.offsets[v]), o + self.sizes[v])
            for v in begins
            if v != value
        )
        table = np.array([*self.taken.values(), *others], np.int64).reshape(-1, 2)
        low = np.concatenate((self.low[first:past][waiting], table[:, 0]))
        return low, np.concatenate((self.high[first:past][waiting], table[:, 1]))

    def take(self, task: int) -> None:
        for v in self.begins(task):
            low = self.found[v]
            self.releases += low != self.offsets[v]
            self.offsets[v] = low
            self.taken[v] = low, low + self.sizes[v]
            self.waiting[self.number[v]] = False
        super().take(task)

    def complete(self, task: int) -> bool:
        is_over = super().complete(task)
        for v in self.of_task.get(task, ()) if is_over else ():
            if self.left[v] == 0:
                del self.taken[v]
                self.releases += 1
        return is_over
