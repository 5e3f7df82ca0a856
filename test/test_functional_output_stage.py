"""The short way through an output stage against the kernel's own evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.functional.output_stage import requantization
from npu_dialect.kernel import Kernel

U8, I8 = "low=0, high=255", "low=-128, high=127"
FIXED = "rounding='half_even', zero_in=3, zero_out=0, low=-2147483648, high=2147483647"
RESIDUAL = (
    "v2 = const.i32 {{value=1533084311}}; v3 = const.i32 {{value=11}}; "
    f"v4 = requantize.fixed v1, v2, v3 {{{{{FIXED}}}}}; "
    f"v5 = requantize.fixed t1, v2, v3 {{{{{FIXED}}}}}; v6 = add.i32 v4, v5; "
    "v7 = const.i32 {{value=1}}; v8 = const.i32 {{value=20}}; "
    "v9 = requantize.fixed v6, v7, v8 "
    "{{rounding='half_even', zero_in=0, zero_out={zero}, {limits}}}"
)
HEAD = "v0 = add.i32 t0, p0; v1 = requantize.f32 v0, p1 {{zero_in=0, zero_out={zero}, {limits}}}"


def kernel(body: str, tensors: str, output: str, zero: int = 5, limits: str = U8) -> Kernel:
    text = f"({tensors}; p0: i32, p1: f32) -> {output}: {body}"
    return Kernel.parse(text.format(zero=zero, limits=limits))


KNOWN = [
    kernel(HEAD, "t0: i32", "u8"),
    kernel(HEAD, "t0: i32", "i8", -7, I8),
    kernel(HEAD, "t0: i32", "i16", 1000, "low=-3000, high=32767"),
    kernel(HEAD, "t0: i32", "u8", 0, "low=0, high=6"),
    kernel(f"{HEAD}; {RESIDUAL}", "t0: i32, t1: u8", "u8"),
    kernel(f"{HEAD}; {RESIDUAL}", "t0: i32, t1: i8", "i8", -7, I8),
    kernel(f"{HEAD}; v2 = mul.i32 v1, v1; v3 = sub.i32 v2, v1", "t0: i32", "i32", -7, I8),
    kernel(f"{HEAD}; v2 = cast.i32.f32 v1; v3 = tanh.f32 v2", "t0: i32", "f32"),
]

UNKNOWN = [
    kernel("v0 = add.i32 t0, p0", "t0: i32", "i32"),
    kernel(HEAD, "t0: i32", "i8"),
    kernel(HEAD, "t0: i32", "i32", 0, "low=-2147483648, high=2147483647"),
    kernel(HEAD.replace("zero_in=0", "zero_in=1"), "t0: i32", "u8"),
    kernel(f"{HEAD}; v2 = add.i32 v1, v0", "t0: i32", "i32"),
    kernel(f"{HEAD}; v2 = add.i32 v1, p0", "t0: i32", "i32"),
    kernel(f"{HEAD}; v2 = add.i32 v1, t1", "t0: i32, t1: i16", "i32"),
]


@pytest.mark.parametrize("known", KNOWN, ids=range(len(KNOWN)))
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_known_kernel_gives_the_same_bits(
    known: Kernel, seed: int, positions: int, channels: int, wide: bool
) -> None:
    rng = np.random.default_rng(seed)
    size = 2 ** int(rng.integers(1, 31 if wide else 24))
    sums = rng.integers(-size, size, (positions, channels))
    bias = rng.integers(-1000, 1000, channels).astype(np.int32)
    multiplier = (rng.choice([1e-3, 0.5, 1.0, 300.0, -0.25, 0.0], channels)).astype(np.float32)
    residual = residuals(rng, known.tensors[1:], sums.shape)
    params = np.stack([bias.view(np.uint32), multiplier.view(np.uint32)])
    tensors = [(sums - bias).astype(np.int32), *residual]
    expected = known.evaluate(tensors, params)
    found = requantization(known)
    assert found is not None and found.fits(multiplier)
    output = np.empty(sums.shape, known.output.numpy)
    finish = found.finish(multiplier, positions)
    dtype = np.float64 if wide else np.float32
    finish(sums.astype(dtype), residual[0] if residual else None, output)
    assert output.tobytes() == np.ascontiguousarray(expected).tobytes()


def residuals(
    rng: np.random.Generator, types: tuple[DType, ...], shape: tuple[int, ...]
) -> list[np.ndarray[Any, Any]]:
    return [rng.integers(t.low, t.high + 1, shape).astype(t.numpy) for t in types]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=range(len(UNKNOWN)))
def test_other_kernels_are_left_to_evaluation(unknown: Kernel) -> None:
    assert requantization(unknown) is None


def test_multipliers_whose_products_may_overflow_are_left_to_evaluation() -> None:
    found = requantization(KNOWN[0])
    assert found is not None
    for value in (np.inf, np.nan, 3e38):
        assert not found.fits(np.array([1, value], np.float32))
    assert KNOWN[0].output is dtypes.u8
