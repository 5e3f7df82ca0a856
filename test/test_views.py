"""Tensors that lie within others: where their elements are, and that nothing moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import QUIET, Case, check
from graph_samples import Array, Sample
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import api, dtypes, graph, pipeline, provenance
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.npu.base import Instruction
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.views import (
    COPIED,
    VIEW,
    NoViewError,
    Place,
    apart,
    place_of,
    refined,
    refined_extents,
    settled,
)

# --- places ---------------------------------------------------------------------------------------


def elements(place: Place, data: Array, shape: tuple[int, ...]) -> Array:
    """The elements of a tensor, from those of its storage."""
    flat = data.reshape(-1)
    counts, steps = [c for c, _ in place.steps], [s * flat.itemsize for _, s in place.steps]
    found = np.lib.stride_tricks.as_strided(flat[place.offset :], counts, steps)
    return found.reshape(shape)


def random_move(s: Sample, x: SSAValue) -> Operation:
    """A movement that may be a view, or a reshape."""
    shape = shape_of(x)
    kind = int(s.rng.integers(4))
    if kind == 0:
        return graph.TransposeOp(x, s.rng.permutation(len(shape)).tolist())
    if kind == 1:
        step = [int(s.rng.choice([1, 2])) for _ in shape]
        sizes = [
            int(s.rng.integers(1, max(2, d // n + 1))) for d, n in zip(shape, step, strict=True)
        ]
        rows = zip(shape, sizes, step, strict=True)
        starts = [int(s.rng.integers(0, d - (k - 1) * n)) for d, k, n in rows]
        return graph.SliceOp(x, starts, sizes, step)
    if kind == 2:
        wide = [int(s.rng.integers(1, 4)) if d == 1 else d for d in shape]
        return graph.BroadcastToOp(x, [*[2] * int(s.rng.integers(2)), *wide])
    k = int(s.rng.integers(len(shape)))
    if shape[k] % 2 == 0:
        return graph.ReshapeOp(x, (*shape[:k], 2, shape[k] // 2, *shape[k + 1 :]))
    k = min(k, len(shape) - 2)
    if k < 0:
        return graph.ReshapeOp(x, (1, *shape))
    return graph.ReshapeOp(x, (*shape[:k], shape[k] * shape[k + 1], *shape[k + 2 :]))


def function_of(module: ModuleOp) -> FuncOp:
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    return function


def groups(module: ModuleOp) -> list[Group]:
    return [Group(op) for op in module.walk() if op.name == "graph.group"]


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 5))
def test_the_place_of_a_chain_of_views_holds_the_elements_that_it_computes(seed: int, length: int):
    s = Sample(seed, "edge256")
    x = s.argument(tuple(s.rng.choice([1, 2, 3, 4, 6], 3).tolist()), dtypes.i32)
    data = np.arange(s.inputs[0].size, dtype=np.int32).reshape(s.inputs[0].shape)
    value = x
    for _ in range(length):
        value = s.add(random_move(s, value))
    module = s.module(value)
    (expected,) = run_graph(module, [data])
    pipeline.run(module, "graph-place,graph-group", options=QUIET)
    for group in groups(module):
        group.op.attributes[VIEW] = UnitAttr()
    returned = function_of(module).body.block.last_op
    assert returned is not None
    try:
        place = place_of(returned.operands[0])
    except NoViewError:
        return
    np.testing.assert_array_equal(elements(place, data, expected.shape), expected)
    strides = place.strides(expected.shape)
    if strides is not None:
        offset = place.offset * data.itemsize
        seen = np.ndarray(
            expected.shape, data.dtype, data.tobytes(), offset, [n * 4 for n in strides]
        )
        np.testing.assert_array_equal(seen, expected)


def test_what_becomes_a_view_after_places_were_settled_is_seen():
    s = Sample(1, "edge256")
    x = s.argument((4, 8), dtypes.i32)
    module = s.module(neg(s, s.add(graph.TransposeOp(x, [1, 0]))))
    pipeline.run(module, "graph-place,graph-group", options=QUIET)
    move = next(g for g in groups(module) if g.kind == "move")
    with settled():
        before = place_of(move.result)
        move.op.attributes[VIEW] = UnitAttr()
        assert place_of(move.result) is before
    assert place_of(move.result).steps == ((8, 1), (4, 8))


def place(*steps: tuple[int, int]) -> Place:
    return Place(Sample(0).argument((1,), dtypes.i8), 0, steps)


def test_a_dimension_of_two_steps_has_no_stride():
    assert place((4, 8), (2, 1)).strides((8,)) is None
    assert place((4, 8), (2, 1)).strides((2, 2, 2)) == (16, 8, 1)


def test_dimensions_are_split_as_far_as_every_operand_asks_for():
    operands = [(place((4, 8), (6, 1)), (24,)), (place((12, 3), (2, 1)), (24,))]
    assert refined((24,), operands) == (4, 3, 2)


def test_splits_that_do_not_go_together_are_none():
    operands = [(place((4, 8), (6, 1)), (24,)), (place((3, 9), (8, 1)), (24,))]
    assert refined((24,), operands) is None


def test_what_repeats_along_a_dimension_repeats_along_its_parts():
    assert refined_extents((24, 5), (4, 6, 5), (1, 5)) == (1, 1, 5)


def test_dimensions_stay_apart_where_an_operand_does_not_go_on():
    fine = (4, 3, 2)
    assert apart(fine, [(place((24, 1)), fine), (place((4, 100), (6, 1)), fine)]) == {1}


# --- what costs nothing ---------------------------------------------------------------------------


def neg(s: Sample, x: SSAValue) -> SSAValue:
    return s.add(graph.NegOp(x))


def transposed(s: Sample, x: SSAValue) -> Operation:
    return graph.TransposeOp(neg(s, x), [1, 0])


def sliced(s: Sample, x: SSAValue) -> Operation:
    return graph.SliceOp(neg(s, x), [1, 2], [4, 6], [2, 1])


def repeated(s: Sample, x: SSAValue) -> Operation:
    return graph.BroadcastToOp(neg(s, x), [3, *shape_of(x)])


def joined(s: Sample, x: SSAValue) -> Operation:
    return graph.ConcatOp([neg(s, x), s.add(graph.AbsOp(x)), neg(s, x)], 1)


def padded(s: Sample, x: SSAValue) -> Operation:
    return graph.PadOp(neg(s, x), [1, 2], [0, 3], 5)


Make = Callable[[Sample, SSAValue], Operation]
MOVES = (transposed, sliced, repeated, joined, padded)


@pytest.mark.parametrize("make", MOVES)
@pytest.mark.parametrize("ends", [False, True])
def test_a_move_between_layers_or_at_the_end_copies_nothing(make: Make, ends: bool):
    s = Sample(1, "edge256")
    x = s.argument((16, 12), dtypes.i32)
    moved = s.add(make(s, x))
    result = moved if ends else neg(s, moved)
    module = s.module(result)
    for attribute, name in (("npu.input_names", "x"), ("npu.output_names", "y")):
        function_of(module).attributes[attribute] = ArrayAttr([StringAttr(name)])
    (expected,) = run_graph(module, s.inputs)
    pipeline.run(module, "graph-place,graph-group", options=QUIET)
    (move,) = (g for g in groups(module) if g.kind == "move")
    name = provenance.sources(move.op)[0]
    pipeline.run(module, "graph-views,graph-map,graph-to-tile,tile-allocate", options=QUIET)
    pipeline.run(module, "tile-to-npu,npu-pack,npu-sync,npu-roll,npu-verify", options=QUIET)
    made = [op for op in module.walk() if provenance.sources(op) == (name,)]
    fills = [op.name for op in made if op.name == "npu.dma_fill"]
    needs_its_own = ends and make in (sliced, repeated)
    if not needs_its_own:
        assert len(made) == len(fills) == (3 if make is padded else 0)
    (found,) = api.simulate(api.assemble(module), s.inputs, seed=3).outputs.values()
    np.testing.assert_array_equal(found, expected)


def reason(s: Sample, result: SSAValue) -> str:
    module = s.module(result)
    pipeline.run(module, "graph-place,graph-group,graph-views", options=QUIET)
    (move,) = (g for g in groups(module) if g.kind == "move")
    found = move.op.attributes[COPIED]
    assert isinstance(found, StringAttr)
    return found.data


def test_a_slice_that_is_a_result_is_copied():
    s = Sample(1, "edge256")
    assert (
        reason(s, s.add(sliced(s, s.argument((16, 12), dtypes.i32)))) == "a result of the program"
    )


def test_a_tensor_that_a_concat_has_twice_is_copied():
    s = Sample(1, "edge256")
    x = neg(s, s.argument((16, 12), dtypes.i32))
    assert reason(s, s.add(graph.ConcatOp([x, x], 0))) == "a tensor that takes part twice"


def test_short_runs_in_dram_cost_more_than_a_copy():
    s = Sample(1, "edge256")
    x, y = (s.argument((2048, 2048), dtypes.i32) for _ in range(2))
    z = graph.MaxOp(s.add(graph.TransposeOp(x, [1, 0])), y)
    assert "short runs in dram" in reason(s, s.add(z))


def test_a_result_of_short_runs_is_stored_in_one_run():
    s = Sample(1, "edge256")
    x = s.argument((4096, 2), dtypes.i32)
    joined = graph.ConcatOp([neg(s, x), s.add(graph.AbsOp(x))], 1)
    module = s.module(s.add(joined))
    for attribute, name in (("npu.input_names", "x"), ("npu.output_names", "y")):
        function_of(module).attributes[attribute] = ArrayAttr([StringAttr(name)])
    (expected,) = run_graph(module, s.inputs)
    pipeline.run(
        module, "graph-place,graph-group,graph-views,graph-map,graph-to-tile", options=QUIET
    )
    pipeline.run(module, "tile-allocate,tile-to-npu,npu-pack,npu-sync,npu-verify", options=QUIET)
    stores = [o for op in module.walk() if isinstance(op, Instruction) for o in op.writes()]
    assert [o.runs for o in stores if o.space == "dram"] == [(1, 4 * 4 * 4096)]
    (found,) = api.simulate(api.assemble(module), s.inputs, seed=3).outputs.values()
    np.testing.assert_array_equal(found, expected)


# --- whole programs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_graphs_that_move_much_give_the_same_bits_at_every_level(targets: Path, seed: int):
    check(replace(Case.of(seed, 16), moves=True), targets)
