"""Records: what a routine reads about one instruction, a row of 64-bit words.

A routine has the signature `void(ptr record, ptr scratch, i64 thread, i64 threads)`. It does its
share of the instruction's work; `scratch` is memory of the thread's own. It may read up to `GUARD`
bytes beyond the end of an operand, and writes nothing but its outputs and its scratch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_dialect.machine import Array, Operand
from npu_dialect.runtime.compiled.builder import I64, POINTER, Function, Value
from npu_dialect.runtime.compiled.library import Spec

ROUTINE = {"record": POINTER, "scratch": POINTER, "thread": I64, "threads": I64}
"""The arguments of a routine."""


SHARED = "shared"
"""The space of scratch memory that the threads share."""


@dataclass(frozen=True)
class Address:
    """A place in one of the machine's memories, or in `SHARED`."""

    space: str
    offset: int

    @staticmethod
    def of(operand: Operand) -> Address:
        return Address(operand.space, operand.address)


@dataclass(frozen=True)
class Code:
    """The address of another routine."""

    spec: Spec


@dataclass(frozen=True, eq=False)
class Data:
    """The address of an array that is made when a program is translated, such as packed weights."""

    array: Array


@dataclass(frozen=True)
class Here:
    """The address of word number `index` of the record itself: a record within it."""

    index: int


Word = int | Address | Code | Data | Here


class Fields:
    """The words of a record, by name. Emitters read them, lowerings write them.

    `Fields("source", "size", strides=4)` are the words source, size, strides 0 to 3; what comes
    after `tail` words is up to the routine.
    """

    def __init__(self, *names: str, **arrays: int) -> None:
        self.offsets: dict[str, tuple[int, int]] = {}
        position = 0
        for name, count in [*((n, 1) for n in names), *arrays.items()]:
            self.offsets[name] = (position, count)
            position += count
        self.size = position

    def pack(self, tail: Sequence[Word] = (), **values: Word | Sequence[Word]) -> list[Word]:
        """A record with these fields, each given once."""
        if values.keys() != self.offsets.keys():
            raise TypeError(f"fields {list(self.offsets)} must be given, found {list(values)}")
        words: list[Word] = []
        for name, (_, count) in self.offsets.items():
            value = values[name]
            items: Any = value if isinstance(value, list | tuple) else (value,)
            if len(items) != count:
                raise TypeError(f"{name} must have {count} words, found {len(items)}")
            words += items
        return [*words, *tail]

    def index(self, name: str, element: int = 0) -> int:
        """The word's number in the record."""
        return self.offsets[name][0] + element

    def whole(self, f: Function, record: Value, name: str, element: int = 0) -> Value:
        """Reads a word as an i64."""
        return f.word(record, self.index(name, element))

    def pointer(self, f: Function, record: Value, name: str, element: int = 0) -> Value:
        """Reads a word as an address."""
        return f.pointer(record, self.index(name, element))

    def end(self, f: Function, record: Value) -> Value:
        """The address of the first word of the tail."""
        return f.at(record, 8 * self.size)


@dataclass(frozen=True)
class Call:
    """A routine and the record that it is called with."""

    spec: Spec
    words: Sequence[Word]
    scratch: int = 0
    """Bytes of scratch memory that a thread needs."""
    shared: int = 0
    """Bytes of the scratch memory that all threads share (space `SHARED`)."""
    alone: bool = False
    """Whether the first thread does it alone: it is too little to share."""


ALONE, MEET = 1, 2
"""Flags of a table's entry: the first thread does it alone; all threads meet after it."""


class Table:
    """The calls of a stretch of a program as the driver reads them: (routine, record, flags)."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.specs: list[Spec] = []
        """The routines that the calls need."""
        self._starts: list[int] = []
        self._places: dict[Any, list[int]] = {}
        """Words that an address is added to, by what it is the address of."""
        flat: list[int] = []
        for call in calls:
            start = len(flat)
            self._starts.append(start)
            self.specs.append(call.spec)
            for word in call.words:
                if type(word) is not int:
                    self._places.setdefault(self._base(word), []).append(len(flat))
                    word = _offset(word, start)
                flat.append(word)
        self._words = np.array(flat, np.int64)

    def _base(self, word: Word) -> Any:
        if isinstance(word, Address):
            return word.space
        if isinstance(word, Here):
            return RECORDS
        if isinstance(word, Code):
            self.specs.append(word.spec)
            return word.spec
        return word

    def bind(self, bases: Mapping[str, int], addresses: Mapping[Spec, int]) -> tuple[Array, Array]:
        """(records, table) with every address in place; `bases` are those of the memories."""
        words = self._words.copy()
        bases = {**bases, RECORDS: words.ctypes.data}
        for base, places in self._places.items():
            if isinstance(base, str):
                words[places] += bases[base]
            elif isinstance(base, Data):
                words[places] = base.array.ctypes.data
            else:
                words[places] = addresses[base]
        table = np.empty((len(self.calls), 3), np.int64)
        table[:, 0] = [addresses[call.spec] for call in self.calls]
        table[:, 1] = np.array(self._starts, np.int64) * 8 + words.ctypes.data
        table[:, 2] = self._flags()
        return words, table

    def _flags(self) -> Array:
        """What the first thread does alone, one after the other, needs no meeting in between."""
        alone = np.array([call.alone for call in self.calls], bool)
        meet = ~(alone & np.append(alone[1:], False))
        return alone * ALONE + meet * MEET


RECORDS = "records"


def _offset(word: Word, start: int) -> int:
    """What of an address is known beforehand; its record begins at word `start`."""
    if isinstance(word, Here):
        return 8 * (start + word.index)
    return word.offset if isinstance(word, Address) else 0


def float_word(value: float) -> int:
    """A float32 as a word: its bits."""
    return struct.unpack("<i", struct.pack("<f", np.float32(value)))[0]
