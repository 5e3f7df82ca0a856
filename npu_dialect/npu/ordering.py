"""What the waits of a program order: vector clocks, waits that never end, accesses that may race.

An engine takes its instructions in order, and they are complete in order. An instruction starts
when its engine is free and all that it waits for is complete; nothing else orders instructions of
two engines. The engines of `PIPELINED` are free before their results are stored, so that also their
own later instructions must wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npu_dialect.machine import Form, Operand
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.target import SPACES

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Element = TypeVar("Element", bound=np.generic)
PIPELINED = ("dma", "mxu")
"""Engines that go on with the next instruction before the results of the last one are stored."""

CHUNK = 1 << 20
"""Pairs of accesses that are compared at a time."""


@dataclass(frozen=True)
class Stuck:
    """A wait that cannot end: `available` instructions of that engine come before, of `total`."""

    index: int
    wait: Wait
    available: int
    total: int


@dataclass(frozen=True)
class Race:
    """Two conflicting accesses that nothing orders: by instruction numbers and operands."""

    first: int
    second: int
    first_operand: Operand
    second_operand: Operand
    first_writes: bool
    second_writes: bool


class Ordering:
    """The order that queues and waits impose on instructions given in program order."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = instructions
        self.names: dict[tuple[int, str], int] = {}
        keys = [(i.core_index, i.engine) for i in instructions]
        self.queue = [self.names.setdefault(key, len(self.names)) for key in keys]
        engines = len(self.names)
        self.sequence = np.zeros(len(instructions), np.int64)
        """The number of each instruction in its queue, from 1."""
        self.before = np.zeros((len(instructions), engines), np.int64)
        """How many instructions of each queue come earlier in program order."""
        self.known = np.zeros((len(instructions), engines), np.int64)
        """How many instructions of each queue are complete for certain when each one starts."""
        self.stuck: list[Stuck] = []
        self._clocks(engines)

    def _clocks(self, engines: int) -> None:
        counts = [0] * engines
        clocks = [[0] * engines for _ in range(engines)]
        complete: list[list[list[int]]] = [[] for _ in range(engines)]
        for index, instruction in enumerate(self.instructions):
            queue = self.queue[index]
            clock = clocks[queue]
            self.before[index] = counts
            for wait in instruction.wait_list:
                other = self.names.get((wait.core, wait.engine), -1)
                if other < 0 or wait.count > counts[other]:
                    self.stuck.append(self._stuck(index, wait, counts[other] if other >= 0 else 0))
                elif wait.count > 0:
                    known = complete[other][wait.count - 1]
                    clock[:] = map(max, clock, known)
            self.known[index] = clock
            counts[queue] += 1
            self.sequence[index] = counts[queue]
            after = list(clock)
            after[queue] = counts[queue]
            complete[queue].append(after)
            if instruction.engine not in PIPELINED:
                clock[queue] = counts[queue]

    def _stuck(self, index: int, wait: Wait, available: int) -> Stuck:
        other = self.names.get((wait.core, wait.engine), -1)
        return Stuck(index, wait, available, self.queue.count(other))

    # --- races ----------------------------------------

    def races(self) -> Iterator[Race]:
        """Pairs of instructions that touch a byte, one writing it, in no order. Of one engine that
        is the earlier one: what it reads, it reads before the later one starts.

        For each later access, only the instructions that come before it in program order and are
        not known to be complete are compared: first as intervals, all at once, then exactly.
        """
        tables = self._tables()
        for later, table in enumerate(tables):
            for earlier, other in enumerate(tables):
                yield from self._between(table, other, earlier, later == earlier)

    def _tables(self) -> list[_Accesses]:
        rows: list[list[tuple[int, int, int, int, bool]]] = [[] for _ in self.names]
        operands: list[list[Operand]] = [[] for _ in self.names]
        for index, instruction in enumerate(self.instructions):
            queue = self.queue[index]
            for operand, writes in accesses(instruction):
                low, high = operand.interval
                rows[queue].append((index, SPACES.index(operand.space), low, high, writes))
                operands[queue].append(operand)
        return [_Accesses(r, o) for r, o in zip(rows, operands, strict=True)]

    def _between(
        self, table: _Accesses, other: _Accesses, earlier: int, is_own: bool
    ) -> Iterator[Race]:
        sequence = self.sequence[other.index]
        first = _past(sequence, self.known[table.index, earlier])
        last = _past(sequence, self.before[table.index, earlier])
        for mine, theirs in _pairs(first, np.maximum(first, last)):
            conflict = table.space[mine] == other.space[theirs]
            if is_own:
                conflict &= other.writes[theirs] & (other.space[theirs] != OWN_SPACE)
            else:
                conflict &= table.writes[mine] | other.writes[theirs]
            conflict &= table.low[mine] < other.high[theirs]
            conflict &= other.low[theirs] < table.high[mine]
            a: int
            b: int
            for a, b in zip(mine[conflict].tolist(), theirs[conflict].tolist(), strict=True):
                if share_bytes(table.operands[a], other.operands[b]):
                    yield Race(
                        int(other.index[b]),
                        int(table.index[a]),
                        other.operands[b],
                        table.operands[a],
                        bool(other.writes[b]),
                        bool(table.writes[a]),
                    )


OWN_SPACE = SPACES.index("acc")
"""The memory inside the array, which forwards sums from one instruction to the next."""


def overtakes(earlier: Instruction, later: Instruction) -> bool:
    """Whether `later`, started as soon as their common engine is free, may touch what `earlier` has
    not stored yet.
    """
    return Overtaking((earlier, later)).between(0, 1)


class Overtaking:
    """`overtakes` for pairs of one program's instructions, each of which is looked at once."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        own = SPACES[OWN_SPACE]
        self._touched = [[_block(o) for o, _ in accesses(i)] for i in instructions]
        self._stored = [
            [_block(o) for o in i.writes() if o.space != own] if i.engine in PIPELINED else []
            for i in instructions
        ]
        """What an instruction stores after its engine is free."""

    def between(self, earlier: int, later: int) -> bool:
        """Whether instruction number `later` overtakes number `earlier`."""
        for space, low, high, stored in self._stored[earlier]:
            for other_space, other_low, other_high, touched in self._touched[later]:
                if (
                    low < other_high
                    and other_low < high
                    and space == other_space
                    and share_bytes(stored, touched)
                ):
                    return True
        return False


def _block(operand: Operand) -> tuple[str, int, int, Operand]:
    """(memory, first byte, one past the last one, operand)."""
    return operand.space, *operand.interval, operand


class _Accesses:
    """The accesses of one queue, in order, as columns."""

    def __init__(
        self, rows: list[tuple[int, int, int, int, bool]], operands: list[Operand]
    ) -> None:
        table: Ints = np.array(rows, np.int64).reshape(-1, 5)
        self.index: Ints = table[:, 0]
        self.space: Ints = table[:, 1]
        self.low: Ints = table[:, 2]
        self.high: Ints = table[:, 3]
        self.writes: Flags = table[:, 4] != 0
        self.operands = operands


def accesses(instruction: Instruction) -> Iterator[tuple[Operand, bool]]:
    """(operand, whether it is written) of an instruction."""
    for operand in instruction.reads():
        yield operand, False
    for operand in instruction.writes():
        yield operand, True


def _past(ascending: Ints, values: Ints) -> Ints:
    """For each value, how many of the ascending numbers do not exceed it."""
    return np.asarray(np.searchsorted(ascending, values, "right"), np.int64)


def _pairs(first: Ints, last: Ints) -> Iterator[tuple[Ints, Ints]]:
    """(k, j) for every k and first[k] <= j < last[k], in chunks."""
    counts = last - first
    ends = np.cumsum(counts)
    at = 0
    while at < counts.size:
        done = ends[at - 1] if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, done + CHUNK)))
        size = counts[at:stop]
        mine = np.repeat(np.arange(at, stop), size)
        within = np.arange(mine.size) - np.repeat(np.cumsum(size) - size, size)
        yield mine, np.repeat(first[at:stop], size) + within
        at = stop


# --- blocks as bytes ----------------------------------------


def byte_view(memory: NDArray[Element], operand: Operand, base: int = 0) -> NDArray[Element]:
    """What is noted of an operand's bytes, as a view whose rows are its runs; `memory` holds an
    element per byte, from address `base` on.

    Dimensions that lie densely are merged and repeated ones dropped, so each byte shows once or,
    where a block overlaps itself, a few times.
    """
    dims, strides = [operand.dtype.itemsize], [1]
    order = sorted(
        (abs(s), d) for d, s in zip(operand.dims, operand.strides, strict=True) if d != 1 and s
    )
    for stride, d in order:
        if stride == dims[-1] * strides[-1]:
            dims[-1] *= d
        else:
            dims.append(d)
            strides.append(stride)
    if operand.elements == 0:
        return memory[:0]
    each = memory.itemsize
    offset = (operand.interval[0] - base) * each
    steps = [s * each for s in reversed(strides)]
    return np.ndarray(dims[::-1], memory.dtype, memory.data, offset, steps)


def share_bytes(a: Operand, b: Operand) -> bool:
    """Whether two blocks of the same memory have a byte in common; exact."""
    low = max(a.interval[0], b.interval[0])
    if low >= min(a.interval[1], b.interval[1]):
        return False
    if a.runs[0] == b.runs[0] == 1:
        return True
    return _share_bytes(a.form, b.form, b.interval[0] - a.interval[0])


@lru_cache(maxsize=1 << 16)
def _share_bytes(a: Form, b: Form, distance: int) -> bool:
    """The same, of blocks that begin so many bytes apart: tiles of a layer lie alike many times."""
    (mine, size), (others, other_size) = _runs(a), _runs(b)
    others = others + distance
    begun = np.searchsorted(others, mine + size, "left")
    ended = np.searchsorted(others, mine - other_size, "right")
    return bool((begun > ended).any())


@lru_cache(maxsize=1 << 12)
def _runs(form: Form) -> tuple[Ints, int]:
    """Where the runs of consecutive bytes of a block that begins at 0 begin, ascending; and the
    bytes in each.
    """
    run, dims, strides = form
    starts = np.array([0], np.int64)
    pairs = zip(dims, strides, strict=True)
    for stride, d in sorted((abs(s), d) for d, s in pairs if d != 1 and s):
        if stride == run and starts.size == 1:
            run *= d
        else:
            starts = (starts[:, None] + np.arange(d) * stride).reshape(-1)
    return np.sort(starts), run
