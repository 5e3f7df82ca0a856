"""npu-pack: moves the values of a scheduled program together in the scratchpad.

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x1000, i8, [64], [1]>
    npu.vector a = <spm, 0x1000, i8, [64], [1]>, output = <spm, 0x2000, i8, [64], [1]>, kernel = 0

becomes

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, i8, [64], [1]>
    npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>, kernel = 0

Values have places that suit the schedule already (`prefetch`); here the highest address comes down.
Each value lives from the latest start of its first instruction that delays nothing to the end of
its last reader, and what shares no cycle may share bytes, so no instruction waits longer than
before. What lives when the most is live is placed first (`allocation_parts`). A program stays as it
is where its highest address would not come down; one of more than 1,500 values, where it would by
less than a 64th. Tensors that are
there as a whole, for those who look at them (`npu.tensors`), stay whole where that takes no more
room; else they are no longer named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, cast

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import BindingAttr, OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.passes.allocation import Buffer, live_bound, pack
from npu_dialect.passes.allocation_parts import Part, pack_parts, parts_bound, parts_of
from npu_dialect.passes.npu_sync import programs
from npu_dialect.passes.prefetch import latest
from npu_dialect.passes.rooms import Rooms
from npu_dialect.passes.schedule import Schedule, Tasks, in_order
from npu_dialect.passes.tensor_taps import TENSORS
from npu_dialect.passes.webs import Values, Web, move, moved
from npu_dialect.target import Target, load_target

MOST = 6000
"""Values up to which a program is packed; beyond, pairs of them are too many."""
EFFORT = 1.25
"""Of the search for offsets of up to `FEW` values, in units of `allocation.allocate`."""
AROUND = 1.0
"""The same of the search around the peak, which comes first."""
HIDDEN = (1 << 62, 64, -1)
"""Latencies that are taken to be nothing, one after the other: all, those within the chip, none."""
FEW = 400
"""Values beyond which the search gets less to do: it finds seldom what it looks for then."""
MANY = 1500
"""Values up to which any bytes are worth a search."""
WORTH = 64
"""More values are only moved where they may take less by this part of what they take."""


@dataclass(frozen=True)
class NpuPackPass(ModulePass):
    """Move values in the scratchpad so that they take the least room."""

    name = "npu-pack"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for program in programs(op):
            _pack(program, load_target(program.target.data))


def _pack(program: ProgramOp, target: Target) -> None:
    instructions = [op for op in program.body.block.ops if isinstance(op, Instruction)]
    if len(instructions) != len(program.body.block.ops) or len(instructions) > 2 * MOST:
        return  # a repeat advances all addresses by the same steps, new ones would not
    kernels = [kernel.data for kernel in program.kernels]
    _move_all(instructions, kernels, target)


def _move_all(
    instructions: Sequence[Instruction], kernels: Sequence[Kernel], target: Target
) -> None:
    """Moves what should move.

    An engine may overwrite what its instruction before read while the results of that one are still
    being stored; another engine waits for them. So values first live until their readers' engines
    are free, and where that delays something, until the readers' results are there, those of copies
    first. What takes bytes of a value of which others are still read gets bytes of its own, or else
    moves with it; what was joined takes at each time only what lives of it then
    (`allocation_parts`).
    """
    given = _Given(instructions, kernels, target)
    for hidden in HIDDEN:
        ways = (_packed(given, _Manner(hidden, joins_all)) for joins_all in (False, True))
        found = next((way for way in ways if way is not None), None)
        if found is None:
            return  # values that live longer take no less
        if found.makespan <= given.schedule.makespan:
            found.move()
            return


def _packed(given: _Given, manner: _Manner) -> _Packing | None:
    """Offsets below those that values have now, where there are any."""
    parts = _Packing(given, manner, is_whole=False)
    if not 0 < len(parts.webs) <= MOST:
        return None
    top = _top(parts.webs)
    if len(parts.webs) > MANY and parts.least >= top - top // WORTH:
        return None
    if parts.bound >= top:
        return None
    whole = _Packing(given, manner, is_whole=True) if given.is_watched else parts
    best = whole if _is_as_low(whole, parts) else parts
    return best if best.top < _top(best.webs) else None


def _is_as_low(whole: _Packing, parts: _Packing) -> bool:
    """Whether whole tensors take no more room; what they take is looked for first."""
    if len(whole.webs) == len(parts.webs):
        return True
    if whole.bound <= parts.bound and whole.top <= parts.bound:
        return True
    return whole.bound <= parts.top and whole.top <= parts.top


def _top(webs: Sequence[Web]) -> int:
    return max(web.high for web in webs)


class _Manner(NamedTuple):
    """How values are seen."""

    hidden: int
    """Latencies of readers up to which values live until the reader's engine is free; with greater
    ones until its results are there.
    """
    joins_all: bool
    """Those that overlap in addresses and in the order of instructions move together."""


@dataclass(frozen=True)
class _Given:
    """A program, and what is known of it however its values are seen; found where it is needed."""

    instructions: Sequence[Instruction]
    kernels: Sequence[Kernel]
    target: Target
    _found: dict[bool, Values] = field(default_factory=dict[bool, Values])
    _joined: dict[tuple[bool, bool], Values] = field(
        default_factory=dict[tuple[bool, bool], Values]
    )

    @cached_property
    def tasks(self) -> Tasks:
        return Tasks.of(self.instructions, self.target, self.kernels)

    @cached_property
    def schedule(self) -> Schedule:
        return in_order(self.tasks)

    @cached_property
    def is_watched(self) -> bool:
        """Whether somebody looks at whole tensors."""
        return any(TENSORS in i.attributes for i in self.instructions)

    def values(self, is_whole: bool, joins_all: bool) -> Values:
        """The values, with whole tensors in one piece each where `is_whole`."""
        if (is_whole, joins_all) not in self._joined:
            values = self.as_used(is_whole).copy()
            if joins_all:
                values.webs.join_interleaved()
            else:
                values.webs.join_close()
            self._joined[is_whole, joins_all] = values
        return self._joined[is_whole, joins_all]

    def as_used(self, is_whole: bool) -> Values:
        """The values as instructions read and write them."""
        if is_whole not in self._found:
            size = self.target.memories["spm"].size
            self._found[is_whole] = Values(self.instructions, size, _tensors, is_whole)
        return self._found[is_whole]


class _Packing:
    """Offsets for the values of a program, in as little room as is found."""

    def __init__(self, given: _Given, manner: _Manner, is_whole: bool) -> None:
        self.given, self.hidden, self.is_whole = given, manner.hidden, is_whole
        self.values = given.values(is_whole, manner.joins_all)
        webs = self.values.webs
        self.roots = webs.roots()
        self.webs = [webs.members[root] for root in self.roots]
        self.sizes = [web.high - web.start for web in self.webs]

    @cached_property
    def least(self) -> int:
        """Bytes that are live at an instruction: `bound` is no less, since a value lives when any
        instruction between its first and last one starts, if not before.
        """
        changes = [0] * (len(self.given.instructions) + 1)
        for web, size in zip(self.webs, self.sizes, strict=True):
            changes[web.first] += size
            changes[web.last + 1] -= size
        return max(accumulate(changes))

    @cached_property
    def bound(self) -> int:
        """Bytes that are live at once, at most."""
        return parts_bound(self.parts) if self.buffers else 0

    @cached_property
    def parts(self) -> list[Part]:
        """What webs take and when: those that were joined of several may take less at times."""
        place = {root: k for k, root in enumerate(self.roots)}
        raw = self.given.as_used(self.is_whole).webs
        webs = [(place[self.values.webs.root(n)], raw.members[n]) for n in raw.roots()]
        given = [
            Part(k, *self._life(web), web.start - self.webs[k].start, web.high - self.webs[k].start)
            for k, web in webs
        ]
        return parts_of(self.buffers, given)

    def _life(self, web: Web) -> tuple[int, int]:
        """When a web begins and ends."""
        starts, ends = self._times
        return starts[web.first], max(ends[t] for t in web.touched)

    @cached_property
    def buffers(self) -> list[Buffer]:
        """By web; none where there are too many of them."""
        if len(self.webs) > MOST:
            return []
        return [
            Buffer(k, *self._life(web), size, web.alignment)
            for k, (web, size) in enumerate(zip(self.webs, self.sizes, strict=True))
        ]

    @cached_property
    def _times(self) -> tuple[list[int], list[int]]:
        """By instruction, when what it writes begins, and when what it reads ends."""
        tasks = self.given.tasks
        alignments = [web.alignment for web in self.webs]
        rooms = Rooms(self.sizes, alignments, [web.touched for web in self.webs], 0)
        late = latest(tasks, rooms, self.given.schedule)
        rows = zip(late.starts, late.ends, tasks.cycles, tasks.latencies, strict=True)
        hidden = self.hidden
        ends = [max(s + 1, s + c if lag <= hidden else end) for s, end, c, lag in rows]
        # what begins later in the program than another value ends must not begin earlier in time
        return list(accumulate(reversed(late.starts), min))[::-1], ends

    @cached_property
    def makespan(self) -> int:
        """Of the program with these offsets."""
        pairs = zip(self.values.instructions, self.steps, strict=True)
        moves = [moved(i, s) if any(s) else i for i, s in pairs]
        return in_order(self.given.tasks.depending(moves)).makespan

    @cached_property
    def steps(self) -> list[list[int]]:
        """By instruction, the bytes that each operand moves."""
        return self.values.steps(self.by_web)

    @cached_property
    def by_web(self) -> dict[int, int]:
        """By web, the bytes that it moves."""
        pairs = zip(self.roots, self.webs, self.offsets, strict=True)
        return {root: offset - web.start for root, web, offset in pairs}

    @cached_property
    def offsets(self) -> list[int]:
        """By web."""
        found = {k: web.start for k, web in enumerate(self.webs)}
        some = min(1.0, (FEW / len(self.buffers)) ** 2)
        if live_bound(self.buffers)[0] == self.bound < self._height(found):
            found = min(found, pack(self.buffers, 0), key=self._height)
        found = pack_parts(self.buffers, self.parts, found, AROUND * some)
        if self.bound < self._height(found) > live_bound(self.buffers)[0]:
            other = pack(self.buffers, EFFORT * some)
            found = min(found, other, key=self._height)
        return [found[k] for k in range(len(self.buffers))]

    def _height(self, offsets: dict[int, int]) -> int:
        return max(offsets[b.id] + b.size for b in self.buffers)

    @property
    def top(self) -> int:
        """One past the highest address."""
        return max(o + b.size for o, b in zip(self.offsets, self.buffers, strict=True))

    def move(self) -> None:
        """Moves operands, and the tensors that are still whole."""
        for number, instruction in enumerate(self.values.instructions):
            if any(self.steps[number]):
                move(instruction, self.steps[number])
            if TENSORS in instruction.attributes:
                _move_tensors(instruction, self.values.watched_steps(number, self.by_web))


def _tensors(instruction: Instruction) -> list[Operand]:
    """The whole tensors that are there once the instruction is done, for those who look at them."""
    return [binding.operand.data for binding in _bindings(instruction)]


def _bindings(instruction: Instruction) -> Sequence[BindingAttr]:
    attribute = instruction.attributes.get(TENSORS)
    return cast(ArrayAttr[BindingAttr], attribute).data if attribute is not None else ()


def _move_tensors(instruction: Instruction, steps: Sequence[set[int]]) -> None:
    """Moves the tensors of an instruction; what moves by several steps is whole no more."""
    kept = [
        BindingAttr(b.label, OperandAttr(b.operand.data.moved(*step or {0})), b.type)
        for b, step in zip(_bindings(instruction), steps, strict=True)
        if len(step) < 2
    ]
    instruction.attributes[TENSORS] = ArrayAttr(kept)
    if not kept:
        del instruction.attributes[TENSORS]
