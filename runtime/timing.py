"""When each instruction runs. Timing does not depend on data, so that it is computed once per
program.

Engines are in order. An instruction starts when its engine is free (where engines take turns, the
other one too) and everything it waits for is complete; its engine is free again `cycles` later, and
it is complete `latency` after that, but never before an earlier one of its engine. Instructions of
the `io` engine take no time here: the conversion of inputs and outputs is reported apart.

Each time is a maximum of sums of earlier ones, so that one pass over the program finds all of them:
in Python for short programs (`scan_plain`, the definition), else as native code
(`runtime/compiled/scan.py`) where llvmlite is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from npu_dialect.cost import Cost
from npu_dialect.runtime.schedule import Plan

Cycles = npt.NDArray[np.int64]

NATIVE_FROM = 20_000
"""Instructions from which on native code is worth loading llvmlite."""


@dataclass(frozen=True)
class Span:
    """A stretch of the critical path: from `begin` to `end`, nothing but `instruction` was waited
    for.
    """

    instruction: int
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Timing:
    """Times in cycles, by executed instruction."""

    start: Cycles
    free: Cycles
    """When its engine goes on with the next one."""
    end: Cycles
    """When its results are there."""
    path: Cycles
    """The critical path as rows of instruction, begin, end."""

    @property
    def makespan(self) -> int:
        """When everything is complete."""
        return int(self.end.max(initial=0))

    @cached_property
    def critical(self) -> tuple[Span, ...]:
        """The critical path, in order of time; the spans cover [0, makespan] without gap or
        overlap.
        """
        return tuple(Span(*row) for row in self.path.tolist())

    @property
    def busy(self) -> Cycles:
        """Cycles that each instruction occupies its engine."""
        return self.free - self.start


def scan(plan: Plan, cycles: Cycles, latency: Cycles) -> Timing:
    """The times of instructions that take `cycles` and `latency`. Raises CompileError (NPU0604) on
    deadlock.
    """
    if len(cycles) >= NATIVE_FROM:
        try:
            return scan_native(plan, cycles, latency)
        except ImportError:
            pass
    return scan_plain(plan, cycles.tolist(), latency.tolist())


def scan_native(plan: Plan, cycles: Cycles, latency: Cycles) -> Timing:
    """As `scan_plain`, by native code. Raises CompileError (NPU0604) on deadlock, ImportError
    without llvmlite.
    """
    from npu_dialect.runtime.compiled import scan as native

    chosen = plan.order()
    order = np.arange(len(chosen)) if isinstance(chosen, range) else np.array(chosen, np.int64)
    cycles, latency = (np.ascontiguousarray(x, np.int64) for x in (cycles, latency))
    start, free, end, cause, before = native.scan(
        order, plan.queue, plan.offsets, plan.awaited, plan.turn, cycles, latency
    )
    return Timing(start, free, end, native.path(start, free, end, latency, cause, before))


def scan_plain(plan: Plan, cycles: Sequence[int], latency: Sequence[int]) -> Timing:
    """The definition. Raises CompileError (NPU0604) on deadlock."""
    n = len(plan.queue_of)
    start, free, end, cause = [0] * n, [0] * n, [0] * n, [-1] * n
    before = [-1] * n
    last = [-1] * len(plan.queues)
    offsets: list[int] = plan.offsets.tolist()
    awaits: list[int] = plan.awaited.tolist()
    turns: list[int] = plan.turn.tolist()
    for i in plan.order():
        queue = plan.queue_of[i]
        earlier = before[i] = last[queue]
        begin, why = (free[earlier], earlier) if earlier >= 0 else (0, -1)
        if turns[i] >= 0 and free[turns[i]] > begin:
            begin, why = free[turns[i]], turns[i]
        for awaited in awaits[offsets[i] : offsets[i + 1]]:
            if end[awaited] > begin:
                begin, why = end[awaited], awaited
        start[i], free[i], cause[i] = begin, begin + cycles[i], why
        end[i] = max(free[i] + latency[i], end[earlier] if earlier >= 0 else 0)
        last[queue] = i
    spans = critical_path(start, free, end, latency, cause, before)
    arrays = [np.array(x, np.int64) for x in (start, free, end)]
    return Timing(*arrays, path=np.array(spans, np.int64).reshape(-1, 3))


def critical_path(
    start: Sequence[int],
    free: Sequence[int],
    end: Sequence[int],
    latency: Sequence[int],
    cause: Sequence[int],
    before: Sequence[int],
) -> list[tuple[int, int, int]]:
    """Walks back from the last end: an instruction's span reaches to its start, which its cause
    determined. Rows of instruction, begin, end.
    """
    spans: list[tuple[int, int, int]] = []
    i = max(range(len(end)), key=end.__getitem__, default=-1)
    time = end[i] if i >= 0 else 0
    while time > 0:
        if time == end[i]:
            while end[i] > free[i] + latency[i]:
                i = before[i]
        if start[i] < time:
            spans.append((i, start[i], time))
        time, i = start[i], cause[i]
    return spans[::-1]


def of_costs(plan: Plan, costs: Sequence[Cost]) -> Timing:
    """The times of a program whose static instructions have `costs`."""
    is_io = np.array([engine == "io" for _, engine in plan.queues], np.bool_)[plan.queue]
    both = (
        np.array([getattr(c, name) for c in costs], np.int64)[plan.static]
        for name in ("cycles", "latency")
    )
    cycles, latency = (np.where(is_io, 0, x) for x in both)
    return scan(plan, cycles, latency)
