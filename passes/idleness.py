"""Why the busiest engine of a program idles: cycles by cause.

    chain dma     a copy is under way whose data the engine needs
    store dma     the copy has left its engine, its results are not there yet
    bytes dma     a copy is under way that must be done before the same bytes are used again
    end vpu       nothing is left for the engine; others finish

Each idle cycle before an instruction is looked for on the chain of what it waits for, the last to
end each time: what runs, or has not stored its results, at that moment is the cause. With
`bytes`, the instruction waits only because bytes are used again, so more room or another
placement would help; all else is the shape of the program: finer tiles, cascades, another order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from npu_dialect.kernel import Kernel
from npu_dialect.npu.base import Instruction
from npu_dialect.passes.prefetch import Search
from npu_dialect.passes.schedule import Schedule, Tasks, in_order
from npu_dialect.target import Target


@dataclass(frozen=True)
class Idleness:
    """The busiest engine, how long it works and the program takes, and why it idles."""

    engine: str
    busy: int
    makespan: int
    causes: Counter[tuple[str, str]]
    """Cycles by (chain, store, bytes or end; engine)."""


def idleness(
    instructions: Sequence[Instruction], target: Target, kernels: Sequence[Kernel]
) -> Idleness:
    """Of a program without repeats, in its order, whatever its waits."""
    tasks = Tasks.of(instructions, target, kernels)
    names = {q: i.engine for q, i in zip(tasks.queues, instructions, strict=True)}
    busy: Counter[int] = Counter()
    for queue, cycles in zip(tasks.queues, tasks.cycles, strict=True):
        busy[queue] += cycles
    queue = max(names, key=lambda q: busy[q])
    free = Search.of(instructions, tasks, target.memories["spm"].size).tasks
    needed = [set(found) for found in free.before]
    walk = _Walk(tasks, in_order(tasks), needed)
    causes: Counter[tuple[str, str]] = Counter()
    for cause, engine, cycles in walk.idle(queue):
        causes[cause, names[engine]] += cycles
    return Idleness(names[queue], busy[queue], walk.schedule.makespan, causes)


class _Walk:
    """Walks from idle times back to what was waited for."""

    def __init__(self, tasks: Tasks, schedule: Schedule, needed: Sequence[set[int]]) -> None:
        self.tasks, self.schedule, self.needed = tasks, schedule, needed
        self.previous = [-1] * tasks.count
        """By task, the one before it in its queue."""
        self.turn = [-1] * tasks.count
        """By task, the one before it that kept its engine or the other that it needs."""
        last: dict[int, int] = {}
        kept: dict[int, int] = {}
        """By engine, the last task that kept it busy, be it of another queue."""
        for task, queue in enumerate(tasks.queues):
            engines = {queue, tasks.also.get(task, queue)}
            self.previous[task] = last.get(queue, -1)
            self.turn[task] = max(kept.get(q, -1) for q in engines)
            last[queue] = task
            kept.update(dict.fromkeys(engines, task))
        self.last = last

    def idle(self, queue: int) -> Iterator[tuple[str, int, int]]:
        """(cause, engine, cycles) of the times at which the engine of a queue does nothing."""
        starts = self.schedule.starts
        for task in (t for t, q in enumerate(self.tasks.queues) if q == queue):
            before = self.previous[task]
            begin = self.free(before) if before >= 0 else 0
            if begin < starts[task]:
                yield from self.causes(task, begin, starts[task])
        end = self.free(self.last[queue])
        if end < self.schedule.makespan:
            final = max(range(self.tasks.count), key=self.schedule.ends.__getitem__)
            yield "end", self.tasks.queues[final], self.schedule.makespan - end

    def free(self, task: int) -> int:
        """When the engine goes on after a task."""
        return self.schedule.starts[task] + self.tasks.cycles[task]

    def causes(self, task: int, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
        """What runs in [begin, end) on the chain that `task`, which starts at `end`, waits for."""
        while begin < end:
            waited = self.waited(task)
            if waited is None:
                return
            is_turn = waited in (self.previous[task], self.turn[task])
            is_needed = waited in self.needed[task] or is_turn
            queue, free = self.tasks.queues[waited], self.free(waited)
            if free < end:
                yield "store" if is_needed else "bytes", queue, end - max(begin, free)
            start = self.schedule.starts[waited]
            if min(end, free) > max(begin, start):
                span = min(end, free) - max(begin, start)
                yield "chain" if is_needed else "bytes", queue, span
            task, end = waited, start

    def waited(self, task: int) -> int | None:
        """What ends last of all that a task waits for: of another queue or its own."""
        own = {self.previous[task], self.turn[task]} - {-1}
        found = [(self.free(each), each) for each in own]
        for p in self.tasks.before[task]:
            if self.tasks.queues[p] != self.tasks.queues[task] or self.tasks.lag(p, task):
                found.append((self.schedule.ends[p], p))
        return max(found)[1] if found else None
