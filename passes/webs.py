"""The values of a scheduled program in the scratchpad: what belongs together, how long it lives.

    load 0..64     web 0: [0, 64), from the start of the load
    vector 0..64   web 0: to the end of the vector
    load 0..64     web 1: [0, 64), the same bytes, another value

A web, as in register allocation, is what must keep its bytes side by side: a write begins one, and
a read joins all writes that it sees bytes of. It lives from the start of its first writer to the
end of its last reader. Bytes are looked up one by one, since tiles are strided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from npu_dialect.machine import Operand
from npu_dialect.passes.schedule import Tasks


@dataclass(frozen=True)
class Times:
    """By instruction, in cycles: when it starts, and when its results are there."""

    start: list[int]
    end: list[int]

    @staticmethod
    def of(tasks: Tasks) -> Times:
        """What engines that take their tasks in this order come to."""
        start, end = [0] * tasks.count, [0] * tasks.count
        free: dict[int, int] = {}
        complete: dict[int, int] = {}
        for task, (queue, found) in enumerate(zip(tasks.queues, tasks.before, strict=True)):
            awaited = (end[p] for p in found if tasks.queues[p] != queue or tasks.lag(p, task))
            start[task] = max(free.get(queue, 0), max(awaited, default=0))
            free[queue] = start[task] + tasks.cycles[task]
            end[task] = max(free[queue] + tasks.latencies[task], complete.get(queue, 0))
            complete[queue] = end[task]
        return Times(start, end)

    @cached_property
    def ascending(self) -> list[int]:
        """Of each instruction, the first start among it and what comes after it: what ends before
        that comes first in the program, too.
        """
        return list(accumulate(reversed(self.start), min))[::-1]


@dataclass
class Web:
    """Bytes [low, high) that are needed during the cycles [begin, end), by the instructions first
    to last.

    `alignment` is the greatest size of an element that an instruction finds in it.
    """

    low: int
    high: int
    begin: int
    end: int
    first: int
    last: int
    alignment: int = 1

    @property
    def size(self) -> int:
        return self.high - self.low

    def join(self, other: Web) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.begin, self.end = min(self.begin, other.begin), max(self.end, other.end)
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.alignment = max(self.alignment, other.alignment)


class Webs:
    """The webs of one memory of `size` bytes, gathered in program order."""

    def __init__(self, size: int, times: Times) -> None:
        self.times = times
        self.owner = np.full(size, -1, np.int32)
        """The last write to each byte."""
        self.parent: list[int] = []
        self.members: list[Web] = []

    def read(self, number: int, operand: Operand) -> int | None:
        """Joins what an operand of an instruction reads; one of its writes, None if there is none.

        Instructions go by their numbers.
        """
        writes = _values(_bytes(self.owner, operand))
        found = sorted({self.root(n) for n in writes.tolist() if n >= 0})
        for other in found[1:]:
            self._join(found[0], other)
        if not found:
            return None
        self.members[found[0]].join(self._web(number, operand))
        return found[0]

    def write(self, number: int, operand: Operand) -> int:
        """Begins a web; the number of the write."""
        write = len(self.parent)
        self.parent.append(write)
        self.members.append(self._web(number, operand))
        _bytes(self.owner, operand)[...] = write
        return write

    def update(self, number: int, operand: Operand) -> int:
        """Both, on the same bytes."""
        before = self.read(number, operand)
        write = self.write(number, operand)
        if before is not None:
            self._join(before, write)
        return write

    def _web(self, number: int, operand: Operand) -> Web:
        begin, end = self.times.start[number], self.times.end[number]
        return Web(*operand.interval, begin, end, number, number, operand.dtype.itemsize)

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

    def _join(self, a: int, b: int) -> None:
        if a != b:
            self.parent[b] = a
            self.members[a].join(self.members[b])


def _bytes(owner: NDArray[np.int32], operand: Operand) -> NDArray[np.int32]:
    """The owners of the bytes of an operand, as a view whose rows are its runs."""
    run, outer = operand.dtype.itemsize, list[tuple[int, int]]()
    pairs = zip(operand.dims, operand.strides, strict=True)
    for stride, d in sorted((abs(s), d) for d, s in pairs if s and d > 1):
        if stride == run and not outer:
            run *= d
        else:
            outer.insert(0, (d, 4 * stride))
    shape, strides = (*(d for d, _ in outer), run), (*(s for _, s in outer), 4)
    return as_strided(owner[operand.interval[0] :], shape, strides)


def _values(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """The different values of an array that changes seldom along its rows."""
    changed = rows[..., 1:][rows[..., 1:] != rows[..., :-1]]
    return np.unique(np.concatenate((rows[..., 0].ravel(), changed)))


def is_mixed(webs: Sequence[Web]) -> bool:
    """Whether any two overlap in addresses and in the order of instructions."""
    rows = [(w.low, w.high, w.first, w.last) for w in webs]
    low, high, first, last = np.array(rows, np.int64).reshape(-1, 4).T
    meet = (low[:, None] < high) & (low < high[:, None])
    meet &= (first[:, None] <= last) & (first <= last[:, None])
    return int(meet.sum()) > len(webs)


def greatest_live_sum(webs: Sequence[Web]) -> int:
    """The most bytes that are needed at once."""
    events = [(w.begin, w.size) for w in webs] + [(w.end, -w.size) for w in webs]
    greatest = total = 0
    for _, change in sorted(events):
        total += change
        greatest = max(greatest, total)
    return greatest
