"""Shared ports, with the arithmetic spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import convolve_and_pool, copy, dense, on, program, waits

from npu_dialect.dtypes import i8
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.runtime import contention, profile
from npu_dialect.runtime.contention import Contention, Demand
from npu_dialect.runtime.schedule import Plan
from npu_dialect.runtime.timing import scan_plain

ENGINES = ("dma", "mxu", "vpu")


def times(
    ops: Sequence[Instruction],
    cycles: Sequence[int],
    demands: Sequence[Demand],
    latency: Sequence[int] | None = None,
) -> Contention:
    plan = Plan.of(program(ops))
    return contention.simulate(plan, cycles, latency or [0] * len(ops), demands, burst=64)


def test_two_engines_take_turns_at_a_memory():
    # bursts of 64: dma [0, 64), mxu [64, 128), dma [128, 192), mxu [192, 256)
    found = times([on("dma"), on("mxu")], [128, 128], [{"spm": 128}, {"spm": 128}])
    assert found.free.tolist() == [192, 256]


def test_bursts_that_wait_are_counted():
    # the first burst of mxu waits 64 cycles, the second ones of dma and mxu 64 each
    found = times([on("dma"), on("mxu")], [128, 128], [{"spm": 128}, {"spm": 128}])
    assert found.waited["spm"].tolist() == [64, 128]
    assert found.busy == {"spm": 256}


def test_a_burst_that_fits_between_those_of_another_does_not_wait_long():
    # mxu takes 256 cycles and asks for 64 of them: at 0, behind dma's first burst of 64; dma asks
    # again at 64, behind mxu's: [128, 192)
    found = times([on("dma"), on("mxu")], [128, 256], [{"spm": 128}, {"spm": 64}])
    assert found.free.tolist() == [192, 256]


def test_different_memories_do_not_disturb_each_other():
    found = times([on("dma"), on("mxu")], [128, 128], [{"dram": 128}, {"spm": 128}])
    assert found.free.tolist() == [128, 128]


def test_what_waits_for_a_delayed_instruction_is_delayed():
    # mxu ends at 256 + 8 instead of 128 + 8
    ops = [on("dma"), on("mxu"), on("vpu", waits=waits(mxu=1))]
    found = times(ops, [128, 128, 10], [{"spm": 128}, {"spm": 128}, {}], [0, 8, 0])
    assert found.start.tolist() == [0, 0, 264]


def test_an_instruction_asks_the_memory_that_bounds_it_for_all_its_cycles():
    # 100 B from dram: 35 + 16 cycles by dram; into spm at 16 B a cycle: 7
    found = profile.of(program([copy(dense("dram", 0, i8, [100]), dense("spm", 0, i8, [100]))]))
    assert contention.demand(found.costs[0], found.target, "dma") == {"dram": 51, "spm": 7}


def test_a_program_whose_engines_take_turns_loses_nothing():
    found = profile.of(convolve_and_pool())
    assert contention.of(found).end.tolist() == found.timing.end.tolist()


Case = tuple[list[Instruction], list[int], list[int], list[dict[str, int]]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 20))
    ops: list[Instruction] = []
    done: dict[str, int] = dict.fromkeys(ENGINES, 0)
    for _ in range(count):
        engine = draw(st.sampled_from((*ENGINES, "stream")))
        wanted = {e: draw(st.integers(0, n)) for e, n in done.items() if draw(st.booleans())}
        ops.append(on(engine, waits=tuple(Wait(0, e, n) for e, n in wanted.items())))
        done[ops[-1].engine] += 1
    each = st.lists(st.integers(0, 300), min_size=count, max_size=count)
    cycles, latency = draw(each), draw(each)
    parts = st.dictionaries(st.sampled_from(("dram", "spm")), st.floats(0, 1))
    demands = [{m: int(c * p) for m, p in draw(parts).items()} for c in cycles]
    return ops, cycles, latency, demands


@settings(max_examples=100, deadline=None)
@given(cases())
def test_nothing_is_earlier_than_with_ports_of_its_own(case: Case):
    ops, cycles, latency, demands = case
    found = times(ops, cycles, demands, latency)
    alone = scan_plain(Plan.of(program(ops)), cycles, latency)
    assert (found.start >= alone.start).all()
    assert (found.end >= alone.end).all()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_without_traffic_the_times_are_those_of_the_scan(case: Case):
    ops, cycles, latency, _ = case
    found = times(ops, cycles, [{}] * len(ops), latency)
    alone = scan_plain(Plan.of(program(ops)), cycles, latency)
    assert found.start.tolist() == alone.start.tolist()
    assert found.end.tolist() == alone.end.tolist()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_one_engine_alone_never_waits(case: Case):
    _, cycles, latency, demands = case
    ops = [on("mxu") for _ in cycles]
    found = times(ops, cycles, demands, latency)
    alone = scan_plain(Plan.of(program(ops)), cycles, latency)
    assert found.end.tolist() == alone.end.tolist()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_a_memory_serves_all_that_is_asked_for_and_no_more_at_a_time(case: Case):
    ops, cycles, latency, demands = case
    found = times(ops, cycles, demands, latency)
    for space, busy in found.busy.items():
        assert busy == sum(table.get(space, 0) for table in demands)
        assert busy <= int(found.free.max())


@pytest.mark.parametrize("burst", [1, 7, 64, 1000])
def test_two_streams_of_equal_demand_end_at_their_sum_for_every_burst(burst: int):
    plan = Plan.of(program([on("dma"), on("mxu")]))
    found = contention.simulate(plan, [210, 210], [0, 0], [{"spm": 210}, {"spm": 210}], burst)
    assert found.makespan == 420
