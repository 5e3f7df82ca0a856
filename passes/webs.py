"""The values of a program in the scratchpad: what belongs together, and what touches it.

    load 0..64     web 0: [0, 64), from the start of the load
    vector 0..64   web 0: to the end of the vector
    load 0..64     web 1: [0, 64), the same bytes, another value

A web, as in register allocation, is what must keep its bytes side by side: a write begins one, and
a read joins all writes that it sees bytes of. It lives from the start of the first instruction that
touches it to the end of the last one. Bytes are looked up one by one, since tiles are strided.
Strided values that lie between each other's bytes move as one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ArrayAttr
from xdsl.ir import Attribute

from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import OperandAttr
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.ordering import byte_view


@dataclass
class Web:
    """Bytes [low, high) that some instructions touch, by their numbers.

    `alignment` is the greatest size of an element that an instruction finds in it.
    """

    low: int
    high: int
    touched: list[int]
    alignment: int = 1
    first: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.last = min(self.touched), max(self.touched)

    @property
    def start(self) -> int:
        """Its first address, rounded down to the alignment."""
        return self.low - self.low % self.alignment

    @property
    def area(self) -> int:
        """Addresses times instructions from the first to the last."""
        return (self.last - self.first + 1) * (self.high - self.low)

    def copy(self) -> Web:
        return Web(self.low, self.high, self.touched.copy(), self.alignment)

    def join(self, other: Web) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        few, many = sorted((self.touched, other.touched), key=len)
        many += few
        self.touched = many
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.alignment = max(self.alignment, other.alignment)


class Webs:
    """The webs of one memory of `size` bytes, gathered in program order."""

    def __init__(self, size: int) -> None:
        self.owner = np.zeros(size, np.int32)
        """One more than the last write to each byte; 0 where there is none."""
        self.parent: list[int] = []
        self.members: list[Web] = []

    def copy(self) -> Webs:
        """The same webs, to be joined further apart from these."""
        other = Webs(0)
        other.owner, other.parent = self.owner, self.parent.copy()
        other.members = [web.copy() for web in self.members]
        return other

    def read(self, number: int, operand: Operand) -> int | None:
        """Joins what an operand of an instruction reads; one of its writes, None if there is none.

        Instructions go by their numbers.
        """
        found = sorted({self.root(n) for n in self.seen(operand)})
        for other in found[1:]:
            self._join(found[0], other)
        if not found:
            return None
        self.members[found[0]].join(self._web(number, operand))
        return found[0]

    def seen(self, operand: Operand) -> list[int]:
        """The writes of the bytes of an operand."""
        return sorted(n - 1 for n in _values(byte_view(self.owner, operand)) if n)

    def write(self, number: int, operand: Operand) -> int:
        """Begins a web; the number of the write."""
        write = len(self.parent)
        self.parent.append(write)
        self.members.append(self._web(number, operand))
        byte_view(self.owner, operand)[...] = write + 1
        return write

    def update(self, number: int, operand: Operand) -> int:
        """Both, on the same bytes."""
        before = self.read(number, operand)
        write = self.write(number, operand)
        if before is not None:
            self._join(before, write)
        return write

    def _web(self, number: int, operand: Operand) -> Web:
        return Web(*operand.interval, [number], operand.dtype.itemsize)

    def root(self, number: int) -> int:
        """The number that stands for the web of a write."""
        parent = self.parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def roots(self) -> list[int]:
        """The numbers that stand for a web, ascending."""
        return [n for n, parent in enumerate(self.parent) if parent == n]

    @property
    def found(self) -> dict[int, Web]:
        """The webs, by the number that stands for each."""
        return {root: self.members[root] for root in self.roots()}

    def _join(self, a: int, b: int) -> None:
        if a != b:
            self.parent[b] = a
            self.members[a].join(self.members[b])

    def _spans(self) -> list[Span]:
        rows = ((n, self.members[n]) for n in self.roots())
        return [Span(web.first, web.last, web.start, web.high, n) for n, web in rows]

    def join_interleaved(self) -> None:
        """Joins webs that overlap in addresses and in the order of instructions: strided values
        between each other's bytes, and what takes bytes of a value of which others are still read.
        """
        while pairs := overlaps(self._spans()):
            for a, b in pairs:
                a, b = sorted((self.root(a), self.root(b)))
                self._join(a, b)

    def join_close(self) -> None:
        """Joins only those that take no more together than apart, in addresses times instructions:
        strided values between each other's bytes. What takes bytes of a value of which others are
        still read stays apart, and overlaps it.
        """
        apart: set[tuple[int, int]] = set()
        while pairs := [pair for pair in _all_overlaps(self._spans()) if pair not in apart]:
            for pair in pairs:
                a, b = sorted((self.root(pair[0]), self.root(pair[1])))
                if self._are_close(a, b):
                    self._join(a, b)
                else:
                    apart.add((a, b))

    def _are_close(self, a: int, b: int) -> bool:
        one, other = self.members[a], self.members[b]
        first, last = min(one.first, other.first), max(one.last, other.last)
        low, high = min(one.low, other.low), max(one.high, other.high)
        return (last - first + 1) * (high - low) <= one.area + other.area


def _values(rows: NDArray[np.int32]) -> set[int]:
    """The different values of an array that changes seldom along its rows."""
    found: set[int] = set(rows[..., 0].ravel().tolist())
    later = rows[..., 1:]
    differs = later != rows[..., :-1]
    if differs.any():
        found.update(later[differs].tolist())
    return found


class Span(NamedTuple):
    """A value in the order of instructions and in memory: both [first, last] and [low, high)."""

    first: int
    last: int
    low: int
    high: int
    number: int


def overlaps(spans: Iterable[Span]) -> list[tuple[int, int]]:
    """Pairs of numbers of spans that overlap in both; some at least, where there are any."""
    found: list[tuple[int, int]] = []
    live: list[tuple[int, int, int]] = []
    """(low, high, number), apart from each other."""
    ends: list[tuple[int, tuple[int, int, int]]] = []
    for first, last, low, high, number in sorted(spans):
        while ends and ends[0][0] < first:
            del live[bisect_left(live, heappop(ends)[1])]
        at = bisect_left(live, (low,))
        met = at - 1 if at and live[at - 1][1] > low else at
        if met < len(live) and live[met][0] < high and live[met][1] > low:
            found.append((live[met][2], number))
        else:
            insort(live, (low, high, number))
            heappush(ends, (last, (low, high, number)))
    return found


def _all_overlaps(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """Pairs of numbers of all spans that overlap in both, the lower number first."""
    live: list[Span] = []
    for span in sorted(spans):
        live = [other for other in live if other.last >= span.first]
        for other in live:
            if other.low < span.high and span.low < other.high:
                yield min(other.number, span.number), max(other.number, span.number)
        live.append(span)


# --- the webs of the operands of instructions -----------------------------------------------------


class Values:
    """The webs of instructions in program order, and which of them each operand is of."""

    def __init__(
        self,
        instructions: Sequence[Instruction],
        size: int,
        watched: Callable[[Instruction], Sequence[Operand]] = lambda _: (),
        joins_watched: bool = False,
    ) -> None:
        """`watched` are blocks that somebody looks at once an instruction is done; what lies in
        them becomes one web each where `joins_watched`.
        """
        self.instructions = instructions
        self.webs = Webs(size)
        self.found: list[list[int | None]] = []
        """By instruction, a write of the web of each operand; None where there is no web."""
        self.watched: list[list[list[int]]] = []
        """By instruction and block, the writes that are seen in it."""
        for number, instruction in enumerate(instructions):
            self.found.append(self._add(number, instruction))
            blocks = watched(instruction)
            self.watched.append([self.webs.seen(b) if is_placed(b) else [] for b in blocks])
            for block in filter(is_placed, blocks if joins_watched else ()):
                self.webs.read(number, block)

    def _add(self, number: int, instruction: Instruction) -> list[int | None]:
        fields = list(instruction.operand_fields())
        found: list[int | None] = [None] * len(fields)
        touch = {"read": self.webs.read, "update": self.webs.update, "write": self.webs.write}
        for role in touch:  # an instruction reads before it writes
            for k, (_, its_role, operand) in enumerate(fields):
                if its_role == role and is_placed(operand):
                    found[k] = touch[role](number, operand)
        return found

    def copy(self) -> Values:
        """The same values, to be joined further apart from these."""
        other = copy(self)
        other.webs = self.webs.copy()
        return other

    def steps(self, by_web: dict[int, int]) -> list[list[int]]:
        """By instruction, the bytes that each operand moves, given those that webs move."""
        root = self.webs.root
        return [
            [0 if write is None else by_web.get(root(write), 0) for write in found]
            for found in self.found
        ]

    def watched_steps(self, number: int, by_web: dict[int, int]) -> list[set[int]]:
        """Of an instruction, the bytes that what lies in each watched block moves."""
        root = self.webs.root
        return [{by_web.get(root(w), 0) for w in seen} for seen in self.watched[number]]


def is_placed(operand: Operand) -> bool:
    """Whether it has bytes in the scratchpad."""
    return operand.space == "spm" and operand.elements > 0


def moved(instruction: Instruction, steps: Sequence[int]) -> Instruction:
    """A copy whose operands are so many bytes further, in the order of `operand_fields`."""
    copy = type(instruction).create(properties=dict(instruction.properties))
    move(copy, steps)
    return copy


def move(instruction: Instruction, steps: Sequence[int]) -> None:
    """Moves the operands, in the order of `operand_fields`."""
    left = iter(steps)
    for name in dict.fromkeys(name for name, _, _ in instruction.operand_fields()):
        instruction.properties[name] = _moved(instruction.properties[name], left)


def _moved(attribute: Attribute, steps: Iterator[int]) -> Attribute:
    if isinstance(attribute, OperandAttr):
        return OperandAttr(attribute.data.moved(next(steps)))
    operands = cast(ArrayAttr[OperandAttr], attribute)
    return ArrayAttr([OperandAttr(item.data.moved(next(steps))) for item in operands])
