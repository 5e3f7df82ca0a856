"""Quantization, requantization and tables against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import dtypes, numerics
from npu_dialect.dtypes import DType

WORD = st.integers(dtypes.i32.low, dtypes.i32.high)
ZERO = st.integers(-128, 127)
STORAGE = [dtypes.i8, dtypes.u8, dtypes.i16, dtypes.u16, dtypes.i32]
EXTREMES = [dtypes.i32.low, dtypes.i32.low + 1, -(2**30), -1, 0, 1, 2**30, dtypes.i32.high]


def wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def f32(value: Fraction | int | float) -> Fraction:
    """The nearest float32 of a value that a double holds exactly."""
    assert Fraction(float(value)) == value
    return Fraction(float(np.float32(float(value))))


def half_even(value: Fraction) -> int:
    return round(value)


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def double(x: int, multiplier: int, shift: int) -> int:
    """As gemmlowp writes it: truncating division after a nudge, then remainder and threshold."""
    left, right = max(31 - shift, 0), max(shift - 31, 0)
    product = wrap(x << left) * multiplier
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    high = min(abs(nudged) // 2**31 * (1 if nudged >= 0 else -1), 2**31 - 1)
    remainder = high & ((1 << right) - 1)
    threshold = (((1 << right) - 1) >> 1) + (high < 0)
    return (high >> right) + (remainder > threshold)


ONE_ROUNDING = {"half_even": half_even, "half_up": half_up, "half_away": half_away}


@pytest.mark.parametrize("rounding", ONE_ROUNDING)
@given(x=WORD, multiplier=WORD, shift=st.integers(0, 62), zero_in=ZERO, zero_out=ZERO)
@settings(deadline=None)
def test_fixed_point_rounds_the_exact_quotient_once(
    rounding: str, x: int, multiplier: int, shift: int, zero_in: int, zero_out: int
) -> None:
    quotient = Fraction(wrap(x - zero_in) * multiplier, 2**shift)
    expected = clamp(ONE_ROUNDING[rounding](quotient) + zero_out, -128, 127)
    got = numerics.requantize_fixed(
        np.array([x], np.int32), multiplier, shift, rounding, zero_in, zero_out, -128, 127
    )
    assert (got.dtype, got.tolist()) == (np.int32, [expected])


@pytest.mark.parametrize("rounding", ONE_ROUNDING)
@given(quotient=st.integers(-1000, 1000), shift=st.integers(1, 20))
@settings(deadline=None)
def test_fixed_point_ties_go_the_named_way(rounding: str, quotient: int, shift: int) -> None:
    x = np.array([2 * quotient + 1], np.int32)
    expected = ONE_ROUNDING[rounding](Fraction(2 * quotient + 1, 2))
    multiplier = 2 ** (shift - 1)
    assert numerics.requantize_fixed(x, multiplier, shift, rounding).tolist() == [expected]


@pytest.mark.parametrize("rounding", ONE_ROUNDING)
@pytest.mark.parametrize("shift", [0, 1, 31, 32, 61, 62])
def test_fixed_point_is_exact_at_the_extremes(rounding: str, shift: int) -> None:
    for multiplier in EXTREMES:
        got = numerics.requantize_fixed(np.array(EXTREMES, np.int32), multiplier, shift, rounding)
        exact = [ONE_ROUNDING[rounding](Fraction(x * multiplier, 2**shift)) for x in EXTREMES]
        assert got.tolist() == [clamp(v, dtypes.i32.low, dtypes.i32.high) for v in exact]


WIDE = st.one_of(WORD, st.integers(-(2**47), 2**47), st.integers(-(2**63), 2**63 - 1))
WIDE_EXTREMES = [-(2**63), -(2**62) - 1, -(2**40), -(2**32), -1, 0, 1, 2**32 - 1, 2**40, 2**63 - 1]


@pytest.mark.parametrize("rounding", ONE_ROUNDING)
@given(x=WIDE, multiplier=WORD, shift=st.integers(0, 62), zero_out=WORD)
@settings(deadline=None)
def test_wide_sums_are_rescaled_by_the_exact_quotient(
    rounding: str, x: int, multiplier: int, shift: int, zero_out: int
) -> None:
    expected = ONE_ROUNDING[rounding](Fraction(x * multiplier, 2**shift)) + zero_out
    got = numerics.requantize_fixed(
        np.array([x], np.int64), multiplier, shift, rounding, 0, zero_out
    )
    assert (got.dtype, got.tolist()) == (
        np.int32,
        [clamp(expected, dtypes.i32.low, dtypes.i32.high)],
    )


@pytest.mark.parametrize("rounding", ONE_ROUNDING)
@pytest.mark.parametrize("shift", [0, 1, 31, 32, 33, 61, 62])
def test_wide_sums_are_rescaled_exactly_at_the_extremes(rounding: str, shift: int) -> None:
    x = np.array(WIDE_EXTREMES, np.int64)
    for multiplier in EXTREMES:
        got = numerics.requantize_fixed(x, multiplier, shift, rounding)
        exact = [ONE_ROUNDING[rounding](Fraction(v * multiplier, 2**shift)) for v in WIDE_EXTREMES]
        assert got.tolist() == [clamp(v, dtypes.i32.low, dtypes.i32.high) for v in exact]


@given(
    x=st.integers(-(2**47), 2**47 - 1),
    multiplier=st.integers(0, 2**31 - 1),
    exponent=st.integers(-31, 7),
)
@settings(deadline=None)
def test_a_multiplier_of_15_bits_rescales_as_tflite_does(
    x: int, multiplier: int, exponent: int
) -> None:
    """TFLite's MultiplyByQuantizedMultiplier of int64, as its comments describe it."""
    reduced = (multiplier + 2**15) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    total = 15 - exponent
    expected = (x * reduced + 2 ** (total - 1)) >> total
    got = numerics.requantize_fixed(np.array([x], np.int64), reduced, total, "half_up")
    assert got.tolist() == [clamp(expected, dtypes.i32.low, dtypes.i32.high)]


@given(x=WIDE, scale=st.floats(2.0**-40, 1.0, width=32), zero_out=ZERO)
@settings(deadline=None)
def test_wide_sums_are_rescaled_in_f32_with_two_roundings(
    x: int, scale: float, zero_out: int
) -> None:
    bits = max(abs(x).bit_length() - 24, 0)
    real = np.float32(float(round(Fraction(x, 2**bits)) * 2**bits)) * np.float32(scale)
    expected = clamp(round(Fraction(float(real))) + zero_out, -32768, 32767)
    got = numerics.requantize_f32(
        np.array([x], np.int64), np.array(scale, np.float32), 0, zero_out, -32768, 32767
    )
    assert got.tolist() == [expected]


@given(x=WORD, multiplier=WORD, shift=st.integers(0, 62))
@settings(deadline=None)
def test_double_rounding_is_gemmlowps(x: int, multiplier: int, shift: int) -> None:
    got = numerics.requantize_fixed(np.array([x], np.int32), multiplier, shift, "double")
    assert got.tolist() == [double(x, multiplier, shift)]


def test_double_rounding_saturates_the_one_overflowing_product() -> None:
    low = np.array([dtypes.i32.low], np.int32)
    got = numerics.requantize_fixed(low, dtypes.i32.low, 31, "double")
    assert got.tolist() == [dtypes.i32.high]


def test_double_rounding_differs_from_one_rounding() -> None:
    x, multiplier, shift = np.array([3], np.int32), 2**29, 32
    single = numerics.requantize_fixed(x, multiplier, shift, "half_up")
    twice = numerics.requantize_fixed(x, multiplier, shift, "double")
    assert (single.tolist(), twice.tolist()) == ([0], [1])


FUNCTIONS = {
    "f32": lambda x, m: numerics.requantize_f32(x, m / 2**40, 3, 5, -128, 127),
    **{
        name: lambda x, m, name=name: numerics.requantize_fixed(x, m, 40, name, 3, 5, -128, 127)
        for name in (*ONE_ROUNDING, "double")
    },
    "quantize": lambda x, m: numerics.quantize(x.astype(np.float32), m * 2.0**-20, 5, dtypes.i8),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(40_000,), (3, 7, 5000), (300, 1, 301), (2, 40_000)])
def test_blocks_do_not_matter(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**20), 2**20, shape).astype(np.int32)
    multiplier = rng.integers(2**30, 2**31 - 1, shape[-1])
    whole = FUNCTIONS[name](x, multiplier)
    for start in (0, 1000 % shape[-1]):
        part = slice(start, start + 77)
        expected = FUNCTIONS[name](x[..., part], multiplier[part])
        assert np.array_equal(whole[..., part], expected)


def test_multipliers_and_shifts_may_be_per_channel() -> None:
    x = np.array([[100, 100], [-7, -7]], np.int32)
    got = numerics.requantize_fixed(x, np.array([1, 3]), np.array([0, 1]), "half_even")
    assert got.tolist() == [[100, 150], [-7, -10]]


def test_an_unknown_rounding_is_rejected() -> None:
    with pytest.raises(KeyError, match="nearest"):
        numerics.requantize_fixed(np.zeros(1, np.int32), 1, 0, "nearest")


MULTIPLIER = st.floats(min_value=2.0**-20, max_value=4.0, width=32)


@given(x=WORD, multiplier=MULTIPLIER, zero_in=ZERO, zero_out=ZERO)
@settings(deadline=None)
def test_f32_requantization_rounds_conversion_and_product(
    x: int, multiplier: float, zero_in: int, zero_out: int
) -> None:
    product = f32(f32(wrap(x - zero_in)) * Fraction(multiplier))
    expected = clamp(half_even(product) + zero_out, -128, 127)
    got = numerics.requantize_f32(np.array([x], np.int32), multiplier, zero_in, zero_out, -128, 127)
    assert (got.dtype, got.tolist()) == (np.int32, [expected])


@given(x=WORD, multiplier=MULTIPLIER, zero_out=WORD)
@settings(deadline=None)
def test_f32_requantization_to_int32_saturates(x: int, multiplier: float, zero_out: int) -> None:
    product = f32(f32(x) * Fraction(multiplier))
    expected = clamp(half_even(product) + zero_out, dtypes.i32.low, dtypes.i32.high)
    got = numerics.requantize_f32(np.array([x], np.int32), multiplier, 0, zero_out)
    assert got.tolist() == [expected]


def test_f32_multipliers_may_be_per_channel() -> None:
    x = np.array([[10, 10], [-3, -3]], np.int32)
    got = numerics.requantize_f32(x, np.array([0.5, 2.0], np.float32), 0, 1)
    assert got.tolist() == [[6, 21], [-1, -5]]


def test_requantization_leaves_its_operand_alone() -> None:
    x = np.array([5], np.int32)
    numerics.requantize_f32(x, 0.3, 1, 2, -128, 127)
    assert x.tolist() == [5]


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
@given(
    x=st.floats(min_value=-(2.0**70), max_value=2.0**70, width=32),
    scale=st.floats(min_value=2.0**-20, max_value=8.0, width=32),
    zero=st.integers(0, 127),
)
@settings(deadline=None)
def test_quantize_divides_in_float32_and_saturates(
    dtype: DType, x: float, scale: float, zero: int
) -> None:
    quotient = np.float32(x) / np.float32(scale)
    expected = clamp(half_even(Fraction(float(quotient))) + zero, dtype.low, dtype.high)
    got = numerics.quantize(np.array([x], np.float32), scale, zero, dtype)
    assert (got.dtype, got.tolist()) == (dtype.numpy, [expected])


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_quantize_saturates_infinities_and_gives_the_zero_point_for_nan(dtype: DType) -> None:
    x = np.array([np.inf, -np.inf, np.nan], np.float32)
    assert numerics.quantize(x, 0.1, 3, dtype).tolist() == [dtype.high, dtype.low, 3]


def test_quantize_takes_a_scale_per_channel() -> None:
    x = np.ones((2, 2), np.float32)
    got = numerics.quantize(x, np.array([0.5, 0.25]), np.array([0, 1]), dtypes.u8)
    assert got.tolist() == [[2, 5], [2, 5]]


@pytest.mark.parametrize("dtype", STORAGE[:4], ids=str)
def test_dequantize_is_a_float32_product(dtype: DType) -> None:
    x = np.array([dtype.low, 0, dtype.high], dtype.numpy)
    scale = np.float32(0.1)
    expected = [np.float32(int(v) - 3) * scale for v in x]
    assert numerics.dequantize(x, 0.1, 3).tolist() == [float(v) for v in expected]


@pytest.mark.parametrize("dtype", [dtypes.i8, dtypes.u8], ids=str)
def test_lookup_starts_at_the_lowest_value(dtype: DType) -> None:
    table = np.arange(256, dtype=np.int32) * 10
    x = np.array([dtype.low, dtype.low + 1, dtype.high], dtype.numpy)
    assert numerics.lookup(x, table).tolist() == [0, 10, 2550]


def test_lookup_accepts_strided_operands() -> None:
    x = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    table = np.arange(256, dtype=np.uint8)
    assert np.array_equal(numerics.lookup(x.T, table), table.reshape(16, 16).T)


@given(x=st.integers(-(2**15), 2**15 - 1), seed=st.integers(0, 2**30), shift=st.integers(4, 12))
@settings(deadline=None)
def test_interpolation_is_on_the_line_between_two_entries(x: int, seed: int, shift: int) -> None:
    size = 2 ** (16 - shift) + 1
    table = np.random.default_rng(seed).integers(-(2**31), 2**31, size).astype(np.int32)
    index, offset = divmod(x + 2**15, 2**shift)
    base, following = int(table[index]), int(table[index + 1])
    expected = base + half_up(Fraction((following - base) * offset, 2**shift))
    got = numerics.interpolate(np.array([x], np.int32), table, shift)
    assert (got.dtype, got.tolist()) == (np.int32, [wrap(expected)])


def test_interpolation_of_int16_is_tflites() -> None:
    """TFLite's look-up of int16, as its comments describe it, for every value."""
    table = np.rint(2**15 * np.tanh(np.linspace(-4, 4, 513))).clip(-(2**15), 2**15 - 1)
    table = table.astype(np.int16)
    values = range(-(2**15), 2**15)
    expected: list[int] = []
    for value in values:
        index, offset = 256 + (value >> 7), value & 0x7F
        slope = int(table[index + 1]) - int(table[index])
        expected.append(int(table[index]) + ((slope * offset + 64) >> 7))
    assert numerics.interpolate(np.array(values, np.int32), table, 7).tolist() == expected
