"""The order of instructions: a list schedule over a table of tasks, one per instruction.

    dma  load 1, load 2, store 1, load 3, ...      dma  load 1, load 2, load 3, store 1, ...
    mxu  conv 1, conv 2, conv 3              ->     mxu  conv 1, conv 2, conv 3

Every engine takes its tasks in order; a task starts when the tasks that it depends on are done, and
an engine that is free takes the ready task with the longest way to the end. Dependencies come from
the bytes that instructions touch, so a copy runs ahead as far as the placement of buffers lets it,
across tiles and layers. The schedule is then improved from both ends (each pass orders the tasks by
the times of the pass before, in the other direction), and the best one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

from npu_dialect.cost import Cost
from npu_dialect.kernel import Kernel
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.ordering import Overtaking
from npu_dialect.passes.dependencies import predecessors
from npu_dialect.target import Target

ROUNDS = 2
"""Improvements from both ends."""

Edges = list[list[tuple[int, int]]]
"""For each task, the tasks that an edge leads to, and the cycles that must pass in between."""


@dataclass(frozen=True)
class Tasks:
    """What a schedule needs to know of a program, by instruction in program order."""

    queues: list[int]
    """The number of the engine's queue."""
    cycles: list[int]
    """How long the engine is busy; at least 1."""
    latencies: list[int]
    """Cycles after that until the results are stored."""
    before: list[list[int]]
    """The tasks that must come first."""
    overtaking: frozenset[tuple[int, int]] = frozenset()
    """Pairs of one queue in which the second waits until the results of the first are stored."""

    @staticmethod
    def of(instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]) -> Tasks:
        """The tasks of a program in some order that is correct."""
        names: dict[tuple[int, str], int] = {}
        queues = [names.setdefault((i.core_index, i.engine), len(names)) for i in instructions]
        costs: list[Cost] = [i.cost(target, kernels) for i in instructions]
        before = predecessors(instructions)
        overtaking = Overtaking(instructions)
        return Tasks(
            queues,
            [_cycles(i, c) for i, c in zip(instructions, costs, strict=True)],
            [c.latency for c in costs],
            before,
            frozenset(
                (first, second)
                for second, found in enumerate(before)
                for first in found
                if queues[first] == queues[second] and overtaking.between(first, second)
            ),
        )

    @property
    def count(self) -> int:
        return len(self.queues)

    @cached_property
    def busiest(self) -> int:
        """Cycles of the engine with the most work: no schedule is shorter."""
        busy = [0] * (max(self.queues, default=-1) + 1)
        for queue, cycles in zip(self.queues, self.cycles, strict=True):
            busy[queue] += cycles
        return max(busy, default=0)

    def lag(self, first: int, second: int) -> int:
        """Cycles from the end of a task to the start of one that depends on it."""
        is_hidden = self.queues[first] == self.queues[second]
        if is_hidden and (first, second) not in self.overtaking:
            return 0
        return self.latencies[first]

    @cached_property
    def edges(self) -> tuple[Edges, Edges]:
        """(edges to the tasks that depend on each, edges to those that each depends on)."""
        after: Edges = [[] for _ in self.queues]
        before: Edges = [[] for _ in self.queues]
        for task, found in enumerate(self.before):
            for earlier in found:
                lag = self.lag(earlier, task)
                after[earlier].append((task, lag))
                before[task].append((earlier, lag))
        return after, before


def _cycles(instruction: Instruction, cost: Cost) -> int:
    """Conversions of inputs and outputs take no time: they are reported apart."""
    return 1 if instruction.engine == "io" else max(1, cost.cycles)


@dataclass(frozen=True)
class Schedule:
    """When each task starts, and when the last result is there."""

    starts: list[int]
    makespan: int


def schedule(
    instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]
) -> list[Instruction]:
    """The instructions in the order in which the best schedule found starts them."""
    found = best_schedule(Tasks.of(instructions, target, kernels))
    order = sorted(range(len(instructions)), key=lambda i: (found.starts[i], i))
    return [instructions[i] for i in order]


def best_schedule(tasks: Tasks) -> Schedule:
    """The shortest of the schedules tried; the first of equals."""
    return min(_schedules(tasks), key=lambda s: s.makespan)


def _schedules(tasks: Tasks) -> Iterator[Schedule]:
    yield list_schedule(tasks, range(tasks.count, 0, -1))
    found = list_schedule(tasks, longest_paths(tasks))
    yield found
    for _ in range(ROUNDS):
        ends = [s + c for s, c in zip(found.starts, tasks.cycles, strict=True)]
        backwards = list_schedule(tasks, ends, reverse=True)
        found = list_schedule(
            tasks, [s + c for s, c in zip(backwards.starts, tasks.cycles, strict=True)]
        )
        yield found


def longest_paths(tasks: Tasks) -> list[int]:
    """Cycles from the start of each task to the end of the program, if engines were never busy."""
    after, _ = tasks.edges
    length = [0] * tasks.count
    for task in range(tasks.count - 1, -1, -1):
        rest = max((lag + length[later] for later, lag in after[task]), default=0)
        length[task] = tasks.cycles[task] + max(rest, tasks.latencies[task])
    return length


def list_schedule(tasks: Tasks, priority: Iterable[int], reverse: bool = False) -> Schedule:
    """A schedule in which no engine idles while it has a ready task; the greatest priority first.

    `reverse` runs time backwards, from the tasks that nothing depends on.
    """
    after, before = tasks.edges
    if reverse:
        after, before = before, after
    run = _Run(tasks, after, [len(found) for found in before], [-p for p in priority])
    run.all()
    ends = (s + c for s, c in zip(run.starts, tasks.cycles, strict=True))
    makespan = max((e + d for e, d in zip(ends, tasks.latencies, strict=True)), default=0)
    return Schedule(run.starts, makespan)


class _Run:
    """A simulation of the engines."""

    def __init__(self, tasks: Tasks, after: Edges, missing: list[int], rank: list[int]) -> None:
        self.tasks, self.after, self.missing, self.rank = tasks, after, missing, rank
        self.starts = [0] * tasks.count
        self.ready_at = [0] * tasks.count
        engines = max(tasks.queues, default=-1) + 1
        self.idle = [True] * engines
        self.ready: list[list[tuple[int, int]]] = [[] for _ in range(engines)]
        """By engine, a heap of (rank, task)."""
        self.events = [(0, task) for task, count in enumerate(missing) if count == 0]
        """A heap of (time, task that becomes ready), or (time, -1 - engine that becomes free)."""
        heapify(self.events)

    def all(self) -> None:
        """Runs to the end."""
        events, queues = self.events, self.tasks.queues
        while events:
            now = events[0][0]
            touched: set[int] = set()
            while events and events[0][0] == now:
                number = heappop(events)[1]
                if number < 0:
                    engine = -1 - number
                    self.idle[engine] = True
                else:
                    engine = queues[number]
                    heappush(self.ready[engine], (self.rank[number], number))
                touched.add(engine)
            for engine in sorted(touched):
                if self.idle[engine] and self.ready[engine]:
                    self.start(heappop(self.ready[engine])[1], engine, now)

    def start(self, task: int, engine: int, now: int) -> None:
        """The engine takes the task; what only waited for it gets its time."""
        end = now + self.tasks.cycles[task]
        self.starts[task] = now
        self.idle[engine] = False
        heappush(self.events, (end, -1 - engine))
        for later, lag in self.after[task]:
            self.ready_at[later] = max(self.ready_at[later], end + lag)
            self.missing[later] -= 1
            if self.missing[later] == 0:
                heappush(self.events, (self.ready_at[later], later))
