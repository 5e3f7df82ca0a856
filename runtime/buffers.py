"""What lies in the scratchpad when: each write of an instruction, from its start to its last use.

Read off the decoded program, byte by byte: a read uses the latest write of every byte that it
touches. Where the waits are right this holds for every order that they permit, so program order
will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from npu_dialect.machine import Operand
from npu_dialect.runtime.program import Program

if TYPE_CHECKING:
    from npu_dialect.runtime.profile import Profile

KINDS = ("weights", "input", "state", "result", "reloaded")
"""What a buffer holds: a constant, an input or a state of the program, what a layer computes, or
what one has computed before and dram gave back.
"""

_BLOCK = 32
"""Bytes of dram that share one owner; tensors begin at multiples of it."""


@dataclass(frozen=True)
class Buffer:
    """A part of the scratchpad that holds one thing. Instructions are numbered as executed."""

    name: str
    """The layer that computed it, or the name of the constant, input or state."""
    kind: str
    """One of `KINDS`."""
    low: int
    high: int
    """The range of addresses that encloses it."""
    size: int
    """Bytes that are read, or may be."""
    begin: int
    end: int
    """From the start of its writer to the end of its last reader, in cycles; or to the start of
    that one where it puts its own result in the same place.
    """
    writer: int
    readers: tuple[int, ...]


def of(profile: Profile) -> list[Buffer]:
    """The buffers of a program, in the order in which they are written."""
    return _Scan(profile).buffers()


@dataclass
class _Write:
    operand: Operand
    name: str
    kind: str
    readers: list[int] = field(default_factory=list[int])
    is_replaced: bool = False
    """Whether its last reader writes its own result over it."""
    lost: int = 0
    """Bytes that were replaced before anything read them, as the inside of a padded border."""


class _Scan:
    """Goes through the instructions and keeps the latest write of every byte."""

    def __init__(self, profile: Profile) -> None:
        self.profile, program = profile, profile.program
        self.owner = np.full(program.machine.memories["spm"].size, -1, np.int32)
        self.writes: dict[int, list[_Write]] = {}
        """By instruction."""
        self.sources = _Sources(program)

    def buffers(self) -> list[Buffer]:
        program = self.profile.program
        for i, (number, op) in enumerate(program.executed):
            layer = program.debug[number].layer
            operands = list(op.operand_fields())
            read = [o for _, role, o in operands if role != "write"]
            for operand in read:
                self._read(i, operand)
            name, kind = self.sources.of(op.engine, read, layer)
            for operand in (o for _, role, o in operands if role != "read"):
                if operand.space == "dram":
                    self.sources.store(operand, layer, op.engine)
                elif operand.space == "spm" and operand.size:
                    self._write(i, _Write(operand, name, kind))
        return list(self._finished())

    def _read(self, i: int, operand: Operand) -> None:
        if operand.space != "spm" or not operand.size:
            return
        for _, write in self._latest(operand):
            if write.readers[-1:] != [i]:
                write.readers.append(i)

    def _latest(self, operand: Operand) -> Iterator[tuple[int, _Write]]:
        """What is in the bytes of an operand, with the instruction that wrote it."""
        for writer in _distinct(_elements(self.owner, operand)):
            for write in self.writes[writer] if writer >= 0 else ():
                if _overlap(write.operand, operand):
                    yield writer, write

    def _write(self, i: int, write: _Write) -> None:
        place = _bytes(self.owner, write.operand)
        for writer, before in self._latest(write.operand):
            before.is_replaced |= before.readers[-1:] == [i]
            if not before.readers:
                before.lost += int(np.count_nonzero(place == writer))
        place[...] = i
        self.writes.setdefault(i, []).append(write)

    def _finished(self) -> Iterator[Buffer]:
        timing = self.profile.timing
        for i, written in self.writes.items():
            for w in written:
                low, high = w.operand.interval
                begin = int(timing.start[i])
                ends = [int(timing.end[k]) for k in (i, *w.readers)]
                if w.is_replaced:
                    ends[-1] = int(timing.start[w.readers[-1]])
                yield Buffer(
                    *(w.name, w.kind, low, high, w.operand.size - w.lost),
                    *(begin, max(ends), i, tuple(w.readers)),
                )


class _Sources:
    """What lies where in dram."""

    def __init__(self, program: Program) -> None:
        self.names = ["dram"]
        self.kinds = ["reloaded"]
        self.owner = np.zeros(-(-program.dram_size // _BLOCK), np.int32)
        self.layers: dict[str, int] = {}
        for c in program.constants:
            self._place(c.address, c.end, self._number(c.label, "weights"))
        for kind, bindings in (
            ("input", program.inputs),
            ("state", [s for s, _ in program.used_states]),
        ):
            for each in bindings:
                if each.operand.space == "dram":
                    self._place(*each.operand.interval, self._number(each.name, kind))

    def of(self, engine: str, read: Sequence[Operand], layer: str) -> tuple[str, str]:
        """Name and kind of what an instruction writes that reads these."""
        loaded = [o for o in read if o.space == "dram"]
        if engine != "dma" or not loaded:
            return layer, "result"
        number = int(self.owner[loaded[0].interval[0] // _BLOCK])
        return self.names[number], self.kinds[number]

    def store(self, operand: Operand, layer: str, engine: str) -> None:
        """A layer, or the conversion of an input, writes to dram."""
        if layer not in self.layers:
            kind = "input" if engine == "io" else "reloaded"
            self.layers[layer] = self._number(layer, kind)
        self._place(*operand.interval, self.layers[layer])

    def _number(self, name: str, kind: str) -> int:
        self.names.append(name)
        self.kinds.append(kind)
        return len(self.names) - 1

    def _place(self, low: int, high: int, number: int) -> None:
        self.owner[low // _BLOCK : -(-high // _BLOCK)] = number


Owners = npt.NDArray[np.int32]


def _elements(owner: Owners, operand: Operand) -> Owners:
    """The owners of the first byte of each element."""
    low, high = operand.interval
    if high - low == operand.size:
        return owner[low:high]
    strides = tuple(4 * s for s in operand.strides)
    return np.ndarray(operand.dims, np.int32, owner.data, 4 * operand.address, strides).ravel()


def _bytes(owner: Owners, operand: Operand) -> Owners:
    """The owners of all bytes, to be set."""
    shape = (*operand.dims, operand.dtype.itemsize)
    strides = (*(4 * s for s in operand.strides), 4)
    return np.ndarray(shape, np.int32, owner.data, 4 * operand.address, strides)


def _distinct(owners: Owners) -> Sequence[int]:
    """The owners that occur, each once."""
    changes = owners[np.flatnonzero(owners[1:] != owners[:-1]) + 1]
    return list(dict.fromkeys((int(owners[0]), *changes.tolist())))


def _overlap(a: Operand, b: Operand) -> bool:
    (low, high), (from_, to) = a.interval, b.interval
    return low < to and from_ < high
