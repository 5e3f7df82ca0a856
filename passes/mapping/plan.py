"""The plan of a function: which tensors stay in the scratchpad, and how every group is cut with
what is left.

Groups are taken in program order. A group's result stays in the scratchpad when the group, mapped
into what the live tensors leave, is estimated to be no slower than with its result in dram (a later
load counted). Where a group then does not fit, the largest tensor that is live across it goes to
dram and planning starts again; that ends, since there are only so many tensors. At last the offsets
themselves are tried, with the lifetimes that tile-allocate will see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect import overrides
from npu_dialect.diagnostics import Code, error
from npu_dialect.passes import allocation
from npu_dialect.passes.mapping import contraction as conv
from npu_dialect.passes.mapping import elementwise as vec
from npu_dialect.passes.mapping import scatter as rows
from npu_dialect.passes.mapping.groups import (
    POOLS,
    SCATTER,
    Group,
    contraction,
    elementwise,
    pooling,
    root,
    scatter,
    size_in_bytes,
)
from npu_dialect.passes.mapping.tiles import ALIGNMENT, Buffer, aligned, spm_bytes
from npu_dialect.target import Target

AnyMapping = (
    conv.ContractionMapping | vec.ElementwiseMapping | vec.PoolingMapping | rows.ScatterMapping
)


@dataclass
class Tensor:
    """A tensor between groups: its bytes, and the steps that write it and read it last."""

    value: SSAValue
    size: int
    written: int
    read: int
    may_stay: bool


@dataclass
class Step:
    """One group, mapped."""

    group: Group
    mapping: AnyMapping | None = None
    buffers: list[Buffer] = field(default_factory=list[Buffer])
    cycles: float = 0.0


@dataclass
class Plan:
    """Steps in program order, and the tensors that stay in the scratchpad."""

    steps: list[Step]
    resident: set[SSAValue]


class NoRoomError(Exception):
    """A group whose buffers do not fit beside what is live; `step` numbers it."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


class TooLargeError(Exception):
    """A group of which no tile fits the scratchpad, whatever else goes to dram."""

    def __init__(self, group: Group):
        super().__init__(group)
        self.group = group


def problem(group: Group, resident: set[SSAValue], out_resident: bool) -> Any:
    """The mapper's problem for a group, or None for one that needs no tiles."""
    if group.kind == "array":
        return contraction(group, resident.__contains__, out_resident)
    if group.kind != "vector":
        return None
    if group.anchor is not None and group.anchor.name in POOLS:
        return pooling(group, resident.__contains__, out_resident)
    if group.anchor is not None and group.anchor.name == SCATTER:
        return scatter(group, resident.__contains__, out_resident)
    return elementwise(group, resident.__contains__, out_resident)


def search(target: Target, p: Any, capacity: int) -> tuple[AnyMapping, vec.Estimate] | None:
    """The best mapping of any problem within `capacity` bytes of scratchpad."""
    if isinstance(p, conv.Contraction):
        return conv.search(target, p, capacity)
    if isinstance(p, vec.Pooling):
        return vec.search_pooling(target, p, capacity)
    if isinstance(p, rows.Scatter):
        return rows.search(target, p, capacity)
    return vec.search(target, p, capacity)


def buffers_of(p: Any, mapping: Any) -> list[Buffer]:
    """The buffers of any problem's mapping."""
    if isinstance(p, conv.Contraction):
        return conv.buffers(p, mapping)
    if isinstance(p, vec.Pooling):
        return vec.pooling_buffers(p, mapping)
    if isinstance(p, rows.Scatter):
        return rows.buffers(p, mapping)
    return vec.buffers(p, mapping)


class Planner:
    """Plans one function. `pinned` gives mappings that were decided elsewhere, by group."""

    def __init__(self, target: Target, block: Block, pinned: Mapping[Operation, AnyMapping]):
        self.target = target
        self.pinned = pinned
        self.capacity = target.memories["spm"].size
        self.groups = [Group(op) for op in block.ops if op.name == "graph.group"]
        self.tensors = tensors(block, self.groups)
        self.banned: set[SSAValue] = set()
        self.neighbours = neighbours(self.groups)

    def run(self) -> Plan:
        """The plan.

        Raises TooLargeError where even one group alone does not fit, and CompileError where its
        mapping was decided elsewhere.
        """
        while True:
            try:
                plan = self._attempt()
                self._check_offsets(plan)
                return plan
            except NoRoomError as full:
                self._spill(full.step)

    def _attempt(self) -> Plan:
        plan = Plan([], set())
        live: list[Tensor] = []
        for number, group in enumerate(self.groups):
            live = [t for t in live if t.read >= number]
            room = self.capacity - sum(aligned(t.size) for t in live)
            plan.steps.append(self._map(group, number, plan.resident, room))
            live += [self.tensors[v] for v in group.op.results if v in plan.resident]
        return plan

    def _live(self, resident: set[SSAValue], step: int) -> int:
        tensors = (self.tensors[v] for v in resident)
        return sum(aligned(t.size) for t in tensors if t.written <= step <= t.read)

    def _map(self, group: Group, number: int, resident: set[SSAValue], room: int) -> Step:
        away = self._try(group, resident, False, room)
        results = [self.tensors[v] for v in group.op.results]
        wanted = overrides.pins(group.op).get("memory")
        stays = all(t.may_stay and t.value not in self.banned for t in results)
        if stays and wanted != StringAttr("dram"):
            size = sum(aligned(t.size) for t in results)
            here = self._try(group, resident, True, room - size)
            reload = sum(t.size for t in results) / self.target.memories["dram"].ports["dma"]
            pinned = wanted is not None
            if here is not None and (away is None or pinned or here.cycles <= away.cycles + reload):
                resident.update(t.value for t in results)
                return here
        if away is None:
            raise NoRoomError(number)
        return away

    def _try(
        self, group: Group, resident: set[SSAValue], out_resident: bool, room: int
    ) -> Step | None:
        if room < 0:
            return None
        p = problem(group, resident, out_resident)
        if p is None:
            return Step(group)
        p = self._between(p, group, resident, out_resident)
        pinned = self.pinned.get(group.op)
        if pinned is not None:
            found = buffers_of(p, pinned)
            return Step(group, pinned, found) if spm_bytes(found) <= room else None
        best = search(self.target, p, room)
        if best is None:
            return None
        mapping, estimate = best
        return Step(group, mapping, buffers_of(p, mapping), estimate.cycles)

    def _between(self, p: Any, group: Group, resident: set[SSAValue], out_resident: bool) -> Any:
        """The problem with what is known of the layers around it."""
        if isinstance(p, rows.Scatter):
            return p
        before, after = self.neighbours[group.op]
        taken = any(v in resident for v in before)
        return replace(p, takes_over=taken, hands_over=out_resident and after)

    def _check_offsets(self, plan: Plan) -> None:
        """Raises NoRoomError where the offsets do not come out although the sums do."""
        items: list[allocation.Buffer] = []
        for value in plan.resident:
            t = self.tensors[value]
            items.append(self._item(len(items), t.written, t.read + 1, aligned(t.size)))
        for number, step in enumerate(plan.steps):
            for buffer in step.buffers:
                if buffer.space == "spm":
                    items.append(self._item(len(items), number, number + 1, buffer.total))
        try:
            allocation.allocate(items, self.capacity)
        except allocation.Overflow:
            peak = max(range(len(plan.steps)), key=lambda n: self._live(plan.resident, n))
            raise NoRoomError(peak) from None

    @staticmethod
    def _item(number: int, lower: int, upper: int, size: int) -> allocation.Buffer:
        return allocation.Buffer(number, lower, upper, size, ALIGNMENT)

    def _spill(self, step: int) -> None:
        """Sends the largest tensor that is live at `step` to dram."""
        live = [
            t
            for t in self.tensors.values()
            if t.written <= step <= t.read and t.may_stay and t.value not in self.banned
        ]
        if not live:
            self._explain(step)
        self.banned.add(max(live, key=lambda t: (t.size, -t.written)).value)

    def _explain(self, step: int) -> None:
        group = self.groups[step]
        if group.op not in self.pinned:
            raise TooLargeError(group)
        raise error(
            Code.CAPACITY,
            "the tiles of a mapping must fit the scratchpad",
            found=f"a mapping of {group.name} beyond {self.capacity} bytes",
            remedy="smaller tiles, or leaving the mapping to the compiler",
            source=group.op,
        )


def neighbours(groups: Sequence[Group]) -> dict[Operation, tuple[list[SSAValue], bool]]:
    """Of each group, the inputs that another engine makes, and whether another engine reads the
    result.

    Vector work counts as another engine for itself: a chain of it is worth cutting when its ends
    are.
    """
    makers: dict[SSAValue, Group] = {v: group for group in groups for v in group.op.results}
    before: dict[Operation, list[SSAValue]] = {group.op: [] for group in groups}
    after = {group.op: False for group in groups}
    for group in groups:
        for value in map(root, group.inputs):
            maker = makers.get(value)
            if maker is not None and "vector" in (maker.kind, group.kind):
                before[group.op].append(value)
                after[maker.op] = True
    return {group.op: (before[group.op], after[group.op]) for group in groups}


def tensors(block: Block, groups: Sequence[Group]) -> dict[SSAValue, Tensor]:
    """Every tensor that a group writes. One may stay unless the host, the caller or the program's
    end needs it.
    """
    number = {group.op: n for n, group in enumerate(groups)}
    found: dict[SSAValue, Tensor] = {}
    for group in groups:
        n = number[group.op]
        in_dram = group.kind in ("host", "io")
        for value in group.op.results:
            found[value] = Tensor(value, size_in_bytes(value), n, n, not in_dram)
        for value in group.inputs:
            tensor = found.get(root(value))
            if tensor is not None:
                tensor.read = max(tensor.read, n)
                tensor.may_stay &= not in_dram
    last = block.last_op
    assert last is not None
    for value in last.operands:
        tensor = found.get(root(value))
        if tensor is not None:
            tensor.may_stay = False
    return found
