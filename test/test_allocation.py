"""Offset allocation: nothing overlaps, bounds hold, failures explain themselves."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect.passes.allocation import Buffer, Overflow, allocate, live_bound


@st.composite
def buffers(draw: st.DrawFn) -> list[Buffer]:
    found: list[Buffer] = []
    for k in range(draw(st.integers(0, 14))):
        lower = draw(st.integers(0, 8))
        size, alignment = draw(st.integers(0, 20)), draw(st.sampled_from([1, 4, 16]))
        found.append(Buffer(k, lower, lower + draw(st.integers(1, 5)), size, alignment))
    return found


def check(items: list[Buffer], offsets: dict[int, int], capacity: int) -> None:
    assert set(offsets) == {b.id for b in items}
    for b in items:
        start = offsets[b.id]
        assert start % b.alignment == 0
        assert start >= 0 and start + b.size <= capacity
        for c in items:
            if b.id < c.id and b.lower < c.upper and c.lower < b.upper and b.size and c.size:
                other = offsets[c.id]
                assert start + b.size <= other or other + c.size <= start


@settings(deadline=None)
@given(buffers(), st.integers(0, 120))
def test_a_placement_is_valid_or_the_overflow_says_why(items: list[Buffer], capacity: int) -> None:
    try:
        offsets = allocate(items, capacity)
    except Overflow as overflow:
        assert overflow.bound == live_bound(items)[0]
        assert overflow.peak > capacity
        assert sum(b.size for b in overflow.live) == overflow.bound
    else:
        check(items, offsets, capacity)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(1, 5)), max_size=6))
def test_what_is_called_impossible_is_impossible(rows: list[tuple[int, int, int]]) -> None:
    items = [Buffer(k, a, a + b, c) for k, (a, b, c) in enumerate(rows)]
    bound = live_bound(items)[0]
    try:
        allocate(items, bound)
    except Overflow as overflow:
        assert overflow.proven
        assert not _fits(items, bound, {})


def _fits(items: list[Buffer], capacity: int, placed: dict[int, int]) -> bool:
    """Whether any placement fits, by trying all."""
    if len(placed) == len(items):
        return True
    b = items[len(placed)]
    for start in range(capacity - b.size + 1):
        free = all(
            start + b.size <= placed[c.id] or placed[c.id] + c.size <= start
            for c in items[: len(placed)]
            if b.lower < c.upper and c.lower < b.upper
        )
        if free and _fits(items, capacity, {**placed, b.id: start}):
            return True
    return False


def test_buffers_that_never_meet_share_their_bytes() -> None:
    items = [Buffer(k, k, k + 1, 100) for k in range(50)]
    assert set(allocate(items, 100).values()) == {0}


def test_the_overflow_names_the_live_set_and_the_bound() -> None:
    items = [Buffer(0, 0, 4, 60), Buffer(1, 1, 3, 50), Buffer(2, 5, 6, 90)]
    with pytest.raises(Overflow) as caught:
        allocate(items, 100)
    assert str(caught.value) == (
        "buffers must fit in 100 bytes, but 110 bytes are live at once, "
        "which no placement can avoid; live then: 0 (60), 1 (50)"
    )
    assert caught.value.proven


def test_the_search_finds_what_greedy_placements_miss() -> None:
    chance = random.Random(5)
    solved = 0
    for _ in range(12):
        items = _cut(chance, 24, 240)
        allocate(items, 240)
        solved += 1
    assert solved == 12


def _cut(chance: random.Random, count: int, height: int) -> list[Buffer]:
    """Buffers that fill a rectangle exactly, made by cutting it."""
    blocks = [(0, 32, 0, height)]
    while len(blocks) < count:
        lower, upper, low, high = blocks.pop(chance.randrange(len(blocks)))
        if chance.random() < 0.5 and upper - lower > 1:
            at = chance.randint(lower + 1, upper - 1)
            blocks += [(lower, at, low, high), (at, upper, low, high)]
        elif high - low > 1:
            at = chance.randint(low + 1, high - 1)
            blocks += [(lower, upper, low, at), (lower, upper, at, high)]
        else:
            blocks.append((lower, upper, low, high))
    return [Buffer(k, a, b, d - c) for k, (a, b, c, d) in enumerate(blocks)]


def test_the_result_is_the_same_every_time() -> None:
    items = _cut(random.Random(1), 60, 1000)
    assert allocate(items, 1400) == allocate(items, 1400)


def test_ten_thousand_buffers_get_their_places() -> None:
    chance = random.Random(2)
    items = [
        Buffer(
            k,
            a := chance.randrange(5000),
            a + chance.randint(1, 20),
            chance.randint(1, 500) * 64,
            64,
        )
        for k in range(10_000)
    ]
    capacity = 4 * live_bound(items)[0]
    offsets = allocate(items, capacity)
    assert all(0 <= offsets[b.id] <= capacity - b.size for b in items)


@pytest.mark.parametrize("name", "ABCDE")
def test_a_hard_instance_is_solved(name: str, models: Path) -> None:
    """Up to 215 buffers whose live sum reaches 94 to 100 % of the capacity."""
    text = (models.parent / "allocation" / f"{name}.1048576.csv").read_text()
    rows = [[int(v) for v in r.values()] for r in csv.DictReader(text.splitlines())]
    items = [Buffer(number, lower, upper, size) for number, lower, upper, size in rows]
    check(items, allocate(items, 1 << 20), 1 << 20)
