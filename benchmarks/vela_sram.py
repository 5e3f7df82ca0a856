"""What a program needs of one SRAM that holds its scratchpad and what lies behind the flash.

Vela has one arena: an input's bytes are used again when nobody reads it any more, an output has
bytes from its first write on. Our programs have inputs, outputs and what found no room behind the
flash, at addresses of their own. Both are parts of the same SRAM, so such a tensor may lie over
bytes of the scratchpad that hold nothing while it lives:

    scratchpad  conv 1 [0, 24K) until cycle 900, conv 2 [0, 40K) after it
    input       until cycle 700: at 24K, over conv 2; 40K in all rather than 40K and the input
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from npu_dialect.npu.ordering import byte_view

if TYPE_CHECKING:
    from npu_dialect.machine import Operand
    from npu_dialect.runtime.program import Program

ALIGNMENT = 16
"""Bytes that tensors of an arena begin at multiples of, as Vela's do."""


class Span(NamedTuple):
    """Bytes [low, high) that are taken during [begin, end), in cycles."""

    low: int
    high: int
    begin: int
    end: int


BEFORE = -1
"""The time of what the caller does before the first instruction."""
ORDERS: Sequence[Callable[[Span], tuple[int, int]]] = (
    lambda s: (s.low - s.high, s.begin),
    lambda s: (s.high - s.low, s.begin),
    lambda s: (s.begin - s.end, s.low - s.high),
)
"""In which spans are placed; the best one counts: large ones first, small ones, long-lived ones."""


def in_one_sram(program: Program) -> int:
    """Bytes of SRAM that a program takes: its scratchpad, and over bytes of it that are free, or
    above it, what lies behind the flash. Where dram has no such part, only the scratchpad.
    """
    from npu_dialect.runtime import buffers

    taken = [Span(b.low, b.high, b.begin, b.end) for b in buffers.of(program.profile)]
    taken += in_place(program)
    others = list(beside(program))
    return min(_height(sorted(others, key=key), taken) for key in ORDERS)


def _height(spans: Sequence[Span], taken: Sequence[Span]) -> int:
    """One past the last byte with these spans placed one after the other."""
    found = list(taken)
    for span in spans:
        found.append(placed(span, found))
    return max((span.high for span in found), default=0)


def placed(span: Span, taken: Sequence[Span]) -> Span:
    """The span at the lowest address where it meets nothing that is taken."""
    others = [o for o in taken if o.begin < span.end and span.begin < o.end]
    low, size = 0, span.high - span.low
    for other in sorted(others):
        if other.low >= low + size:
            break
        low = max(low, -(-other.high // ALIGNMENT) * ALIGNMENT)
    return Span(low, low + size, span.begin, span.end)


def in_place(program: Program) -> Iterator[Span]:
    """Inputs and outputs that lie in the scratchpad themselves: from the start until they are read
    for the last time, and from the first write on.
    """
    return _values(program, "spm", 0, program.machine.memories["spm"].size, named_only=True)


def beside(program: Program) -> Iterator[Span]:
    """What lies behind the flash, while it is needed: an input until it is read for the last time,
    an output from its first write on, other tensors in between, states always. What one instruction
    reads is one piece, whoever wrote it.
    """
    read_only = program.machine.memories["dram"].read_only
    if read_only:
        yield from _values(program, "dram", read_only, program.dram_size)


def _values(
    program: Program, space: str, low: int, high: int, *, named_only: bool = False
) -> Iterator[Span]:
    """The values in a part of a memory; only inputs, outputs and states with `named_only`."""
    found = _Values(low, high)
    profile = program.profile
    last = profile.cycles + 1
    states = [s for s, _ in program.used_states]
    for binding in (*program.inputs, *states):
        if binding.operand.space == space:
            found.write(binding.operand, BEFORE, BEFORE, is_named=True)
    for number, (_, op) in enumerate(program.executed):
        start, end = int(profile.timing.start[number]), int(profile.timing.end[number])
        if op.engine == "io":  # takes no time: what quantizes inputs comes before all else
            start, end = start - (start == 0), max(start, end)
        for operand in op.reads():
            if found.has(operand, space):
                found.read(operand, end)
        for operand in op.writes():
            if found.has(operand, space):
                found.write(operand, start, end)
    for binding in (*program.outputs, *states):
        if binding.operand.space == space:
            found.read(binding.operand, last, is_named=True)
    yield from found.spans(named_only)


class _Values:
    """Who wrote every byte of a part of a memory, latest; and the values that this makes."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.owner = np.full(max(0, high - low), -1, np.int32)
        self.known: list[Span] = []
        self.named: set[int] = set()
        self.same: list[int] = []
        """A value of the same piece, or itself."""

    def has(self, operand: Operand, space: str) -> bool:
        """Whether the operand lies in this part."""
        first, past = operand.interval
        return operand.space == space and self.low <= first < past <= self.high

    def write(self, operand: Operand, begin: int, end: int, is_named: bool = False) -> None:
        number = len(self.known)
        byte_view(self.owner, operand, self.low)[...] = number
        self.known.append(Span(*operand.interval, begin, end))
        self.same.append(number)
        if is_named:
            self.named.add(number)

    def read(self, operand: Operand, end: int, is_named: bool = False) -> None:
        writers = np.unique(byte_view(self.owner, operand, self.low)).tolist()
        roots = [self._root(w) for w in writers if w >= 0]
        for root in roots:
            self.same[root] = roots[0]
            self.known[root] = self.known[root]._replace(end=max(end, self.known[root].end))
        if is_named:
            self.named.update(roots)

    def _root(self, number: int) -> int:
        while self.same[number] != number:
            number = self.same[number]
        return number

    def spans(self, named_only: bool) -> Iterator[Span]:
        pieces: dict[int, list[Span]] = {}
        for number, span in enumerate(self.known):
            pieces.setdefault(self._root(number), []).append(span)
        named = {self._root(number) for number in self.named}
        for root, spans in pieces.items():
            if root in named or not named_only:
                lows, highs, begins, ends = zip(*spans, strict=True)
                yield Span(min(lows), max(highs), min(begins), max(ends))
