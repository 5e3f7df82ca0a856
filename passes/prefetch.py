"""Orders instructions with the room of their values in mind, and gives the values their places.

    dma  load 1 to 0, load 2 to 64, load 3 to 0 ...     load 3 waits until nobody reads load 1
    dma  load 1 to 0, load 2 to 64, load 3 to 128 ...   moved: there is room for it

tile-allocate places buffers before the order of instructions is known, and a schedule on its
offsets waits wherever bytes are used again. Here offsets are what a schedule starts from: what must
hold are values (`webs`) and the order that reading and writing them needs. Schedules that place
values as they go (`rooms`) are tried with several rules, from the program as it is and from what
was found before. The schedule on the offsets of tile-allocate remains where none is shorter. At
last everything starts as late as it may without anything ending later: values that live as short as
they can take the least room (`npu-pack`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from npu_dialect.kernel import Kernel
from npu_dialect.npu.base import Instruction
from npu_dialect.passes.allocation import Buffer, pack
from npu_dialect.passes.demand import demand_ranks
from npu_dialect.passes.rooms import Basis, Rooms, Rule, schedule_backwards, schedule_in_room
from npu_dialect.passes.schedule import Schedule, Tasks, best_schedule, in_order, longest_paths
from npu_dialect.passes.webs import Span, Values, Web, move, moved, overlaps
from npu_dialect.target import Target

MOST = 8_000
"""Instructions up to which values are placed anew."""
WORK = 30_000
"""Tasks that are scheduled in all attempts together."""
ATTEMPTS = 5, 18
"""The least and the most attempts."""
ROUND = 3
"""Attempts that start from what was found before: forwards, backwards, forwards."""
WINDOW = 128
"""Places that a task may run ahead, where that is limited."""
APART = 1 << 12
"""Distance between values where each has bytes of its own; the alignment of any element."""


@dataclass(frozen=True)
class Ordered:
    """Instructions in the order of a schedule, and the bytes that their operands have moved."""

    instructions: list[Instruction]
    steps: dict[Instruction, list[int]]


def ordered(
    instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]
) -> Ordered:
    """Instructions in some order that is correct, in a better one; operands are moved in place."""
    tasks = Tasks.of(instructions, target, kernels)
    found = best_schedule(tasks)
    if len(instructions) > MOST:
        return Ordered([instructions[k] for k in found.order], {})
    capacity = target.memories["spm"].size
    search = Search.of(instructions, tasks, capacity)
    better = search.shorter_than(found) if found.makespan > tasks.busiest else None
    moving: dict[Instruction, list[int]] = {}
    if better is not None:
        found = better.schedule
        steps = search.values.steps(search.moves(better.offsets))
        moving = {i: step for i, step in zip(instructions, steps, strict=True) if any(step)}
        for instruction, step in moving.items():
            move(instruction, step)
    order = found.order
    tasks = tasks.reordered(order)
    return Ordered(_late([instructions[k] for k in order], tasks, capacity), moving)


def _late(instructions: Sequence[Instruction], tasks: Tasks, capacity: int) -> list[Instruction]:
    """Instructions in an order that is correct, in the order in which they start at the latest.

    `tasks` are theirs, without dependencies: these follow from the places that values have now.
    """
    tasks = tasks.depending(instructions)
    webs = Values(instructions, capacity).webs
    webs.join_close()
    found = latest(tasks, Rooms.of(webs.found, capacity), in_order(tasks))
    return [instructions[k] for k in found.order]


@dataclass(frozen=True)
class Placed:
    """A schedule, and offsets of the values for it."""

    schedule: Schedule
    offsets: Sequence[int]

    @property
    def makespan(self) -> int:
        return self.schedule.makespan

    @property
    def basis(self) -> Basis:
        return Basis(self.schedule.order, self.offsets)


@dataclass(frozen=True)
class Search:
    """The search for a shorter schedule with offsets for its values."""

    values: Values
    webs: dict[int, Web]
    """By the write that stands for each."""
    tasks: Tasks
    """With the dependencies that remain where each value has bytes of its own."""
    rooms: Rooms

    @staticmethod
    def of(instructions: Sequence[Instruction], tasks: Tasks, capacity: int) -> Search:
        values = Values(instructions, capacity)
        values.webs.join_interleaved()
        webs = values.webs.found
        rooms = Rooms.of(webs, capacity)
        return Search(values, webs, tasks.depending(_apart(values, webs)), rooms)

    @property
    def given(self) -> list[int]:
        """The offsets of the values as they are."""
        return [web.start for web in self.webs.values()]

    def moves(self, offsets: Sequence[int]) -> dict[int, int]:
        """By web, the bytes that it moves."""
        pairs = zip(self.webs.items(), offsets, strict=True)
        return {root: offset - web.start for (root, web), offset in pairs}

    def shorter_than(self, known: Schedule) -> Placed | None:
        """What is found that is shorter."""
        if not self.webs:
            return None
        least, most = ATTEMPTS
        attempts = max(least, min(most, WORK // self.tasks.count))
        starts = list(islice(self._starts(known), attempts - ROUND))
        best = min((self._run(*start) for start in starts), key=lambda p: p.makespan)
        for _ in range((attempts - len(starts)) // ROUND):
            found = self._improved(best)
            if found.makespan >= best.makespan:
                break
            best = found
        return best if best.makespan < known.makespan else None

    def _starts(self, known: Schedule) -> Iterator[tuple[Basis, Rule]]:
        """What is tried at first, the most promising first."""
        count = self.tasks.count
        program = range(count)
        given = Basis(program, self.given)
        paths = [-p for p in longest_paths(self.tasks)]
        yield given, Rule(program, count)
        yield given, Rule(paths, count)
        if not overlaps(self._spans(known)):
            yield Basis(known.order, self.given), Rule(known.starts, count)
        yield given, Rule(demand_ranks(self.tasks.before), count)
        low = Basis(program, self._low())
        yield low, Rule(program, WINDOW)
        yield low, Rule(paths, WINDOW // 8)
        yield given, Rule(program, WINDOW)

    def _spans(self, known: Schedule) -> list[Span]:
        """The values as spans of places in the order of a schedule and of given addresses."""
        place = {task: k for k, task in enumerate(known.order)}
        return [
            Span(min(place[t] for t in ts), max(place[t] for t in ts), web.start, web.high, root)
            for (root, web), ts in zip(self.webs.items(), self.rooms.touched, strict=True)
        ]

    def _low(self) -> list[int]:
        """Offsets for the order of the program, in little memory."""
        rooms = self.rooms
        rows = zip(rooms.touched, rooms.sizes, rooms.alignments, strict=True)
        buffers = [Buffer(k, ts[0], ts[-1] + 1, s, a) for k, (ts, s, a) in enumerate(rows)]
        offsets = pack(buffers, effort=0)
        fits = all(offsets[b.id] + b.size <= rooms.capacity for b in buffers)
        return [offsets[b.id] for b in buffers] if fits else self.given

    def _run(self, basis: Basis, rule: Rule) -> Placed:
        return Placed(*schedule_in_room(self.tasks, self.rooms, basis, rule))

    def _improved(self, found: Placed) -> Placed:
        """From both ends, as in `schedule`."""
        count = self.tasks.count
        first = self._run(found.basis, Rule(found.schedule.starts, count))
        rule = Rule(self._backwards(first.schedule), count)
        order = first.schedule.order
        back = schedule_backwards(self.tasks, self.rooms, order[::-1], rule)
        second = self._run(first.basis, Rule(self._backwards(back), count))
        return min(first, second, key=lambda p: p.makespan)

    def _backwards(self, found: Schedule) -> list[int]:
        """Ranks for the other direction of time."""
        return [-(s + c) for s, c in zip(found.starts, self.tasks.cycles, strict=True)]


def _apart(values: Values, webs: dict[int, Web]) -> list[Instruction]:
    """The instructions with bytes of its own for each value."""
    steps: dict[int, int] = {}
    end = 0
    for root, web in webs.items():
        steps[root] = end - web.low + web.low % APART
        end += (web.high - web.low) // APART * APART + 2 * APART
    by_instruction = values.steps(steps)
    return [
        moved(i, step) if any(step) else i
        for i, step in zip(values.instructions, by_instruction, strict=True)
    ]


def latest(tasks: Tasks, rooms: Rooms, found: Schedule) -> Schedule:
    """The schedule with every task as late as it may be: engines take their tasks in the same
    order, nothing ends later, no value lives longer.
    """
    after, _ = tasks.edges
    due = [found.makespan] * tasks.count
    """By task, when its results must be there."""
    for (_, end), touched in zip(rooms.lives(found), rooms.touched, strict=True):
        for task in touched:
            due[task] = min(due[task], end)
    starts = [0] * tasks.count
    free: dict[int, int] = {}
    """By queue, when the task that comes next starts."""
    stored: dict[int, int] = {}
    """By queue, when the results of the task that comes next must be there."""
    for task in reversed(found.order):
        queue, latency = tasks.queues[task], tasks.latencies[task]
        end = free.get(queue, found.makespan)
        if task in tasks.also:
            end = min(end, free.get(tasks.also[task], end))
        due[task] = min(due[task], stored.get(queue, found.makespan))
        last = due[task]
        for later, lag in after[task]:
            start = starts[later]
            if lag != latency:
                start -= lag
                if start < end:
                    end = start
            elif start < last:
                last = start
        due[task] = last
        starts[task] = min(end, last - latency) - tasks.cycles[task]
        free[queue], stored[queue] = starts[task], last
        if task in tasks.also:
            free[tasks.also[task]] = starts[task]
    return Schedule(starts, _ends(tasks, starts, found.order))


def _ends(tasks: Tasks, starts: Sequence[int], order: Sequence[int]) -> list[int]:
    """When the results of each task are there, for engines that take their tasks in this order."""
    ends = [0] * tasks.count
    complete: dict[int, int] = {}
    for task in order:
        own = starts[task] + tasks.cycles[task] + tasks.latencies[task]
        complete[tasks.queues[task]] = max(own, complete.get(tasks.queues[task], 0))
        ends[task] = complete[tasks.queues[task]]
    return ends
