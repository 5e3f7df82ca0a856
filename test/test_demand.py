"""The order of demand, against recursion, and what it is for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.passes.demand import demand_ranks
from npu_dialect.passes.schedule import Tasks, list_schedule, longest_paths


def by_recursion(before: list[list[int]]) -> list[int]:
    """The tasks in the order of demand."""
    order: list[int] = []

    def ask(task: int) -> None:
        if task not in order:
            for earlier in sorted(before[task]):
                ask(earlier)
            order.append(task)

    read = {p for found in before for p in found}
    for task in range(len(before)):
        if task not in read:
            ask(task)
    return order


@given(st.integers(0, 1 << 32), st.integers(1, 30))
def test_results_ask_for_what_they_need_depth_first(seed: int, count: int):
    rng = np.random.default_rng(seed)
    before = [
        [int(p) for p in rng.choice(k, min(k, int(rng.integers(4))), replace=False)]
        for k in range(count)
    ]
    ranks = demand_ranks(before)
    assert sorted(range(count), key=ranks.__getitem__) == by_recursion(before)


def test_a_long_chain_needs_no_recursion():
    assert demand_ranks([[], *([k] for k in range(5000))]) == list(range(5001))


def rows_of_layers(vector: int, rows: int) -> Tasks:
    """So many layers of the vector unit, each 100 cycles for a row, and one of the array, which
    takes as long as all of them, row by row.
    """
    before: list[list[int]] = [[] for _ in range(rows)]
    before += [[k] for k in range(vector * rows)]
    queues = [0] * vector * rows + [1] * rows
    cycles = [100] * vector * rows + [100 * vector] * rows
    return Tasks(queues, cycles, [0] * len(before), before)


def test_an_engine_works_on_a_stripe_while_another_one_has_the_one_before():
    tasks = rows_of_layers(3, 4)
    by_demand = list_schedule(tasks, [-rank for rank in demand_ranks(tasks.before)])
    by_length = list_schedule(tasks, longest_paths(tasks))
    assert by_demand.makespan == 300 + 4 * 300
    assert by_length.makespan == 2 * 400 + 100 + 4 * 300
