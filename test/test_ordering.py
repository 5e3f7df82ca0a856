"""Orders with little memory, against all orders of small graphs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.passes.ordering import Tasks, least_order, pressure


@st.composite
def graphs(draw: st.DrawFn) -> Tasks:
    """Tasks that make one value each, of random sizes, from some of the values before."""
    count = draw(st.integers(2, 7))
    before = [
        sorted(draw(st.sets(st.integers(0, k - 1), max_size=2))) if k else [] for k in range(count)
    ]
    sizes = [draw(st.integers(1, 9)) for _ in range(count)]
    return Tasks(before, [[*b, k] for k, b in enumerate(before)], sizes)


def orders(tasks: Tasks, done: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """All topological orders."""
    if len(done) == len(tasks.before):
        yield done
    for task, before in enumerate(tasks.before):
        if task not in done and all(b in done for b in before):
            yield from orders(tasks, (*done, task))


def live_bytes(tasks: Tasks, order: tuple[int, ...]) -> list[int]:
    """Bytes that are live during each task, value by value."""
    spans: list[tuple[int, int, int]] = []
    for value, size in enumerate(tasks.sizes):
        at = [k for k, task in enumerate(order) if value in tasks.touched[task]]
        spans.append((min(at), max(at), size))
    return [sum(s for low, high, s in spans if low <= k <= high) for k in range(len(order))]


@given(graphs(), st.integers(0, 20))
def test_pressure_is_what_is_live_at_each_task(tasks: Tasks, capacity: int):
    order = tuple(range(len(tasks.before)))
    live = live_bytes(tasks, order)
    found = pressure(tasks, order, capacity)
    assert found.peak == max(live)
    assert found.excess == sum(max(0, b - capacity) for b in live)


@given(graphs(), st.integers(0, 20))
def test_a_wide_beam_finds_the_least_excess(tasks: Tasks, capacity: int):
    least = min(pressure(tasks, o, capacity).excess for o in orders(tasks))
    found = least_order(tasks, capacity, width=10_000)
    assert tuple(found) in set(orders(tasks))
    assert pressure(tasks, found, capacity).excess == least


@given(graphs(), st.integers(0, 20))
def test_a_narrow_beam_is_never_worse_than_the_given_order(tasks: Tasks, capacity: int):
    original = pressure(tasks, range(len(tasks.before)), capacity)
    found = pressure(tasks, least_order(tasks, capacity, width=1), capacity)
    assert (found.excess, found.peak) <= (original.excess, original.peak)


@pytest.mark.parametrize("capacity", [0, 1000])
def test_a_chain_stays_as_it_is(capacity: int):
    chain = Tasks([[], [0], [1], [2]], [[0], [0, 1], [1, 2], [2, 3]], [5, 9, 2, 7])
    assert least_order(chain, capacity) == [0, 1, 2, 3]
