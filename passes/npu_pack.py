"""npu-pack: moves the values of a scheduled program together in the scratchpad.

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x1000, i8, [64], [1]>
    npu.vector a = <spm, 0x1000, i8, [64], [1]>, output = <spm, 0x2000, i8, [64], [1]>, kernel = 0

becomes

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, i8, [64], [1]>
    npu.vector a = <spm, 0x0, i8, [64], [1]>, output = <spm, 0x40, i8, [64], [1]>, kernel = 0

tile-allocate places buffers before the order of the instructions is known, and gives them room to
be filled ahead. Here the order is known: each value lives from the start of its first writer to the
end of its last reader (`webs`), and what shares no cycle may share bytes, so no instruction waits
longer than before. A program stays as it is where its highest address would not come down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass

from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import BindingAttr, OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.passes.allocation import Buffer, pack
from npu_dialect.passes.npu_sync import programs
from npu_dialect.passes.schedule import Tasks
from npu_dialect.passes.tensor_taps import TENSORS
from npu_dialect.passes.webs import Times, Web, Webs, greatest_live_sum, is_mixed
from npu_dialect.target import Target, load_target

MOST = 3000
"""Values up to which a program is packed; beyond, pairs of them are too many."""
EFFORT = 0.3
"""Of the search for offsets, in units of `allocation.allocate`."""


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
    """Moves what should move."""
    times = Times.of(Tasks.of(instructions, target, kernels))
    values = Values(Webs(target.memories["spm"].size, times))
    for number, instruction in enumerate(instructions):
        values.add(number, instruction)
    steps = _steps(values.webs)
    for instruction, found in zip(instructions, values.found, strict=True):
        moves = [0 if write is None else steps.get(values.webs.root(write), 0) for write in found]
        if any(moves):
            move_operands(instruction, moves)


class Values:
    """The webs of a program, and which of them each operand is of."""

    def __init__(self, webs: Webs) -> None:
        self.webs = webs
        self.found: list[list[int | None]] = []
        """By instruction, a write of the web of each operand, then of each tensor that the
        instruction is the last to write. None where there is no web.
        """

    def add(self, number: int, instruction: Instruction) -> None:
        fields = list(instruction.operand_fields())
        found: list[int | None] = [None] * len(fields)
        touch = {"read": self.webs.read, "update": self.webs.update, "write": self.webs.write}
        for role in touch:  # an instruction reads before it writes
            for k, (_, its_role, operand) in enumerate(fields):
                if its_role == role and _is_placed(operand):
                    found[k] = touch[role](number, operand)
        for binding in _tensors(instruction):
            operand = binding.operand.data
            found.append(self.webs.read(number, operand) if _is_placed(operand) else None)
        self.found.append(found)


def _is_placed(operand: Operand) -> bool:
    """Whether it has bytes in the scratchpad."""
    return operand.space == "spm" and operand.elements > 0


def _tensors(instruction: Instruction) -> Sequence[BindingAttr]:
    """The whole tensors that are there once the instruction is done, for those who look at them."""
    attribute = instruction.attributes.get(TENSORS)
    return cast(ArrayAttr[BindingAttr], attribute).data if attribute is not None else ()


def _steps(webs: Webs) -> dict[int, int]:
    """By web, the bytes that it moves; nothing where the highest address would not come down.

    Where engines start instructions in another order than that of the program, offsets that fit the
    times may mix values up; then those for ascending times are taken.
    """
    if not 0 < len(webs.roots()) <= MOST:
        return {}
    roots = webs.roots()
    found = [webs.members[root] for root in roots]
    top = max(web.high for web in found)
    if top <= greatest_live_sum(found):
        return {}
    for begins in ([w.begin for w in found], [webs.times.ascending[w.first] for w in found]):
        moves = _moves(found, begins, top)
        moved = [
            replace(w, low=w.low + m, high=w.high + m) for w, m in zip(found, moves, strict=True)
        ]
        if not is_mixed(moved):
            return dict(zip(roots, moves, strict=True))
    return {}


def _moves(found: Sequence[Web], begins: Sequence[int], top: int) -> list[int]:
    """Bytes that each web moves; none where they would not come under `top`."""
    starts = [web.low - web.low % web.alignment for web in found]
    buffers = [
        Buffer(k, begin, web.end, web.high - start, web.alignment)
        for k, (web, begin, start) in enumerate(zip(found, begins, starts, strict=True))
    ]
    offsets = pack(buffers, EFFORT)
    if max(offsets[b.id] + b.size for b in buffers) >= top:
        return [0] * len(found)
    return [offsets[k] - start for k, start in enumerate(starts)]


def move_operands(instruction: Instruction, moves: Sequence[int]) -> None:
    """Moves the operands, in the order of `operand_fields`, and the tensors after them."""
    steps = iter(moves)
    for name in dict.fromkeys(name for name, _, _ in instruction.operand_fields()):
        instruction.properties[name] = _moved(instruction.properties[name], steps)
    if TENSORS in instruction.attributes:
        tensors = [_binding(b, next(steps)) for b in _tensors(instruction)]
        instruction.attributes[TENSORS] = ArrayAttr(tensors)


def _binding(binding: BindingAttr, step: int) -> BindingAttr:
    operand = OperandAttr(binding.operand.data.moved(step))
    return BindingAttr(binding.label, operand, binding.type)


def _moved(attribute: Attribute, steps: Iterator[int]) -> Attribute:
    if isinstance(attribute, OperandAttr):
        return OperandAttr(attribute.data.moved(next(steps)))
    operands = cast(ArrayAttr[OperandAttr], attribute)
    return ArrayAttr([OperandAttr(item.data.moved(next(steps))) for item in operands])
