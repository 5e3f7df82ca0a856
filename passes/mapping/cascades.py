"""Cascades as segments of a plan: runs of groups that are executed in stripes of rows, depth-first.

What the groups hand to each other lies in row buffers, so that it never leaves the scratchpad and
only some rows of it exist at a time. A choice of rows, of what constants are held, and of the room
for tiles makes an `Option`: the scratchpad that all of it takes, and the work of the whole run.
Options that take more and cost more than another one are dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from xdsl.ir import SSAValue

from npu_dialect.graph.base import dtype_of
from npu_dialect.passes.mapping.energy import loaded
from npu_dialect.passes.mapping.geometry import Geometry, geometries
from npu_dialect.passes.mapping.groups import Group, size_in_bytes
from npu_dialect.passes.mapping.stripes import (
    Flow,
    Source,
    fits,
    held_storages,
    needs,
    uncuttable,
)
from npu_dialect.passes.mapping.tiles import aligned
from npu_dialect.passes.mapping.view_choice import runs
from npu_dialect.passes.mapping.views import place_of, storage
from npu_dialect.passes.mapping.work import SHARED_DMA, Work, Works

LONGEST = 24
"""Groups of a cascade at most."""
TRIED = ((True, 4), (False, 4), (True, 16))
"""Whether all constants are held, and the room for tiles within a stripe, as a part of the
scratchpad; the first that fits where constants are small."""
SMALL = 8
"""Constants up to this part of the scratchpad are small."""
KEPT = 6
"""Options that are kept of a run."""


@dataclass(frozen=True)
class Member:
    """A group in a cascade: its work on one whole stripe, and what is held for it."""

    work: Work
    rows: int
    """Of its result, in one whole stripe."""
    held: int | None
    """Rows that its row buffer has; None for a result that is held whole or lies in dram."""
    held_bytes: int
    holds_weights: bool
    weights: int
    """Bytes of its constants, where they are held."""
    most: int | None = None
    """The most rows that are made at once, where a stripe needs more."""
    input_held: int | None = None
    """Rows that the row buffer of its first operand has, if it lies in dram and has one."""
    input_bytes: int = 0

    @property
    def holds(self) -> int:
        """Bytes that are taken for as long as the cascade runs."""
        return self.held_bytes + self.weights + self.input_bytes


@dataclass(frozen=True)
class Option:
    """A run of groups as a cascade of stripes that make `rows` rows of the last result."""

    first: int
    rows: int
    members: tuple[Member, ...]
    work: Work
    """Of all of it; `used` is what row buffers, held constants and tiles take together."""
    is_exact: bool = False
    """Whether `used` is that of every piece, not only of one whole stripe."""

    @property
    def stop(self) -> int:
        return self.first + len(self.members)

    @property
    def most(self) -> list[int | None]:
        """The most rows that each group makes at once."""
        return [m.most for m in self.members]


class Run:
    """A run of groups that may be a cascade."""

    def __init__(self, works: Works, first: int, flow: Flow, leaves: Sequence[bool]) -> None:
        self.works, self.first, self.flow = works, first, flow
        self.leaves = leaves
        numbers = range(first, first + len(flow.groups))
        self.reads = [works.reads[k] for k in numbers]
        self.row_bytes = [works.row_bytes[k] for k in numbers]
        self.operands = [works.operand(k) for k in numbers]
        """The first operand of each group, reshapes undone."""

    @property
    def groups(self) -> Sequence[Group]:
        return self.flow.groups

    @cached_property
    def geometries(self) -> list[Geometry]:
        """What is tried."""
        return geometries(self.flow, self.row_bytes, self.works.capacity)

    def near(
        self,
        resident: frozenset[SSAValue],
        stays: Sequence[bool],
        held: Collection[SSAValue] = (),
    ) -> list[frozenset[SSAValue]]:
        """What each group reads from the scratchpad, row buffers of the inputs in `held` among it;
        what leaves for dram is read from there.
        """
        ends = zip(self.groups, self.leaves, stays, strict=True)
        inside = frozenset(group.result for group, leaves, stay in ends if stay or not leaves)
        inputs = held_storages(self.groups, held) if held else frozenset[SSAValue]()
        return [(resident | inside | inputs) & read for read in self.reads]

    def holdable(self, resident: frozenset[SSAValue]) -> dict[int, Source]:
        """The inputs from dram that are read more than once, by the first group that reads each."""
        found: dict[int, Source] = {}
        for source in self.flow.inputs:
            first, window = source.readers[0]
            is_first = self.operands[first] is source.value
            overlaps = window.extent > window.stride or len(source.readers) > 1
            if is_first and overlaps and storage(source.value) not in resident:
                found[first] = source
        alone = held_storages(self.groups, [s.value for s in found.values()])
        return {k: s for k, s in found.items() if storage(s.value) in alone}

    def is_buffered(self, number: int, inputs: Mapping[int, Source]) -> bool:
        """Whether a group's first operand is an input with a row buffer."""
        value = self.operands[number]
        return any(source.value is value for source in inputs.values())

    def held_sources(self, members: Sequence[Member]) -> dict[int, Source]:
        """The inputs that have row buffers, by the first group that reads each."""
        sources = {s.value: s for s in self.flow.inputs}
        holds = (k for k, m in enumerate(members) if m.input_held is not None)
        return {k: sources[self.operands[k]] for k in holds}

    def options(self, resident: frozenset[SSAValue], stays: Sequence[bool]) -> list[Option]:
        """The options, given which inputs from outside lie in the scratchpad and which of the
        results that are read outside stay there.
        """
        spm = self.works.capacity
        inputs = self.holdable(resident)
        near = self.near(resident, stays, [s.value for s in inputs.values()])
        weights = [self._weights(near, stays, held, spm // part) for held, part in TRIED]
        found: list[Option] = []
        for geometry in self.geometries:
            left = spm - self._row_buffers(geometry, inputs)
            for (held, part), taken in zip(TRIED, weights, strict=True):
                if taken > left:
                    continue
                option = self._option(
                    geometry, inputs, near, stays, held, spm // part, left - taken
                )
                if option is not None:
                    found.append(option)
                    if held and sum(m.weights for m in option.members) * SMALL <= spm:
                        break
        return _front(found)

    def _option(
        self,
        geometry: Geometry,
        inputs: Mapping[int, Source],
        near: Sequence[frozenset[SSAValue]],
        stays: Sequence[bool],
        held: bool,
        room: int,
        left: int,
    ) -> Option | None:
        """`left` bytes are not held, so that tiles may take them."""
        parts: list[tuple[Work, int]] = []
        for k in range(len(self.groups)):
            out = stays[k] if self.leaves[k] else True
            buffered = self.is_buffered(k, inputs)
            part = self.works.part(
                self.first + k, geometry.stripe[k], near[k], out, held, room, buffered
            )
            if part is None or part[0].used > left:
                return None
            parts.append(part)
        members: list[Member] = []
        for k, (work, weights) in enumerate(parts):
            rows = None if self.leaves[k] else geometry.held[k]
            members.append(self.member(k, geometry, work, rows, weights, inputs.get(k)))
        return Option(self.first, geometry.rows, tuple(members), self.total(members, geometry))

    def _weights(
        self, near: Sequence[frozenset[SSAValue]], stays: Sequence[bool], held: bool, room: int
    ) -> int:
        """Bytes of the constants that are held where tiles have `room` bytes."""
        outs = (stay or not leaves for stay, leaves in zip(stays, self.leaves, strict=True))
        groups = enumerate(zip(near, outs, strict=True), self.first)
        return sum(self.works.held(k, resident, out, held, room) for k, (resident, out) in groups)

    def _row_buffers(self, geometry: Geometry, inputs: Mapping[int, Source]) -> int:
        """Bytes of the row buffers of results and inputs."""
        rows = zip(self.leaves, geometry.held, self.row_bytes, strict=True)
        results = sum(aligned(held * size) for leaves, held, size in rows if not leaves)
        return results + sum(_input_buffer(geometry, k, s)[1] for k, s in inputs.items())

    def member(
        self,
        number: int,
        geometry: Geometry,
        work: Work,
        held: int | None,
        weights: int,
        source: Source | None,
    ) -> Member:
        """A group in a cascade, with row buffers for its result and for an input."""
        most = None if geometry.most is None else geometry.most[number]
        size = 0 if held is None else aligned(held * self.row_bytes[number])
        member = Member(work, geometry.stripe[number], held, size, weights > 0, weights, most)
        if source is None:
            return member
        held, held_bytes = _input_buffer(geometry, number, source)
        return replace(member, input_held=held, input_bytes=held_bytes)

    def total(self, members: Sequence[Member], geometry: Geometry) -> Work:
        """The work of all stripes."""
        busy = {"mxu": 0.0, "vpu": 0.0}
        transfer = taken = streamed = 0.0
        drain = self.works.target.array.drain
        width = self.works.width
        for k, m in enumerate(members):
            whole = self.flow.rows[k] / m.rows
            pieces = max(geometry.stripes, whole)
            busy[m.work.engine] += whole * m.work.compute + pieces * drain
            transfer += whole * m.work.transfer + m.weights / width
            streamed += whole * m.work.streamed
            brought = self._brought(k, m)
            transfer += brought / width
            taken += whole * (m.work.energy or 0.0)
            taken += loaded(self.works.target, m.weights + brought)
        weights = sum(m.weights for m in members)
        head = members[0]
        data = head.input_bytes / width / 2
        first = (head.weights / width) + head.work.first + data
        tiles = max(m.work.used for m in members)
        last = members[-1].work.last
        engine = max(busy, key=lambda e: busy[e])
        # the other engine works on another stripe meanwhile
        compute = busy[engine] + (sum(busy.values()) - busy[engine]) / geometry.stripes
        return Work(
            engine,
            compute=compute,
            transfer=transfer,
            first=first,
            first_data=head.work.first_data + data,
            ahead=weights / width + head.work.ahead + 2 * data,
            ahead_data=head.work.ahead_data + 2 * data,
            last=last,
            streamed=streamed,
            latency=max(m.work.latency for m in members),
            used=sum(m.holds for m in members) + tiles,
            tiles=geometry.stripes,
            busy=tuple((e, cycles) for e, cycles in busy.items() if cycles),
            energy=taken if self.works.by_energy else None,
        )

    def _brought(self, number: int, member: Member) -> int:
        """Bytes that are loaded for the row buffer of an input."""
        if member.input_held is None:
            return 0
        value = self.operands[number]
        count, run = runs(place_of(value), dtype_of(value).itemsize)
        least = self.works.target.memories["dram"].burst
        return count * max(run, least)


def with_input(member: Member, source: Source, rows: int) -> Member:
    """A group of which an input has a row buffer of so many rows, if it has as many."""
    held, size = _buffered(source, rows)
    return replace(member, input_held=held, input_bytes=size)


def _input_buffer(geometry: Geometry, number: int, source: Source) -> tuple[int, int]:
    """(rows, bytes) of the row buffer of an input that a group reads first."""
    # while a piece reads its rows, those of the next one are loaded
    ahead = geometry.stripe[number] * source.readers[0][1].stride
    return _buffered(source, geometry.inputs[source.value] + ahead)


def _buffered(source: Source, rows: int) -> tuple[int, int]:
    rows = min(rows, source.rows)
    return rows, aligned(rows * (size_in_bytes(source.value) // source.rows))


def _front(options: Sequence[Option]) -> list[Option]:
    """Those that neither take more nor cost more than another one, the fastest first."""
    found: list[Option] = []
    for option in sorted(options, key=lambda o: (_cost(o.work), o.work.used)):
        if all(option.work.used < other.work.used for other in found):
            found.append(option)
    if len(found) <= KEPT:
        return found
    step = (len(found) - 1) / (KEPT - 1)
    return [found[round(k * step)] for k in range(KEPT)]


def _cost(work: Work) -> float:
    if work.energy is not None:
        return work.energy
    return max(work.compute, work.dma) + SHARED_DMA * work.dma


# --- where cascades may be ------------------------------------------------------------------------


class Runs:
    """The runs of groups that may be cascades, by first group and length."""

    def __init__(self, works: Works, last_reads: Sequence[float]) -> None:
        """`last_reads` tells for each group the last one that reads its result; beyond all groups
        where the result is wanted at the end or by the host.
        """
        self.works, self.last_reads = works, last_reads
        self.groups = works.groups
        self._cuttable = [uncuttable(g) is None for g in self.groups]
        self._pinned = [g.op in works.pinned for g in self.groups]
        self._needs: dict[int, dict[SSAValue, object]] = {}
        self._runs: dict[tuple[int, int], Run | None] = {}

    def of(self, first: int, stop: int) -> Run | None:
        """The run of the groups [first, stop), or None where it is no cascade."""
        key = (first, stop)
        if key not in self._runs:
            self._runs[key] = self._make(first, stop)
        return self._runs[key]

    def from_first(self, first: int, stops: Sequence[int]) -> Iterator[tuple[int, Run]]:
        """The runs from `first` to each of the ascending `stops`, up to the first that is none. A
        group keeps a mapping that was decided elsewhere, which is one of all its rows.
        """
        for stop in stops:
            run = None if any(self._pinned[first:stop]) else self.of(first, stop)
            if run is None:
                return
            yield stop, run

    def _make(self, first: int, stop: int) -> Run | None:
        if not all(self._cuttable[first:stop]):
            return None
        groups = self.groups[first:stop]
        if fits(groups) is not None:
            return None
        flow = Flow(tuple(groups))
        flow.__dict__["needs"] = [self._need(k) for k in range(first, stop)]
        leaves = [self.last_reads[k] >= stop for k in range(first, stop)]
        flow.__dict__["leaves"] = leaves
        return Run(self.works, first, flow, leaves)

    def _need(self, number: int) -> dict[SSAValue, object]:
        if number not in self._needs:
            self._needs[number] = dict(needs(self.groups[number]))
        return self._needs[number]
