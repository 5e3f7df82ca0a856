"""The orders in which a program's waits allow its queues to be served."""

from __future__ import annotations

import pytest
from npu_programs import on, program, waits

from npu_dialect.diagnostics import CompileError
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.runtime.schedule import POLICIES, Plan, queue_name


def plan(*ops: Instruction | RepeatOp) -> Plan:
    return Plan.of(program(ops))


def test_each_engine_of_each_core_is_a_queue():
    found = plan(on("dma"), on("mxu"), on("dma", core=1), on("dma"))
    assert [queue_name(q) for q in found.queues] == ["dma", "mxu", "1.dma"]
    assert found.members == ((0, 3), (1,), (2,))


def test_program_order_is_taken_where_it_satisfies_the_waits():
    assert list(plan(on("dma"), on("mxu", waits=waits(dma=1)), on("dma")).order()) == [0, 1, 2]


def test_an_instruction_that_stands_too_early_is_put_off():
    assert list(plan(on("mxu", waits=waits(dma=1)), on("dma")).order()) == [1, 0]


PING_PONG = (
    on("dma"),
    on("mxu", waits=waits(dma=1)),
    on("dma"),
    on("mxu", waits=waits(dma=2)),
    on("dma", waits=waits(mxu=1)),
)


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("program", [0, 1, 2, 3, 4]),
        ("dma-late", [0, 1, 2, 3, 4]),
        ("dma-early", [0, 2, 1, 4, 3]),
    ],
)
def test_a_policy_picks_among_the_ready(policy: str, order: list[int]):
    assert list(plan(*PING_PONG).order(policy)) == order


def test_a_random_order_depends_on_its_seed_alone():
    found = plan(*PING_PONG)
    orders = {seed: tuple(found.order("random", seed)) for seed in range(20)}
    assert len(set(orders.values())) > 1
    assert orders == {seed: tuple(found.order("random", seed)) for seed in range(20)}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_order_keeps_queues_and_waits(policy: str):
    found = plan(*PING_PONG)
    done = dict.fromkeys(range(len(found.queues)), 0)
    for i in found.order(policy, 3):
        queue = found.queue_of[i]
        assert found.members[queue][done[queue]] == i
        assert all(done[q] >= count for q, count in found.waits[i])
        done[queue] += 1


def test_a_wait_for_another_core_counts_that_core():
    found = plan(on("mxu", waits=(Wait(1, "dma", 1),)), on("dma"), on("dma", core=1))
    assert list(found.order()) == [1, 2, 0]


def test_a_repeat_is_served_trip_by_trip():
    copies = RepeatOp(2, [on("dma", address_steps=(8,))])
    sums = RepeatOp(2, [on("mxu", waits=waits(dma=1), address_steps=(0, 0, 0), wait_steps=(1,))])
    found = plan(copies, sums)
    assert [i for i, _ in found.program.executed] == [0, 0, 1, 1]
    assert list(found.order("dma-late")) == [0, 2, 1, 3]


def test_a_deadlock_names_the_blocked_instructions_and_what_they_wait_for():
    stuck = plan(on("dma", waits=waits(mxu=1)), on("mxu", waits=waits(dma=1)))
    with pytest.raises(CompileError) as raised:
        stuck.order()
    assert str(raised.value) == (
        "error[NPU0604]: dma #0 npu.dma_fill (npu.dma_fill): every wait must be for a count that "
        "is reached; found dma #0 npu.dma_fill (npu.dma_fill) waits for 1 of mxu, which has "
        "completed 0 of 1; mxu #1 npu.matmul (npu.matmul) waits for 1 of dma, which has "
        "completed 0 of 1"
    )


def test_a_wait_for_an_engine_that_has_no_instructions_is_a_deadlock():
    with pytest.raises(CompileError, match="waits for 1 of vpu, which has completed 0 of 0"):
        plan(on("dma", waits=waits(vpu=1))).order()


def test_an_unknown_policy_is_refused():
    with pytest.raises(CompileError, match="must be one of program, random, dma-late, dma-early"):
        plan(on("dma")).order("fifo")
