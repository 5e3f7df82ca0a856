"""When instructions run, with the arithmetic spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import convolve_and_pool, copy, dense, kernel_of, on, program, waits

from npu_dialect.dtypes import i8, i32
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.runtime import profile
from npu_dialect.runtime.schedule import Plan
from npu_dialect.runtime.timing import Cycles, Timing, scan, scan_native, scan_plain
from npu_dialect.target import target_text


def times(
    ops: Sequence[Instruction], cycles: Sequence[int], latency: Sequence[int] | None = None
) -> Timing:
    return scan(Plan.of(program(ops)), *as_arrays(cycles, latency or [0] * len(ops)))


def as_arrays(*numbers: Sequence[int]) -> list[Cycles]:
    return [np.array(x, np.int64) for x in numbers]


def critical(timing: Timing) -> list[tuple[int, int, int]]:
    return [(s.instruction, s.begin, s.end) for s in timing.critical]


def test_one_engine_runs_its_instructions_one_after_the_other():
    found = times([on("dma"), on("dma")], [10, 5])
    assert found.start.tolist() == [0, 10]
    assert found.end.tolist() == [10, 15]
    assert found.makespan == 15


def test_engines_overlap_where_nothing_is_waited_for():
    found = times([on("dma"), on("mxu")], [10, 7])
    assert found.start.tolist() == [0, 0]
    assert found.makespan == 10


def test_a_wait_starts_when_the_awaited_instruction_is_complete():
    # dma: [0, 10), complete at 10 + 4 = 14; mxu waits: [14, 21)
    found = times([on("dma"), on("mxu", waits=waits(dma=1))], [10, 7], [4, 0])
    assert found.start.tolist() == [0, 14]
    assert found.free.tolist() == [10, 21]
    assert critical(found) == [(0, 0, 14), (1, 14, 21)]


def test_latency_is_hidden_by_the_next_instruction_of_the_same_engine():
    # dma: [0, 10) and [10, 20), complete at 110 and 120
    found = times([on("dma"), on("dma")], [10, 10], [100, 100])
    assert found.start.tolist() == [0, 10]
    assert found.end.tolist() == [110, 120]
    assert critical(found) == [(0, 0, 10), (1, 10, 120)]


def test_completions_of_one_engine_are_in_order():
    # the first is complete at 10 + 100 = 110, the second would be at 20 + 0 = 20
    found = times([on("dma"), on("dma")], [10, 10], [100, 0])
    assert found.end.tolist() == [110, 110]
    assert critical(found) == [(0, 0, 110)]


def test_an_instruction_may_wait_for_one_of_its_own_engine():
    # dma: [0, 10) complete at 110, the second waits for that
    found = times([on("dma"), on("dma", waits=waits(dma=1))], [10, 10], [100, 100])
    assert found.start.tolist() == [0, 110]
    assert critical(found) == [(0, 0, 110), (1, 110, 220)]


def test_the_critical_path_goes_through_what_determined_each_start():
    # dma  A [0, 10)            D [10, 13)
    # mxu            B [10, 30)
    # vpu                         C [30, 31)  waits for B and D
    ops = [
        on("dma"),
        on("mxu", waits=waits(dma=1)),
        on("dma"),
        on("vpu", waits=waits(mxu=1, dma=2)),
    ]
    found = times(ops, [10, 20, 3, 1])
    assert critical(found) == [(0, 0, 10), (1, 10, 30), (3, 30, 31)]


def test_no_instructions_take_no_time():
    found = times([], [])
    assert found.makespan == 0
    assert found.critical == ()


def test_a_small_program_on_edge256_by_hand():
    # Load 64 B of weights and 32 B of input, multiply [4, 8] x [8, 8], store 128 B.
    #
    # dma ports: dram 3.75 B a cycle in accesses of 32 B, spm 16 B a cycle; startup 16, dram
    # latency 500, spm latency 32: a copy completes max(500, 32) after its engine is free.
    #   load w  16 + ceil(64 / 3.75) = 16 + 18 = 34   [0, 34)     complete 534
    #   load x  16 + ceil(32 / 3.75) = 16 + 9 = 25    [34, 59)    complete 559
    # mxu: 4 x 8 outputs x 8 deep a cycle: 4 rows, 8 columns, k = 8: 1 step;
    #   spm: (64 + 32 + 128 B) / 16 = 14; output stage: 32 / 4 = 8 -> spm decides, + fill 16
    #   matmul  14 + 16 = 30                          [559, 589)  complete 589 + drain 8 = 597
    #   store   16 + ceil(128 / 3.75) = 16 + 35 = 51  [597, 648)  complete 1148
    a, w = dense("spm", 0, i8, [4, 8]), dense("spm", 64, i8, [8, 8])
    out = dense("spm", 256, i32, [4, 8])
    ops = [
        copy(dense("dram", 0, i8, [8, 8]), w),
        copy(dense("dram", 64, i8, [4, 8]), a),
        MatmulOp(
            input=a,
            weights=w,
            output=out,
            kernel=0,
            accumulate=0,
            x_zero=0,
            w_zero=0,
            waits=waits(dma=2),
        ),
        copy(out, dense("dram", 128, i32, [4, 8]), waits=waits(mxu=1)),
    ]
    found = profile.of(
        program(ops, kernels=[kernel_of(i32, output=i32)], layers=["w", "x", "matmul", "y"])
    )
    assert found.timing.start.tolist() == [0, 34, 559, 597]
    assert found.timing.free.tolist() == [34, 59, 589, 648]
    assert found.timing.end.tolist() == [534, 559, 597, 1148]
    assert {row.name: row.cycles for row in found.layers} == {
        "w": 34,
        "x": 525,
        "matmul": 38,
        "y": 551,
    }
    assert {e.name: e.busy for e in found.engines} == {"dma": 110, "mxu": 30}


def test_io_takes_no_time_of_the_makespan_and_is_reported_apart():
    # 64 elements at 0.4 a cycle and a call of 2000 cycles: 2160
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="io", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    load = copy(o, dense("spm", 0, i8, [64]), waits=waits(io=1))
    found = profile.of(program([op, load], layers=["image", "conv"]))
    assert found.timing.start.tolist() == [0, 0]
    assert [row.name for row in found.layers] == ["conv"]
    assert found.cycles == 34 + 500
    assert [(row.name, dict(row.busy), row.cycles) for row in found.io] == [
        ("image", {"io": 2160}, 0)
    ]


def test_copies_and_products_that_read_dram_take_turns_in_program_order():
    # dma [0, 10), stream [10, 17), dma [17, 22); the product on the chip waits for its engine alone
    found = times([on("dma"), on("stream"), on("dma"), on("mxu")], [10, 7, 5, 4])
    assert found.start.tolist() == [0, 10, 17, 17]
    assert critical(found) == [(0, 0, 10), (1, 10, 17), (2, 17, 22)]


def test_they_wait_until_the_other_engine_is_free_and_not_for_its_results():
    found = times([on("dma"), on("stream"), on("dma")], [10, 7, 5], [500, 60, 500])
    assert found.start.tolist() == [0, 10, 17]


def test_streams_follow_each_other_as_products_do():
    found = times([on("stream"), on("stream")], [10, 7], [500, 0])
    assert (found.start.tolist(), found.end.tolist()) == ([0, 10], [510, 510])


ENGINES = ("dma", "mxu", "vpu")


@st.composite
def schedules(
    draw: st.DrawFn, engines: Sequence[str] = (*ENGINES, "stream")
) -> tuple[list[Instruction], list[int], list[int]]:
    """Instructions whose waits are satisfied in program order, with cycles and latencies."""
    count = draw(st.integers(1, 25))
    ops: list[Instruction] = []
    done: dict[str, int] = dict.fromkeys(ENGINES, 0)
    for _ in range(count):
        engine = draw(st.sampled_from(engines))
        wanted = {e: draw(st.integers(0, n)) for e, n in done.items() if draw(st.booleans())}
        ops.append(on(engine, waits=tuple(Wait(0, e, n) for e, n in wanted.items())))
        done[ops[-1].engine] += 1
    each = st.lists(st.integers(0, 50), min_size=count, max_size=count)
    return ops, draw(each), draw(each)


@settings(max_examples=100, deadline=None)
@given(schedules())
def test_the_critical_path_covers_the_makespan_exactly(
    schedule: tuple[list[Instruction], list[int], list[int]],
):
    found = times(*schedule)
    edges = [(s.begin, s.end) for s in found.critical]
    assert sum(e - b for b, e in edges) == found.makespan
    assert all(a[1] == b[0] for a, b in pairwise(edges))


@settings(max_examples=50, deadline=None)
@given(schedules(), st.integers(0, 24))
def test_a_slower_instruction_never_ends_a_program_earlier(
    schedule: tuple[list[Instruction], list[int], list[int]], which: int
):
    ops, cycles, latency = schedule
    slower = [c + (i == which) * 7 for i, c in enumerate(cycles)]
    assert times(ops, slower, latency).makespan >= times(ops, cycles, latency).makespan


@pytest.mark.parametrize("bad", [0, 1])
def test_waiting_for_no_instruction_is_no_wait(bad: int):
    found = times([on("dma"), on("mxu", waits=waits(dma=bad))], [10, 5])
    assert found.start.tolist()[1] == 10 * bad


# The native scan


def rows(found: Timing) -> list[list[int]]:
    return [x.tolist() for x in (found.start, found.free, found.end, found.path.ravel())]


@settings(max_examples=100, deadline=None)
@given(schedules())
def test_the_native_scan_is_the_plain_one(
    schedule: tuple[list[Instruction], list[int], list[int]],
):
    pytest.importorskip("llvmlite")
    ops, cycles, latency = schedule
    plan = Plan.of(program(ops))
    native = scan_native(plan, *as_arrays(cycles, latency))
    assert rows(native) == rows(scan_plain(plan, cycles, latency))


@settings(max_examples=50, deadline=None)
@given(schedules(ENGINES), st.randoms())
def test_it_is_so_in_orders_other_than_that_of_the_program(
    schedule: tuple[list[Instruction], list[int], list[int]], random: Random
):
    pytest.importorskip("llvmlite")
    # whole queues one after the other: waits are for what stands later in the program
    ops, cycles, latency = schedule
    queues: list[str] = list(ENGINES)
    random.shuffle(queues)
    order = sorted(range(len(ops)), key=lambda i: queues.index(ops[i].engine))
    moved = [ops[i].clone() for i in order]
    costs = [[x[i] for i in order] for x in (cycles, latency)]
    plan = Plan.of(program(moved))
    native = scan_native(plan, *as_arrays(*costs))
    assert rows(native) == rows(scan_plain(plan, *costs))


def test_no_instructions_take_no_time_natively():
    pytest.importorskip("llvmlite")
    found = scan_native(Plan.of(program([])), *as_arrays([], []))
    assert (found.makespan, found.critical) == (0, ())


def test_a_long_program_is_scanned_natively_with_the_times_of_its_pattern():
    # a load of 10 cycles, a product of 30 that waits for it, 25,000 times: the array never waits
    # after the first load, 10 + 25000 x 30
    body = [
        on("dma", address_steps=(0,)),
        on("mxu", waits=waits(dma=1), address_steps=(0, 0, 0), wait_steps=(1,)),
    ]
    plan = Plan.of(program([RepeatOp(25_000, body)]))
    found = scan(plan, *as_arrays([10, 30] * 25_000, [0] * 50_000))
    assert found.makespan == 10 + 25_000 * 30
    assert found.path[0].tolist() == [0, 0, 10]
    assert found.path[-1].tolist() == [49_999, 10 + 24_999 * 30, 10 + 25_000 * 30]


# The arrays of a plan


def test_a_repeat_is_unrolled_as_its_instructions_are():
    body = [
        on("dma", address_steps=(0,)),
        on("mxu", waits=waits(dma=1, mxu=0), address_steps=(0, 0, 0), wait_steps=(2, 1)),
    ]
    made = program([on("vpu"), RepeatOp(3, body), on("dma", waits=waits(mxu=3))])
    plan = Plan.of(made)
    for i, (number, op) in enumerate(made.executed):
        assert plan.queues[plan.queue[i]] == (op.core_index, op.engine)
        assert plan.static[i] == number
        named = [(*plan.queues[q], count) for q, count in plan.waits[i]]
        assert named == [tuple(w) for w in op.wait_list]


PORTS = {
    "dma = 3.75, host = 3.75": "dma = {}, host = 3.75",
    "dma = 16.0, mxu = 16.0, vpu = 16.0": "dma = {0}, mxu = {0}, vpu = {0}",
    "ports = { mxu = 128.0 }": "ports = {{ mxu = {} }}",
}


@pytest.mark.parametrize(("before", "after"), PORTS.items(), ids=("dram", "spm", "acc"))
def test_a_faster_port_never_makes_a_fixed_program_slower(before: str, after: str):
    made, text = convolve_and_pool(), target_text("edge256")
    assert before in text
    widths = (1.0, 3.75, 16.0, 20.0, 64.0, 1000.0)
    texts = [text.replace(before, after.format(width)) for width in widths]
    cycles = [profile.of(replace(made, target_text=each)).cycles for each in texts]
    assert cycles == sorted(cycles, reverse=True)
