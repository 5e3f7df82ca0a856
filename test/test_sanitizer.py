"""The sanitizer finds what is planted in programs, and nothing in those that are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_programs import X, convolve_and_pool, copy, dense, kernel_of, program, waits
from test_wide_sums import convolution, recipe_of

import npu_dialect as npu
from npu_dialect.dtypes import f32, i8, i16, i32
from npu_dialect.kernel import KernelBuilder
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.sanitizer import Finding, Sanitizer, SanitizerReport, exact_sums, prove
from npu_dialect.runtime.simulator import Session, Step


def report(made: Program, *inputs: Any) -> SanitizerReport:
    watch = Sanitizer(made)
    Session(made, tier="plain").run(list(inputs), observe=watch)
    return watch.report()


def only(found: SanitizerReport, kind: str) -> Finding:
    assert [f.kind for f in found.findings] == [kind]
    return found.findings[0]


def products(count: int, partial_first: bool) -> Program:
    """A row of `count` products of i16, in one instruction or in two that accumulate."""
    x, w = dense("spm", 0, i16, [1, count]), dense("spm", 4096, i8, [count, 1])
    sums = dense("acc", 0, i32, [1, 1])
    given = (dense("dram", 0, i16, [1, count]), dense("dram", 4096, i8, [count, 1]))
    out = dense("spm", 8192, i32, [1, 1])
    finish: dict[str, Any] = {"kernel": 0, "output": out}

    def multiply(accumulate: int, **fields: Any) -> MatmulOp:
        where: dict[str, Any] = {"input": x, "weights": w, **fields}
        return MatmulOp(accumulate=accumulate, x_zero=0, w_zero=0, waits=waits(dma=2), **where)

    ops: list[Instruction] = [copy(given[0], x), copy(given[1], w)]
    if partial_first:
        ops += [multiply(0, partial=sums), multiply(1, partial=sums, **finish)]
    else:
        ops.append(multiply(0, **finish))
    store = copy(out, dense("dram", 8192, i32, [1, 1]), waits=waits(mxu=len(ops) - 2))
    return program(
        [*ops, store],
        inputs={"x": given[0], "w": given[1]},
        outputs={"y": dense("dram", 8192, i32, [1, 1])},
        kernels=[kernel_of(i32, output=i32)],
    )


def inputs_for(total: int, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Operands of `count` equal products whose sum is as near to `total` as they allow."""
    each = total // count // 127
    return np.full((1, count), each, np.int16), np.full((count, 1), 127, np.int8)


def test_a_right_program_is_clean():
    found = report(convolve_and_pool(), X)
    assert found.clean
    assert list(prove(convolve_and_pool())) == []


def test_bytes_that_nothing_wrote_are_found():
    a, b = dense("spm", 0, i8, [4]), dense("spm", 16, i8, [4])
    ops = [
        copy(dense("dram", 0, i8, [2]), dense("spm", 0, i8, [2])),
        VectorOp(a=a, output=b, kernel=0, waits=waits(dma=1)),
    ]
    kernel = kernel_of(i8, ("neg.i32", ()), output=i8)
    inputs = {"x": dense("dram", 0, i8, [2])}
    made = program(ops, inputs=inputs, kernels=[kernel], layers=["load", "negate"])
    finding = only(report(made, np.zeros(2, np.int8)), "uninitialized-read")
    assert (finding.index, finding.layer) == (1, "negate")
    assert "2 of 4 bytes" in finding.found


@pytest.mark.parametrize("partial", [False, True], ids=["one", "two instructions"])
def test_sums_that_leave_32_bits_are_found(partial: bool):
    x, w = inputs_for(2**31 + 2**29, 1024)
    x, w = (x // 2, w) if partial else (x, w)
    finding = report(products(1024, partial), x, w).findings[-1]
    assert finding.kind == "accumulator-overflow"
    exact = (x.astype(np.int64) @ w.astype(np.int64)).item() * (2 if partial else 1)
    assert exact > 2**31
    assert f"to {exact:,}" in finding.found


def test_sums_that_just_fit_are_not():
    x, w = inputs_for(2**31 - 2**20, 1024)
    assert report(products(1024, False), x, w).clean


def test_floats_that_are_no_numbers_are_found():
    a, b = dense("spm", 0, f32, [4]), dense("spm", 64, f32, [4])
    ops = [
        copy(dense("dram", 0, f32, [4]), a),
        VectorOp(a=a, b=a, output=b, kernel=0, waits=waits(dma=1)),
    ]
    builder = KernelBuilder()
    builder.step("div.f32", builder.tensor(f32), builder.tensor(f32))
    kernel = builder.build(f32)
    inputs = {"x": dense("dram", 0, f32, [4])}
    made = program(ops, inputs=inputs, kernels=[kernel], target="mobile4k")
    finding = only(report(made, np.array([1, 0, 2, 0], np.float32)), "not-finite")
    assert "2 of 4" in finding.found


def test_results_at_the_ends_of_their_type_are_counted():
    a, b = dense("spm", 0, i8, [6]), dense("spm", 64, i8, [6])
    ops = [
        copy(dense("dram", 0, i8, [6]), a),
        VectorOp(a=a, output=b, kernel=0, waits=waits(dma=1)),
    ]
    kernel = kernel_of(i8, ("neg.i32", ()), ("clamp.i32", (-128, 127)), output=i8)
    made = program(
        ops, inputs={"x": dense("dram", 0, i8, [6])}, kernels=[kernel], layers=["load", "negate"]
    )
    x = np.array([-128, -127, 5, 127, 0, -128], np.int8)
    limits = report(made, x).limits["negate"]
    assert (limits.elements, limits.lowest, limits.highest) == (6, 0, 3)


def test_a_missing_wait_is_found_by_the_proof():
    a, b = dense("spm", 0, i8, [4]), dense("spm", 16, i8, [4])
    ops = [copy(dense("dram", 0, i8, [4]), a), VectorOp(a=a, output=b, kernel=0)]
    kernel = kernel_of(i8, ("neg.i32", ()), output=i8)
    made = program(ops, inputs={"x": dense("dram", 0, i8, [4])}, kernels=[kernel])
    assert any(f.index == 1 and f.kind == "unproved" for f in prove(made))


def test_sums_in_64_bits_are_those_of_the_instructions():
    seen: list[bool] = []

    def compare(step: Step) -> None:
        if step.instruction.name == "npu.conv2d":
            found = exact_sums(step.machine, step.instruction)  # type: ignore[arg-type]
            stored = step.machine.view(step.instruction.writes()[0])
            seen.append(bool((found == stored).all()))

    Session(convolve_and_pool(), tier="plain").run([X], observe=compare)
    assert seen == [True]


def test_sums_of_64_bits_may_leave_32_of_them() -> None:
    w = np.full((1, 1, 600, 3), 127, np.int8)
    module = convolution(2, w, np.full(3, 2**33), recipe_of("f32", 3, 2.0**34))
    made = npu.compile(module, "edge256")
    found = report(made, np.full((1, 2, 2, 600), 32767, np.int16))
    assert not [f for f in found.findings if f.kind == "accumulator-overflow"]
