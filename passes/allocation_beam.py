"""A beam search for offsets that keep every buffer below a capacity.

Time is cut into sections, one for each largest set of live buffers. A state is how high each
section is filled, and which buffers are left. A step takes one section of each state and covers it
with each of the buffers that can rest there, or leaves a hole up to the next place of another:

    a a .        a a c        a a .        a buffer c rests in the lowest section, or
    -----   ->   -----   or   ---==        a hole is left below the next that may come

A buffer rests no lower than the highest floor below it, and no floor is lower than the lowest place
of a buffer that is left in its section. A state dies where a floor and the sizes above it exceed
the capacity. Of the states that live, those go on that left few holes where there is little room
for holes and that have placed what is hard to place. States with the same floors and the same
buffers left are one.

States are columns of arrays, so that a step of numpy works on all of them. The search is not
complete: it never proves that there is no solution. Its work is bounded in cells (a buffer in a
section of a state, 3 ns) and not in seconds, so that it finds the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """What buffers take of their bytes, and when: each part is [low, high), from the offset of a
    buffer on, during [lower, upper).
    """

    of: NDArray[np.int64]
    """By part, the number of its buffer."""
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


class Strip:
    """Buffers, by the sections of time that they live in.

    Sizes and the capacity are in units of `unit` bytes, the greatest that divides all sizes and
    alignments.
    """

    def __init__(
        self,
        lower: NDArray[np.int64],
        upper: NDArray[np.int64],
        size: NDArray[np.int64],
        alignment: NDArray[np.int64],
        capacity: int,
        parts: Parts | None = None,
    ) -> None:
        """`parts` are those of buffers that do not take all of their bytes all the time."""
        steps = () if parts is None else (*parts.low.tolist(), *parts.high.tolist())
        self.unit = gcd(*size.tolist(), *alignment.tolist(), *steps) or 1
        self.capacity = capacity // self.unit
        small = self.capacity < 1 << 29
        self.far = 1 << (30 if small else 62)
        """Higher than any place: where a buffer is that is placed, the floor of a full section."""
        dtype = np.int32 if small else np.int64
        self.size = (size // self.unit).astype(dtype)
        self.alignment = (alignment // self.unit).astype(dtype)
        self.is_aligned = bool((self.alignment == 1).all())
        """Whether every offset that sizes sum up to is aligned."""
        lives = (lower, upper) if parts is None else (parts.lower, parts.upper)
        moments = maximal_moments(*lives)
        self.first: list[int] = np.searchsorted(moments, lower).tolist()
        self.end: list[int] = np.searchsorted(moments, upper).tolist()
        self.count, self.sections = int(size.size), int(moments.size)
        self.live: Mask = (lower[:, None] <= moments) & (upper[:, None] > moments)
        """[buffer, section]: whether the buffer lives there."""
        self.has_parts = parts is not None
        self.low: Ints = np.zeros(self.live.shape, dtype)
        """[buffer, section]: where its first byte lies there, from its offset on."""
        self.high: Ints = np.where(self.live, self.size[:, None], 0)
        """The same of one past its last byte."""
        if parts is not None:
            self._cut(parts, moments)
        self.load: Ints = (self.high - self.low).sum(0).astype(dtype)
        """By section, the sum of sizes."""

    def _cut(self, parts: Parts, moments: NDArray[np.int64]) -> None:
        """Lets buffers take what lies between their parts only; where they have none for a while,
        what they took before.
        """
        top = np.iinfo(self.size.dtype).max
        low, high = np.full_like(self.low, top), np.zeros_like(self.high)
        firsts, ends = (np.searchsorted(moments, t) for t in (parts.lower, parts.upper))
        rows = zip(parts.of, firsts, ends, parts.low, parts.high, strict=True)
        for buffer, first, end, start, stop in np.array(list(rows)).tolist():
            part = np.s_[buffer, first:end]
            low[part] = np.minimum(low[part], start // self.unit)
            high[part] = np.maximum(high[part], stop // self.unit)
        for section in range(1, self.sections):
            same = self.live[:, section] & self.live[:, section - 1] & (high[:, section] == 0)
            for table in (low, high):
                table[same, section] = table[same, section - 1]
        self.low, self.high = np.where(high > 0, low, 0), high

    def taken(self) -> int:
        """The greatest sum of sizes in a section, in bytes."""
        return int(self.load.max(initial=0)) * self.unit

    @cached_property
    def span(self) -> NDArray[np.int64]:
        """By buffer, the number of sections that it lives in."""
        return self.live.sum(1)

    @cached_property
    def members(self) -> NDArray[np.int64]:
        """[section, k]: its buffers; `count` stands for none."""
        found = np.full((self.sections, int(self.live.sum(0).max(initial=0))), self.count)
        for section in range(self.sections):
            buffers = np.flatnonzero(self.live[:, section])
            found[section, : buffers.size] = buffers
        return found


def maximal_moments(lower: NDArray[np.int64], upper: NDArray[np.int64]) -> NDArray[np.int64]:
    """Moments at which the set of live buffers is not part of another's: starts that are followed
    by an end.
    """
    starts, ends = set(lower.tolist()), set(upper.tolist())
    moments: list[int] = []
    latest: int | None = None
    for time in sorted(starts | ends):
        if time in ends and latest is not None:
            moments.append(latest)
            latest = None
        if time in starts:
            latest = time
    return np.array(moments, np.int64)


# --- how a search judges --------------------------------------------------------------------------


@dataclass(frozen=True)
class Manner:
    """How a search chooses sections and compares states.

    `fewest`: the next section is the one with the fewest ways on; otherwise the lowest.
    `power`: of the holes, per section, in the sum that counts against a state.
    `worth`: how much a placed buffer counts for it, in proportion to (size x sections) ** `grade`.
    `noise`: the spread of random factors on the worths, drawn with `seed`.
    """

    fewest: bool
    power: float = 1.0
    worth: float = 2.0
    grade: float = 0.5
    noise: float = 0.0
    seed: int = 0


SLACK = 0.02
"""Part of the capacity that is added to the room for holes of a section, so that none is 0."""
OVERHEAD = 1000
"""Cells that take as long as what an operation on arrays takes whatever their size."""
# --- the search -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class States:
    """States in columns. After `settled`, `floor` is inferred and `place` known."""

    floor: Ints
    """[section, state]"""
    load: Ints
    """[section, state]: the sum of sizes left."""
    left: Mask
    """[buffer, state]: whether it is left."""
    key: NDArray[np.int64]
    """A hash of `left`."""
    worth: Floats
    """The sum of worths of the buffers that are placed."""
    place: Ints
    """[buffer, state]: the lowest offset that it may still get; far where it is placed."""

    def take(self, columns: NDArray[np.int64]) -> States:
        return States(
            self.floor[:, columns],
            self.load[:, columns],
            self.left[:, columns],
            self.key[columns],
            self.worth[columns],
            self.place[:, columns],
        )


@dataclass(frozen=True)
class Moves:
    """Ways on from states: the buffer that is placed (or -1 for a hole) and where."""

    parent: NDArray[np.int64]
    buffer: NDArray[np.int64]
    section: NDArray[np.int64]
    offset: NDArray[np.int64]

    def take(self, numbers: NDArray[np.int64]) -> Moves:
        return Moves(
            self.parent[numbers],
            self.buffer[numbers],
            self.section[numbers],
            self.offset[numbers],
        )


class Beam:
    """One search. `work` counts the cells."""

    def __init__(self, strip: Strip, manner: Manner, width: int) -> None:
        self.strip, self.manner, self.width = strip, manner, width
        chance = np.random.default_rng(manner.seed)
        self.hashes = chance.integers(1, 1 << 62, strip.count)
        self.section_hashes = chance.integers(1, 1 << 62, strip.sections)
        self.room = strip.capacity * (1 + SLACK) - strip.load
        grade = (strip.high - strip.low).sum(1, dtype=np.int64) ** manner.grade
        noise = np.exp(chance.normal(0, manner.noise, strip.count))
        self.worths = grade / max(1e-9, grade.sum()) * manner.worth * strip.sections * noise
        self.work = 0

    def run(self, cells: int) -> list[int] | None:
        """Offsets in units, or None where the beam is empty or `cells` are spent."""
        states = self.start()
        history: list[Moves] = []
        while states.key.size and self.work < cells:
            moves = self.moves(states)
            after = self.after(states, moves)
            history.append(moves)
            ready = np.flatnonzero(~after.left.any(0))
            if ready.size:
                return self.offsets(history, int(ready[0]))
            after = self.settled(after)
            kept = self.best(after)
            states = after.take(kept)
            history[-1] = moves.take(kept)
        return None

    def start(self) -> States:
        """The one state in which nothing is placed."""
        strip = self.strip
        zero = np.zeros((strip.sections, 1), strip.size.dtype)
        states = States(
            zero,
            strip.load[:, None],
            np.ones((strip.count, 1), np.bool_),
            np.zeros(1, np.int64),
            np.zeros(1),
            np.zeros((strip.count, 1), strip.size.dtype),
        )
        return self.settled(states)

    def settled(self, states: States) -> States:
        """The states with floors inferred from the places of what is left."""
        strip, left, floor = self.strip, states.left, states.floor
        place = np.full_like(states.place, strip.far)
        raised = np.full_like(floor, strip.far)
        for number in np.flatnonzero(left.any(1)).tolist():
            first, end = strip.first[number], strip.end[number]
            low = strip.low[number, first:end, None]
            row = (floor[first:end] - low).max(0) if strip.has_parts else floor[first:end].max(0)
            if strip.has_parts:
                np.maximum(row, 0, out=row)
            if not strip.is_aligned:
                row += -row % strip.alignment[number]
            row[~left[number]] = strip.far
            place[number] = row
            bottom = row + low if strip.has_parts else row
            np.minimum(raised[first:end], bottom, out=raised[first:end])
            self.work += (end - first) * row.size + OVERHEAD
        return States(raised, states.load, left, states.key, states.worth, place)

    # --- ways on ---

    def moves(self, states: States) -> Moves:
        """All ways to cover one section of each state."""
        strip = self.strip
        section = self.fewest(states) if self.manner.fewest else self.lowest(states)
        column = np.arange(section.size)
        members = strip.members[section]
        place = states.place[np.minimum(members, strip.count - 1), column[:, None]]
        place[members == strip.count] = strip.far
        floor = states.floor[section, column]
        below = place.copy()
        if strip.has_parts:
            below += strip.low[np.minimum(members, strip.count - 1), section[:, None]]
        rests = (below == floor[:, None]) & (place < strip.far)
        parent, which = np.nonzero(rests)
        below[rests | (place == strip.far)] = strip.far
        higher = below.min(1)
        hole = np.flatnonzero(higher + states.load[section, column] <= strip.capacity)
        return Moves(
            np.concatenate([parent, hole]),
            np.concatenate([members[parent, which], np.full(hole.size, -1)]),
            np.concatenate([section[parent], section[hole]]),
            np.concatenate([place[parent, which], higher[hole]]).astype(np.int64),
        )

    def lowest(self, states: States) -> NDArray[np.int64]:
        """The section with the lowest floor of each state; of equals, one without room."""
        floor = states.floor
        height = floor + states.load
        return np.where(floor == floor.min(0), -height, 0).argmin(0)

    def fewest(self, states: States) -> NDArray[np.int64]:
        """The section with the fewest ways on of each state; of equals, the lowest.

        Where a buffer can rest that lies above a gap elsewhere, something may still come below it:
        such sections wait.
        """
        strip, floor = self.strip, states.floor
        ways = np.zeros(floor.shape, np.int64)
        higher = np.full_like(floor, strip.far)
        for number in np.flatnonzero(states.left.any(1)).tolist():
            first, end = strip.first[number], strip.end[number]
            below, place = floor[first:end], states.place[number]
            low = strip.low[number, first:end, None]
            bottom = place + low if strip.has_parts else place
            rests = below == bottom
            is_flat = rests.all(0) if strip.has_parts else below.min(0) == place
            ways[first:end] += np.where(is_flat, rests, rests * strip.count)
            np.minimum(higher[first:end], np.where(rests, strip.far, bottom), out=higher[first:end])
            self.work += 2 * ((end - first) * place.size + OVERHEAD)
        ways += higher + states.load <= strip.capacity
        ways[floor == strip.far] = 1 << 30
        return np.where(ways == ways.min(0), floor, strip.far).argmin(0)

    def after(self, states: States, moves: Moves) -> States:
        """The states after the moves, not settled."""
        strip = self.strip
        columns = np.arange(moves.parent.size)
        after = states.take(moves.parent)
        placed = moves.buffer >= 0
        column, buffer = columns[placed], moves.buffer[placed]
        covered = np.zeros((strip.sections, columns.size), np.bool_)
        covered[:, column] = strip.live[buffer].T
        offset = moves.offset.astype(strip.size.dtype)
        high, low = strip.high[moves.buffer].T, strip.low[moves.buffer].T
        floor = np.where(covered, offset + high, after.floor)
        hole = columns[~placed]
        floor[moves.section[hole], hole] = offset[hole]
        after.left[buffer, column] = False
        return States(
            floor,
            after.load - np.where(covered, high - low, 0),
            after.left,
            after.key + np.where(placed, self.hashes[moves.buffer], 0),
            after.worth + np.where(placed, self.worths[moves.buffer], 0),
            after.place,
        )

    # --- which states go on ---

    def best(self, states: States) -> NDArray[np.int64]:
        """The columns of the best states that can still come out, each state once, best first."""
        strip, floor = self.strip, states.floor
        open_ = floor < strip.far
        height = np.where(open_, floor + states.load, 0)
        alive = np.flatnonzero((height <= strip.capacity).all(0))
        open_, height = open_[:, alive], height[:, alive]
        holes = np.where(open_, height - strip.load[:, None], 0) / self.room[:, None]
        score = (holes if self.manner.power == 1 else holes**self.manner.power).sum(0)
        score -= states.worth[alive]
        profile = np.where(open_, floor[:, alive], 0) * self.section_hashes[:, None]
        key = states.key[alive] + profile.sum(0)
        order = np.argsort(score, kind="stable")
        first = np.unique(key[order], return_index=True)[1]
        return alive[order[np.sort(first)][: self.width]]

    def offsets(self, history: list[Moves], column: int) -> list[int]:
        """The offsets along the way to a state."""
        found = [0] * self.strip.count
        for moves in reversed(history):
            buffer = int(moves.buffer[column])
            if buffer >= 0:
                found[buffer] = int(moves.offset[column])
            column = int(moves.parent[column])
        return found
