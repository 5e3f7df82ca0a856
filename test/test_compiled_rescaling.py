"""Fixed-point rescaling in doubles: the same bits as in 64-bit integers, wherever it is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")

from tiers import agree

from npu_dialect import dtypes
from npu_dialect.kernel import Kernel, KernelBuilder
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.vectors import VectorOp
from npu_dialect.runtime.compiled.kernels import split
from npu_dialect.runtime.compiled.rescaling import RESCALE

Draw = st.DrawFn
FULL = (dtypes.i32.low, dtypes.i32.high)
STORED = (dtypes.i8, dtypes.u8, dtypes.i16, dtypes.u16)


@st.composite
def rescalings(draw: Draw) -> Kernel:
    """rescale(rescale(a) + rescale(b)), as a quantized addition has it."""
    builder = KernelBuilder()
    tensors = [builder.tensor(draw(st.sampled_from(STORED))) for _ in range(2)]
    rounding = draw(st.sampled_from(["half_even", "half_up", "half_away", "double"]))

    def rescale(x: Any, ends: tuple[int, int]) -> Any:
        multiplier = draw(st.one_of(st.integers(-9, 9), st.integers(-(2**31), 2**31 - 1)))
        shift = draw(st.integers(0, 40))
        constants = [builder.step("const.i32", immediates=[n]) for n in (multiplier, shift)]
        zeros = [draw(st.integers(-300, 300)) for _ in range(2)]
        numbers = [rounding, *zeros, *ends]
        return builder.step("requantize.fixed", x, *constants, immediates=numbers)

    wide = [rescale(t, draw(st.sampled_from([FULL, (-1000, 999)]))) for t in tensors]
    total = builder.step("add.i32", *wide)
    result = rescale(total, draw(st.sampled_from([FULL, (-128, 127), (0, 255)])))
    if draw(st.booleans()):  # a value that is needed as a whole number too
        result = builder.step("xor.i32", result, total)
    return builder.build(dtypes.i32)


def _agrees(kernel: Kernel, seed: int) -> None:
    """The compiled tier's memory is the plain tier's."""
    count = 100
    inputs = [Operand.dense("spm", 8192 * i, d, [count]) for i, d in enumerate(kernel.tensors)]
    output = Operand.dense("spm", 65536, dtypes.i32, [count])

    def prepare(machine: Machine) -> None:
        rng = np.random.default_rng(seed)
        for operand in inputs:
            low, high = operand.dtype.low, operand.dtype.high
            machine.view(operand)[...] = rng.integers(low, high, count, endpoint=True)

    b = inputs[1] if len(inputs) == 2 else None
    instruction = VectorOp(a=inputs[0], b=b, kernel=0, output=output)
    agree(instruction, kernels=[kernel], prepare=prepare, threads=(1,))


@settings(max_examples=60, deadline=None)
@given(kernel=rescalings(), seed=st.integers(0, 99))
def test_doubles_give_the_bits_of_integers(kernel: Kernel, seed: int):
    _agrees(kernel, seed)


@pytest.mark.parametrize(("zero_in", "zero_out"), [(-295, -295), (0, 300), (300, 0)])
def test_a_product_beyond_an_i32_saturates(zero_in: int, zero_out: int):
    builder = KernelBuilder()
    x = builder.tensor(dtypes.i16)
    constants = [builder.step("const.i32", immediates=[n]) for n in (7_864_153, 0)]
    numbers = ["half_even", zero_in, zero_out, *FULL]
    builder.step("requantize.fixed", x, *constants, immediates=numbers)
    _agrees(builder.build(dtypes.i32), seed=1)


def _rescaling(multiplier: int) -> Kernel:
    builder = KernelBuilder()
    x = builder.tensor(dtypes.i16)
    constants = [builder.step("const.i32", immediates=[n]) for n in (multiplier, 20)]
    builder.step("requantize.fixed", x, *constants, immediates=["half_even", 0, 0, *FULL])
    return builder.build(dtypes.i32)


@pytest.mark.parametrize("multiplier", [1, -9, 2**31 - 1])
def test_a_product_that_a_double_holds_is_one(multiplier: int):
    shape, _ = split(_rescaling(multiplier))
    assert {op for op, _, _ in shape.steps} == {RESCALE}


def test_a_product_of_any_two_numbers_is_not():
    builder = KernelBuilder()
    x = builder.tensor(dtypes.i32)
    constants = [builder.step("const.i32", immediates=[n]) for n in (2**30, 20)]
    builder.step("requantize.fixed", x, *constants, immediates=["half_even", 0, 0, *FULL])
    shape, _ = split(builder.build(dtypes.i32))
    assert "requantize.fixed" in {op for op, _, _ in shape.steps}
