"""Which instructions depend on which, found from the bytes that they read and write.

An instruction depends on an earlier one when they touch the same bytes and one of them writes.
Bytes are compared as enclosing intervals, refined where two strided blocks repeat at the same pitch
and lie beside each other in it (tiles of columns, slices of channels). Nothing else is compared, so
the result may have dependencies too many, never too few.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.ordering import accesses

CROWD = 48
"""Accesses remembered for one range of bytes; beyond, the next one is ordered after all of them."""


class _Access(NamedTuple):
    task: int
    writes: bool
    operand: Operand | None
    """None stands for the whole range."""


def predecessors(instructions: Sequence[Instruction]) -> list[list[int]]:
    """For each instruction, in program order, the earlier ones that it must follow, ascending.

    What follows from others (a before b before c) may or may not be listed.
    """
    accesses = [(i.reads(), i.writes()) for i in instructions]
    written = _written(operand for _, writes in accesses for operand in writes)
    memories: dict[str, _Memory] = {space: _Memory() for space in written}
    result: list[list[int]] = []
    for index, (reads, writes) in enumerate(accesses):
        found: set[int] = set()
        for operand in reads:
            if _meets(written.get(operand.space, ()), operand.interval):
                memories[operand.space].access(_Access(index, False, operand), found)
        for operand in writes:
            memories[operand.space].access(_Access(index, True, operand), found)
        found.discard(index)
        result.append(sorted(found))
    return result


def stands_for_others(earlier: Instruction, later: Instruction) -> bool:
    """Whether `later` follows `earlier` only for what that follows itself (`CROWD`)."""
    pairs = product(accesses(earlier), accesses(later))
    return not any(
        (a_writes or b_writes)
        and a.space == b.space
        and a.interval[0] < b.interval[1]
        and b.interval[0] < a.interval[1]
        and not interleaved(a, b)
        for (a, a_writes), (b, b_writes) in pairs
    )


def _written(operands: Iterable[Operand]) -> dict[str, list[int]]:
    """By memory, the boundaries of the ranges that are ever written: start, end, start, end, ..."""
    intervals: dict[str, list[tuple[int, int]]] = {}
    for operand in operands:
        intervals.setdefault(operand.space, []).append(operand.interval)
    return {space: _union(found) for space, found in intervals.items()}


def _union(intervals: list[tuple[int, int]]) -> list[int]:
    bounds: list[int] = []
    for low, high in sorted(intervals):
        if bounds and low <= bounds[-1]:
            bounds[-1] = max(bounds[-1], high)
        elif low < high:
            bounds += [low, high]
    return bounds


def _meets(bounds: Sequence[int], interval: tuple[int, int]) -> bool:
    """Whether the interval touches one of the ranges."""
    low, high = interval
    at = bisect_right(bounds, low)
    return low < high and (at % 2 == 1 or (at < len(bounds) and bounds[at] < high))


class _Memory:
    """The accesses to one memory since each byte was last written whole: consecutive ranges from 0
    to infinity.
    """

    def __init__(self) -> None:
        self.starts = [0]
        self.ranges: list[list[_Access]] = [[]]

    def access(self, new: _Access, found: set[int]) -> None:
        """Adds to `found` what `new` must follow, and remembers `new`."""
        assert new.operand is not None
        low, high = new.operand.interval
        if low >= high:
            return
        first, last = self.split(low), self.split(high)
        covers = new.writes and new.operand.runs[0] == 1
        for at in range(first, last):
            self.ranges[at] = _after(self.ranges[at], new, found)
        if covers:
            self.starts[first:last] = [low]
            self.ranges[first:last] = [[new]]

    def split(self, address: int) -> int:
        """The number of the range that starts at `address`, after making it one."""
        at = bisect_left(self.starts, address)
        if at < len(self.starts) and self.starts[at] == address:
            return at
        self.starts.insert(at, address)
        self.ranges.insert(at, list(self.ranges[at - 1]))
        return at


def _after(earlier: list[_Access], new: _Access, found: set[int]) -> list[_Access]:
    """The accesses to remember of a range once `new` has happened; adds to `found` what `new` must
    follow.
    """
    if len(earlier) >= CROWD:
        found.update(old.task for old in earlier)
        return [_Access(new.task, True, None)]
    for old in earlier:
        if (new.writes or old.writes) and _touch(old.operand, new.operand):
            found.add(old.task)
    earlier.append(new)
    return earlier


def _touch(a: Operand | None, b: Operand | None) -> bool:
    return a is None or b is None or not interleaved(a, b)


@lru_cache(1 << 16)
def interleaved(a: Operand, b: Operand) -> bool:
    """Whether two blocks are known to share no byte though their intervals overlap."""
    pitches = {abs(s) for s in a.strides} & {abs(s) for s in b.strides}
    return any(_beside(a, b, pitch) for pitch in pitches if pitch > 0)


def _beside(a: Operand, b: Operand, pitch: int) -> bool:
    length_a, length_b = _within(a, pitch), _within(b, pitch)
    if length_a is None or length_b is None:
        return False
    ahead = (b.interval[0] - a.interval[0]) % pitch
    return ahead >= length_a and pitch - ahead >= length_b and ahead > 0


def _within(operand: Operand, pitch: int) -> int | None:
    """Bytes that the block spans in each period of `pitch`; None where it does not repeat at that
    pitch.
    """
    inner = operand.dtype.itemsize
    for d, s in zip(operand.dims, operand.strides, strict=True):
        if d == 1 or s == 0:
            continue
        if abs(s) < pitch:
            inner += (d - 1) * abs(s)
        elif s % pitch:
            return None
    return inner if inner <= pitch else None
