"""What would make the buffers of a tile function fit, and what each way costs: for the error that
says that they do not.

    keeping kept of conv1 in dram (40,000 bytes less; 80,000 more bytes to move, 21,334 cycles)
    loading w of conv2 anew for each of 3 steps (9,216 bytes less; 18,432 more bytes to move, ...)
    x of conv2 in 1 slot instead of 2 (8,192 bytes less; its copies wait for the computation, ...)

Ways are those that suffice alone, the cheapest first; where none does, what does so together. What
the overrides file can say is told with the setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import TypeGuard

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import provenance
from npu_dialect.passes.allocation import Buffer, live_at, live_bound
from npu_dialect.passes.lifetimes import Life
from npu_dialect.target import Target
from npu_dialect.tile import AllocOp, ConstantOp, CopyOp, ForOp
from npu_dialect.tile.structure import ViewLikeOp

SHOWN = 3
"""Ways of each kind that are named."""


@dataclass(frozen=True)
class Occupant:
    """A buffer of a tile function: its bytes in all slots, and the steps that it lives."""

    life: Life
    size: int

    @property
    def alloc(self) -> AllocOp:
        return self.life.alloc

    @property
    def layer(self) -> str:
        """The node of the model that it belongs to."""
        return next(iter(provenance.sources(self.alloc)), "the program")

    @property
    def label(self) -> str:
        return self.alloc.label.data if self.alloc.label is not None else "buffer"

    @property
    def name(self) -> str:
        return f"{self.label} of {self.layer}"

    @property
    def is_tensor(self) -> bool:
        """Whether it is kept from step to step, and not a tile."""
        return isinstance(self.alloc.parent_op(), FuncOp) and self.alloc.slots == 1

    @cached_property
    def accesses(self) -> list[Operation]:
        """The operations that read or write it, also through views."""
        return list(_accesses(self.alloc.result))

    @property
    def steps(self) -> int:
        """How many steps of the function read or write it."""
        return len({_top(op) for op in self.accesses})

    @property
    def reading_steps(self) -> int:
        """How many of them do more than fill it."""
        return len({_top(op) for op in self.accesses if not self._is_filled_by(op)})

    @property
    def is_constant(self) -> bool:
        """Whether it is a copy of a constant that is kept."""
        sources = [_base(op.source) for op in self.accesses if self._is_filled_by(op)]
        return bool(sources) and all(isinstance(s.owner, ConstantOp) for s in sources)

    def _is_filled_by(self, op: Operation) -> TypeGuard[CopyOp]:
        return isinstance(op, CopyOp) and _base(op.destination) is self.alloc.result


@dataclass(frozen=True)
class Remedy:
    """A way out: what it is, the bytes that it takes off an occupant, and the cycles it costs."""

    text: str
    occupant: Occupant
    freed: int
    cycles: int


def live_set(occupants: Sequence[Occupant]) -> list[Occupant]:
    """What lives when the most bytes do, greatest first."""
    return _peak(occupants, {o: o.size for o in occupants})[1]


def _peak(
    occupants: Sequence[Occupant], sizes: Mapping[Occupant, int]
) -> tuple[int, list[Occupant]]:
    """The greatest sum of sizes that are live at once, and of what."""
    buffers = [
        Buffer(k, o.life.lower, o.life.upper, sizes[o]) for k, o in enumerate(occupants) if sizes[o]
    ]
    bound, moment = live_bound(buffers)
    return bound, [occupants[b.id] for b in live_at(buffers, moment)]


def by_layer(live: Sequence[Occupant]) -> str:
    """The bytes of each layer at the peak, and of what they are, greatest first."""
    layers: dict[str, list[Occupant]] = {}
    for each in live:
        layers.setdefault(each.layer, []).append(each)
    ordered = sorted(layers.items(), key=lambda item: -sum(o.size for o in item[1]))
    parts = [f"{layer} {_sum(found):,} ({_parts(found)})" for layer, found in ordered[:8]]
    return ", ".join(parts) + (f" and {len(ordered) - 8} layers more" if len(ordered) > 8 else "")


def _sum(occupants: Sequence[Occupant]) -> int:
    return sum(o.size for o in occupants)


def _parts(occupants: Sequence[Occupant]) -> str:
    slots = {o: f" in {o.alloc.slots} slots" if o.alloc.slots > 1 else "" for o in occupants}
    return ", ".join(f"{o.label} {o.size:,}{slots[o]}" for o in occupants)


def remedies(
    occupants: Sequence[Occupant], capacity: int, needed: int, space: str, target: Target
) -> list[str]:
    """Ways to make the occupants of a memory fit, the cheapest first; `needed` is what they take
    at the best, in bytes.
    """
    sizes = {o: o.size for o in occupants}
    peak, live = _peak(occupants, sizes)
    goal = capacity - (needed - peak)
    ways = sorted(_ways(live, target), key=lambda w: (w.cycles, -w.freed))
    found = [
        way.text
        for way in ways
        if _peak(occupants, sizes | {way.occupant: way.occupant.size - way.freed})[0] <= goal
    ]
    found = found[:SHOWN] or [_together(occupants, goal, target)]
    return [*filter(None, found), f"a target with {needed:,} bytes of {space}"]


def _ways(live: Sequence[Occupant], target: Target) -> Iterator[Remedy]:
    for each in live:
        if each.is_tensor:
            yield _reload(each, target) if each.is_constant else _spill(each, target)
        elif each.alloc.slots > 1:
            yield _one_slot(each, target)


def _spill(tensor: Occupant, target: Target) -> Remedy:
    """Writing the tensor to dram, and reading it again for each step that does."""
    moved = tensor.size * max(2, tensor.steps)
    how = f'keeping {tensor.name} in dram (memory = "dram" for it among the overrides'
    return _moving(how, tensor, moved, target)


def _reload(held: Occupant, target: Target) -> Remedy:
    """Reading a constant for each step that uses it, and not once."""
    steps = held.reading_steps
    how = f"loading {held.name} anew for each of {steps} steps"
    how += ' (weights = "stripe" for it among the overrides'
    return _moving(how, held, held.size * max(1, steps - 1), target)


def _moving(how: str, tensor: Occupant, moved: int, target: Target) -> Remedy:
    cycles = ceil(moved / target.memories["dram"].ports["dma"])
    cost = f"{tensor.size:,} bytes less; {moved:,} more bytes to move, {cycles:,} cycles"
    return Remedy(f"{how}; {cost})", tensor, tensor.size, cycles)


def _one_slot(tile: Occupant, target: Target) -> Remedy:
    """Copies that no longer run while the other slot is computed with."""
    slot = tile.size // tile.alloc.slots
    freed = tile.size - slot
    cycles = ceil(slot * _trips(tile.alloc) / target.memories["dram"].ports["dma"])
    text = (
        f"{tile.name} in 1 slot instead of {tile.alloc.slots} ({freed:,} bytes less; "
        f"its copies wait for the computation, up to {cycles:,} cycles)"
    )
    return Remedy(text, tile, freed, cycles)


def _together(occupants: Sequence[Occupant], goal: int, target: Target) -> str:
    """One change after the other at what is then the peak, those with the fewest cycles by byte
    first; where none is left, smaller tiles.
    """
    sizes = {o: o.size for o in occupants}
    parts: list[str] = []
    cycles = 0
    while (found := _peak(occupants, sizes))[0] > max(0, goal):
        excess, live = found[0] - goal, found[1]
        ways = _ways([each for each in live if sizes[each] == each.size], target)
        way = min(ways, key=lambda w: (w.cycles / max(1, w.freed), -w.freed), default=None)
        if way is not None:
            parts.append(way.text)
            sizes[way.occupant] -= way.freed
            cycles += way.cycles
        else:
            largest = max(live, key=sizes.__getitem__)
            less = min(excess, sizes[largest])
            parts.append(f"tiles of {largest.name} that take {less:,} bytes less")
            sizes[largest] -= less
    more = f" and {len(parts) - SHOWN} changes more, {cycles:,} cycles in all"
    more = more if len(parts) > SHOWN else ""
    return " and ".join(parts[:SHOWN]) + more


def _accesses(value: SSAValue) -> Iterator[Operation]:
    for use in value.uses:
        if isinstance(use.operation, ViewLikeOp):
            yield from _accesses(use.operation.result)
        elif not isinstance(use.operation, AllocOp):  # its size is `like` the value's
            yield use.operation


def _base(value: SSAValue) -> SSAValue:
    """The buffer that a view shows."""
    while isinstance(value.owner, ViewLikeOp):
        value = value.owner.source
    return value


def _top(op: Operation) -> Operation:
    """The operation of the function that `op` is or is part of."""
    while not isinstance(op.parent_op(), FuncOp):
        parent = op.parent_op()
        assert parent is not None
        op = parent
    return op


def _trips(op: Operation) -> int:
    """How often an operation is executed."""
    loops: list[int] = []
    parent = op.parent_op()
    while parent is not None:
        if isinstance(parent, ForOp):
            loops.append(parent.trips.value.data)
        parent = parent.parent_op()
    return prod(loops)
