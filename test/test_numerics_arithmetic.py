"""Integer and float32 arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import dtypes, numerics

I32_LOW, I32_HIGH = dtypes.i32.low, dtypes.i32.high
WORDS = [I32_LOW, I32_LOW + 1, -65536, -3, -2, -1, 0, 1, 2, 3, 65535, I32_HIGH - 1, I32_HIGH]
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.5, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32
)


def wrap(value: int, bits: int = 32) -> int:
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def pairs(values: list[int], dtype: type = np.int32) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return a.reshape(-1), b.reshape(-1)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal including the signs of zeros; one NaN is as good as another."""
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b)
    )


EXACT = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": max,
    "min": min,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "div": lambda a, b: 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
}


@pytest.mark.parametrize("name", EXACT)
def test_integer_operations_are_exact_modulo_2_to_32(name: str) -> None:
    a, b = pairs(WORDS)
    expected = [wrap(EXACT[name](int(p), int(q))) for p, q in zip(a, b, strict=True)]
    assert numerics.BINARY[name](a, b).tolist() == expected


@pytest.mark.parametrize("name", EXACT)
def test_integer_operations_are_exact_modulo_2_to_64(name: str) -> None:
    a, b = pairs([dtypes.i64.low, -3, -1, 0, 1, 2, 7, dtypes.i64.high], np.int64)
    expected = [wrap(EXACT[name](int(p), int(q)), 64) for p, q in zip(a, b, strict=True)]
    assert numerics.BINARY[name](a, b).tolist() == expected


@pytest.mark.parametrize("name", numerics.BINARY)
def test_binary_operations_keep_the_integer_type(name: str) -> None:
    if name != "pow":
        one = np.ones(3, np.int16)
        assert numerics.BINARY[name](one, one).dtype == np.int16


def test_abs_and_neg_of_the_smallest_integer_are_itself() -> None:
    low = np.array([I32_LOW], np.int32)
    assert numerics.absolute(low) == numerics.negative(low) == I32_LOW


@given(st.integers(I32_LOW, I32_HIGH), st.integers(0, 40))
@settings(deadline=None)
def test_shift_right_is_floor_division_by_a_power_of_two(value: int, amount: int) -> None:
    shifted = numerics.shift_right(np.array([value], np.int32), np.array([amount], np.int32))
    assert shifted[0] == value >> amount


@given(st.integers(I32_LOW, I32_HIGH), st.integers(0, 40))
@settings(deadline=None)
def test_shift_left_drops_what_leaves_the_word(value: int, amount: int) -> None:
    shifted = numerics.shift_left(np.array([value], np.int32), np.array([amount], np.int32))
    assert shifted[0] == wrap(value << amount)


def test_not_inverts_bits_and_truth() -> None:
    assert numerics.bitwise_not(np.array([5], np.int32)) == -6
    assert not numerics.bitwise_not(np.array([True]))[0]


def test_max_prefers_the_positive_zero_whatever_the_order() -> None:
    zeros = np.array([0.0, -0.0] * 20, np.float32)
    result = numerics.maximum(zeros, zeros[::-1])
    assert not np.signbit(result).any()


def test_min_prefers_the_negative_zero_whatever_the_order() -> None:
    zeros = np.array([0.0, -0.0] * 20, np.float32)
    result = numerics.minimum(zeros, zeros[::-1])
    assert np.signbit(result).all()


def test_max_of_two_negative_zeros_is_negative_zero() -> None:
    zero = np.full(9, -0.0, np.float32)
    assert np.signbit(numerics.maximum(zero, zero)).all()


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "max", "min"])
def test_a_nan_operand_gives_nan(name: str) -> None:
    nan = np.full_like(SPECIAL, np.nan)
    assert np.isnan(numerics.BINARY[name](SPECIAL, nan)).all()
    assert np.isnan(numerics.BINARY[name](nan, SPECIAL)).all()


def test_relu_makes_negative_zero_positive_and_keeps_nan() -> None:
    expected = numerics.maximum(SPECIAL, np.zeros_like(SPECIAL))
    assert same_bits(numerics.relu(SPECIAL), expected)


def test_clamp_keeps_nan_and_clips_infinities() -> None:
    result = numerics.clamp(np.array([np.nan, np.inf, -np.inf], np.float32), -1.0, 6.0)
    assert same_bits(result, np.array([np.nan, 6, -1], np.float32))


def test_clamp_of_integers_keeps_their_type() -> None:
    result = numerics.clamp(np.array([-128, 0, 127], np.int8), -5, 5)
    assert result.dtype == np.int8
    assert result.tolist() == [-5, 0, 5]


def test_rsqrt_rounds_the_root_before_dividing() -> None:
    x = np.linspace(0.01, 9, 4001, dtype=np.float32)
    roots = [np.float32(math.sqrt(float(v))) for v in x]
    expected = np.array([np.float32(1.0 / float(r)) for r in roots], np.float32)
    assert np.array_equal(numerics.rsqrt(x), expected)


def test_round_takes_ties_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert same_bits(numerics.round_half_even(x), np.array([0, 2, 2, -0.0, -2], np.float32))


def test_sign_of_either_zero_is_positive_zero() -> None:
    result = numerics.sign(SPECIAL)
    assert same_bits(result, np.array([0, 0, 1, -1, 1, 1, -1, np.nan, 1, -1, 1, -1], np.float32))


def test_subnormals_are_kept() -> None:
    tiny = np.full(20, 1e-45, np.float32)
    assert np.array_equal(numerics.add(tiny, tiny), np.full(20, 3e-45, np.float32))


def test_comparisons_with_nan_are_false_except_not_equal() -> None:
    nan, one = np.array([np.nan], np.float32), np.ones(1, np.float32)
    truth = {name: bool(compare(nan, one)[0]) for name, compare in numerics.COMPARISON.items()}
    assert truth == {name: name == "ne" for name in numerics.COMPARISON}


def test_leaky_relu_multiplies_negative_values_by_alpha_in_float32() -> None:
    x = np.array([-3.0, -0.0, 2.0, np.nan], np.float32)
    expected = np.array([np.float32(-3) * np.float32(0.1), -0.0, 2, np.nan], np.float32)
    assert same_bits(numerics.leaky_relu(x, 0.1), expected)


def test_hard_sigmoid_saturates_at_zero_and_one() -> None:
    x = np.array([-np.inf, -2.5, 0.0, 2.5, np.inf, np.nan], np.float32)
    assert same_bits(
        numerics.hard_sigmoid(x, 0.2, 0.5), np.array([0, 0, 0.5, 1, 1, np.nan], np.float32)
    )


def test_where_selects_by_the_condition() -> None:
    a, b = np.array([1, 2], np.int32), np.array([3, 4], np.int32)
    assert numerics.where(np.array([True, False]), a, b).tolist() == [1, 4]


@pytest.mark.parametrize("name", ["add", "mul", "max", "div"])
def test_zero_dimensional_operands_are_accepted(name: str) -> None:
    one = np.array(1.0, np.float32)
    assert np.asarray(numerics.BINARY[name](one, one)).shape == ()
