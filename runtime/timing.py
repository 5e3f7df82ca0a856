"""When each instruction runs. Timing does not depend on data, so that it is computed once per
program.

Engines are in order. An instruction starts when its engine is free and everything it waits for is
complete; its engine is free again `cycles` later, and it is complete `latency` after that, but
never before an earlier one of its engine. Instructions of the `io` engine take no time here: the
conversion of inputs and outputs is reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npu_dialect.cost import Cost
from npu_dialect.runtime.schedule import Plan

Cycles = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """A stretch of the critical path: from `begin` to `end`, nothing but `instruction` was waited
    for.
    """

    instruction: int
    begin: int
    end: int


@dataclass(frozen=True)
class Timing:
    """Times in cycles, by executed instruction."""

    start: Cycles
    free: Cycles
    """When its engine goes on with the next one."""
    end: Cycles
    """When its results are there."""
    makespan: int
    critical: tuple[Span, ...]
    """The critical path, in order of time; the spans cover [0, makespan] without gap or overlap."""

    @property
    def busy(self) -> Cycles:
        """Cycles that each instruction occupies its engine."""
        return self.free - self.start


def scan(plan: Plan, cycles: Sequence[int], latency: Sequence[int]) -> Timing:
    """The times of instructions that take `cycles` and `latency`. Raises CompileError (NPU0604) on
    deadlock.
    """
    n = len(plan.queue_of)
    start, free, end, cause = [0] * n, [0] * n, [0] * n, [-1] * n
    last = [-1] * len(plan.queues)
    for i in plan.order():
        queue = plan.queue_of[i]
        before = last[queue]
        begin, why = (free[before], before) if before >= 0 else (0, -1)
        for q, count in plan.waits[i]:
            awaited = plan.members[q][count - 1] if count else -1
            if awaited >= 0 and end[awaited] > begin:
                begin, why = end[awaited], awaited
        start[i], free[i], cause[i] = begin, begin + cycles[i], why
        end[i] = max(free[i] + latency[i], end[before] if before >= 0 else 0)
        last[queue] = i
    critical = _critical(plan, start, free, end, cause, latency)
    arrays = (np.array(x, np.int64) for x in (start, free, end))
    return Timing(*arrays, makespan=max(end, default=0), critical=critical)


def _critical(
    plan: Plan,
    start: Sequence[int],
    free: Sequence[int],
    end: Sequence[int],
    cause: Sequence[int],
    latency: Sequence[int],
) -> tuple[Span, ...]:
    """Walks back from the last end: an instruction's span reaches to its start, which its cause
    determined.
    """
    previous = _previous(plan)
    spans: list[Span] = []
    i = max(range(len(end)), key=end.__getitem__, default=-1)
    time = end[i] if i >= 0 else 0
    while time > 0:
        if time == end[i]:
            while end[i] > free[i] + latency[i]:
                i = previous[i]
        if start[i] < time:
            spans.append(Span(i, start[i], time))
        time, i = start[i], cause[i]
    return tuple(reversed(spans))


def _previous(plan: Plan) -> dict[int, int]:
    """Per instruction, the one before it in its queue."""
    return {b: a for m in plan.members for a, b in pairwise(m)}


def of_costs(plan: Plan, costs: Sequence[Cost]) -> Timing:
    """The times of a program whose executed instructions have `costs`."""
    io = [plan.queues[q][1] == "io" for q in plan.queue_of]
    cycles = [0 if apart else c.cycles for c, apart in zip(costs, io, strict=True)]
    latency = [0 if apart else c.latency for c, apart in zip(costs, io, strict=True)]
    return scan(plan, cycles, latency)
