"""Plans: the cheapest cover of a function by segments, and that it fits at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, ModuleBuilder, assert_levels_agree, integers
from test_mapping import chain, tight_target
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph, planned
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.passes.graph_map import GraphMapPass, explanations
from npu_dialect.passes.mapping.critical import Reader, Stage, critical_path
from npu_dialect.passes.mapping.least import least
from npu_dialect.passes.mapping.paths import DeadEndError, Move, Moves, cheapest
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Cascade, Plan
from npu_dialect.passes.mapping.views import storage
from npu_dialect.passes.mapping.work import Work
from npu_dialect.target import load_target
from npu_dialect.universe import NpuContext

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


# --- plans fit ------------------------------------------------------------------------------------


def layers(target: str, count: int) -> ModuleOp:
    """A chain of convolutions."""
    build: ModuleBuilder = chain(target, count)
    return build.module(build.result)  # type: ignore[attr-defined]


def planner(module: ModuleOp, target: str, capacity: int | None = None) -> Planner:
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    return Planner(load_target(target), function.body.block, {}, capacity)


def greatest_sum(plan: Plan) -> int:
    """The most bytes of scratchpad that tensors, row buffers, constants and tiles take at a step,
    by counting.
    """
    steps = range(len(plan.steps))
    held = dict.fromkeys(steps, 0)
    run = {k: range(k, k + 1) for k in steps}
    for segment in plan.segments:
        if isinstance(segment, Cascade):
            members = range(segment.option.first, segment.stop)
            run.update(dict.fromkeys(members, members))
    for k in steps:
        step = plan.steps[k]
        held[k] += sum(-(-b.size // 16) * 16 * b.depth for b in step.buffers)
        if step.member is not None:
            for other in run[k]:
                held[other] += step.member.holds
        for value in step.group.op.results:
            if storage(value) in plan.resident:
                readers = [
                    n for n in steps if any(storage(v) is value for v in plan.steps[n].group.inputs)
                ]
                size = -(-int(np.prod(value.type.get_shape())) // 16) * 16  # type: ignore[attr-defined]
                for other in range(run[k].start, run[max([k, *readers])].stop):
                    held[other] += size
    return max(held.values())


@pytest.mark.parametrize("spm", [7_000, 9_000, 14_000, 30_000])
def test_a_plan_fits_at_every_step(tmp_path: Path, spm: int):
    target = tight_target(tmp_path, spm)
    assert greatest_sum(planner(layers(target, 4), target).run()) <= spm


def test_what_leaves_no_room_for_whole_tensors_becomes_a_cascade(tmp_path: Path):
    target = tight_target(tmp_path, 8_000)
    plan = planner(layers(target, 4), target).run()
    assert any(isinstance(s, Cascade) for s in plan.segments)


def test_a_chosen_cascade_changes_no_bit(tmp_path: Path):
    x = integers(np.random.default_rng(1), 1, 16, 16, 16)
    assert_levels_agree(layers(tight_target(tmp_path, 8_000), 4), [x])


def attention(target: str) -> ModuleOp:
    """The products of four heads with i8 scores, twice of which a vector kernel makes others."""
    build = ModuleBuilder(target, *[((1, 4, 64, 32), I8)] * 2, ((1, 4, 32, 64), I8))
    q, v, k = build.args

    def product(a: SSAValue, b: SSAValue) -> list[Operation]:
        sums = graph.MatmulOp(a, b, None)
        return [sums, graph.RequantizeOp(sums.result, requant_f32(0.003), I8)]

    scores = build.group("scores", "array", [q, k], product)
    for name in ("first", "second"):
        scores = build.group(name, "vector", [scores], lambda x: [graph.ReluOp(x)])
    return build.module(build.group("context", "array", [scores, v], product))


@pytest.mark.parametrize(("spm", "stripes"), [(40_000, True), (480_000, False)])
def test_heads_take_turns_where_their_scores_crowd_the_scratchpad(
    tmp_path: Path, spm: int, stripes: bool
):
    target = tight_target(tmp_path, spm)
    plan = planner(attention(target), target).run()
    assert isinstance(plan.segments[0], Cascade) is stripes


def test_heads_that_take_turns_change_no_bit(tmp_path: Path):
    rng = np.random.default_rng(2)
    shapes = (1, 4, 64, 32), (1, 4, 64, 32), (1, 4, 32, 64)
    module = attention(tight_target(tmp_path, 40_000))
    assert_levels_agree(module, [integers(rng, *shape) for shape in shapes])


def test_each_row_of_an_input_is_brought_once_where_windows_overlap(tmp_path: Path):
    target = tight_target(tmp_path, 8_000)
    plan = planner(layers(target, 4), target).run()
    first, *_ = (s.option for s in plan.segments if isinstance(s, Cascade))
    held = first.members[0].input_held
    assert held is not None and 3 <= held < 16


def test_the_plan_of_least_memory_takes_no_more_than_the_fastest():
    module = layers("edge256", 3)
    fastest = planner(module, "edge256")
    most = fastest.height(fastest.run())
    made = planner(module, "edge256")
    plan = least(made, 2.0)
    assert made.height(plan) < most
    assert greatest_sum(plan) <= made.capacity


def test_the_plan_of_least_memory_takes_at_most_so_many_times_the_cycles():
    module = layers("edge256", 3)
    fastest = planner(module, "edge256")
    cycles = fastest.estimate(fastest.run())
    for slower in (1.0, 1.3, 2.0):
        made = planner(module, "edge256")
        assert made.estimate(least(made, slower)) <= slower * cycles


def test_a_plan_of_least_memory_spills_nothing_into_dram_that_is_sram():
    made = planner(layers("ethos_u55_256", 4), "ethos_u55_256")
    plan = least(made, 2.0)
    held = {g.result for s in plan.steps if s.member and s.member.held for g in [s.group]}
    inner = [t for t in made.lives.tensors.values() if t.may_stay]
    assert inner and all(t.value in plan.resident | held for t in inner)


def test_a_module_of_least_memory_says_what_it_may_use():
    module = layers("edge256", 3)
    module.attributes["npu.objective"] = StringAttr("memory")
    GraphMapPass().apply(NpuContext(), module)
    assert module.attributes["npu.scratchpad"].value.data < 10_000  # type: ignore[attr-defined]


# --- estimates ------------------------------------------------------------------------------------


def stage(engine: str, cycles: float, *reads: Reader, tiles: int = 1) -> Stage:
    return Stage(Work(engine, compute=cycles, tiles=tiles), {engine: cycles}, 0.0, reads)


def test_engines_work_at_once_unless_one_waits_for_the_other():
    alone = [stage("mxu", 100), stage("vpu", 60)]
    assert critical_path(alone, 0) == 100
    assert critical_path([alone[0], stage("vpu", 60, Reader(0, in_dram=False))], 0) == 160


def test_a_reader_follows_by_a_tile():
    first = stage("mxu", 100, tiles=4)
    second = stage("vpu", 60, Reader(0, in_dram=False), tiles=4)
    assert critical_path([first, second], 0) == 115


def test_work_on_rows_that_are_there_goes_on_between_the_tiles_of_what_waits():
    first = stage("mxu", 100, tiles=4)
    chain = [stage("vpu", 20, Reader(k, in_dram=False), tiles=4) for k in range(2)]
    assert critical_path([first, *chain], 0) == 110


def test_an_engine_is_never_taken_twice_at_once():
    first = stage("mxu", 100, tiles=4)
    chain = [stage("vpu", 60, Reader(k, in_dram=False), tiles=4) for k in range(2)]
    assert critical_path([first, *chain], 0) >= 25 + 120


def test_copies_before_which_there_is_nothing_wait_for_nothing():
    first = stage("mxu", 100)
    second = Work("mxu", compute=10, transfer=50, first=50, ahead=50)
    rest = [Stage(second, {"mxu": 10}, 1000)] * 4
    assert critical_path([Stage(first.work, first.busy, 1000), *rest], 0) == 210


def test_copies_run_ahead_as_far_as_there_is_room():
    def loading(free: float) -> float:
        first = Stage(Work("mxu", compute=100), {"mxu": 100}, free)
        second = Work("mxu", compute=10, transfer=50, first=50, ahead=50)
        return critical_path([first, Stage(second, {"mxu": 10})], 0)

    assert loading(50) == 110
    assert loading(0) == 160


def test_the_estimate_stands_in_the_metadata():
    module = layers("edge256", 2)
    GraphMapPass().apply(NpuContext(), module)
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    text = function.attributes[planned.METADATA].data["estimate.main"]  # type: ignore[attr-defined]
    assert int(text.data) > 0


# --- explanations ---------------------------------------------------------------------------------


def test_each_layer_is_explained_with_what_was_rejected():
    rows = explanations(layers("headset2k", 2))["main"]
    assert [row.layer for row in rows] == ["conv0", "conv1"]
    assert rows[0].place == "spm"
    assert "in dram: +" in rows[0].rejected
    assert {row.binds for row in rows} <= {"array", "dram", "capacity", "dependency"}


def test_a_cascade_is_explained_by_what_it_saves(tmp_path: Path):
    rows = explanations(layers(tight_target(tmp_path, 8_000), 4))["main"]
    assert any("cascade 0" in row.place for row in rows)
    assert any("layer by layer: +" in row.rejected for row in rows)
