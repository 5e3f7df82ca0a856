"""Offsets for buffers that do not take all of their bytes all the time, packed around the peak.

    rows 0..33    [----------)                  a row buffer that is filled with 34 rows at first
    rows 0..32           [---------------)      and with 33 rows later
    load                   [-----)              lies where the last row was

Such a buffer stays in one piece, since its parts must keep their places in it, but its first and
last bytes differ with time. Few buffers decide how much memory is taken: those that live when most
is needed. They are placed by the beam search alone (`allocation_beam`), the others then at the
lowest offset that is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npu_dialect.passes.allocation import AIMS, BEAM_CELLS, SMALL, Buffer
from npu_dialect.passes.allocation_beam import Parts, Strip
from npu_dialect.passes.allocation_restarts import beam_search

Ints = NDArray[np.int64]

HOT = (0.95, 0.6), (0.85, 0.3), (0.7, 0.1)
"""Parts of what is aimed at: what lives while more is needed is placed first; and the parts of the
effort for that.
"""
TRIES = 24
"""How often the others are placed: what finds no room comes first the next time."""


class Part(NamedTuple):
    """Bytes [low, high) of a buffer, counted from its offset, that it takes in [lower, upper)."""

    buffer: int
    lower: int
    upper: int
    low: int
    high: int


def parts_of(buffers: Sequence[Buffer], given: Sequence[Part]) -> list[Part]:
    """The parts of all buffers, one at a time for each: all bytes of those without any given.

    Buffers have the ids 0, 1, 2, ... Where a buffer has no part for a while, it has the one before.
    """
    by_buffer: dict[int, list[Part]] = {}
    for part in given:
        by_buffer.setdefault(part.buffer, []).append(part)
    found: list[Part] = []
    for b in buffers:
        own = by_buffer.get(b.id, ())
        if len(own) < 2:
            found.append(Part(b.id, b.lower, b.upper, 0, b.size))
        else:
            found += _in_turn(own)
    return found


def _in_turn(parts: Sequence[Part]) -> Iterator[Part]:
    """The parts of one buffer as parts that follow each other, each around all that lives then."""
    _, lower, upper, low, high = np.array(parts, np.int64).T
    times = np.unique(np.concatenate((lower, upper)), return_index=True)[0]
    last: Part | None = None
    for start, end in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        live = (lower <= start) & (upper > start)
        bytes_ = (int(low[live].min()), int(high[live].max())) if live.any() else None
        if last is not None and bytes_ in (None, last[3:]):
            last = last._replace(upper=end)
            continue
        if last is not None:
            yield last
        assert bytes_ is not None, "the first moment is the start of a part"
        last = Part(parts[0].buffer, start, end, *bytes_)
    if last is not None:
        yield last


def _places(times: Ints, moments: Ints) -> Ints:
    """The number of each moment in ascending times."""
    return np.searchsorted(times, moments).astype(np.int64)


class _Load:
    """Bytes that are taken at every moment at which that changes."""

    def __init__(self, parts: Sequence[Part]) -> None:
        table: Ints = np.array(parts, np.int64).T
        self.of, lower, upper, low, high = table
        times = np.array(sorted({*lower.tolist(), *upper.tolist()}), np.int64)
        self.first, self.end = _places(times, lower), _places(times, upper)
        change = np.zeros(len(times) + 1, np.int64)
        np.add.at(change, self.first, high - low)
        np.subtract.at(change, self.end, high - low)
        self.taken: Ints = np.cumsum(change)

    def hot(self, least: float) -> set[int]:
        """The buffers that live at a moment when so much is taken."""
        before = np.concatenate(([0], np.cumsum(self.taken >= least)))
        return set(self.of[before[self.end] > before[self.first]].tolist())


def parts_bound(parts: Sequence[Part]) -> int:
    """The greatest sum of what buffers take at once."""
    return int(_Load(parts).taken.max(initial=0))


def pack_parts(
    buffers: Sequence[Buffer], parts: Sequence[Part], known: Mapping[int, int], effort: float
) -> dict[int, int]:
    """Offsets by buffer id in as little memory as is found within `effort`; the known ones where
    nothing less is found. Buffers have the ids 0, 1, 2, ..., parts are as `parts_of` gives them.
    """
    height = max(known[b.id] + b.size for b in buffers)
    load = _Load(parts)
    bound = int(load.taken.max(initial=0))
    for share, some in AIMS if bound < height else ():
        aim = bound + int((height - bound) * share)
        for hot, part in HOT if aim < height else ():
            cells = int(BEAM_CELLS * effort * some * part)
            found = _around(buffers, parts, load.hot(hot * aim), aim, cells)
            if found is not None:
                return found
    return dict(known)


def _around(
    buffers: Sequence[Buffer], parts: Sequence[Part], core: set[int], capacity: int, cells: int
) -> dict[int, int] | None:
    """Offsets below the capacity that begin with those of `core`."""
    chosen = [b for b in buffers if b.id in core]
    if not chosen:
        return _fill(buffers, parts, {}, capacity)
    if len(chosen) > SMALL:
        return None
    number = {b.id: k for k, b in enumerate(chosen)}
    own = [p._replace(buffer=number[p.buffer]) for p in parts if p.buffer in core]
    offsets = beam_search(_strip(chosen, own, capacity), cells)
    if offsets is None:
        return None
    found = {b.id: offset for b, offset in zip(chosen, offsets, strict=True)}
    return _fill(buffers, parts, found, capacity)


def _strip(buffers: Sequence[Buffer], parts: Sequence[Part], capacity: int) -> Strip:
    fields = ((b.lower, b.upper, b.size, b.alignment) for b in buffers)
    lower, upper, size, alignment = (np.array(n, np.int64) for n in zip(*fields, strict=True))
    if len(parts) == len(buffers):
        return Strip(lower, upper, size, alignment, capacity)
    return Strip(lower, upper, size, alignment, capacity, Parts(*np.array(parts, np.int64).T))


def _fill(
    buffers: Sequence[Buffer], parts: Sequence[Part], found: Mapping[int, int], capacity: int
) -> dict[int, int] | None:
    """The offsets, with those of the other buffers: what is large for long comes first, and what
    found no room before comes before that.
    """
    board = _Board(parts)
    for buffer, offset in found.items():
        board.put(buffer, offset)
    rest = [b for b in buffers if b.id not in found]
    rest.sort(key=lambda b: -b.size * (b.upper - b.lower))
    begun = board.count
    for _ in range(TRIES):
        board.count = begun
        offsets: dict[int, int] = {}
        for b in rest:
            offsets[b.id] = board.lowest(b)
            if offsets[b.id] + b.size > capacity:
                break
            board.put(b.id, offsets[b.id])
        else:
            return {**found, **offsets}
        rest.remove(b)
        rest.insert(0, b)
    return None


class _Board:
    """The parts that have their places: the first `count` columns of `taken` are [lower, upper,
    low, high] of each.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        by_buffer: dict[int, list[Part]] = {}
        for part in parts:
            by_buffer.setdefault(part.buffer, []).append(part)
        self.parts = {b: np.array(own, np.int64)[:, 1:].T for b, own in by_buffer.items()}
        self.taken: Ints = np.zeros((4, len(parts)), np.int64)
        self.count = 0

    def put(self, buffer: int, offset: int) -> None:
        own = self.parts[buffer]
        end = self.count + own.shape[1]
        self.taken[:, self.count : end] = own
        self.taken[2:, self.count : end] += offset
        self.count = end

    def lowest(self, buffer: Buffer) -> int:
        """The lowest offset at which the parts of a buffer avoid what is taken."""
        lower, upper, low, high = self.taken[:, : self.count]
        closed: list[tuple[int, int]] = []
        """Offsets strictly between these are not free."""
        for begin, end, first, last in self.parts[buffer.id].T.tolist():
            meets = (lower < end) & (upper > begin)
            pairs = (low[meets] - last).tolist(), (high[meets] - first).tolist()
            closed += zip(*pairs, strict=True)
        offset = 0
        for start, end in sorted(closed):
            if start >= offset:
                break
            if end > offset:
                offset = end + -end % buffer.alignment
        return offset
