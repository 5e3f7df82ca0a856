"""What is tried of the rows of cascades (passes/mapping/geometry.py)."""

from __future__ import annotations

from itertools import chain as chained

import pytest
from test_mapping import chain
from xdsl.dialects.func import FuncOp

from npu_dialect.passes.mapping.geometry import Geometry, geometries
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.stripes import Flow, held_inputs, held_results, stripes_of

ROW = 16 * 16
"""Bytes of a row of a tensor of `chain`."""


@pytest.fixture(scope="module")
def flow() -> Flow:
    build = chain("edge256", 5)
    module = build.module(build.result)  # type: ignore[attr-defined]
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    return Flow(tuple(Group(op) for op in function.body.block.ops if op.name == "graph.group"))


def in_pieces(flow: Flow, capacity: int) -> list[Geometry]:
    return in_pieces_of(flow, [ROW] * 5, capacity)


def test_pieces_take_a_share_of_the_scratchpad_each_or_are_one_row(flow: Flow):
    found = in_pieces(flow, 32 * 1024)
    assert [g.stripe[0] for g in found] == [8, 4, 2, 1]


def test_stripes_that_would_be_the_whole_tensors_are_not_tried(flow: Flow):
    assert in_pieces(flow, 1 << 24) == []


@pytest.mark.parametrize("capacity", [8 * 1024, 32 * 1024, 100 * 1024])
def test_the_first_stripes_tell_what_all_of_them_hold(flow: Flow, capacity: int):
    for geometry in in_pieces(flow, capacity):
        every = list(chained.from_iterable(stripes_of(flow, geometry.rows, geometry.most)))
        assert list(geometry.held) == held_results(flow, every)
        assert geometry.inputs == held_inputs(flow, every)


def test_row_buffers_that_do_not_fit_are_no_stripes_to_try(flow: Flow):
    rows = [ROW] * 4 + [1]
    capacity = 8 * 4 * ROW
    found = [g for g in geometries(flow, rows, capacity) if g.most is None]
    assert found
    assert all(sum(g.held[:4]) * ROW <= capacity for g in found)
    everything = [g for g in geometries(flow, rows, 1 << 24) if g.most is None]
    assert max(g.rows for g in found) < max(g.rows for g in everything)


def test_a_reader_of_long_rows_makes_no_more_of_its_short_ones_than_it_reads(flow: Flow):
    wide, narrow = 40 * ROW, 1
    sizes = [wide, narrow, wide, narrow, narrow]
    found = in_pieces_of(flow, sizes, 32 * wide)
    assert any(g.stripe[1] == g.stripe[3] == 2 for g in found)


def in_pieces_of(flow: Flow, sizes: list[int], capacity: int) -> list[Geometry]:
    return [g for g in geometries(flow, sizes, capacity) if g.most is not None]
