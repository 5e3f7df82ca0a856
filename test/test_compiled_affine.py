"""Rescalings as one affine function: the same bits for every pair of operands."""

from __future__ import annotations

from itertools import product
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
from npu_dialect.runtime.compiled.affine import AFFINE
from npu_dialect.runtime.compiled.kernels import split

FULL = (dtypes.i32.low, dtypes.i32.high)
PAIRS = 256 * 256


def addition(
    scales: tuple[float, float, float], zeros: tuple[int, int, int], rounding: str, left: int
) -> Kernel:
    """A quantized addition of u8, its operands shifted left by `left` bits in between."""
    builder = KernelBuilder()
    tensors = [builder.tensor(dtypes.u8) for _ in range(2)]

    def rescale(x: Any, real: float, zero: tuple[int, int], ends: tuple[int, int]) -> Any:
        fraction, exponent = np.frexp(real)
        constants = [
            builder.step("const.i32", immediates=[int(n)])
            for n in (min(round(fraction * 2**31), 2**31 - 1), 31 - exponent)
        ]
        return builder.step("requantize.fixed", x, *constants, immediates=[rounding, *zero, *ends])

    wide = [
        rescale(t, s * 2.0**left, (z, 0), FULL)
        for t, s, z in zip(tensors, scales, zeros, strict=False)
    ]
    total = builder.step("add.i32", *wide)
    rescale(total, 2.0**-left / scales[2], (0, zeros[2]), (0, 255))
    return builder.build(dtypes.u8)


def all_pairs_agree(kernel: Kernel) -> None:
    """In two halves: the scratchpad of the tests is small."""
    size = PAIRS // 2
    inputs = [Operand.dense("spm", size * i, dtypes.u8, [size]) for i in range(2)]
    output = Operand.dense("spm", 2 * size, dtypes.u8, [size])
    instruction = VectorOp(a=inputs[0], b=inputs[1], kernel=0, output=output)
    for first in (0, size):

        def prepare(machine: Machine, first: int = first) -> None:
            every = first + np.arange(size)
            machine.view(inputs[0])[...] = every // 256
            machine.view(inputs[1])[...] = every % 256

        agree(instruction, kernels=[kernel], prepare=prepare, threads=(1,))


@settings(max_examples=25, deadline=None)
@given(
    scales=st.tuples(*[st.floats(0.1, 3.0)] * 3),
    zeros=st.tuples(*[st.integers(0, 255)] * 3),
    rounding=st.sampled_from(["half_even", "half_up", "half_away", "double"]),
    left=st.integers(8, 20),
)
def test_an_addition_gives_the_defined_bits_for_all_pairs(
    scales: tuple[float, float, float], zeros: tuple[int, int, int], rounding: str, left: int
):
    all_pairs_agree(addition(scales, zeros, rounding, left))


@pytest.mark.parametrize("rounding", ["half_even", "half_up", "double"])
def test_most_additions_are_one_affine_function(rounding: str):
    zeros = (3, 128, 100)
    cases = product([0.37, 0.81], [0.52, 1.03], [0.93, 1.41])
    kernels = [addition(scales, zeros, rounding, 20) for scales in cases]
    found = [any(op == AFFINE for op, _, _ in split(k)[0].steps) for k in kernels]
    assert sum(found) >= len(kernels) - 1


def test_a_sum_that_is_used_elsewhere_too_stays():
    builder = KernelBuilder()
    x = builder.tensor(dtypes.u8)
    constants = [builder.step("const.i32", immediates=[n]) for n in (1 << 20, 10)]
    wide = builder.step("requantize.fixed", x, *constants, immediates=["half_up", 3, 0, *FULL])
    small = builder.step("requantize.fixed", wide, *constants, immediates=["half_up", 0, 0, 0, 255])
    builder.step("add.i32", wide, small)
    shape, _ = split(builder.build(dtypes.i32))
    assert all(op != AFFINE for op, _, _ in shape.steps)
