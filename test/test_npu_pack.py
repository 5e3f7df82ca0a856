"""npu-pack and the webs that it moves: what belongs together, when it lives, the same results in
less memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_programs import copy, execute, machine, program
from test_schedule import COPY, compute, load, store

from npu_dialect import pipeline
from npu_dialect.dtypes import i8
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.passes.schedule import Tasks, in_order
from npu_dialect.passes.webs import Values, Web, Webs
from npu_dialect.target import load_target

EDGE = load_target("edge256")


def webs_of(instructions: list[Instruction]) -> list[Web]:
    webs = Values(instructions, 1 << 16).webs
    return [webs.members[root] for root in webs.roots()]


def test_a_new_value_in_the_same_bytes_is_another_web() -> None:
    found = webs_of([load(0, 0, 64), compute(0, 64, 64), load(64, 0, 64), compute(0, 128, 64)])
    assert [(w.low, w.high, w.first, w.last) for w in found] == [
        (0, 64, 0, 1),
        (64, 128, 1, 1),
        (0, 64, 2, 3),
        (128, 192, 3, 3),
    ]


def test_what_is_read_as_one_belongs_together() -> None:
    found = webs_of([load(0, 0, 64), load(64, 64, 64), compute(0, 256, 128)])
    assert [(w.low, w.high) for w in found] == [(0, 128), (256, 384)]


def test_interleaved_columns_are_webs_of_their_own() -> None:
    """Two operands with a pitch of 8 whose bytes lie between each other's."""

    def column(start: int) -> Operand:
        return Operand("spm", start, i8, (8, 4), (8, 1))

    def source(start: int) -> Operand:
        return Operand.dense("dram", start, i8, (8, 4))

    columns: list[Instruction] = [
        copy(source(0), column(0)),
        copy(source(64), column(4)),
        copy(column(0), source(128)),
        copy(column(4), source(256)),
    ]
    assert [(w.low, w.high, w.last) for w in webs_of(columns)] == [(0, 60, 2), (4, 64, 3)]


def test_interleaved_columns_move_as_one() -> None:
    """What takes the bytes between those of a value that is still read."""

    def column(start: int) -> Operand:
        return Operand("spm", start, i8, (8, 4), (8, 1))

    def dense(start: int) -> Operand:
        return Operand.dense("dram", start, i8, (8, 4))

    columns: list[Instruction] = [
        copy(dense(0), column(0)),
        copy(dense(64), column(4)),
        copy(column(0), dense(128)),
        copy(column(4), dense(256)),
        load(0, 0, 64),
    ]
    webs = Values(columns, 1 << 16).webs
    webs.join_interleaved()
    found = [webs.members[root] for root in webs.roots()]
    assert [(w.low, w.high, w.first, w.last) for w in found] == [(0, 64, 0, 3), (0, 64, 4, 4)]


# --- the pass -------------------------------------------------------------------------------------


def dying() -> Webs:
    """A value of 128 bytes, one half of which is overwritten while the other is still read."""
    later = [load(512 + 64 * k, 1024, 64) for k in range(6)]
    halves = [load(0, 0, 128), store(64, 0, 64), load(256, 64, 64), store(0, 128, 64)]
    return Values([*halves, *later, store(64, 256, 64)], 1 << 16).webs


def test_what_takes_half_of_a_dying_value_may_move_apart_from_it() -> None:
    webs = dying()
    webs.join_close()
    assert [(w.low, w.high, w.first, w.last) for w in list(webs.found.values())[:2]] == [
        (0, 128, 0, 3),
        (64, 128, 2, 10),
    ]


def test_what_takes_half_of_a_dying_value_may_move_with_it() -> None:
    webs = dying()
    webs.join_interleaved()
    first = next(iter(webs.found.values()))
    assert (first.low, first.high, first.last) == (0, 128, 10)


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Interleaved chains of a load, vector work and a store, each over bytes of its own, which
    later rounds take again.
    """
    found: list[Instruction] = []
    for _ in range(draw(st.integers(1, 3))):
        cells = draw(st.permutations(range(16)))
        chains: list[list[Instruction]] = []
        for k in range(draw(st.integers(1, 4))):
            size, length = draw(st.integers(1, 64)), draw(st.integers(2, 4))
            a, *path = (256 * cell for cell in cells[4 * k : 4 * k + length])
            chain: list[Instruction] = [load(64 * draw(st.integers(0, 9)), a, size)]
            for b in path:
                chain.append(compute(a, b, size))
                a = b
            chains.append([*chain, store(a, 1024 + 64 * draw(st.integers(0, 9)), size)])
        while any(chains):
            chosen = draw(st.sampled_from([c for c in chains if c]))
            found.append(chosen.pop(0))
    return found


def dram_after(instructions: Sequence[Instruction]) -> list[int]:
    state = machine(kernels=[COPY])
    state.memories["dram"][:1024] = np.arange(1024) % 251
    for instruction in instructions:
        execute(state, instruction)
    return state.memories["dram"][1024:2048].tolist()


def peak(instructions: Sequence[Instruction]) -> int:
    operands = (o for i in instructions for _, _, o in i.operand_fields() if o.space == "spm")
    return max(o.interval[1] for o in operands)


def packed(instructions: Sequence[Instruction]) -> list[Instruction]:
    source = {0: np.arange(1024).astype(np.int8)}
    module = program(instructions, kernels=[COPY], constants=source).to_module()
    pipeline.run(module, "npu-pack,npu-sync,npu-verify")
    return [op for op in module.walk() if isinstance(op, Instruction)]


@settings(deadline=None, max_examples=12)
@given(programs())
def test_a_packed_program_does_the_same_in_no_more_memory(found: list[Instruction]) -> None:
    after = packed(found)
    assert dram_after(after) == dram_after(found)
    assert peak(after) <= peak(found)


@settings(deadline=None, max_examples=12)
@given(programs())
def test_a_packed_program_takes_no_longer(found: list[Instruction]) -> None:
    before, after = (in_order(Tasks.of(p, EDGE, [COPY])) for p in (found, packed(found)))
    assert after.makespan <= before.makespan


def test_values_take_what_is_live_at_once() -> None:
    chain = [load(0, 4096, 64), compute(4096, 8192, 64), compute(8192, 512, 64), store(512, 0, 64)]
    assert peak(packed(chain)) == 128
