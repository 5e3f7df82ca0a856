"""Which instruction completes which tensor of the model: for comparing levels tensor by tensor.

The tensors between loop nests are the buffers of the function itself and its arguments; a tensor is
called by the last source of the operation that writes it, as at the other levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.dialects.builtin import ArrayAttr, StringAttr, TensorType
from xdsl.ir import BlockArgument, SSAValue, TypeAttribute

from npu_dialect import provenance
from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import BindingAttr, OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.passes.blocks import MAX_RANK
from npu_dialect.passes.tile_instructions import Addresses, flattened
from npu_dialect.tile.descriptor import BufferKey, Descriptor, by_strides, dense
from npu_dialect.tile.events import Event
from npu_dialect.tile.memory import holds_tensor
from npu_dialect.tile.structure import StridedOp, strided
from npu_dialect.tile.syntax import dtype_of, memref_of, shape_of, space_of, values_of
from npu_dialect.tile.verify import destinations

TENSORS = "npu.tensors"


@dataclass
class _Written:
    """A tensor, and the instructions that write it."""

    key: BufferKey
    binding: BindingAttr
    writers: set[Instruction] = field(default_factory=set[Instruction])


@dataclass
class TensorTaps:
    """Collects, while a function is walked, the instructions that write each tensor."""

    addresses: Addresses
    writers: dict[str, _Written] = field(default_factory=dict[str, "_Written"])

    def note(self, event: Event, instructions: Iterable[Instruction]) -> None:
        """Records what the instructions of an event write."""
        instructions = list(instructions)
        for written in event.writes if instructions else ():
            key = written.buffer
            owner = key.owner
            value = owner if isinstance(owner, BlockArgument) else owner.results[0]
            names = provenance.sources(event.op)
            if names and holds_tensor(owner):
                within = next(filter(None, map(strided, destinations(event.op))), None)
                shown = value if within is None else within.result
                if within is None or len(shape_of(shown)) <= MAX_RANK:
                    self._add(names[-1], key, shown, instructions)

    def _add(
        self, name: str, key: BufferKey, value: SSAValue, instructions: list[Instruction]
    ) -> None:
        found = self.writers.get(name)
        if found is None or found.key != key:
            binding = self._binding(name, key, value)
            if found is None or found.binding != binding:
                found = self.writers[name] = _Written(key, binding)
        found.writers.update(instructions)

    def _binding(self, name: str, key: BufferKey, value: SSAValue) -> BindingAttr:
        operand = self.addresses.operand(_descriptor(key, value))
        if len(operand.dims) > MAX_RANK:
            operand = flattened(operand)
        kind = TensorType(memref_of(value).element_type, shape_of(value))
        return BindingAttr(StringAttr(name), OperandAttr(operand), cast(TypeAttribute, kind))

    def follow(self, steps: Mapping[Instruction, Sequence[int]]) -> None:
        """Takes note that instructions have moved the operands that they touch, in the order of
        `operand_fields`. A tensor whose parts have moved apart is forgotten.
        """
        for name, tensor in list(self.writers.items()):
            found = {s for op in tensor.writers for s in _steps(tensor.binding, op, steps.get(op))}
            if len(found) > 1:
                del self.writers[name]
            elif found - {0}:
                binding, operand = tensor.binding, tensor.binding.operand.data.moved(*found)
                tensor.binding = BindingAttr(binding.label, OperandAttr(operand), binding.type)

    def attach(self, instructions: Sequence[Instruction]) -> None:
        """Marks, in the final order, the last writer of each tensor that is ever whole.

        A consumer may follow a producer tile by tile, and the memory of the first rows be used
        again before the last ones are written.
        """
        position = {op: n for n, op in enumerate(instructions)}
        written = [op.writes() for op in instructions]
        found: dict[Instruction, list[Any]] = {}
        for tensor in self.writers.values():
            binding = tensor.binding
            places = sorted(position[op] for op in tensor.writers)
            between = set(range(places[0], places[-1])) - set(places)
            if not any(_touches(binding.operand.data, o) for n in between for o in written[n]):
                found.setdefault(instructions[places[-1]], []).append(binding)
        for op, bindings in found.items():
            op.attributes[TENSORS] = ArrayAttr(bindings)


def _steps(binding: BindingAttr, op: Instruction, steps: Sequence[int] | None) -> Iterator[int]:
    """Bytes that the parts of a tensor have moved which an instruction writes."""
    fields = list(op.operand_fields())
    for (_, role, operand), step in zip(fields, steps or [0] * len(fields), strict=True):
        if role != "read" and _touches(binding.operand.data, operand.moved(-step)):
            yield step


def _descriptor(key: BufferKey, value: SSAValue) -> Descriptor:
    """A tensor that is all of a buffer, or lies within it."""
    owner = value.owner
    if not isinstance(owner, StridedOp):
        return dense(key, space_of(value), dtype_of(value), shape_of(value))
    whole = dense(key, space_of(value), dtype_of(value), shape_of(owner.source))
    return by_strides(whole, owner.first, shape_of(value), values_of(owner.strides))


def _touches(a: Operand, b: Operand) -> bool:
    (low, high), (other_low, other_high) = a.interval, b.interval
    return a.space == b.space and low < other_high and other_low < high
