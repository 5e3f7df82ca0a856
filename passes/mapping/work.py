"""What groups ask of the engines: the numbers by which a plan is made.

A group under one mapping keeps its own engine busy and has copies made. Of the copies, what its
buffers hold at once may be loaded before the group begins, where there is room by then; what must
be there before the first tile is computed is waited for otherwise.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xdsl.ir import Operation, SSAValue

from npu_dialect import cost
from npu_dialect.passes.host_work import HostWork
from npu_dialect.passes.mapping import contraction, elementwise, energy
from npu_dialect.passes.mapping.contraction import Contraction, Estimate
from npu_dialect.passes.mapping.groups import Group, size_in_bytes
from npu_dialect.passes.mapping.moves import move_cycles, move_energy
from npu_dialect.passes.mapping.neighbours import neighbours
from npu_dialect.passes.mapping.parts import part
from npu_dialect.passes.mapping.problems import (
    AnyMapping,
    Problem,
    buffers_of,
    constant_bytes,
    energy_of,
    estimate_of,
    problem,
    search,
)
from npu_dialect.passes.mapping.rows import reads, reshaped
from npu_dialect.passes.mapping.scatter import Scatter
from npu_dialect.passes.mapping.stripes import rows_of_tensor
from npu_dialect.passes.mapping.tiles import Buffer, spm_bytes
from npu_dialect.passes.mapping.views import storage
from npu_dialect.target import Target

ENGINES = {"array": "mxu", "vector": "vpu", "host": "host", "move": "dma", "io": "io"}
"""The engine of each kind of group."""

CONSTANTS = ("weights", "params", "table")
"""The labels of buffers that hold what was there from the start."""

SHARED_DMA = 0.25
"""What a cycle of transfer costs that is hidden: others could use it."""
SMALL = 8
"""Constants up to this part of the room for tiles are always held by a cascade."""


@dataclass(frozen=True)
class Work:
    """A group under one mapping; cycles."""

    engine: str
    compute: float = 0.0
    """Of its own engine; 0 for what only copies."""
    transfer: float = 0.0
    """Of all its copies."""
    first: float = 0.0
    """Of the copies before the first tile can be computed."""
    first_data: float = 0.0
    """Of them, those of tensors: they must have been stored before."""
    ahead: float = 0.0
    """Of the copies that may be made before the group begins."""
    ahead_data: float = 0.0
    """Of them, those of tensors."""
    slot: float = 0.0
    """Of what the largest slot holds: less cannot be loaded ahead."""
    last: float = 0.0
    """Of the copy that stores the last tile."""
    streamed: float = 0.0
    """For which its engine reads constants in dram, so that nothing is copied."""
    latency: float = 0.0
    """Until the first of them arrive."""
    used: int = 0
    """Bytes of scratchpad for its buffers."""
    tiles: int = 1
    """Parts in which its result becomes ready."""
    mapping: AnyMapping | None = None
    buffers: tuple[Buffer, ...] = ()
    gap: float = 0.0
    """How much less any mapping could cost, as a share."""
    alternative: tuple[AnyMapping, float] | None = None
    """The best mapping of another kind, and what it costs more, as a share."""
    busy: tuple[tuple[str, float], ...] | None = None
    """The engines where there are several, and for how long they are taken."""
    energy: float | None = None
    """Dynamic energy in pJ, where plans are chosen by it."""

    @property
    def alone(self) -> float:
        """What it costs, whatever lies around it: cycles, with a little for all that it transfers,
        or pJ.
        """
        if self.energy is not None:
            return self.energy
        return max(self.first + self.latency + self.compute, self.dma) + SHARED_DMA * self.dma

    @property
    def dma(self) -> float:
        """Cycles for which nothing else can be copied."""
        return self.transfer + self.streamed

    @property
    def engines(self) -> Mapping[str, float]:
        """Cycles of each engine but the copies."""
        if self.busy is not None:
            return dict(self.busy)
        return {} if self.engine in ("dma", "io") else {self.engine: self.compute}


@dataclass
class _Found:
    """Mappings of one problem: what was found for up to so many bytes takes so many."""

    limits: list[int] = field(default_factory=list[int])
    works: list[Work | None] = field(default_factory=list[Work | None])


class Works:
    """The work of every group of a function, by what is resident, kept for later questions.

    `pinned` gives mappings that were decided elsewhere, by group; `capacity` is what there is of
    the scratchpad, in bytes; `objective` is what mappings are chosen by.
    """

    def __init__(
        self,
        target: Target,
        groups: Sequence[Group],
        pinned: Mapping[Operation, AnyMapping],
        capacity: int,
        objective: str = "latency",
    ) -> None:
        self.per_cycle = energy.per_cycle(target)
        self.by_energy = objective == "energy"
        self.objective = "energy" if self.by_energy else "latency"
        self.target, self.groups, self.pinned, self.capacity = target, groups, pinned, capacity
        self.neighbours = neighbours(target, groups)
        self.width = target.memories["dram"].ports["dma"]
        self.streams: bool | None = None
        """Whether the array reads constants from dram wherever it can, or never (None: where that
        is better)."""
        self._by_problem: dict[tuple[Problem, bool | None], _Found] = {}
        self.reads = [frozenset(map(storage, g.inputs)) for g in groups]
        self.row_bytes = [_row_bytes(g) for g in groups]
        self._operands: dict[int, SSAValue] = {}
        self._constants: dict[tuple[int, frozenset[SSAValue], bool], int] = {}
        self._parts: dict[tuple[Any, ...], tuple[Work, int] | None] = {}
        self._by_group: dict[tuple[int, frozenset[SSAValue], bool], Problem | None] = {}

    def operand(self, number: int) -> SSAValue:
        """The first operand of a group that has rows, reshapes undone."""
        if number not in self._operands:
            self._operands[number] = reshaped(reads(self.groups[number])[0].value)
        return self._operands[number]

    def of(
        self,
        number: int,
        resident: frozenset[SSAValue],
        out_resident: bool,
        room: int,
        streams: bool | None = None,
    ) -> Work | None:
        """The work of a group within `room` bytes, given which of its inputs are resident; None
        where nothing fits. `streams` says whether its instructions read constants from dram (None:
        what is better).
        """
        group = self.groups[number]
        if group.kind not in ("array", "vector"):
            return self._untiled(group, resident, out_resident)
        p = self.problem(number, resident, out_resident)
        assert p is not None
        pinned = self.pinned.get(group.op)
        if pinned is not None:
            buffers = buffers_of(p, pinned)
            return self.with_mapping(group, p, pinned) if spm_bytes(buffers) <= room else None
        return self.mapped(ENGINES[group.kind], p, room, streams)

    def price(self, work: Work, cycles: float) -> float:
        """What a plan pays for work that adds so many cycles: cycles, or pJ."""
        if work.energy is not None:
            return work.energy + self.per_cycle * cycles
        return cycles + SHARED_DMA * work.dma

    def problem(
        self, number: int, resident: frozenset[SSAValue], out_resident: bool
    ) -> Problem | None:
        """The mapper's problem of a group, with what is known of the layers around it."""
        key = (number, resident, out_resident)
        if key not in self._by_group:
            group = self.groups[number]
            p = problem(group, resident.__contains__, out_resident)
            if p is not None and not isinstance(p, Scatter):
                near = self.neighbours[number]
                taken = near.taken if near.before in resident else 0
                p = replace(p, takes_over=taken, hands_over=near.handed if out_resident else 0)
                if isinstance(p, elementwise.Elementwise):
                    p = replace(p, heads=near.heads)
            self._by_group[key] = p
        return self._by_group[key]

    def part(
        self,
        number: int,
        rows: int,
        resident: frozenset[SSAValue],
        out_resident: bool,
        held: bool,
        room: int,
        buffered: bool = False,
    ) -> tuple[Work, int] | None:
        """The work of so many rows of a group with tiles within `room` bytes, and the bytes of the
        constants that are held beside them: all of them, or those that are small. `buffered` is
        that of `parts.part`.
        """
        key = (number, rows, resident, out_resident, held, room, buffered)
        if key not in self._parts:
            self._parts[key] = self._part(*key)
        return self._parts[key]

    def _part(
        self,
        number: int,
        rows: int,
        resident: frozenset[SSAValue],
        out_resident: bool,
        held: bool,
        room: int,
        buffered: bool,
    ) -> tuple[Work, int] | None:
        group = self.groups[number]
        p = self.problem(number, resident, out_resident)
        assert p is not None and not isinstance(p, Scatter)
        start = (rows_of_tensor(group.result) - rows) // 2
        constants = self.held(number, resident, out_resident, held, room)
        holds = constants > 0
        some: Any = part(p, group, start, start + rows, holds, buffered)  # pyright: ignore[reportArgumentType]
        share = rows_of_tensor(group.result) // rows
        some = replace(some, takes_over=p.takes_over // share, hands_over=p.hands_over // share)
        work = self.mapped(ENGINES[group.kind], some, room)
        return None if work is None else (work, constants)

    def held(
        self,
        number: int,
        resident: frozenset[SSAValue],
        out_resident: bool,
        held: bool,
        room: int,
    ) -> int:
        """The bytes of the constants of a group that are held, as in `part`."""
        key = (number, resident, out_resident)
        if key not in self._constants:
            p = self.problem(*key)
            assert p is not None and not isinstance(p, Scatter)
            self._constants[key] = constant_bytes(p)
        constants = self._constants[key]
        return constants if held or constants <= room // SMALL else 0

    def mapped(
        self, engine: str, p: Problem, room: int, streams: bool | None = None
    ) -> Work | None:
        """The work of a problem within `room` bytes; `streams` as in `of`.

        The best mapping for some room is that for every lesser room which it still fits.
        """
        streams = self._streams(p) if streams is None else streams
        found = self._by_problem.setdefault((p, streams), _Found())
        at = bisect_left(found.limits, room)
        if at < len(found.limits):
            work = found.works[at]
            if work is None or work.used <= room:
                return work
        best = search(self.target, p, room, self.objective, streams)
        work = None if best is None else self._work(engine, p, best[0], best[1])
        found.limits.insert(at, room)
        found.works.insert(at, work)
        return work

    def _streams(self, p: Problem) -> bool | None:
        """Whether a problem's constants are read from dram, as far as that is decided for all."""
        return self.streams and isinstance(p, Contraction) and contraction.may_stream(p)

    def with_mapping(self, group: Group, p: Problem, mapping: AnyMapping) -> Work:
        """The work of a problem of a group under one mapping."""
        estimate = estimate_of(self.target, p, mapping)
        return self._work(ENGINES[group.kind], p, mapping, estimate)

    def _work(self, engine: str, p: Problem, mapping: AnyMapping, estimate: Estimate) -> Work:
        buffers = tuple(b for b in buffers_of(p, mapping) if b.space == "spm")
        loaded = [b for b in buffers if b.loaded]
        stored = [b for b in buffers if not b.loaded]
        transfer = float(estimate.transfer)
        data = [b for b in loaded if b.label not in CONSTANTS]
        first = min(transfer, sum(b.size for b in loaded) / self.width)
        slots = min(transfer, sum(b.size * b.depth for b in loaded) / self.width)
        single = any(b.depth == 1 for b in loaded) and isinstance(p, Contraction)
        is_serial = single and getattr(mapping, "slots", 2) == 1
        return Work(
            engine,
            compute=float(estimate.compute),
            transfer=transfer,
            first=transfer if is_serial else first,
            first_data=min(first, sum(b.size for b in data) / self.width),
            ahead=slots,
            ahead_data=min(slots, sum(b.size * b.depth for b in data) / self.width),
            slot=max((b.size for b in loaded), default=0) / self.width,
            last=min(transfer - first, sum(b.size for b in stored) / self.width),
            streamed=float(estimate.streamed),
            latency=contraction.stream_latency(self.target) if estimate.streamed else 0.0,
            used=spm_bytes(list(buffers)),
            tiles=_tiles(p, mapping),
            mapping=mapping,
            buffers=buffers,
            gap=float(estimate.gap),
            alternative=estimate.alternative,
            energy=energy_of(self.target, p, mapping) if self.by_energy else None,
        )

    # --- groups without tiles

    def _untiled(self, group: Group, resident: frozenset[SSAValue], out_resident: bool) -> Work:
        none = 0.0 if self.by_energy else None  # what no plan can change
        if group.kind == "host":
            return Work("host", compute=self._host_cycles(group), energy=none)
        if group.kind == "io":
            return Work("io", energy=none)
        cycles = move_cycles(self.target, group, resident, out_resident)
        taken = none
        if self.by_energy:
            taken = move_energy(self.target, group, resident, out_resident)
        return Work("dma", transfer=cycles, first=cycles, first_data=cycles, energy=taken)

    def _host_cycles(self, group: Group) -> float:
        work = HostWork.of_region(group.op.regions[0])
        read = sum(size_in_bytes(v) for v in group.op.operands)
        written = sum(size_in_bytes(v) for v in group.op.results)
        return cost.host(self.target, work.macs, work.elements, read, written).cycles


def _row_bytes(group: Group) -> int:
    """Bytes of a row of a group's result; 0 where it has none."""
    if group.kind not in ("array", "vector"):
        return 0
    return size_in_bytes(group.result) // max(1, rows_of_tensor(group.result))


def _tiles(p: Problem, mapping: Any) -> int:
    """In how many parts a result becomes ready, one after the other."""
    if isinstance(p, Contraction):
        n = contraction.loop_trips(p, mapping)
        return n.outer * n.spatial
    if isinstance(p, elementwise.Pooling):
        return p.batch * -(-p.oh // mapping.rows)
    if isinstance(p, elementwise.Elementwise):
        return elementwise.tile_count(p, mapping)
    return 1
