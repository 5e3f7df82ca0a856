"""Why engines idle: every cycle has a cause, and the causes are told apart."""

from __future__ import annotations

from hypothesis import given, settings
from test_npu_pack import programs
from test_schedule import COPY, compute, load, store

from npu_dialect.npu.base import Instruction
from npu_dialect.passes.idleness import idleness
from npu_dialect.passes.schedule import Tasks, in_order
from npu_dialect.target import load_target

EDGE = load_target("edge256")


@settings(deadline=None)
@given(programs())
def test_work_and_causes_add_up_to_the_time_of_the_program(program: list[Instruction]) -> None:
    found = idleness(program, EDGE, [COPY])
    assert found.makespan == in_order(Tasks.of(program, EDGE, [COPY])).makespan
    assert found.busy + sum(found.causes.values()) == found.makespan
    assert all(cycles > 0 for cycles in found.causes.values())


def test_a_chain_waits_for_copies_their_results_and_the_vector_unit() -> None:
    """Copies are the most work: 16 + ceil(640 / 3.75) = 187 cycles, stored 500 later."""
    found = idleness([load(0, 0, 640), compute(0, 1024, 640), store(1024, 4096, 640)], EDGE, [COPY])
    vector = found.makespan - 2 * (187 + 500)
    assert found.engine == "dma"
    assert found.causes == {
        ("store", "dma"): 500,
        ("chain", "vpu"): vector,
        ("end", "dma"): 500,
    }


def test_bytes_that_are_used_again_are_told_apart() -> None:
    """The second load waits until the first tile has been computed with."""
    program = [load(0, 0, 640), compute(0, 1024, 640), load(640, 0, 640)]
    found = idleness(program, EDGE, [COPY])
    assert found.causes["bytes", "vpu"] == found.makespan - 2 * (187 + 500)
    assert ("chain", "vpu") not in found.causes


def test_an_engine_that_never_waits_has_no_causes_but_the_end() -> None:
    found = idleness([load(0, 0, 640), load(640, 1024, 640)], EDGE, [COPY])
    assert found.causes == {("end", "dma"): 500}
