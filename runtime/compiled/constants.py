"""What the memories hold in every run, whatever the inputs: constants, and copies of them.

Found by carrying out the copies and fills of a program beforehand, on a machine of its own, beside
a mask of the bytes that are known. With that, weights are packed once, and a copy whose bytes are
then read by nobody is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.base import Instruction, Values
from npu_dialect.npu.copies import DmaCopyOp, DmaDecodeOp, DmaExpandOp, DmaFillOp
from npu_dialect.target import Target


class Constants:
    """The known content before each instruction; `step` moves past one."""

    def __init__(self, target: Target, dram_size: int) -> None:
        self._values = Machine(target, dram_size)
        self._known = {name: np.zeros(m.size, bool) for name, m in self._values.memories.items()}
        self._owner = np.zeros(self._known["spm"].size, np.int32)
        """Per byte of the scratchpad, the copy that wrote it (its position + 1) where all that the
        copy wrote is known, else 0.
        """
        self._unread: set[int] = set()

    def hold(self, address: int, data: Array) -> None:
        """Makes bytes of dram known."""
        self._values.memories["dram"][address : address + data.size] = data
        self._known["dram"][address : address + data.size] = True

    def forget(self, operand: Operand) -> None:
        """Makes an operand's bytes unknown."""
        self._mask(operand)[...] = False

    def content(self, operand: Operand) -> Array | None:
        """A copy of the operand's elements, None unless every byte is known."""
        if not operand.elements or not self._mask(operand).all():
            return None
        return self._values.view(operand).copy()

    def step(
        self,
        position: int,
        instruction: Instruction,
        values: Values,
        folded: Sequence[Operand] = (),
    ) -> None:
        """Takes note of what an instruction reads (but for `folded`) and writes."""
        for operand in instruction.reads():
            if operand.space == "spm" and operand not in folded:
                self._read(operand)
        for operand in instruction.writes():
            if operand.space == "spm":
                self._bytes(self._owner, operand)[...] = 0
        if isinstance(instruction, DmaCopyOp | DmaFillOp | DmaExpandOp | DmaDecodeOp):
            self._transfer(position, instruction, values)
            return
        for operand in instruction.writes():
            self.forget(operand)

    def unread(self) -> set[int]:
        """Positions of the copies that no instruction needs."""
        return self._unread

    def _read(self, operand: Operand) -> None:
        owners = self._bytes(self._owner, operand)
        if self._unread and owners.any():
            self._unread.difference_update(owner - 1 for owner in set(owners.ravel().tolist()))
            owners[...] = 0

    def _transfer(self, position: int, instruction: Instruction, values: Values) -> None:
        destination: Operand = values["destination"]
        instruction.execute(self._values, values)
        mask = self._mask(destination)
        source: Operand | None = values.get("source")
        if source is None:
            mask[...] = True
        elif isinstance(instruction, DmaExpandOp | DmaDecodeOp):
            mask[...] = self._mask(source).all()
        else:
            np.copyto(mask, self._mask(source))
        if destination.space == "spm" and mask.all():
            self._bytes(self._owner, destination)[...] = position + 1
            self._unread.add(position)

    def _mask(self, operand: Operand) -> Array:
        """Whether each byte of an operand is known."""
        return self._bytes(self._known[operand.space], operand)

    @staticmethod
    def _bytes(memory: Array, operand: Operand) -> Array:
        """What `memory` says of an operand's bytes: its dimensions, and the bytes of an element."""
        size, item = operand.dtype.itemsize, memory.itemsize
        dims = (*operand.dims, size)
        strides = (*(item * s for s in operand.strides), item)
        return np.ndarray(dims, memory.dtype, memory.data, item * operand.address, strides)
