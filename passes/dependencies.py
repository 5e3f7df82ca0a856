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

from npu_dialect.machine import Form, Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.ordering import accesses

CROWD = 48
"""Accesses remembered for one range of bytes; beyond, the next one is ordered after all of them."""


class _Access(NamedTuple):
    task: int
    writes: bool
    low: int
    high: int
    """The interval of the bytes, in its memory."""
    form: Form | None
    """None stands for the whole range, for all that was there before."""


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
                memories[operand.space].access(index, operand, False, found)
        for operand in writes:
            memories[operand.space].access(index, operand, True, found)
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
        self.writers: list[list[int]] = [[]]
        """By range, numbers of `accesses` that write."""
        self.readers: list[list[int]] = [[]]
        self.accesses: list[_Access] = []

    def access(self, task: int, operand: Operand, writes: bool, found: set[int]) -> None:
        """Adds to `found` what an access must follow, and remembers it."""
        low, high = operand.interval
        if low >= high:
            return
        new = _Access(task, writes, low, high, operand.form)
        first, last = self.split(low), self.split(high)
        number = len(self.accesses)
        candidates = self._remember(first, last, new, found)
        if writes and operand.runs[0] == 1:
            self.starts[first:last] = [low]
            self.writers[first:last] = [[number]]
            self.readers[first:last] = [[]]
        for old in map(self.accesses.__getitem__, candidates):
            if old.task not in found and _touch(old, new):
                found.add(old.task)

    def _remember(self, first: int, last: int, new: _Access, found: set[int]) -> set[int]:
        """Adds `new` to the ranges from `first` to `last`; the accesses that were there and may
        conflict.

        Of a crowded range, all are added to `found`, and `new` stands for them.
        """
        number, crowd = len(self.accesses), 0
        self.accesses.append(new)
        candidates: set[int] = set()
        writes = new.writes
        ranges = zip(self.writers[first:last], self.readers[first:last], strict=True)
        for at, (writers, readers) in enumerate(ranges, first):
            if len(writers) + len(readers) < CROWD:
                candidates.update(writers)
                if writes:
                    candidates.update(readers)
                    writers.append(number)
                else:
                    readers.append(number)
                continue
            found.update(self.accesses[old].task for old in (*writers, *readers))
            if not crowd:
                crowd = len(self.accesses)
                self.accesses.append(_Access(new.task, True, new.low, new.high, None))
            self.writers[at], self.readers[at] = [crowd], []
        return candidates

    def split(self, address: int) -> int:
        """The number of the range that starts at `address`, after making it one."""
        at = bisect_left(self.starts, address)
        if at < len(self.starts) and self.starts[at] == address:
            return at
        self.starts.insert(at, address)
        self.writers.insert(at, self.writers[at - 1].copy())
        self.readers.insert(at, self.readers[at - 1].copy())
        return at


def _touch(old: _Access, new: _Access) -> bool:
    if old.form is None or new.form is None:
        return True
    return not _beside(old.form, new.form, new.low - old.low)


def interleaved(a: Operand, b: Operand) -> bool:
    """Whether two blocks are known to share no byte though their intervals overlap."""
    return _beside(a.form, b.form, b.interval[0] - a.interval[0])


def _beside(a: Form, b: Form, distance: int) -> bool:
    """Whether `b`, which begins `distance` bytes after `a`, lies beside it in each period."""
    for pitch, length_a, length_b in _periods(a, b):
        ahead = distance % pitch
        if ahead >= length_a and pitch - ahead >= length_b and ahead > 0:
            return True
    return False


@lru_cache(1 << 16)
def _periods(a: Form, b: Form) -> tuple[tuple[int, int, int], ...]:
    """Each pitch at which both blocks repeat, with the bytes that each spans in a period."""
    pitches = {abs(s) for s in a[2]} & {abs(s) for s in b[2]}
    found = ((pitch, _within(a, pitch), _within(b, pitch)) for pitch in pitches if pitch > 0)
    return tuple((p, m, n) for p, m, n in found if m is not None and n is not None)


def _within(form: Form, pitch: int) -> int | None:
    """Bytes that the block spans in each period of `pitch`; None where it does not repeat at that
    pitch.
    """
    inner, dims, strides = form
    for d, s in zip(dims, strides, strict=True):
        if d == 1 or s == 0:
            continue
        if abs(s) < pitch:
            inner += (d - 1) * abs(s)
        elif s % pitch:
            return None
    return inner if inner <= pitch else None
