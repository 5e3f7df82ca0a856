"""Cascades as segments of a plan: runs of groups that are executed in stripes of rows, depth-first.

What the groups hand to each other lies in row buffers, so that it never leaves the scratchpad and
only some rows of it exist at a time. A choice of rows, of what constants are held, and of the room
for tiles makes an `Option`: the scratchpad that all of it takes, and the work of the whole run.
Options that take more and cost more than another one are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from xdsl.ir import SSAValue

from npu_dialect.passes.mapping.energy import loaded
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.stripes import Flow, fits, needs, uncuttable
from npu_dialect.passes.mapping.tiles import aligned
from npu_dialect.passes.mapping.work import Work, Works

LONGEST = 24
"""Groups of a cascade at most."""
PARTS = (2, 4, 7, 14, 28, 56)
"""Stripes that a cascade may be cut into."""
PIECES = 600
"""Pieces that a cascade may have: each is a loop nest of its own in the program."""
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


@dataclass(frozen=True)
class Geometry:
    """Rows of each group of a run for stripes of some rows: in one whole stripe, and held at least;
    how many stripes there are.
    """

    stripe: tuple[int, ...]
    held: tuple[int, ...]
    stripes: int


class Run:
    """A run of groups that may be a cascade."""

    def __init__(self, works: Works, first: int, flow: Flow, leaves: Sequence[bool]) -> None:
        self.works, self.first, self.flow = works, first, flow
        self.leaves = leaves
        numbers = range(first, first + len(flow.groups))
        self.reads = [works.reads[k] for k in numbers]
        self.row_bytes = [works.row_bytes[k] for k in numbers]

    @property
    def groups(self) -> Sequence[Group]:
        return self.flow.groups

    @cached_property
    def geometries(self) -> list[tuple[int, Geometry]]:
        """The geometry for each number of rows that is tried."""
        total = self.flow.rows[-1]
        found: list[tuple[int, Geometry]] = []
        for rows in dict.fromkeys(-(-total // parts) for parts in PARTS):
            stripes = -(-total // rows)
            if stripes > 1 and stripes * len(self.groups) <= PIECES:
                found.append((rows, self._geometry(rows, stripes)))
        return found

    def _geometry(self, rows: int, stripes: int) -> Geometry:
        flow, total = self.flow, self.flow.rows[-1]
        moments = {0, 1, stripes // 2, max(0, stripes - 2), stripes - 1}
        stripe = [0] * len(self.groups)
        held = [0] * len(self.groups)
        for number in sorted(m for m in moments if m < stripes):
            before = flow.targets(number * rows) if number else [0] * len(self.groups)
            after = flow.targets(min(total, (number + 1) * rows))
            for k, source in enumerate(flow.results):
                if after[k] > before[k]:
                    kept = min(flow.kept_from(source, before), before[k])
                    held[k] = max(held[k], after[k] - kept)
                    if number or not stripe[k]:
                        stripe[k] = max(stripe[k] if number > 1 else 0, after[k] - before[k])
        return Geometry(tuple(max(1, s) for s in stripe), tuple(held), stripes)

    def near(
        self, resident: frozenset[SSAValue], stays: Sequence[bool]
    ) -> list[frozenset[SSAValue]]:
        """What each group reads from the scratchpad; what leaves for dram is read from there."""
        held = zip(self.groups, self.leaves, stays, strict=True)
        inside = frozenset(group.result for group, leaves, stay in held if stay or not leaves)
        return [(resident | inside) & read for read in self.reads]

    def options(self, resident: frozenset[SSAValue], stays: Sequence[bool]) -> list[Option]:
        """The options, given which inputs from outside lie in the scratchpad and which of the
        results that are read outside stay there.
        """
        spm = self.works.capacity
        near = self.near(resident, stays)
        found: list[Option] = []
        for rows, geometry in self.geometries:
            for held, part in TRIED:
                option = self._option(rows, geometry, near, stays, held, spm // part)
                if option is not None:
                    found.append(option)
                    if held and sum(m.weights for m in option.members) * SMALL <= spm:
                        break
        return _front(found)

    def _option(
        self,
        rows: int,
        geometry: Geometry,
        near: Sequence[frozenset[SSAValue]],
        stays: Sequence[bool],
        held: bool,
        room: int,
    ) -> Option | None:
        members: list[Member] = []
        left = self.works.capacity
        for k in range(len(self.groups)):
            out = stays[k] if self.leaves[k] else True
            part = self.works.part(self.first + k, geometry.stripe[k], near[k], out, held, room)
            if part is None:
                return None
            work, weights = part
            buffered = None if self.leaves[k] else geometry.held[k]
            size = 0 if buffered is None else aligned(buffered * self.row_bytes[k])
            left -= size + weights
            if left < work.used:
                return None
            members.append(Member(work, geometry.stripe[k], buffered, size, weights > 0, weights))
        if left < max(m.work.used for m in members):
            return None
        return Option(self.first, rows, tuple(members), self.total(members, geometry))

    def total(self, members: Sequence[Member], geometry: Geometry) -> Work:
        """The work of all stripes."""
        busy = {"mxu": 0.0, "vpu": 0.0}
        transfer = taken = 0.0
        drain = self.works.target.array.drain
        width = self.works.width
        for k, m in enumerate(members):
            whole = self.flow.rows[k] / m.rows
            pieces = max(geometry.stripes, whole)
            busy[m.work.engine] += whole * m.work.compute + pieces * drain
            transfer += whole * m.work.transfer + m.weights / width
            taken += whole * (m.work.energy or 0.0) + loaded(self.works.target, m.weights)
        weights = sum(m.weights for m in members)
        head = members[0]
        first = (head.weights / width) + head.work.first
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
            first_data=head.work.first_data,
            ahead=weights / width + head.work.ahead,
            ahead_data=head.work.ahead_data,
            last=last,
            used=sum(m.held_bytes + m.weights for m in members) + tiles,
            tiles=geometry.stripes,
            busy=tuple((e, cycles) for e, cycles in busy.items() if cycles),
            energy=taken if self.works.by_energy else None,
        )


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
    return max(work.compute, work.transfer) + 0.1 * work.transfer


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
