"""The proof of programs: a correct one is accepted, every planted fault is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code
from npu_dialect.dtypes import i8, i32
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.npu.ordering import share_bytes
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.npu.verifier import Finding, ProgramImage, verify_program
from npu_dialect.passes.npu_sync import set_waits, waits
from npu_dialect.target import load_target

TARGET = load_target("edge256")
COPY = Kernel((i8,), (), (), i8)
SIZE = 64


def block(space: str, address: int, *dims: int) -> Operand:
    return Operand.dense(space, address, i8, dims or (SIZE,))


def tiles(count: int, slots: int = 2) -> list[Instruction]:
    """Load, compute, store of each tile, over so many slots, with the waits of npu-sync."""
    program: list[Instruction] = []
    for k in range(count):
        slot = k % slots * 2 * SIZE
        program += [
            DmaCopyOp(source=block("dram", k * SIZE), destination=block("spm", slot)),
            VectorOp(a=block("spm", slot), output=block("spm", slot + SIZE), kernel=0),
            DmaCopyOp(
                source=block("spm", slot + SIZE), destination=block("dram", (count + k) * SIZE)
            ),
        ]
    return synced(program)


def synced(program: list[Instruction]) -> list[Instruction]:
    for instruction, needed in zip(program, waits(program), strict=True):
        set_waits(instruction, needed)
    return program


def image(program: list[Instruction], count: int) -> ProgramImage:
    return ProgramImage(
        program,
        [COPY],
        [("x", block("dram", 0, count * SIZE))],
        [("y", block("dram", count * SIZE, count * SIZE))],
        [],
        2 * count * SIZE,
    )


def check(program: list[Instruction], count: int) -> list[Finding]:
    return verify_program(image(program, count), TARGET)


def codes(findings: list[Finding]) -> set[Code]:
    return {f.code for f in findings}


def test_a_correct_program_is_proved() -> None:
    assert check(tiles(6), 6) == []


def test_every_dropped_wait_is_found() -> None:
    """The waits of npu-sync are minimal: the program is wrong without any one of them."""
    for k, instruction in enumerate(tiles(6)):
        for wait in instruction.wait_list:
            program = tiles(6)
            set_waits(program[k], [w for w in instruction.wait_list if w != wait])
            assert Code.PROOF_RACE in codes(check(program, 6))


def test_every_lowered_wait_is_found() -> None:
    for k, instruction in enumerate(tiles(6)):
        for wait in instruction.wait_list:
            program = tiles(6)
            rest = [w for w in instruction.wait_list if w != wait]
            set_waits(program[k], [*rest, wait._replace(count=wait.count - 1)])
            assert Code.PROOF_RACE in codes(check(program, 6))


def chain() -> list[Instruction]:
    """Two copies, the second of what the first one brings, which is there long after it."""
    return synced(
        [
            DmaCopyOp(source=block("dram", 0), destination=block("spm", 0)),
            DmaCopyOp(source=block("spm", 0), destination=block("dram", SIZE)),
        ]
    )


def test_a_copy_of_what_a_copy_brings_waits_for_it() -> None:
    program = chain()
    assert program[1].wait_list == (Wait(0, "dma", 1),)
    assert check(program, 1) == []
    set_waits(program[1], [])
    assert codes(check(program, 1)) == {Code.PROOF_RACE}


def test_a_copy_need_not_wait_for_a_copy_that_reads_what_it_overwrites() -> None:
    program = [
        DmaCopyOp(source=block("dram", 0), destination=block("dram", SIZE)),
        DmaFillOp(destination=block("dram", 0), bits=0),
    ]
    assert [i.wait_list for i in synced(program)] == [(), ()]
    assert check(program, 1) == []


@pytest.mark.parametrize(
    ("instruction", "rule"),
    [
        (
            DmaFillOp(destination=Operand("spm", 0, i8, (4, 8), (0, 1)), bits=0),
            "must write every byte once",
        ),
        (
            DmaFillOp(destination=Operand("spm", 0, i8, (4, 8), (7, 1)), bits=0),
            "must write every byte once",
        ),
        (DmaFillOp(destination=block("spm", 0), bits=0, core=1), "must run on one of the 1 cores"),
        (
            VectorOp(
                a=Operand.dense("spm", 0, dtypes.f32, (8,)),
                output=Operand.dense("spm", 64, dtypes.f32, (8,)),
                kernel=1,
            ),
            "must load and store types of the vector unit, found f32",
        ),
        (
            MatmulOp(
                input=Operand.dense("spm", 0, dtypes.f32, (2, 8)),
                weights=Operand.dense("spm", 64, dtypes.f32, (8, 4)),
                partial=Operand.dense("acc", 0, dtypes.f32, (2, 4)),
                accumulate=0,
                x_zero=0,
                w_zero=0,
            ),
            "must multiply types that the array has, found f32 by f32",
        ),
        (
            MatmulOp(
                input=Operand.dense("spm", 0, dtypes.i8, (2, 8)),
                weights=Operand.dense("dram", 0, dtypes.i8, (8, 4)),
                partial=Operand.dense("acc", 0, dtypes.i32, (2, 4)),
                accumulate=0,
                x_zero=0,
                w_zero=0,
                stream=30,
                row=8,
            ),
            "must find its operands where the array reads, found one in dram",
        ),
    ],
)
def test_what_the_machine_cannot_do_is_found(instruction: Instruction, rule: str) -> None:
    kernels = [COPY, Kernel((dtypes.f32,), (), (), dtypes.f32)]
    found = verify_program(ProgramImage([instruction], kernels, [], [], [], 64), TARGET)
    assert any(rule in f.rule for f in found)


def drop_first_load(program: list[Instruction]) -> None:
    del program[0]


def drop_a_store(program: list[Instruction]) -> None:
    del program[5]


def swap_load_and_compute(program: list[Instruction]) -> None:
    program[0], program[1] = program[1], program[0]


def shift_a_read(program: list[Instruction]) -> None:
    program[1] = program[1].with_values(a=block("spm", SIZE // 2))


def leave_the_memory(program: list[Instruction]) -> None:
    program[1] = program[1].with_values(a=block("spm", TARGET.memories["spm"].size - SIZE + 1))


def leave_the_program_dram(program: list[Instruction]) -> None:
    program[-1] = program[-1].with_values(destination=block("dram", 12 * SIZE - 1))


def use_a_missing_kernel(program: list[Instruction]) -> None:
    program[1] = program[1].with_values(kernel=7)


def store_another_type(program: list[Instruction]) -> None:
    output = Operand.dense("spm", SIZE, i32, (SIZE // 4,))
    program[1] = program[1].with_values(output=output)


def copy_other_extents(program: list[Instruction]) -> None:
    program[0] = program[0].with_values(source=block("dram", 0, SIZE - 1))


def misalign(program: list[Instruction]) -> None:
    where = [Operand.dense(s, 2, i32, (4,)) for s in ("dram", "spm")]
    program[0] = DmaCopyOp(source=where[0], destination=where[1])


def wait_for_ever(program: list[Instruction]) -> None:
    set_waits(program[3], [Wait(0, "vpu", 99)])


def wait_for_the_future(program: list[Instruction]) -> None:
    set_waits(program[0], [Wait(0, "vpu", 1)])


def wait_for_no_engine(program: list[Instruction]) -> None:
    set_waits(program[0], [Wait(0, "mxu", 1)])


FAULTS: list[tuple[Callable[[list[Instruction]], None], Code]] = [
    (drop_first_load, Code.PROOF_UNWRITTEN),
    (drop_a_store, Code.PROOF_UNWRITTEN),
    (swap_load_and_compute, Code.PROOF_UNWRITTEN),
    (shift_a_read, Code.PROOF_UNWRITTEN),
    (leave_the_memory, Code.PROOF_BOUNDS),
    (leave_the_program_dram, Code.PROOF_BOUNDS),
    (use_a_missing_kernel, Code.IR_INVALID),
    (store_another_type, Code.IR_INVALID),
    (copy_other_extents, Code.IR_INVALID),
    (misalign, Code.PROOF_BOUNDS),
    (wait_for_ever, Code.PROOF_DEADLOCK),
    (wait_for_the_future, Code.PROOF_DEADLOCK),
    (wait_for_no_engine, Code.PROOF_DEADLOCK),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_planted_fault_is_found(fault: Callable[[list[Instruction]], None], code: Code) -> None:
    program = tiles(6)
    fault(program)
    assert code in codes(check(program, 6))


def test_a_matrix_product_must_have_fitting_extents() -> None:
    fill = DmaFillOp(destination=block("spm", 0, 256), bits=0)
    product = MatmulOp(
        input=block("spm", 0, 4, 8),
        weights=block("spm", 64, 7, 8),
        partial=Operand.dense("acc", 0, i32, (4, 8)),
        accumulate=0,
        x_zero=0,
        w_zero=0,
        waits=[Wait(0, "dma", 1)],
    )
    findings = verify_program(ProgramImage([fill, product], [], [], [], [], 64), TARGET)
    assert [f.rule for f in findings] == [
        "npu.matmul: must have extents [M, K], [K, N] and [M, N], found [4, 8], [7, 8], [4, 8]"
    ]


def test_tiles_of_columns_that_do_not_touch_are_no_race() -> None:
    columns = [Operand("spm", 16 * k, i8, (4, 16), (32, 1)) for k in range(2)]
    fill = DmaFillOp(destination=columns[0], bits=0)
    read = Operand("spm", 1024, i8, (4, 16), (16, 1))
    before = DmaFillOp(destination=read, bits=0)
    other = VectorOp(a=read, output=columns[1], kernel=0, waits=[Wait(0, "dma", 1)])
    assert verify_program(ProgramImage([before, fill, other], [COPY], [], [], [], 64), TARGET) == []
    touching = other.with_values(output=Operand("spm", 15, i8, (4, 16), (32, 1)))
    found = verify_program(ProgramImage([before, fill, touching], [COPY], [], [], [], 64), TARGET)
    assert codes(found) == {Code.PROOF_RACE}


@st.composite
def operands(draw: st.DrawFn) -> Operand:
    rank = draw(st.integers(1, 3))
    dims = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    strides = tuple(draw(st.sampled_from([0, 1, 2, 4, 8, 16, -4])) for _ in range(rank))
    dtype = draw(st.sampled_from([i8, dtypes.i16]))
    return Operand("spm", 64 + draw(st.integers(0, 20)), dtype, dims, strides)


def touched(operand: Operand) -> set[int]:
    offsets = {operand.address}
    for d, s in zip(operand.dims, operand.strides, strict=True):
        offsets = {o + i * s for o in offsets for i in range(d)}
    return {o + b for o in offsets for b in range(operand.dtype.itemsize)}


@given(operands(), operands())
def test_shared_bytes_are_exact(a: Operand, b: Operand) -> None:
    assert share_bytes(a, b) == bool(touched(a) & touched(b))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 12)), max_size=30))
def test_what_npu_sync_makes_is_free_of_races(steps: list[tuple[int, int, int]]) -> None:
    program: list[Instruction] = [DmaFillOp(destination=block("spm", 0, 4096), bits=0)]
    for kind, source, destination in steps:
        read, written = block("spm", source * 32), block("spm", destination * 32)
        if kind == 0:
            program.append(DmaCopyOp(source=read, destination=written))
        elif kind == 1:
            program.append(VectorOp(a=read, output=written, kernel=0))
        else:
            product = MatmulOp(
                input=block("spm", source * 32, 2, 8),
                weights=block("spm", destination * 32, 8, 4),
                partial=Operand.dense("acc", 0, i32, (2, 4)),
                accumulate=0,
                x_zero=0,
                w_zero=0,
            )
            program.append(product)
    found = verify_program(ProgramImage(synced(program), [COPY], [], [], [], 64), TARGET)
    assert found == []


def test_a_program_of_five_thousand_instructions_is_proved() -> None:
    assert check(tiles(1700, 8), 1700) == []
