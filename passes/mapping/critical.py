"""How long a plan takes: the critical path over the engines, segment by segment.

A segment starts when the first tiles of what it reads are there and its first copies are done; it
ends when its own work is done, and no earlier than a tile after what it reads is complete. Every
engine takes its segments in program order, but where one waits for rows that another engine still
makes, what comes after it on this engine may work on the rows that are there:

    mxu  aaaaaaaaaaaaaaaaaaaa
    vpu      b    b    b    b         b waits for tiles of a; so c has its tiles early too
    vpu       c    c    c    c

Copies are one queue. They may run ahead of the segments before by what there is room for.

This is what is recorded before anything is scheduled: no order of instructions, no addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from npu_dialect.passes.mapping.work import Work

AHEAD = 64
"""Segments by which copies run ahead at most."""
IDLE = 4
"""Segments of an engine back, at most, in whose idle cycles later work may be done."""


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
class _Idle:
    """Cycles within [start, end) for which an engine waits, spread evenly."""

    start: float
    end: float
    cycles: float

    def take(self, start: float, wanted: float) -> float:
        """Takes up to so many cycles of those after `start`."""
        after = self.end - max(start, self.start)
        taken = min(wanted, max(0.0, self.cycles * after / (self.end - self.start)))
        self.cycles -= taken
        return taken


@dataclass
class _Engine:
    """Until when an engine is taken, and the idle cycles up to then that later work may use."""

    free: float = 0.0
    idle: list[_Idle] = field(default_factory=list[_Idle])

    def take(self, start: float, cycles: float) -> tuple[float, float]:
        """(start, end) of work that may begin at `start`: in idle cycles as far as they go."""
        left = cycles
        for idle in self.idle:
            left -= idle.take(start, left)
        begin = start if left < cycles else max(start, self.free)
        return begin, max(start + cycles, self.free + left)

    def use(self, start: float, until: float, cycles: float) -> None:
        """Is taken until then, for so many cycles beyond those before."""
        begin = max(self.free, start)
        idle = until - begin - cycles
        if idle > 0:
            self.idle = [*self.idle[1 - IDLE :], _Idle(begin, until, idle)]
        self.free = max(self.free, until)


@dataclass
class Clock:
    """When the engines are free, and when each stage was done."""

    latency: float
    """Cycles until what was copied from dram is there."""
    whole_slots: bool = False
    """Whether what is loaded ahead needs room for whole slots, as where there is little room."""
    engines: dict[str, _Engine] = field(default_factory=dict[str, _Engine])
    copies: float = 0.0
    """When the copy engine has done all that was asked for so far."""
    done: list[_Done] = field(default_factory=list[_Done])
    stages: list[Stage] = field(default_factory=list[Stage])

    def run(self, stage: Stage) -> None:
        """Takes one more stage."""
        work = stage.work
        begin, hidden = self._room(work.ahead, work.slot)
        first = max(self.copies, begin) + work.first
        if hidden < work.first:
            first = max(first, self._ended(1) + work.first - hidden)
        loaded = max(self.copies, begin) + work.transfer - work.last
        engines = [self.engines.setdefault(e, _Engine()) for e in stage.busy]
        start = 0.0
        cycles = max(work.compute, max(stage.busy.values(), default=0.0)) if stage.busy else 0.0
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
        if work.streamed:
            start = max(start, self.copies) + work.latency
        taken = [e.take(start, c) for e, c in zip(engines, stage.busy.values(), strict=True)]
        start = max(start, *(begin for begin, _ in taken)) if taken else start
        end = max(start + cycles, loaded, complete, *(end for _, end in taken))
        for engine, own in zip(engines, stage.busy.values(), strict=True):
            engine.use(start, end, own)
        self.copies = max(self.copies, begin) + work.transfer
        if work.streamed:  # nothing is copied while its engine reads dram
            self.copies = max(self.copies, end)
        stored = max(end + work.last, self.copies)
        self.done.append(_Done(start, end, stored, (end - start) / max(1, work.tiles)))
        self.stages.append(stage)

    def _ended(self, back: int) -> float:
        """When the stage so many before the next one has ended, and all before it."""
        stop = max(0, len(self.done) - back + 1)
        return max((d.end for d in self.done[max(0, stop - 2) : stop]), default=0.0)

    def _room(self, ahead: float, slot: float) -> tuple[float, float]:
        """(when the copies of the next stage may begin, cycles of them that need not wait for the
        stage before it); with `whole_slots` the largest of them, `slot`, must fit.
        """
        wanted = ahead
        for back in range(1, min(AHEAD, len(self.stages)) + 1):
            free = self.stages[-back].free
            if self.whole_slots and free < slot:
                free = 0.0
            if free < wanted:
                hidden = ahead if back > 1 else max(0.0, free)
                return self._ended(back) - max(0.0, min(ahead, free)), hidden
            wanted += self.stages[-back].work.ahead
        return self._ended(AHEAD + 1), ahead

    @property
    def end(self) -> float:
        """When everything is done."""
        return max((max(d.end, d.stored) for d in self.done), default=0.0)


def critical_path(stages: Sequence[Stage], latency: float, whole_slots: bool = False) -> float:
    """Cycles until the last stage is done; see `Clock`."""
    clock = Clock(latency, whole_slots)
    for stage in stages:
        clock.run(stage)
    return clock.end
