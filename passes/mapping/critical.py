"""How long a plan takes: the critical path over the engines, segment by segment.

Every engine takes its segments in program order. A segment starts when its engine is free, when
the first tiles of what it reads are there, and when its first copies are done; it ends when its own
work is done, and no earlier than a tile after what it reads is complete. Copies are one queue. They
may run ahead of the segments before by what there is room for.

This is what is recorded before anything is scheduled: no order of instructions, no addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from npu_dialect.passes.mapping.work import Work

AHEAD = 16
"""Segments by which copies run ahead at most."""


@dataclass(frozen=True)
class Reader:
    """A segment's read of what an earlier one made."""

    maker: int
    in_dram: bool


@dataclass(frozen=True)
class Stage:
    """A segment as the estimate sees it."""

    work: Work
    busy: Mapping[str, float]
    """The engines that it takes, and for how long."""
    free: float = 0.0
    """Cycles of copies for later segments that there is room for while this one is at work."""
    reads: Sequence[Reader] = ()


@dataclass
class _Done:
    start: float
    end: float
    stored: float
    part: float
    """Cycles until the first part of its result is there."""


@dataclass
class Clock:
    """When the engines are free, and when each stage was done."""

    latency: float
    """Cycles until what was copied from dram is there."""
    engines: dict[str, float] = field(default_factory=dict[str, float])
    copies: float = 0.0
    """When the copy engine has done all that was asked for so far."""
    done: list[_Done] = field(default_factory=list[_Done])
    stages: list[Stage] = field(default_factory=list[Stage])

    def run(self, stage: Stage) -> None:
        """Takes one more stage."""
        work = stage.work
        begin, hidden = self._room(work.ahead)
        first = max(self.copies, begin) + work.first
        if hidden < work.first:
            first = max(first, self._ended(1) + work.first - hidden)
        loaded = max(self.copies, begin) + work.transfer - work.last
        start = max((self.engines.get(e, 0.0) for e in stage.busy), default=0.0)
        cycles = max(stage.busy.values(), default=0.0)
        complete = 0.0
        for read in stage.reads:
            maker = self.done[read.maker]
            if read.in_dram:
                start = max(start, maker.stored)
                if work.first_data:
                    first = max(first, maker.stored + work.first_data)
            else:
                start = max(start, maker.start + maker.part)
                complete = max(complete, maker.end + cycles / max(1, work.tiles))
        if work.first > 0:
            start = max(start, first + self.latency)
        end = max(start + cycles, loaded, complete)
        for engine in stage.busy:
            self.engines[engine] = end
        self.copies = max(self.copies, begin) + work.transfer
        stored = max(end + work.last, self.copies)
        self.done.append(_Done(start, end, stored, (end - start) / max(1, work.tiles)))
        self.stages.append(stage)

    def _ended(self, back: int) -> float:
        """When the stage so many before the next one has ended, and all before it."""
        return max((d.end for d in self.done[-back - 1 : len(self.done) - back + 1]), default=0.0)

    def _room(self, ahead: float) -> tuple[float, float]:
        """(when the copies of the next stage may begin, cycles of them that need not wait for the
        stage before it).
        """
        wanted = ahead
        for back in range(1, min(AHEAD, len(self.stages)) + 1):
            free = self.stages[-back].free
            if free < wanted:
                hidden = ahead if back > 1 else max(0.0, free)
                return self._ended(back) - max(0.0, min(ahead, free)), hidden
            wanted += self.stages[-back].work.ahead
        return self._ended(AHEAD + 1), ahead

    @property
    def end(self) -> float:
        """When everything is done."""
        return max((max(d.end, d.stored) for d in self.done), default=0.0)


def critical_path(stages: Sequence[Stage], latency: float) -> float:
    """Cycles until the last stage is done."""
    clock = Clock(latency)
    for stage in stages:
        clock.run(stage)
    return clock.end
