"""npu-bind: inputs and outputs lie in the scratchpad where they would only be copied from there to
the same memory.

    npu.program @main ... inputs [<"x", <dram, 0x4000000, i8, [64], [1]>, ...>] ... {
      npu.dma_copy source = <dram, 0x4000000, i8, [64], [1]>, destination = <spm, 0x80, ...>
      npu.vector a = <spm, 0x80, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0

becomes, on a machine whose dram has the scratchpad's own memory behind a part that is read only,

    npu.program @main ... inputs [<"x", <spm, 0x80, i8, [64], [1]>, ...>] ... {
      npu.vector a = <spm, 0x80, i8, [64], [1]>, output = <spm, 0xc0, i8, [64], [1]>, kernel = 0

An input is bound there if copies bring all of it to one place, before which nothing touches that
place; an output if copies take all of it from one place, after which nothing writes there. The
caller writes inputs before a run and reads outputs after it, wherever they lie. Copies of other
tensors, states among them, stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import BindingAttr, OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.passes.npu_sync import programs
from npu_dialect.passes.tensor_taps import TENSORS
from npu_dialect.target import load_target


@dataclass(frozen=True)
class NpuBindPass(ModulePass):
    """Bind inputs and outputs in the scratchpad where they are only copied."""

    name = "npu-bind"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for program in programs(op):
            if load_target(program.target.data).memories["dram"].read_only:
                _bind(program)


def _bind(program: ProgramOp) -> None:
    if not all(isinstance(op, Instruction) for op in program.body.block.ops):
        return  # a repeat may touch what it does not name
    for field, is_free in (("inputs", _is_free_before), ("outputs", _is_kept_after)):
        taken: list[Operand] = []
        bindings: list[BindingAttr] = list(getattr(program, field))
        for number, binding in enumerate(bindings):
            found = _copies(program, binding.operand.data, is_read=field == "inputs")
            if found is None or any(_meet(found.place, other) for other in taken):
                continue
            if is_free(_instructions(program), found):
                bindings[number] = BindingAttr(
                    binding.label, OperandAttr(found.place), binding.type
                )
                taken.append(found.place)
                _drop(program, found)
        program.properties[field] = ArrayAttr(bindings)


def _instructions(program: ProgramOp) -> list[Instruction]:
    return [op for op in program.body.block.ops if isinstance(op, Instruction)]


@dataclass(frozen=True)
class _Copies:
    """The copies of an input or an output, and its place in the scratchpad."""

    ops: tuple[DmaCopyOp, ...]
    place: Operand
    step: int
    """Bytes from its place in dram to that one."""

    def near(self, op: DmaCopyOp) -> Operand:
        """What a copy has in the scratchpad."""
        values = op.values()
        is_load = values["destination"].space == "spm"
        return values["destination" if is_load else "source"]


def _copies(program: ProgramOp, operand: Operand, *, is_read: bool) -> _Copies | None:
    """The copies that bring all of an input to one place in the scratchpad, or all of an output
    from there; None where anything else touches it.
    """
    if operand.space != "dram" or not operand.size or _span(operand) != operand.size:
        return None
    found: list[DmaCopyOp] = []
    steps: set[int] = set()
    moved = np.zeros(operand.size, np.bool_)
    for op in _instructions(program):
        if not any(_meet(o, operand) for _, _, o in op.places()):
            continue
        values = op.values()
        if not isinstance(op, DmaCopyOp):
            return None
        far, near = values["source"], values["destination"]
        far, near = (far, near) if is_read else (near, far)
        same = far.strides == near.strides and _span(far) == far.size
        if not same or near.space != "spm" or not _meet(far, operand):
            return None
        low = far.interval[0] - operand.address
        if low < 0 or low + far.size > operand.size:
            return None
        moved[low : low + far.size] = True
        steps.add(near.address - far.address)
        found.append(op)
    if len(steps) != 1 or not moved.all():
        return None
    (step,) = steps
    place = Operand("spm", operand.address + step, operand.dtype, operand.dims, operand.strides)
    return _Copies(tuple(found), place, step)


def _is_free_before(ops: Sequence[Instruction], found: _Copies) -> bool:
    """Whether nothing touches the bytes of an input before they are copied there."""
    return _is_untouched(ops, found, lambda op: (o for _, _, o in op.places()))


def _is_kept_after(ops: Sequence[Instruction], found: _Copies) -> bool:
    """Whether nothing writes to the bytes of an output after they are copied from there."""
    return _is_untouched(ops[::-1], found, lambda op: iter(op.writes()))


def _is_untouched(
    ops: Sequence[Instruction], found: _Copies, touched: Callable[[Instruction], Iterator[Operand]]
) -> bool:
    """Whether instructions touch no byte of the place before its copy, in this order."""
    first = found.place.interval[0]
    waits = np.ones(found.place.size, np.bool_)
    copies = set(found.ops)
    for op in ops:
        if op in copies:
            assert isinstance(op, DmaCopyOp)
            low, high = found.near(op).interval
            waits[low - first : high - first] = False
            continue
        for operand in touched(op):
            low, high = (max(0, at - first) for at in operand.interval)
            if operand.space == "spm" and waits[low:high].any():
                return False
    return True


def _drop(program: ProgramOp, found: _Copies) -> None:
    """Removes copies; the tensors that they complete are complete where they come from."""
    for op in found.ops:
        _hand_on_tensors(program, op, found)
        op.detach()
        op.erase()


def _hand_on_tensors(program: ProgramOp, copy: DmaCopyOp, found: _Copies) -> None:
    tensors = copy.attributes.get(TENSORS)
    if not isinstance(tensors, ArrayAttr):
        return
    ops = _instructions(program)
    before = ops[: ops.index(copy)]
    writers = [op for op in before if any(_meet(o, found.place) for o in op.writes())]
    if not writers:
        return
    known = writers[-1].attributes.get(TENSORS)
    others = list(known) if isinstance(known, ArrayAttr) else []
    for each in tensors:
        assert isinstance(each, BindingAttr)
        operand = each.operand.data
        if operand.space == "dram":
            operand = Operand(
                "spm", operand.address + found.step, operand.dtype, operand.dims, operand.strides
            )
        others = [o for o in others if o.label != each.label]
        others.append(BindingAttr(each.label, OperandAttr(operand), each.type))
    writers[-1].attributes[TENSORS] = ArrayAttr(others)


def _span(operand: Operand) -> int:
    low, high = operand.interval
    return high - low


def _meet(a: Operand, b: Operand) -> bool:
    (low, high), (start, end) = a.interval, b.interval
    return a.space == b.space and low < end and start < high
