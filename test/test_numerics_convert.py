"""Casts between storage types."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import dtypes, numerics
from npu_dialect.dtypes import DType

INTEGERS = [t for t in dtypes.ALL if t.is_int]


@pytest.mark.parametrize("source", dtypes.ALL, ids=str)
@pytest.mark.parametrize("target", dtypes.ALL, ids=str)
def test_a_cast_gives_the_type_and_shape_asked_for(source: DType, target: DType) -> None:
    result = numerics.cast(np.ones((2, 3), source.numpy), target)
    assert (result.dtype, result.shape) == (target.numpy, (2, 3))
    assert (result.astype(np.float64) == 1).all()


@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_floats_beyond_an_integer_type_saturate(target: DType) -> None:
    x = np.array([np.inf, -np.inf, 3e38, -3e38, 2.0**63, -(2.0**63)], np.float32)
    assert numerics.cast(x, target).tolist() == [target.high, target.low] * 3


@pytest.mark.parametrize("target", INTEGERS, ids=str)
def test_nan_becomes_zero(target: DType) -> None:
    assert (numerics.cast(np.full(5, np.nan, np.float32), target) == 0).all()


def test_floats_truncate_toward_zero() -> None:
    x = np.array([1.9, -1.9, 0.5, -0.5], np.float32)
    assert numerics.cast(x, dtypes.i8).tolist() == [1, -1, 0, 0]


def test_the_greatest_float_below_2_to_63_is_exact() -> None:
    x = np.nextafter(np.float32(2**63), np.float32(0))
    assert numerics.cast(np.array([x]), dtypes.i64)[0] == int(x)


def test_integers_keep_their_low_bits() -> None:
    x = np.array([0x12345680, -1, 255], np.int32)
    assert numerics.cast(x, dtypes.i8).tolist() == [-128, -1, -1]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_bf16_is_the_nearest_with_ties_to_even(value: float) -> None:
    x = np.array([value], np.float32)
    bits = int(x.view(np.uint32)[0])
    expected = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF
    assert numerics.cast(x, dtypes.bf16).view(np.uint16)[0] == expected


@given(st.floats(width=32, min_value=-65000, max_value=65000))
@settings(deadline=None)
def test_f16_is_the_nearest(value: float) -> None:
    got = numerics.cast(np.array([value], np.float32), dtypes.f16)[0]
    neighbours = [np.nextafter(got, np.float16(s)) for s in (-np.inf, np.inf)]
    error = abs(Fraction(float(got)) - Fraction(value))
    assert all(error <= abs(Fraction(float(n)) - Fraction(value)) for n in neighbours)


def test_truth_is_a_difference_from_zero() -> None:
    x = np.array([0.0, -0.0, 0.1, np.nan], np.float32)
    assert numerics.cast(x, dtypes.bool_).tolist() == [False, False, True, True]


@pytest.mark.parametrize("target", dtypes.ALL, ids=str)
def test_a_cast_value_does_not_depend_on_strides(target: DType) -> None:
    x = np.random.default_rng(0).normal(0, 1e3, (64, 65)).astype(np.float32)
    whole = numerics.cast(np.ascontiguousarray(x.T), target)
    assert np.array_equal(numerics.cast(x.T, target), whole)
