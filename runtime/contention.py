"""When instructions run if engines share the ports of the memories: an event-driven model beside
the scan of `timing.py`, in which every engine has ports of its own.

Each shared memory is one server of the width of its ports. An instruction asks it for its traffic
in bursts of `BURST` cycles, each once the one before is served, and evenly over its own cycles at
the earliest. The server takes bursts in the order in which they are asked for; of those asked for
at the same time, the one of the engine that comes first in the program (static arbitration). An
instruction occupies its engine until its own cycles have passed and its last burst is served.

Without competition every burst is served at once, and times are those of the scan; they are never
earlier. What an instruction asks a memory for: all its cycles where the memory bounds it (so that
startup and the loss of short runs count), else its bytes over the width of its port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npu_dialect.cost import Cost
from npu_dialect.runtime.schedule import Plan
from npu_dialect.target import Target

if TYPE_CHECKING:
    from npu_dialect.runtime.profile import Profile

Words = npt.NDArray[np.int64]
Demand = Mapping[str, int]
"""Cycles that an instruction asks each memory for."""

BURST = 64
"""Cycles of a memory that are given to one engine at a time."""

SHARED = ("dram", "spm")
"""The memories whose ports are shared; accumulators belong to the array alone."""


@dataclass(frozen=True, eq=False)
class Contention:
    """Times with shared ports, by executed instruction."""

    start: Words
    free: Words
    end: Words
    waited: Mapping[str, Words]
    """Cycles that bursts wait in the queue of each memory."""
    busy: Mapping[str, int]
    """Cycles in which each memory serves."""

    @property
    def makespan(self) -> int:
        """When everything is complete."""
        return int(self.end.max(initial=0))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        memories = {
            space: {"busy": busy, "waited": int(self.waited[space].sum())}
            for space, busy in self.busy.items()
        }
        return {"cycles": self.makespan, "memories": memories}


def of(profile: Profile, burst: int = BURST) -> Contention:
    """The times of a program whose engines share ports."""
    plan, engines = profile.plan, [engine for _, engine in profile.plan.queues]
    apart = [engine == "io" for engine in engines]
    both = zip(profile.costs, plan.queue_of, strict=True)
    demands = [{} if apart[q] else demand(c, profile.target, engines[q]) for c, q in both]
    cycles, latency = (
        [0 if apart[q] else getattr(c, name) for c, q in
         zip(profile.costs, plan.queue_of, strict=True)]
        for name in ("cycles", "latency")
    )  # fmt: skip
    return simulate(plan, cycles, latency, demands, burst)


def demand(cost: Cost, target: Target, engine: str) -> dict[str, int]:
    """Cycles that an instruction asks each shared memory for, at most its own."""
    found: dict[str, int] = {}
    for space in SHARED:
        moved = cost.reads.get(space, 0) + cost.writes.get(space, 0)
        width = target.memories[space].ports.get(engine)
        if moved and width:
            asked = cost.cycles if cost.bound == space else ceil(moved / width)
            found[space] = min(cost.cycles, asked)
    return found


def simulate(
    plan: Plan,
    cycles: Sequence[int],
    latency: Sequence[int],
    demands: Sequence[Demand],
    burst: int = BURST,
) -> Contention:
    """The times of instructions that take `cycles` and `latency` and ask memories for `demands`.
    Raises CompileError (NPU0604) on deadlock.
    """
    plan.order()  # there is one
    return _Events(plan, cycles, latency, demands, burst).run()


@dataclass
class _Stream:
    """What one running instruction still asks one memory for."""

    instruction: int
    space: str
    left: int
    pace: float
    """Cycles from one burst to the next at the least."""
    asked: int = 0
    """Bursts so far."""


@dataclass
class _Events:
    """The bursts that are waiting, and what starts when what is complete."""

    plan: Plan
    cycles: Sequence[int]
    latency: Sequence[int]
    demands: Sequence[Demand]
    burst: int
    heap: list[tuple[int, int, int, str, _Stream]] = field(
        default_factory=list[tuple[int, int, int, str, "_Stream"]]
    )
    """(when it is asked for, queue, number, memory, stream)"""

    def __post_init__(self) -> None:
        n = len(self.cycles)
        self.offsets: list[int] = self.plan.offsets.tolist()
        self.awaited: list[int] = self.plan.awaited.tolist()
        self.turns: list[int] = self.plan.turn.tolist()
        self.start, self.free, self.end = [0] * n, [0] * n, [0] * n
        self.streams = [0] * n
        self.before = [-1] * n
        self.readers: list[list[int]] = [[] for _ in range(n)]
        self.missing = [0] * n
        for i, j in self._needs():
            self.readers[j].append(i)
            self.missing[i] += 1
        names = {space for table in self.demands for space in table}
        self.until = dict.fromkeys(names, 0)
        self.busy = dict.fromkeys(names, 0)
        self.waited = {space: np.zeros(n, np.int64) for space in names}

    def _needs(self) -> Iterator[tuple[int, int]]:
        """(instruction, one that must be complete or have left the engine before it starts)."""
        offsets, awaited = self.offsets, self.awaited
        for members in self.plan.members:
            for earlier, later in pairwise(members):
                self.before[later] = earlier
                yield later, earlier
        for i, turn in enumerate(self.turns):
            for j in awaited[offsets[i] : offsets[i + 1]]:
                yield i, j
            if turn >= 0:
                yield i, turn

    def run(self) -> Contention:
        ready = [i for i, count in enumerate(self.missing) if not count]
        self._begin(ready)
        while self.heap:
            asked, *_, stream = heappop(self.heap)
            self._serve(asked, stream)
        arrays = (np.array(x, np.int64) for x in (self.start, self.free, self.end))
        return Contention(*arrays, waited=self.waited, busy=self.busy)

    def _begin(self, ready: list[int]) -> None:
        """Starts instructions, and those that start when they are complete."""
        while ready:
            i = ready.pop()
            self.start[i] = self._earliest(i)
            self.free[i] = self.start[i] + self.cycles[i]
            wanted = {space: d for space, d in self.demands[i].items() if d}
            self.streams[i] = len(wanted)
            for space, left in wanted.items():
                pace = self.cycles[i] / ceil(left / self.burst)
                self._ask(self.start[i], _Stream(i, space, left, pace))
            if not wanted:
                ready += self._complete(i)

    def _earliest(self, i: int) -> int:
        times = [self.end[j] for j in self.awaited[self.offsets[i] : self.offsets[i + 1]]]
        times += [self.free[j] for j in (self.before[i], self.turns[i]) if j >= 0]
        return max(times, default=0)

    def _ask(self, time: int, stream: _Stream) -> None:
        i = stream.instruction
        heappush(self.heap, (time, self.plan.queue_of[i], i, stream.space, stream))

    def _serve(self, asked: int, stream: _Stream) -> None:
        i, space = stream.instruction, stream.space
        size = min(self.burst, stream.left)
        begin = max(asked, self.until[space])
        done = self.until[space] = begin + size
        self.busy[space] += size
        self.waited[space][i] += begin - asked
        stream.left -= size
        stream.asked += 1
        if stream.left:
            self._ask(max(done, self.start[i] + int(stream.asked * stream.pace)), stream)
            return
        self.free[i] = max(self.free[i], done)
        self.streams[i] -= 1
        if not self.streams[i]:
            self._begin(self._complete(i))

    def _complete(self, i: int) -> list[int]:
        """The instructions that can start now that the times of this one are known."""
        earlier = self.before[i]
        own = self.free[i] + self.latency[i]
        self.end[i] = max(own, self.end[earlier] if earlier >= 0 else 0)
        ready: list[int] = []
        for j in self.readers[i]:
            self.missing[j] -= 1
            if not self.missing[j]:
                ready.append(j)
        return ready
