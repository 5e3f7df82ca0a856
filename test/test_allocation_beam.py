"""The beam search for offsets: valid, exact on tiny instances, the same every time, scale-free."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect.passes.allocation_beam import Strip, maximal_moments
from npu_dialect.passes.allocation_restarts import beam_search, luby

Row = tuple[int, int, int, int]
"""lower, upper, size, alignment"""


def strip(rows: list[Row], capacity: int) -> Strip:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Strip(*(np.ascontiguousarray(c) for c in columns), capacity)  # type: ignore[arg-type]


def is_valid(rows: list[Row], offsets: list[int], capacity: int) -> bool:
    return all(
        low >= 0 and low % a == 0 and low + s <= capacity and _apart(rows, offsets, k)
        for k, ((_, _, s, a), low) in enumerate(zip(rows, offsets, strict=True))
    )


def _apart(rows: list[Row], offsets: list[int], k: int) -> bool:
    lower, upper, size, _ = rows[k]
    return all(
        not (lower < u and v < upper)
        or offsets[k] + size <= offsets[j]
        or offsets[j] + s <= offsets[k]
        for j, (v, u, s, _) in enumerate(rows[:k])
    )


def fits(rows: list[Row], capacity: int, placed: tuple[int, ...] = ()) -> bool:
    """Whether any placement fits, by trying every offset of every buffer."""
    if len(placed) == len(rows):
        return True
    size, step = rows[len(placed)][2:]
    for start in range(0, capacity - size + 1, step):
        offsets = [*placed, start]
        if _apart(rows, offsets, len(placed)) and fits(rows, capacity, tuple(offsets)):
            return True
    return False


@st.composite
def instances(draw: st.DrawFn, most: int, alignments: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, most))):
        lower, span = draw(st.integers(0, 6)), draw(st.integers(1, 4))
        size, alignment = draw(st.integers(1, 5)), draw(st.sampled_from(alignments))
        rows.append((lower, lower + span, size, alignment))
    return rows


def live_sum(rows: list[Row]) -> int:
    return max(sum(s for v, u, s, _ in rows if v <= t < u) for t in range(12))


@settings(deadline=None)
@given(instances(24, (1, 2, 8)), st.floats(1, 2))
def test_what_is_found_is_valid(rows: list[Row], room: float) -> None:
    capacity = int(live_sum(rows) * room)
    offsets = beam_search(strip(rows, capacity), 1_000_000)
    assert offsets is None or is_valid(rows, offsets, capacity)


@settings(deadline=None)
@given(instances(6, (1,)))
def test_a_tiny_instance_is_solved_where_trying_all_offsets_solves_it(rows: list[Row]) -> None:
    capacity = live_sum(rows)
    found = beam_search(strip(rows, capacity), 2_000_000) is not None
    assert found == fits(rows, capacity)


@settings(deadline=None, max_examples=50)
@given(instances(5, (1, 2, 4)), st.integers(0, 4))
def test_alignments_are_kept_and_cost_no_solution(rows: list[Row], more: int) -> None:
    capacity = live_sum(rows) + more
    offsets = beam_search(strip(rows, capacity), 2_000_000)
    assert (offsets is not None) == fits(rows, capacity)
    assert offsets is None or is_valid(rows, offsets, capacity)


def cut(chance: random.Random, count: int, time: int, height: int) -> list[Row]:
    """Buffers that fill a rectangle exactly, made by cutting it."""
    blocks = [(0, time, 0, height)]
    while len(blocks) < count:
        number = max(chance.sample(range(len(blocks)), 1 + len(blocks) // 4), key=_area(blocks))
        lower, upper, low, high = blocks.pop(number)
        if chance.random() < 0.5 and upper - lower > 1:
            at = chance.randint(lower + 1, upper - 1)
            blocks += [(lower, at, low, high), (at, upper, low, high)]
        elif high - low > 1:
            at = chance.randint(low + 1, high - 1)
            blocks += [(lower, upper, low, at), (lower, upper, at, high)]
        else:
            blocks.append((lower, upper, low, high))
    return [(lower, upper, high - low, 1) for lower, upper, low, high in blocks]


def _area(blocks: list[tuple[int, int, int, int]]) -> Callable[[int], int]:
    return lambda k: (blocks[k][1] - blocks[k][0]) * (blocks[k][3] - blocks[k][2])


def test_rectangles_cut_into_forty_buffers_are_filled_again() -> None:
    for seed in range(8):
        rows = cut(random.Random(seed), 40, 40, 256)
        offsets = beam_search(strip(rows, 256), 300_000_000)
        assert offsets is not None and is_valid(rows, offsets, 256)


def test_the_same_offsets_come_out_every_time() -> None:
    rows = cut(random.Random(3), 60, 40, 1000)
    assert beam_search(strip(rows, 1000), 10**8) == beam_search(strip(rows, 1000), 10**8)


def test_offsets_scale_with_the_sizes() -> None:
    """Beyond 32 bits too."""
    rows = cut(random.Random(4), 40, 40, 1000)
    found = beam_search(strip(rows, 1000), 10**8)
    large = [(lower, upper, size << 40, 1) for lower, upper, size, _ in rows]
    prime = [*large, (50, 51, 1, 1)]
    assert found is not None
    assert beam_search(strip(large, 1000 << 40), 10**8) == [o << 40 for o in found]
    offsets = beam_search(strip(prime, 1000 << 40), 10**8)
    assert offsets is not None and is_valid(prime, offsets, 1000 << 40)


def test_sections_are_the_largest_live_sets() -> None:
    lower, upper = np.array([0, 1, 3, 3]), np.array([2, 4, 5, 4])
    assert maximal_moments(lower, upper).tolist() == [1, 3]


def test_widths_follow_lubys_sequence() -> None:
    assert [luby(k) for k in range(1, 16)] == [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]
