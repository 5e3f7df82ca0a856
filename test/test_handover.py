"""What a layer and its neighbours on other engines wait for each other, and what that does to how a
layer is cut.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.passes.mapping import contraction, elementwise
from npu_dialect.passes.mapping.contraction import Contraction, loop_trips
from npu_dialect.passes.mapping.elementwise import Elementwise, Stream
from npu_dialect.passes.mapping.tiles import PIPELINED, handover
from npu_dialect.target import load_target

LINEAR = Contraction(
    oh=196, ow=1, oc=384, ic=192, ih=196, iw=1, kernel_costs=("requantize",), x_resident=True,
    out_resident=True,
)  # fmt: skip


def makespan(cycles: int, passes: int, rows: int, neighbour: int) -> float:
    """When a layer is done that goes over its rows in passes, after a neighbour that makes the same
    rows one after the other.
    """
    clock = 0.0
    for _ in range(passes):
        for row in range(rows):
            ready = neighbour * (row + 1) / rows
            clock = max(clock, ready) + cycles / (passes * rows)
    return clock


SIZES = st.integers(1, 1000)


@given(SIZES, st.integers(1, 5), st.integers(1, PIPELINED), SIZES)
def test_both_wait_for_what_they_take_together_beyond_the_longer_one(
    cycles: int, passes: int, rows: int, neighbour: int
):
    expected = makespan(cycles, passes, rows, neighbour) - max(cycles, neighbour)
    assert handover(cycles, passes, rows, neighbour) == pytest.approx(expected, abs=1e-6)


@given(SIZES, st.integers(1, 5), st.integers(1, 100))
def test_without_a_neighbour_nothing_waits(cycles: int, passes: int, rows: int):
    assert handover(cycles, passes, rows, 0) == pytest.approx(0, abs=1e-6)


def test_many_mappings_at_once_are_as_one_by_one():
    rows = np.array([1, 3, 20])
    together = handover(np.array([10.0, 20.0, 30.0]), np.array([1, 2, 3]), rows, 16)
    alone = [handover(10.0, 1, 1, 16), handover(20.0, 2, 3, 16), handover(30.0, 3, 20, 16)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("side", ["takes_over", "hands_over"])
def test_a_product_beside_long_vector_work_is_cut_in_rows_and_goes_over_them_once(side: str):
    target = load_target("headset2k")
    found = contraction.search(target, Contraction(**{**vars(LINEAR), side: 1 << 14}), 200_000)
    assert found is not None
    trips = loop_trips(LINEAR, found[0])
    assert trips.rows > 1
    assert trips.channels == 1 or found[0].order == "rows_outer"


def test_a_product_beside_the_shortest_work_is_cut_as_one_alone():
    target = load_target("headset2k")
    alone = contraction.search(target, LINEAR, 200_000)
    beside = contraction.search(target, Contraction(**{**vars(LINEAR), "takes_over": 1}), 200_000)
    assert alone is not None and beside is not None
    assert alone[0] == beside[0]


def test_vector_work_beside_a_long_layer_is_cut():
    stream = Stream((64, 256), 1, resident=True)
    target = load_target("edge512")
    p = Elementwise((64, 256), (stream,), stream, kernel_costs=("alu",), hands_over=1 << 14)
    found = elementwise.search(target, p, 100_000)
    assert found is not None
    assert elementwise.tile_count(p, found[0]) > 1
