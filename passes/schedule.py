"""The order of instructions: a list schedule over a table of tasks, one per instruction.

    dma  load 1, load 2, store 1, load 3, ...      dma  load 1, load 2, load 3, store 1, ...
    mxu  conv 1, conv 2, conv 3              ->     mxu  conv 1, conv 2, conv 3

Every engine takes its tasks in order; a task starts when the tasks that it depends on are done, and
an engine that is free takes the ready task with the longest way to the end, or the one that is
asked for first (`demand`). Dependencies come from the bytes that instructions touch, so a copy runs
ahead as far as the placement of buffers lets it, across tiles and layers. A task of the array that
reads dram takes two engines, its own and that of copies. The schedule is then improved from both
ends (each pass orders the tasks by the times of the pass before, in the other direction), and the
best one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heapify, heappop, heappush, nsmallest

from npu_dialect.cost import Cost
from npu_dialect.kernel import Kernel
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.ordering import Overtaking
from npu_dialect.passes.demand import demand_ranks
from npu_dialect.passes.dependencies import predecessors
from npu_dialect.target import Target

ROUNDS = 2
"""Improvements from both ends."""

LOOK = 4
"""Ready tasks that an engine considers where the first ones need another engine too."""

Edges = list[list[tuple[int, int]]]
"""For each task, the tasks that an edge leads to, and the cycles that must pass in between."""


@dataclass(frozen=True)
class Tasks:
    """What a schedule needs to know of a program, by instruction in program order."""

    queues: list[int]
    """The number of the engine's queue."""
    cycles: list[int]
    """How long the engine is busy."""
    latencies: list[int]
    """Cycles after that until the results are stored."""
    before: list[list[int]]
    """The tasks that must come first."""
    overtaking: frozenset[tuple[int, int]] = frozenset()
    """Pairs of one queue in which the second waits until the results of the first are stored."""
    also: dict[int, int] = field(default_factory=dict[int, int])
    """By task that keeps the engine of another queue busy too, that queue: of the array's tasks
    those that read dram, the copies'.
    """

    @staticmethod
    def of(instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]) -> Tasks:
        """The tasks of a program in some order that is correct."""
        names: dict[tuple[int, str], int] = {}
        together = {"vpu": "mxu"} if target.vector.is_output_stage else {}
        engines = ((i.core_index, together.get(i.engine, i.engine)) for i in instructions)
        queues = [names.setdefault(engine, len(names)) for engine in engines]
        costs = [_cost(i, target, kernels) for i in instructions]
        times = [c.cycles for c in costs], [c.latency for c in costs]
        takers = [(k, i.core_index) for k, i in enumerate(instructions) if i.takes_dma]
        also = {k: names.setdefault((core, "dma"), len(names)) for k, core in takers}
        return Tasks(queues, *times, *_dependencies(instructions, queues), also)

    def depending(self, instructions: Sequence[Instruction]) -> Tasks:
        """The same tasks, with the dependencies of instructions on other addresses."""
        before, overtaking = _dependencies(instructions, self.queues)
        return replace(self, before=before, overtaking=overtaking)

    def reordered(self, order: Sequence[int]) -> Tasks:
        """The same tasks in another order of the program, without dependencies."""
        each = (self.queues, self.cycles, self.latencies)
        queues, cycles, latencies = ([row[k] for k in order] for row in each)
        also = {k: self.also[task] for k, task in enumerate(order) if task in self.also}
        return Tasks(queues, cycles, latencies, [[] for _ in order], also=also)

    @property
    def engines(self) -> int:
        """How many queues there are."""
        return max((*self.queues, *self.also.values()), default=-1) + 1

    @property
    def count(self) -> int:
        return len(self.queues)

    @cached_property
    def busiest(self) -> int:
        """Cycles of the engine with the most work: no schedule is shorter."""
        busy = [0] * self.engines
        for queue, cycles in zip(self.queues, self.cycles, strict=True):
            busy[queue] += cycles
        for task, queue in self.also.items():
            busy[queue] += self.cycles[task]
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
        queues, latencies, overtaking = self.queues, self.latencies, self.overtaking
        for task, found in enumerate(self.before):
            queue, mine = queues[task], before[task]
            for earlier in found:
                is_hidden = queues[earlier] == queue and (earlier, task) not in overtaking
                lag = 0 if is_hidden else latencies[earlier]
                after[earlier].append((task, lag))
                mine.append((earlier, lag))
        return after, before


def _dependencies(
    instructions: Sequence[Instruction], queues: Sequence[int]
) -> tuple[list[list[int]], frozenset[tuple[int, int]]]:
    """What each instruction follows, and which of the pairs are of one queue and overtake."""
    before = predecessors(instructions)
    overtaking = Overtaking(instructions)
    own = ((f, s) for s, found in enumerate(before) for f in found if queues[f] == queues[s])
    return before, frozenset(pair for pair in own if overtaking.between(*pair))


def _cost(instruction: Instruction, target: Target, kernels: Sequence[Kernel]) -> Cost:
    """Conversions of inputs and outputs take no time: they are reported apart."""
    return Cost(0) if instruction.engine == "io" else instruction.cost(target, kernels)


@dataclass(frozen=True)
class Schedule:
    """When each task runs."""

    starts: list[int]
    ends: list[int]
    """When its results are there, and those of all earlier tasks of its queue."""

    @cached_property
    def makespan(self) -> int:
        return max(self.ends, default=0)

    @cached_property
    def order(self) -> list[int]:
        """The tasks in the order in which they start; of equal ones the first in the program."""
        return sorted(range(len(self.starts)), key=lambda task: (self.starts[task], task))


def schedule(
    instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]
) -> list[Instruction]:
    """The instructions in the order in which the best schedule found starts them."""
    found = best_schedule(Tasks.of(instructions, target, kernels))
    return [instructions[i] for i in found.order]


def best_schedule(tasks: Tasks) -> Schedule:
    """The shortest of the schedules tried; the first of equals."""
    return min(_schedules(tasks), key=lambda s: s.makespan)


def _schedules(tasks: Tasks) -> Iterator[Schedule]:
    yield list_schedule(tasks, range(tasks.count, 0, -1))
    yield from _improved(tasks, longest_paths(tasks), ROUNDS)
    yield from _improved(tasks, [-rank for rank in demand_ranks(tasks.before)], 1)


def _improved(tasks: Tasks, priority: Sequence[int], rounds: int) -> Iterator[Schedule]:
    """The schedule by a priority, and what comes of it from both ends."""
    found = list_schedule(tasks, priority)
    yield found
    for _ in range(rounds):
        ends = [s + c for s, c in zip(found.starts, tasks.cycles, strict=True)]
        backwards = list_schedule(tasks, ends, reverse=True)
        found = list_schedule(
            tasks, [s + c for s, c in zip(backwards.starts, tasks.cycles, strict=True)]
        )
        yield found


def in_order(tasks: Tasks) -> Schedule:
    """The schedule of engines that take their tasks in the order of the program."""
    starts, ends = [0] * tasks.count, [0] * tasks.count
    free: dict[int, int] = {}
    complete: dict[int, int] = {}
    queues, also = tasks.queues, tasks.also
    for task, (queue, found) in enumerate(zip(queues, tasks.before, strict=True)):
        start = free.get(queue, 0)
        if task in also:
            start = max(start, free.get(also[task], 0))
        for p in found:
            if ends[p] > start and (queues[p] != queue or tasks.lag(p, task)):
                start = ends[p]
        starts[task] = start
        free[queue] = starts[task] + tasks.cycles[task]
        if task in also:
            free[also[task]] = free[queue]
        ends[task] = max(free[queue] + tasks.latencies[task], complete.get(queue, 0))
        complete[queue] = ends[task]
    return Schedule(starts, ends)


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
    return Schedule(run.starts, run.ends)


class _Run:
    """A simulation of the engines."""

    def __init__(self, tasks: Tasks, after: Edges, missing: list[int], rank: list[int]) -> None:
        self.tasks, self.after, self.missing, self.rank = tasks, after, missing, rank
        self.starts = [0] * tasks.count
        self.ends = [0] * tasks.count
        self.ready_at = [0] * tasks.count
        engines, self.also = tasks.engines, tasks.also
        self.idle = [True] * engines
        self.complete = [0] * engines
        """By engine, when all is stored that it has started; in time that runs forward."""
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
            if self.also:
                while self.serve_turns(now):
                    pass
                continue
            for engine in sorted(touched):
                if self.idle[engine] and self.ready[engine]:
                    self.start(heappop(self.ready[engine])[1], engine, now)

    def serve_turns(self, now: int) -> bool:
        """Starts the best task whose engines are all idle; whether there is one."""
        idle, also = self.idle, self.also
        best: tuple[int, int] | None = None
        for engine, ready in enumerate(self.ready):
            if ready and idle[engine]:
                for entry in nsmallest(LOOK, ready):
                    if entry[1] not in also or idle[also[entry[1]]]:
                        best = entry if best is None else min(best, entry)
                        break
        if best is None:
            return False
        engine = self.tasks.queues[best[1]]
        self.ready[engine].remove(best)
        heapify(self.ready[engine])
        self.start(best[1], engine, now)
        return True

    def start(self, task: int, engine: int, now: int) -> None:
        """The engine takes the task; what only waited for it gets its time."""
        end = now + self.tasks.cycles[task]
        complete = max(self.complete[engine], end + self.tasks.latencies[task])
        self.starts[task], self.ends[task], self.complete[engine] = now, complete, complete
        self.idle[engine] = False
        heappush(self.events, (end, -1 - engine))
        if task in self.also:
            self.idle[self.also[task]] = False
            heappush(self.events, (end, -1 - self.also[task]))
        latency, ready_at, missing = self.tasks.latencies[task], self.ready_at, self.missing
        for later, lag in self.after[task]:
            ready = end + lag
            if lag == latency and ready < complete:
                ready = complete
            if ready > ready_at[later]:
                ready_at[later] = ready
            missing[later] -= 1
            if not missing[later]:
                heappush(self.events, (ready_at[later], later))
