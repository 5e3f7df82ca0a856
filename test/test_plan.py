"""Plans: the cheapest cover of a function by segments, and that it fits at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect.passes.mapping.paths import DeadEndError, Move, Moves, cheapest

some = settings(max_examples=200, deadline=None)

COUNT = 6


def random_moves(seed: int, gaps: float) -> Moves:
    """Costs by segment, state and next state; what is carried on saves as much at most."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 20, (COUNT, COUNT + 1, 4, 4))
    kept = rng.integers(0, 6, (COUNT, COUNT + 1, 4, 4))
    there = rng.random((COUNT, COUNT + 1, 4, 4)) > gaps

    def moves(position: int, state: int, carry: float) -> Iterable[Move]:
        for stop in range(position + 1, min(position + 3, COUNT) + 1):
            for after in range(4):
                at = (position, stop, state, after)
                if there[at]:
                    saved = min(carry, float(costs[at]))
                    what = (position, stop, after)
                    yield Move(stop, after, float(kept[at]), float(costs[at]) - saved, what)

    return moves


def every_way(moves: Moves) -> Iterator[tuple[float, list[object]]]:
    """All ways to the end, by recursion."""

    def go(position: int, state: int, carry: float, cost: float, done: list[object]):  # type: ignore[no-untyped-def]
        if position == COUNT:
            yield cost, done
        else:
            for m in moves(position, state, carry):
                yield from go(m.stop, m.state, m.carry, cost + m.cost, [*done, m.what])  # type: ignore[arg-type]

    return go(0, 0, 0.0, 0.0, [])


@some
@given(st.integers(0, 1 << 16), st.sampled_from([0.3, 0.6, 0.8]))
def test_the_cheapest_way_is_the_cheapest_of_all_ways(seed: int, gaps: float):
    moves = random_moves(seed, gaps)
    expected = min((cost for cost, _ in every_way(moves)), default=None)
    if expected is None:
        with pytest.raises(DeadEndError):
            cheapest(COUNT, 0, moves)
    else:
        way = cheapest(COUNT, 0, moves)
        assert way.cost == expected
        assert (expected, way.moves()) in list(every_way(moves))


@some
@given(st.integers(0, 1 << 16))
def test_a_narrow_search_finds_no_cheaper_way_than_there_is(seed: int):
    moves = random_moves(seed, 0.1)
    best = cheapest(COUNT, 0, moves).cost
    assert cheapest(COUNT, 0, moves, width=3, kind=lambda state: state).cost >= best
