"""When the tensors of a function live: what each group reads, writes and reads last, as sets.

A set of tensors is a number, a bit for each tensor, so that a plan's states are compared and joined
at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from xdsl.ir import Block, SSAValue

from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.segments import Tensor, tensors
from npu_dialect.passes.mapping.views import storage


class Lives:
    """Of the tensors with memory of their own that the groups of a block write.

    By group: `inputs`, `outputs`, `late` (written, but begun by another group before), `ends` (read
    for the last time) and `recent` (written by the one or two groups before).
    """

    def __init__(self, block: Block, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.tensors = tensors(block, groups)
        by_bit = list(self.tensors.values())
        for k, tensor in enumerate(by_bit):
            tensor.bit = 1 << k
        self.by_bit = by_bit
        count = len(self.groups)
        self.inputs, self.outputs, self.ends = [0] * count, [0] * count, [0] * count
        self.late = [0] * count
        for k, group in enumerate(self.groups):
            for tensor in self.storages(group.inputs):
                self.inputs[k] |= tensor.bit
            for tensor in self.storages(group.op.results):
                if tensor.written == k:
                    self.outputs[k] |= tensor.bit
                else:
                    self.late[k] |= tensor.bit
        self.recent = [0] * count
        for k in range(1, count):
            self.recent[k] = self.outputs[k - 1] | (self.outputs[k - 2] if k > 1 else 0)
        for tensor in by_bit:
            self.ends[tensor.read] |= tensor.bit
        self._sizes: dict[int, int] = {0: 0}
        self._sets: dict[int, frozenset[SSAValue]] = {0: frozenset()}

    @property
    def whole(self) -> list[int]:
        """Bytes that live at each group where every tensor that may stay does."""
        found = [0] * len(self.groups)
        for tensor in self.by_bit:
            if tensor.may_stay:
                for k in range(tensor.written, tensor.read + 1):
                    found[k] += tensor.aligned
        return found

    def storages(self, values: Sequence[SSAValue]) -> list[Tensor]:
        """The tensors that values lie in."""
        found = (self.tensors.get(storage(v)) for v in values)
        return [t for t in found if t is not None]

    def bytes_of(self, bits: int) -> int:
        """Bytes of the tensors of a set."""
        found = self._sizes.get(bits)
        if found is None:
            top = bits.bit_length() - 1
            rest = bits ^ (1 << top)
            found = self._sizes[bits] = self.bytes_of(rest) + self.by_bit[top].aligned
        return found

    def set_of(self, bits: int) -> frozenset[SSAValue]:
        """The tensors of a set."""
        found = self._sets.get(bits)
        if found is None:
            top = bits.bit_length() - 1
            rest = bits ^ (1 << top)
            found = self._sets[bits] = self.set_of(rest) | {self.by_bit[top].value}
        return found

    def run_inputs(self, first: int, stop: int) -> int:
        """The tensors from outside that the groups of a run read."""
        bits = 0
        for k in range(first, stop):
            bits |= self.inputs[k]
        return bits

    def last_read(self, number: int) -> float:
        """The last group that reads a group's result; infinite for what is wanted elsewhere, or is
        a part of another tensor.
        """
        tensor = self.tensors.get(self.groups[number].op.results[0])
        if tensor is None or not tensor.may_stay:
            return inf
        return tensor.read if tensor.read > tensor.written else inf

    def written(self, number: int) -> list[Tensor]:
        """The tensors that a group writes, or writes parts of."""
        return self.storages(self.groups[number].op.results)

    def may_stay(self, number: int) -> bool:
        """Whether the results of a group might lie in either memory."""
        found = self.written(number)
        return bool(found) and not self.late[number] and all(t.may_stay for t in found)
