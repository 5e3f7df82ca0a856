"""The bytes of a scratchpad that hold something still needed, read off a program's accesses.

    load 0..64     buffer a: 64 bytes, from the start of the load
    vector 0..64   buffer a: to the end of the vector
    load 0..32     buffer b: 32 bytes, another value in the same place

A buffer is what must stay side by side: the bytes of all writes that one operand reads bytes of. It
lives from the start of its first writer to the end of its last reader. An address counts once,
however many buffers have it, as where a result is written in place; so the sum can never be higher
than the highest address that is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

if TYPE_CHECKING:
    from npu_dialect.machine import Operand
    from npu_dialect.runtime.program import Program


def greatest_live_sum(program: Program) -> int:
    """The most bytes of scratchpad that are needed at once, over all moments."""
    from npu_dialect.runtime.schedule import queue_name

    profile = program.profile
    buffers = Buffers(program.machine.memories["spm"].size)
    timing = profile.timing
    order = np.lexsort((np.arange(len(timing.start)), timing.start))
    for i in order.tolist():
        op = program.executed[i][1]
        if queue_name(profile.plan.queues[profile.plan.queue_of[i]]).endswith("io"):
            continue
        begin, end = int(timing.start[i]), int(timing.end[i])
        for operand in op.reads():
            if operand.space == "spm" and operand.size:
                buffers.read(operand, end)
        for operand in op.writes():
            if operand.space == "spm" and operand.size:
                buffers.write(operand, begin, end)
    return buffers.greatest_sum()


@dataclass
class _Write:
    operand: Operand
    begin: int
    end: int
    """Of the whole buffer, where it stands for one."""


class Buffers:
    """Buffers as a forest of writes, joined by the operands that read them, in order of time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.owner = np.full(size, -1, np.int64)
        """The last write to each byte."""
        self.parent: list[int] = []
        self.writes: list[_Write] = []

    def write(self, operand: Operand, begin: int, end: int) -> None:
        """Begins a buffer."""
        number = len(self.parent)
        self.parent.append(number)
        self.writes.append(_Write(operand, begin, end))
        _bytes(self.owner, operand)[...] = number

    def read(self, operand: Operand, end: int) -> None:
        """Joins the buffers of which an operand reads bytes; they live until `end`."""
        rows = _bytes(self.owner, operand)
        changed = rows[..., 1:][rows[..., 1:] != rows[..., :-1]]
        found = {*np.unique(rows[..., 0]).tolist(), *np.unique(changed).tolist()} - {-1}
        roots = sorted({self._root(number) for number in found})
        for other in roots:
            self.parent[other] = roots[0]
            first, second = self.writes[roots[0]], self.writes[other]
            first.begin = min(first.begin, second.begin)
            first.end = max(first.end, second.end, end)

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def greatest_sum(self) -> int:
        """The most addresses that live buffers have at one moment."""
        taken = np.full(self.size, -1, np.int64)
        """By address, the moment until which it counts already."""
        events: list[tuple[int, int]] = []
        lives = [(self.writes[self._root(n)], w.operand) for n, w in enumerate(self.writes)]
        for life, operand in sorted(lives, key=lambda each: each[0].begin):
            view = _bytes(taken, operand)
            starts = np.maximum(view, life.begin)
            values, counts = _counted(starts[starts < life.end])
            events += zip(values, counts, strict=True)
            events.append((life.end, -sum(counts)))
            view[...] = np.maximum(view, life.end)
        greatest = total = 0
        for _, change in sorted(events):
            total += change
            greatest = max(greatest, total)
        return greatest


def _counted(values: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Different values, and how often each occurs."""
    if values.size and values.min() == values.max():
        return [int(values[0])], [values.size]
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _bytes(table: NDArray[np.int64], operand: Operand) -> NDArray[np.int64]:
    """What a table says of the bytes of an operand, as a view whose rows are its runs."""
    run, outer = operand.dtype.itemsize, list[tuple[int, int]]()
    pairs = zip(operand.dims, operand.strides, strict=True)
    for stride, d in sorted((abs(s), d) for d, s in pairs if s and d > 1):
        if stride == run and not outer:
            run *= d
        else:
            outer.insert(0, (d, 8 * stride))
    shape, strides = (*(d for d, _ in outer), run), (*(s for _, s in outer), 8)
    return as_strided(table[operand.interval[0] :], shape, strides)
