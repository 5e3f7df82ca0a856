"""The search that stacks what is left: what it finds is valid, and it finds what there is on tiny
instances.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocation_beam import Row, fits, instances, is_valid, live_sum, strip

from npu_dialect.passes.allocation_beam import Manner
from npu_dialect.passes.allocation_stacks import Cells, Stacks


def find(rows: list[Row], capacity: int, manner: Manner, width: int = 8) -> list[int] | None:
    tables = Cells(strip(rows, capacity))
    found = Stacks(tables, manner, width, np.ones(len(rows))).run(10**8)
    return None if found is None else [offset * tables.strip.unit for offset in found]


@settings(deadline=None)
@given(instances(24, (1, 2, 8)), st.floats(1, 2), st.booleans())
def test_what_is_found_is_valid(rows: list[Row], room: float, fewest: bool) -> None:
    capacity = int(live_sum(rows) * room)
    offsets = find(rows, capacity, Manner(fewest))
    assert offsets is None or is_valid(rows, offsets, capacity)


@settings(deadline=None, max_examples=50)
@given(instances(5, (1, 2, 4)), st.integers(0, 4))
def test_a_wide_search_from_below_finds_what_trying_all_offsets_finds(
    rows: list[Row], more: int
) -> None:
    """Where the lowest section is next, nothing is put above a gap that others could fill."""
    capacity = live_sum(rows) + more
    offsets = find(rows, capacity, Manner(fewest=False), 2000)
    assert (offsets is not None) == fits(rows, capacity)


def test_sizes_beyond_32_bits_give_the_same_offsets() -> None:
    rows: list[Row] = [(0, 2, 3, 1), (1, 4, 2, 1), (3, 5, 3, 1), (2, 3, 3, 1)]
    large = [(lower, upper, size << 40, 1) for lower, upper, size, _ in rows]
    found, same = find(rows, 5, Manner(True)), find([*large, (6, 7, 1, 1)], 5 << 40, Manner(True))
    assert found is not None and same is not None
    assert is_valid(rows, found, 5)
    assert same[:4] == [offset << 40 for offset in found]
