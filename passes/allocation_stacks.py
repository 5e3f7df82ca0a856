"""A narrow search for offsets in which a section's buffers must stack up below the capacity.

    capacity  -------      a, b, c are left; c may start no lower than its place
                c          b stacked on a ends below it: the gap is lost, and the three
    place of c  -          come higher than their sizes sum up to
    floor       a b

A state is the lowest place that each buffer left may still get, and moves are those of
`allocation_beam`. But a section counts as high as its buffers come when they are stacked in the
order of their places (the bound of one machine with release times), so that states die earlier and
holes count before they are there. That takes several times as long, and lets a beam of a quarter
of the width do. `blame` tells in which sections states died, late ones most: what lives there is
hard to place, and `allocation_restarts` lets it count more in the next search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_dialect.passes.allocation_beam import SLACK, Manner, Strip

Ints = NDArray[np.signedinteger[Any]]
Longs = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

OVERHEAD = 100_000
"""Cells that take as long as the operations of a step on arrays take whatever their size."""
FADING = 0.8
"""How much of the blame is left after the next death."""


class Cells:
    """The tables of a strip: a cell is a buffer in a section.

    Functions over sections and buffers take rows of states and reduce what belongs to each section,
    or to each buffer, in one operation of numpy.
    """

    def __init__(self, strip: Strip) -> None:
        self.strip = strip
        self.far, self.count, self.sections = strip.far, strip.count, strip.sections
        self.capacity, self.load, self.live = strip.capacity, strip.load, strip.live
        self.dtype = strip.size.dtype
        self.size: Ints = np.append(strip.size, 0).astype(self.dtype)
        """The last is of no buffer."""
        self.alignment: Ints = np.append(strip.alignment, 1).astype(self.dtype)
        self.section_of, self.buffer_of = np.nonzero(self.live.T)
        """By cell, in the order of sections, which they are."""
        self.cells = self.section_of.size
        self._first_cell = np.searchsorted(self.section_of, np.arange(self.sections))
        owner, self._sections = np.nonzero(self.live)
        self._first_section = np.searchsorted(owner, np.arange(self.count))

    @cached_property
    def lives(self) -> Mask:
        """`live`, with a row for no buffer."""
        return np.vstack([self.live, np.zeros((1, self.sections), np.bool_)])

    @cached_property
    def raises(self) -> Mask:
        """[move, buffer]: what comes above a buffer that is placed, then above a hole in each
        section. The last column is of no buffer.
        """
        number = self.live.astype(np.float32)
        rows = np.vstack([number @ number.T > 0, self.live.T])
        return np.pad(rows, ((0, 0), (0, 1)))

    def aligned(self, offsets: Ints) -> Ints:
        """Offsets of all buffers, and of none, rounded up to the alignment of each."""
        if self.strip.is_aligned:
            return offsets
        return offsets + -offsets % self.alignment

    def over_sections(self, function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """[state, cell] -> [state, section]"""
        return function.reduceat(values, self._first_cell, 1)

    def over_buffers(self, function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """[state, section] -> [state, buffer]"""
        return function.reduceat(values[:, self._sections], self._first_section, 1)

    def floors(self, place: Ints) -> Ints:
        """[state, section]: the lowest place in each; far where nothing is left."""
        return self.over_sections(np.minimum, place[:, self.buffer_of])


@dataclass(frozen=True)
class States:
    """States in rows."""

    place: Ints
    """[state, buffer]: the lowest offset that it may still get; far where it is placed. The last
    column, of no buffer, is far.
    """
    floor: Ints
    """[state, section]: the lowest place of the buffers left in it; far where there is none."""
    load: Ints
    """[state, section]: the sum of sizes left."""
    height: Ints
    """[state, section]: how high the buffers left come at least."""
    left: Longs
    """[state]: how many buffers are left."""
    key: Longs
    """[state]: a hash of the buffers that are placed."""
    worth: Floats
    """[state]: the sum of their worths."""

    def take(self, rows: Longs) -> States:
        return States(
            self.place[rows],
            self.floor[rows],
            self.load[rows],
            self.height[rows],
            self.left[rows],
            self.key[rows],
            self.worth[rows],
        )


@dataclass(frozen=True)
class Moves:
    """Ways on from states: the buffer that is placed (`count` for a hole) and where."""

    parent: Longs
    buffer: Longs
    offset: Longs
    raised: Longs
    """The row of `Cells.raises` that tells which buffers come above it."""

    def take(self, numbers: Longs) -> Moves:
        return Moves(
            self.parent[numbers], self.buffer[numbers], self.offset[numbers], self.raised[numbers]
        )


class Stacks:
    """One search. `work` counts cells."""

    def __init__(self, cells: Cells, manner: Manner, width: int, weights: Floats) -> None:
        self.table, self.manner, self.width = cells, manner, width
        strip = cells.strip
        chance = np.random.default_rng(manner.seed)
        self.hashes = np.append(chance.integers(1, 1 << 62, strip.count), 0)
        self.section_hashes = chance.integers(1, 1 << 62, strip.sections)
        self.room = strip.capacity * (1 + SLACK) - strip.load
        grade = (strip.size * strip.span).astype(np.float64) ** manner.grade
        noise = np.exp(chance.normal(0, manner.noise, strip.count)) * weights / weights.mean()
        worths = grade / max(1e-9, grade.sum()) * manner.worth * strip.sections * noise
        self.worths = np.append(worths, 0)
        self.work = 0
        self.blame = np.zeros(strip.sections)

    def run(self, cells: int) -> list[int] | None:
        """Offsets in units, or None where the beam is empty or `cells` are spent."""
        states = self.start()
        history: list[Moves] = []
        while states.key.size and self.work < cells:
            moves = self.moves(states)
            done = np.flatnonzero(
                (states.left[moves.parent] == 1) & (moves.buffer < self.table.count)
            )
            if done.size:
                return self.offsets([*history, moves], int(done[0]))
            moves, states = self.after(states, moves)
            best = self.best(states)
            states = states.take(best)
            history.append(moves.take(best))
        return None

    def start(self) -> States:
        """The one state in which nothing is placed."""
        table = self.table
        place = np.zeros((1, table.count + 1), table.dtype)
        place[:, -1] = table.far
        load = table.load[None, :]
        zero = np.zeros(1, np.int64)
        floor = np.zeros_like(load)
        return States(place, floor, load, load, zero + table.count, zero, np.zeros(1))

    # --- ways on ---

    def moves(self, states: States) -> Moves:
        """All ways to cover one section of each state."""
        table = self.table
        section = self.fewest(states) if self.manner.fewest else self.lowest(states)
        row = np.arange(section.size)
        members = table.strip.members[section]
        place = states.place[row[:, None], members]
        floor = states.floor[row, section]
        rests = place == floor[:, None]
        parent, which = np.nonzero(rests)
        place[rests] = table.far
        higher = place.min(1)
        hole = np.flatnonzero(higher + states.load[row, section] <= table.capacity)
        buffer = members[parent, which]
        return Moves(
            np.concatenate([parent, hole]),
            np.concatenate([buffer, np.full(hole.size, table.count)]),
            np.concatenate([floor[parent], higher[hole]]).astype(np.int64),
            np.concatenate([buffer, table.count + section[hole]]),
        )

    def lowest(self, states: States) -> Longs:
        """The section with the lowest floor of each state; of equals, one without room."""
        floor = states.floor
        return np.where(floor == floor.min(1)[:, None], -states.height, 1).argmin(1)

    def fewest(self, states: States) -> Longs:
        """The section with the fewest ways on of each state; of equals, the lowest.

        Where a buffer can rest that lies above a gap elsewhere, something may still come below it:
        such sections wait.
        """
        table, floor = self.table, states.floor
        place = states.place[:, table.buffer_of]
        rests = place == floor[:, table.section_of]
        least = table.over_buffers(np.minimum, floor)
        cost = np.where(least == states.place[:, :-1], 1, table.count).astype(np.int32)
        ways = table.over_sections(np.add, np.where(rests, cost[:, table.buffer_of], 0))
        higher = table.over_sections(np.minimum, np.where(rests, table.far, place))
        ways += higher + states.load <= table.capacity
        ways[floor == table.far] = 1 << 30
        self.work += 5 * place.size
        return np.where(ways == ways.min(1)[:, None], floor, table.far).argmin(1)

    # --- states after ---

    def after(self, states: States, moves: Moves) -> tuple[Moves, States]:
        """The moves after which what is left can be stacked, and the states after them; each state
        once.
        """
        table = self.table
        parent, buffer = moves.parent, moves.buffer
        before = states.place[parent]
        place = self.raised(before, moves)
        load = states.load[parent] - np.where(
            table.lives[buffer], table.size[buffer][:, None], 0
        ).astype(table.dtype)
        floor = table.floors(place)
        key = states.key[parent] + self.hashes[buffer]
        open_ = floor < table.far
        self.work += place.shape[0] * (table.cells + 3 * table.count) + OVERHEAD
        profile = np.where(open_, floor, 0) * self.section_hashes
        kept = self.alive(np.where(open_, floor + load, 0), key + profile.sum(1))
        place, floor = self.settled(place[kept], floor[kept])
        moves, parent, buffer = moves.take(kept), parent[kept], buffer[kept]
        height = self.heights(states.height[parent], place, floor, place != before[kept])
        left = states.left[parent] - (buffer < table.count)
        worth = states.worth[parent] + self.worths[buffer]
        after = States(place, floor, load[kept], height, left, key[kept], worth)
        kept = self.alive(np.where(floor < table.far, height, 0), None)
        return moves.take(kept), after.take(kept)

    def raised(self, place: Ints, moves: Moves) -> Ints:
        """The places after moves: what meets the buffer that is placed comes above it."""
        table = self.table
        top = (moves.offset + table.size[moves.buffer]).astype(table.dtype)[:, None]
        level = np.where(table.raises[moves.raised], table.aligned(top), 0)
        place = np.where(place == table.far, table.far, np.maximum(place, level))
        place[np.arange(moves.buffer.size), moves.buffer] = table.far
        return place

    def settled(self, place: Ints, floor: Ints) -> tuple[Ints, Ints]:
        """Places no lower than the floors below them, and the floors that follow."""
        table = self.table
        above = np.pad(table.over_buffers(np.maximum, floor), ((0, 0), (0, 1)))
        place = np.where(place < table.far, np.maximum(place, table.aligned(above)), table.far)
        self.work += 3 * place.shape[0] * table.cells
        return place, table.floors(place)

    def heights(self, before: Ints, place: Ints, floor: Ints, changed: Mask) -> Ints:
        """How high the buffers left come, at least, in each section: stacked in the order of their
        places. Only sections with changed places are looked at.
        """
        table = self.table
        touched = table.over_sections(np.logical_or, changed[:, table.buffer_of])
        state, section = np.nonzero(touched & (floor < table.far))
        members = table.strip.members[section]
        self.work += 10 * members.size
        low, size = _sorted(place[state[:, None], members], table.size[members])
        size[low >= table.far] = 0
        height = np.cumsum(size[:, ::-1], 1)[:, ::-1] + low
        height[low >= table.far] = 0
        result = before.copy()
        result[state, section] = height.max(1, initial=0)
        return result

    def alive(self, height: Ints, key: Longs | None) -> Longs:
        """The states that can still come out; where there are keys, each of them once."""
        over = height > self.table.capacity
        dead = over.any(1)
        if dead.any():
            found = over[dead]
            self.blame = FADING * self.blame + (found / found.sum(1)[:, None]).mean(0)
        alive = np.flatnonzero(~dead)
        if key is None:
            return alive
        return alive[np.sort(np.unique(key[alive], return_index=True)[1])]

    # --- which states go on ---

    def best(self, states: States) -> Longs:
        """The rows of the best states, best first."""
        table = self.table
        open_ = states.floor < table.far
        holes = np.where(open_, states.height - table.load, 0) / self.room
        score = (holes if self.manner.power == 1 else holes**self.manner.power).sum(1)
        score -= states.worth
        return np.argsort(score, kind="stable")[: self.width]

    def offsets(self, history: list[Moves], row: int) -> list[int]:
        """The offsets along the way to a state."""
        found = [0] * self.table.count
        for moves in reversed(history):
            buffer = int(moves.buffer[row])
            if buffer < self.table.count:
                found[buffer] = int(moves.offset[row])
            row = int(moves.parent[row])
        return found


def _sorted(place: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Places in ascending order by row, and the sizes in the same order."""
    if place.dtype == np.int32:  # one sort of both is faster than argsort
        both = (place.astype(np.int64) << 31) | size
        both.sort(1)
        return both >> 31, both & ((1 << 31) - 1)
    order = np.argsort(place, 1)
    return np.take_along_axis(place, order, 1), np.take_along_axis(size, order, 1)
