"""Rolling programs: the expansion is the program, and regular programs become small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.dtypes import i8
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.structure import RepeatOp, expand
from npu_dialect.passes.npu_roll import rolled


def copy(source: int, destination: int, wait: int = 0, size: int = 64) -> Instruction:
    return DmaCopyOp(
        source=Operand.dense("dram", source, i8, (size,)),
        destination=Operand.dense("spm", destination, i8, (size,)),
        waits=(Wait(0, "vpu", wait),) if wait else (),
    )


def same(a: list[Instruction], b: list[Instruction]) -> bool:
    return len(a) == len(b) and all(
        type(x) is type(y) and x.properties == y.properties for x, y in zip(a, b, strict=True)
    )


loops = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(-2, 3), st.integers(0, 2))


@given(st.lists(loops, max_size=5))
def test_the_expansion_is_the_program(nests: list[tuple[int, int, int, int]]) -> None:
    program: list[Instruction] = []
    for period, trips, step, wait in nests:
        for trip in range(trips):
            for k in range(period):
                address = 4096 + 64 * (k + step * trip)
                program.append(copy(address, 64 * k, wait * (trip + 1), 64 if k % 2 else 32))
    ops = rolled(program)
    assert same(list(expand(ops)), program)
    if any(trips >= 3 for _, trips, _, _ in nests):
        assert any(isinstance(op, RepeatOp) for op in ops)


def test_a_loop_becomes_one_repeat() -> None:
    program = [copy(64 * (2 * t + k), 64 * k, t + 1) for t in range(1000) for k in range(2)]
    ops = rolled(program)
    assert len(ops) == 1 and isinstance(ops[0], RepeatOp) and ops[0].count == 1000


def test_irregular_addresses_stay_as_they_are() -> None:
    program = [copy(64 * t * t, 0) for t in range(50)]
    assert rolled(program) == program
