"""Offsets for buffers that take only some of their bytes at times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.passes.allocation import Buffer, pack
from npu_dialect.passes.allocation_parts import Part, pack_parts, parts_bound, parts_of

RING = Buffer(0, 0, 8, 34), Buffer(1, 4, 8, 6), Buffer(2, 0, 2, 5)
"""A row buffer, what is loaded beside it later, and what is there at first."""
ROWS = Part(0, 0, 4, 0, 34), Part(0, 3, 8, 0, 28)
"""34 rows at first, 28 later."""


def packed(buffers: Sequence[Buffer], given: Sequence[Part]) -> dict[int, int]:
    return pack_parts(buffers, parts_of(buffers, given), pack(buffers, 0), 0.01)


def height(buffers: Sequence[Buffer], offsets: dict[int, int]) -> int:
    return max(offsets[b.id] + b.size for b in buffers)


def test_what_is_loaded_later_lies_where_rows_were() -> None:
    offsets = packed(RING, ROWS)
    assert offsets[1] >= offsets[0] + 28
    assert height(RING, offsets) == 39  # 34 rows and what is there at first


def test_the_bound_is_the_greatest_sum_of_parts() -> None:
    assert parts_bound(parts_of(RING, ROWS)) == 39
    assert parts_bound(parts_of(RING, ())) == 40


def test_parts_of_a_buffer_follow_each_other() -> None:
    of_ring = [tuple(p) for p in parts_of(RING, ROWS) if p.buffer == 0]
    assert of_ring == [(0, 0, 4, 0, 34), (0, 4, 8, 0, 28)]


def test_a_buffer_without_a_part_keeps_the_one_before() -> None:
    rows = Part(0, 0, 2, 4, 8), Part(0, 5, 8, 0, 34)
    of_ring = [tuple(p) for p in parts_of(RING, rows) if p.buffer == 0]
    assert of_ring == [(0, 0, 5, 4, 8), (0, 5, 8, 0, 34)]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Buffer], list[Part]]:
    """Buffers of several parts, which begin and end as these do."""
    buffers: list[Buffer] = []
    parts: list[Part] = []
    numbers = st.integers(0, 11)
    times = st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1])
    bytes_of_a_part = st.sampled_from([(0, 8), (0, 4), (4, 8), (2, 6)])
    for id in range(draw(st.integers(1, 9))):
        own: list[Part] = []
        for low, high in draw(st.lists(bytes_of_a_part, min_size=1, max_size=4)):
            lower, upper = sorted(draw(times))
            own.append(Part(id, lower, upper, low, high))
        lower, upper = min(p.lower for p in own), max(p.upper for p in own)
        alignment = draw(st.sampled_from([1, 2, 4]))
        buffers.append(Buffer(id, lower, upper, max(p.high for p in own), alignment))
        parts += own
    return buffers, parts


@given(problems())
def test_no_byte_is_of_two_parts_at_once(problem: tuple[list[Buffer], list[Part]]) -> None:
    buffers, parts = problem
    offsets = packed(buffers, parts)
    owner = np.full((12, height(buffers, offsets)), -1)
    for part in parts:
        start = offsets[part.buffer]
        place = owner[part.lower : part.upper, start + part.low : start + part.high]
        assert np.isin(place, (-1, part.buffer)).all()
        place[...] = part.buffer
    assert all(offsets[b.id] % b.alignment == 0 for b in buffers)
    assert height(buffers, offsets) <= height(buffers, pack(buffers, 0))


@given(problems())
def test_the_bound_counts_no_more_than_whole_buffers(
    problem: tuple[list[Buffer], list[Part]],
) -> None:
    buffers, parts = problem
    least = 0
    for time in range(12):  # the bytes of each buffer between the ends of what lives, one by one
        taken = 0
        for b in buffers:
            live = [p for p in parts if p.buffer == b.id and p.lower <= time < p.upper]
            if live:
                taken += max(p.high for p in live) - min(p.low for p in live)
        least = max(least, taken)
    whole = max(sum(b.size for b in buffers if b.lower <= t < b.upper) for t in range(12))
    assert least <= parts_bound(parts_of(buffers, parts)) <= whole
