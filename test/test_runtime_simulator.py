"""Running programs: results, order, memory between runs, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_programs import (
    W,
    X,
    convolve_and_pool,
    copy,
    dense,
    fill,
    kernel_of,
    program,
    reference_conv,
    waits,
)

from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import f32, i8
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime.program import HostCode, Program
from npu_dialect.runtime.schedule import POLICIES
from npu_dialect.runtime.simulator import Session, Step, simulate


def expected(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    sums = reference_conv(x, W, (8, 8), pads=(1, 1), x_zero=3)
    return sums.reshape(4, 2, 4, 2, 8).sum(axis=(1, 3))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_program_gives_its_outputs_in_every_order(policy: str):
    run = simulate(convolve_and_pool(), {"image": X}, order=policy, seed=5)
    assert list(run.outputs) == ["sums"]
    assert run.outputs["sums"].dtype == np.int32
    assert (run.outputs["sums"] == expected(X)).all()


def test_inputs_may_be_given_in_order_or_alone():
    made = convolve_and_pool()
    assert (simulate(made, [X]).outputs["sums"] == simulate(made, X).outputs["sums"]).all()


def test_a_session_runs_one_input_after_the_other():
    session = Session(convolve_and_pool())
    for x in (X, X[::-1], np.zeros_like(X), X):
        assert (session.run({"image": x}).outputs["sums"] == expected(x)).all()


def test_outputs_of_a_run_do_not_change_with_the_next():
    session = Session(convolve_and_pool())
    first = session.run(X).outputs["sums"]
    session.run(np.zeros_like(X))
    assert (first == expected(X)).all()


def test_an_intermediate_tensor_is_kept_when_asked_for():
    run = simulate(convolve_and_pool(), X, tensors=True)
    assert (run.tensors["conv"] == reference_conv(X, W, (8, 8), pads=(1, 1), x_zero=3)).all()
    assert simulate(convolve_and_pool(), X).tensors == {}


def test_an_observer_sees_every_instruction_with_its_layer():
    seen: list[tuple[int, str, str]] = []

    def observe(step: Step) -> None:
        seen.append((step.index, step.instruction.name, step.record.layer))

    simulate(convolve_and_pool(), X, observe=observe)
    assert seen == [
        (0, "npu.dma_copy", "conv"),
        (1, "npu.dma_copy", "conv"),
        (2, "npu.conv2d", "conv"),
        (3, "npu.pool2d", "pool"),
        (4, "npu.dma_copy", "pool"),
    ]


# Orders


def negation(**fields: Any) -> Program:
    """Loads four values, negates and stores them; `fields` are of the vector instruction."""
    a, b = dense("spm", 0, i8, [4]), dense("spm", 16, i8, [4])
    ops = [
        copy(dense("dram", 0, i8, [4]), a),
        VectorOp(a=a, output=b, kernel=0, **fields),
        copy(b, dense("dram", 64, i8, [4]), waits=waits(vpu=1)),
    ]
    kernel = kernel_of(i8, ("neg.i32", ()), output=i8)
    return program(
        ops,
        inputs={"x": dense("dram", 0, i8, [4])},
        outputs={"y": dense("dram", 64, i8, [4])},
        kernels=[kernel],
    )


def test_a_missing_wait_shows_in_another_order():
    x = np.arange(4, dtype=np.int8)
    good, bad = negation(waits=waits(dma=1)), negation()
    assert simulate(bad, x).outputs["y"].tolist() == [0, -1, -2, -3]
    assert simulate(bad, x, order="dma-late").outputs["y"].tolist() != [0, -1, -2, -3]
    for seed in range(8):
        assert simulate(good, x, seed=seed).outputs["y"].tolist() == [0, -1, -2, -3]
    found = {tuple(simulate(bad, x, seed=seed).outputs["y"].tolist()) for seed in range(8)}
    assert len(found) == 2


def test_what_was_never_written_reads_as_a_pattern():
    o = dense("dram", 0, i8, [3])
    run = simulate(program([fill("spm", 0, 1)], outputs={"y": o}), {})
    assert run.outputs["y"].view(np.uint8).tolist() == [0xA5] * 3


def test_a_repeat_copies_row_by_row():
    x = np.arange(12, dtype=np.int8).reshape(3, 4)
    rows = [
        copy(dense("dram", 0, i8, [4]), dense("spm", 0, i8, [4]), address_steps=(4, 4)),
        copy(
            dense("spm", 0, i8, [4]),
            Operand("dram", 64, i8, (4,), (3,)),
            address_steps=(4, 1),
        ),
    ]
    made = program(
        [RepeatOp(3, rows)],
        inputs={"x": dense("dram", 0, i8, [3, 4])},
        outputs={"y": dense("dram", 64, i8, [4, 3])},
    )
    assert (simulate(made, x).outputs["y"] == x.T).all()


# Memory between runs


def test_a_constant_that_the_program_overwrites_is_written_again():
    o = dense("dram", 0, i8, [4])
    ops = [
        copy(o, dense("dram", 64, i8, [4])),
        fill("dram", 0, 4, byte=7),
    ]
    made = program(
        ops, outputs={"y": dense("dram", 64, i8, [4])}, constants={0: np.arange(4, dtype=np.int8)}
    )
    session = Session(made)
    assert [session.run({}).outputs["y"].tolist() for _ in range(2)] == [[0, 1, 2, 3]] * 2


def test_a_constant_outside_dram_is_refused():
    made = program([], constants={60: np.zeros(8, np.int8)}, dram_size=64)
    with pytest.raises(CompileError, match=r"a constant must lie in dram \[0, 0x40\)"):
        Session(made)


# Host functions


def test_a_host_function_is_evaluated_from_the_programs_text():
    text = """
    builtin.module {
      func.func @host_0(%x: tensor<1x2x2x1x3x1xf32>) -> tensor<1x2x2x1x3x1xf32> {
        %0 = graph.neg %x : (tensor<1x2x2x1x3x1xf32>) -> tensor<1x2x2x1x3x1xf32>
        func.return %0 : tensor<1x2x2x1x3x1xf32>
      }
    }"""
    given, result = dense("dram", 0, f32, [4, 3]), dense("dram", 64, f32, [4, 3])
    op = HostOp(place="host", function=0, inputs=[given], outputs=[result], macs=0, elements=12)
    made = program(
        [op], inputs={"x": given}, outputs={"y": result}, host=HostCode(("host_0",), text)
    )
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert (simulate(made, x).outputs["y"] == -x).all()


def test_a_host_function_that_does_not_parse_is_a_malformed_program():
    o = dense("dram", 0, i8, [4])
    op = HostOp(place="host", function=0, inputs=[o], outputs=[o], macs=0, elements=0)
    made = program([op], inputs={"x": o}, host=HostCode(("f",), "builtin.module {"))
    with pytest.raises(CompileError, match="NPU0401.*host functions that do not parse"):
        simulate(made, np.zeros(4, np.int8))


# Errors


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"img": X}, r"NPU0501.*must be exactly those of the program \(image: i8\[8, 8, 4\]\)"),
        ({"image": X[:4]}, r"NPU0502.*image: the input must have shape \[8, 8, 4\]; found \[4, 8"),
        ({"image": X.astype(float)}, r"NPU0503.*must have element type int8; found float64"),
    ],
)
def test_wrong_inputs_are_one_clear_line(inputs: dict[str, Any], message: str):
    with pytest.raises(CompileError, match=message) as raised:
        simulate(convolve_and_pool(), inputs)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("observed", [False, True])
def test_a_fault_names_the_instruction_and_its_layer(observed: bool):
    ops: list[Instruction] = [fill("spm", 0, 4), fill("spm", 1 << 30, 4)]
    made = program(ops, layers=["conv1", "conv2"])
    with pytest.raises(CompileError) as raised:
        simulate(made, {}, tensors=observed)
    assert str(raised.value) == (
        "error[NPU0505]: conv2: instruction 1 (npu.dma_fill) must be executable; found "
        "MemoryFaultError: an operand must lie in spm [0, 0x80000), found [0x40000000, 0x40000004)"
    )
