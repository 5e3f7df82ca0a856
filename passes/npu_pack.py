"""npu-pack: moves the values of a scheduled program together in the scratchpad.

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x1000, i8, [64], [1]>
    npu.vector a = <spm, 0x1000, i8, [64], [1]>, output = <spm, 0x2000, i8, [64], [1]>, kernel = 0

becomes

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, i8, [64], [1]>
    npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>, kernel = 0

Values have places that suit the schedule already (`prefetch`); here the highest address comes down.
Each value lives from the latest start of its first instruction that delays nothing to the end of
its last reader, and what shares no cycle may share bytes, so no instruction waits longer than
before. A program stays as it is where its highest address would not come down. Tensors that are
there as a whole, for those who look at them (`npu.tensors`), stay whole where that takes no more
room; else they are no longer named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from npu_dialect.passes.npu_sync import programs
from npu_dialect.passes.prefetch import latest
from npu_dialect.passes.rooms import Rooms
from npu_dialect.passes.schedule import Tasks, in_order
from npu_dialect.passes.tensor_taps import TENSORS
from npu_dialect.passes.webs import Values, Web, move, moved
from npu_dialect.target import Target, load_target

MOST = 6000
"""Values up to which a program is packed; beyond, pairs of them are too many."""
EFFORT = 1.25
"""Of the search for offsets of up to `FEW` values, in units of `allocation.allocate`."""
HIDDEN = (1 << 62, 64, -1)
"""Latencies that are taken to be nothing, one after the other: all, those within the chip, none."""
FEW = 400
"""Values beyond which the search gets less to do: it finds seldom what it looks for then."""


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
    first. What takes
    bytes of a value of which others are still read gets bytes of its own, or else moves with it.
    """
    tasks = Tasks.of(instructions, target, kernels)
    size = target.memories["spm"].size
    known = in_order(tasks).makespan
    for hidden in HIDDEN:
        for joins_all in (False, True):
            manner = _Manner(hidden, joins_all)
            found = _packed(instructions, tasks, size, manner)
            if found is not None and found.makespan(tasks) <= known:
                found.move()
                return


def _packed(
    instructions: Sequence[Instruction], tasks: Tasks, size: int, manner: _Manner
) -> _Packing | None:
    """Offsets below those that values have now, where there are any."""
    parts = _Packing(instructions, tasks, size, manner, is_whole=False)
    if not 0 < len(parts.webs) <= MOST or parts.bound >= _top(parts.webs):
        return None
    whole = _Packing(instructions, tasks, size, manner, is_whole=True)
    same = len(whole.webs) == len(parts.webs)
    best = whole if same or (whole.bound <= parts.top and whole.top <= parts.top) else parts
    return best if best.top < _top(best.webs) else None


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


class _Packing:
    """Offsets for the values of a program, in as little room as is found."""

    def __init__(
        self,
        instructions: Sequence[Instruction],
        tasks: Tasks,
        size: int,
        manner: _Manner,
        is_whole: bool,
    ) -> None:
        self.values = Values(instructions, size, _tensors, is_whole)
        webs = self.values.webs
        if manner.joins_all:
            webs.join_interleaved()
        else:
            webs.join_close()
        self.roots = self.values.webs.roots()
        self.webs = [self.values.webs.members[root] for root in self.roots]
        self.buffers = self._buffers(tasks, manner.hidden) if len(self.webs) <= MOST else []
        self.bound, _ = live_bound(self.buffers)

    def _buffers(self, tasks: Tasks, hidden: int) -> list[Buffer]:
        sizes = [web.high - web.start for web in self.webs]
        alignments = [web.alignment for web in self.webs]
        rooms = Rooms(sizes, alignments, [web.touched for web in self.webs], 0)
        late = latest(tasks, rooms, in_order(tasks))
        rows = zip(late.starts, late.ends, tasks.cycles, tasks.latencies, strict=True)
        ends = [s + max(c, 1) if lag <= hidden else end for s, end, c, lag in rows]
        # what begins later in the program than another value ends must not begin earlier in time
        ascending = list(accumulate(reversed(late.starts), min))[::-1]
        return [
            Buffer(k, ascending[web.first], max(ends[t] for t in web.touched), size, web.alignment)
            for k, (web, size) in enumerate(zip(self.webs, sizes, strict=True))
        ]

    def makespan(self, tasks: Tasks) -> int:
        """Of the program with these offsets."""
        pairs = zip(self.values.instructions, self.steps, strict=True)
        return in_order(tasks.depending([moved(i, s) if any(s) else i for i, s in pairs])).makespan

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
        effort = EFFORT * min(1.0, (FEW / max(1, len(self.buffers))) ** 2)
        found = pack(self.buffers, effort)
        return [found[k] for k in range(len(self.buffers))]

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
