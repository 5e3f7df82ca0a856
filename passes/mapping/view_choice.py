"""Choosing views: which movement groups cost nothing, by what their neighbours can address and by
what dram charges for short runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from xdsl.dialects.builtin import StringAttr, UnitAttr
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue

from npu_dialect import cost
from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr, integers
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.mapping.groups import Group, is_constant, obstacle, size_in_bytes
from npu_dialect.passes.mapping.moves import move_cycles
from npu_dialect.passes.mapping.views import (
    COPIED,
    VIEW,
    WITHIN,
    Place,
    holder,
    place_of,
    readers,
    root,
    storage,
    viewed,
    whole_steps,
    within,
)
from npu_dialect.target import Target

RESIDENT = 4
"""A tensor of at most this part of the scratchpad is taken to stay there when views are chosen."""
TILE = 1 << 14
"""Bytes of a tile of a tensor in dram, about, when views are chosen."""
VIEWS = ("graph.transpose", "graph.slice", "graph.broadcast_to")
HOLDERS = ("graph.transpose", "graph.concat", "graph.pad")
RUNS = ("array", "vector", "move")
"""Kinds of groups that can write by strides."""


@dataclass(frozen=True)
class Option:
    """A decision about a movement group: its attributes, and the operand that it is about."""

    attributes: dict[str, Attribute]
    operand: int | None = None


@dataclass
class Chooser:
    """Decides the movement groups of a block, in program order."""

    block: Block
    target: Target
    kept: dict[SSAValue, bool] = field(default_factory=dict[SSAValue, bool])
    """By storage, whether it will probably lie in the scratchpad."""

    def run(self) -> None:
        """Marks the groups."""
        for op in list(self.block.ops):
            if op.name == "graph.group" and Group(op).kind == "move":
                self._decide(op)

    def _decide(self, op: Operation) -> None:
        move = Group(op).body[0]
        if not prod(shape_of(op.results[0])) or move.name not in (*VIEWS, *HOLDERS):
            return
        if op.attributes.keys() & {VIEW, WITHIN, COPIED}:  # decided elsewhere
            return
        reasons: list[str] = []
        if move.name in ("graph.concat", "graph.pad"):
            for number in range(len(move.operands)):
                reasons += self._take(op, [self._within(op, number)])
        else:
            options = [self._within(op, 0)] if move.name in HOLDERS else []
            reasons += self._take(op, [*options, Option({VIEW: UnitAttr()})])
        if reasons:
            op.attributes[COPIED] = StringAttr("; ".join(dict.fromkeys(reasons)))
        placement = PlacementAttr.of("dma", *_placed(op))
        for each in (op, move):
            each.attributes[PLACEMENT] = placement

    def _within(self, op: Operation, number: int) -> Option:
        return Option({WITHIN: integers((*within(op), number))}, number)

    def _take(self, op: Operation, options: Sequence[Option]) -> list[str]:
        """Takes the cheapest option that is possible and cheaper than a copy; else the reasons."""
        reasons: list[str] = []
        rated: list[tuple[float, int]] = []
        for number, option in enumerate(options):
            reason = self._impossible(op, option)
            if reason is None:
                before = dict(op.attributes)
                copied = self._cycles(op, option)
                op.attributes.update(option.attributes)
                reason = self._refused(op, option)
                seen = 0.0 if reason else self._cycles(op, option)
                op.attributes.clear()
                op.attributes.update(before)
                if reason is None and seen > copied:
                    reason = f"short runs in dram: {seen:.0f} cycles, {copied:.0f} with a copy"
                if reason is None:
                    rated.append((seen, number))
            if reason is not None:
                reasons.append(reason)
        if not rated:
            return reasons
        op.attributes.update(options[min(rated)[1]].attributes)
        return []

    # --- what is possible

    def _impossible(self, op: Operation, option: Option) -> str | None:
        """Why an option makes no sense, whatever can be addressed."""
        if option.operand is None:
            return None
        value = _operand(op, option.operand)
        if is_constant(value):
            return "a constant"
        if sum(root(v) is value for v in op.operands) > 1 or _count(op, option.operand) > 1:
            return "a tensor that takes part twice"
        if not isinstance(value, OpResult):
            return "an input of the program"
        if viewed(value) is not None:
            return "a view of another tensor"
        if holder(value) is not None:
            return "a tensor that is part of another one"
        return None if Group(value.op).kind in RUNS else "a tensor that the host makes"

    def _refused(self, op: Operation, option: Option) -> str | None:
        """Why some neighbour cannot do with an option that has been written into the IR."""
        for user in self._affected(op, option):
            if user is op and Group(op).body[0].name == "graph.concat":
                continue  # its result stays where it is, and there is a copy less
            if user.name != "graph.group":
                returned = [v for v in user.operands if storage(v) is not root(v)]
                if returned:
                    return "a result of the program"
                continue
            reason = obstacle(Group(user))
            if reason is not None:
                return f"{Group(user).name}: {reason}"
        return None

    def _affected(self, op: Operation, option: Option) -> list[Operation]:
        found = dict.fromkeys([op])
        for each in _related(_subject(op, option)):
            if isinstance(each, OpResult) and each.op.name == "graph.group":
                found[each.op] = None
            found.update(dict.fromkeys(user for user, _ in readers(each)))
        return list(found)

    # --- what it costs

    def _cycles(self, op: Operation, option: Option) -> float:
        """Cycles of dma that the movement and its neighbours take, as it is marked now."""
        total = 0.0
        for group in self._affected(op, option):
            if group.name == "graph.group":
                total += self._accesses(group, op, option)
        return total

    def _accesses(self, group: Operation, op: Operation, option: Option) -> float:
        """Cycles of what a group reads and writes of the tensors that an option is about; of the
        movement itself, those of the copies it still makes.
        """
        if group is op:
            result, only = op.results[0], option.operand
            read = op.operands if only is None else [_operand(op, only)]
            resident = frozenset(s for v in (*read, result) if self._stays(s := storage(v)))
            return move_cycles(self.target, Group(op), resident, self._stays(result), only)
        about = set(_related(_subject(op, option)))
        values = [v for v in (*group.operands, *group.results) if root(v) in about]
        return sum(self._moved(v) for v in values)

    def _moved(self, value: SSAValue) -> float:
        """Cycles of bringing a tensor to or from where it lies; none in the scratchpad."""
        place = place_of(value)
        if self._stays(place.storage):
            return 0.0
        count, run = runs(place, dtype_of(value).itemsize)
        return cost.port_cycles(self.target, "dram", "dma", count, run)

    def _stays(self, value: SSAValue) -> bool:
        """Whether a tensor will probably lie in the scratchpad."""
        base = storage(value)
        if base not in self.kept:
            self.kept[base] = self._may_stay(base)
        return self.kept[base]

    def _may_stay(self, base: SSAValue) -> bool:
        if not isinstance(base, OpResult) or base.op.name != "graph.group":
            return False
        users = [user for user, _ in readers(base)]
        kinds = [Group(u).kind if u.name == "graph.group" else "caller" for u in users]
        if not {Group(base.op).kind, *kinds} <= set(RUNS):
            return False
        return size_in_bytes(base) * RESIDENT <= self.target.memories["spm"].size


def _placed(op: Operation) -> tuple[str, str]:
    """The rule and the reason of what became of a movement, for reports."""
    copied = op.attributes.get(COPIED)
    if isinstance(copied, StringAttr):
        return "copy", f"the copy engine moves tensors: {copied.data}"
    if VIEW in op.attributes:
        return "view", "read where it lies by strides, which costs nothing"
    return "view", "written to where it belongs by strides, which costs nothing"


def runs(place: Place, itemsize: int) -> tuple[int, int]:
    """(number of runs, bytes in each) of a tensor that is moved in tiles of `TILE` bytes, cut along
    its outermost dimension.
    """
    total = prod(count for count, _ in place.steps) * itemsize
    if place.steps == whole_steps(total // itemsize):
        return 1, total
    (outer, apart), *inner = place.steps
    rows = min(outer, max(1, TILE * outer // total))
    run = itemsize
    for stride, count in sorted((abs(s), c) for c, s in [(rows, apart), *inner]):
        if stride * itemsize == run:
            run *= count
    return -(-total // run), run


def _related(value: SSAValue) -> Iterator[SSAValue]:
    """A tensor, its views, and what lies within it: those that move when it does."""
    yield value
    for user, _ in readers(value):
        if VIEW in user.attributes:
            yield from _related(user.results[0])
    if isinstance(value, OpResult) and value.op.name == "graph.group":
        for number in within(value.op):
            yield from _related(_operand(value.op, number))


def _subject(op: Operation, option: Option) -> SSAValue:
    """The tensor that an option gives another place."""
    return op.results[0] if option.operand is None else _operand(op, option.operand)


def _operand(op: Operation, number: int) -> SSAValue:
    """The tensor outside that an operand of the movement is all of."""
    inner = Group(op).body[0].operands[number]
    assert isinstance(inner, BlockArgument)
    return root(op.operands[inner.index])


def _count(op: Operation, number: int) -> int:
    """How often the movement takes the same operand."""
    operands = Group(op).body[0].operands
    return sum(v is operands[number] for v in operands)
