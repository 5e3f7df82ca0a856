"""Reductions against plain loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import functional

KINDS = ["sum", "mean", "max", "min", "prod"]


def floats(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def groups(x: np.ndarray, axes: tuple[int, ...]) -> list[list[Any]]:
    """Per output in row-major order, the values that it reduces, in row-major order."""
    kept = [range(n) if a not in axes else (0,) for a, n in enumerate(x.shape)]
    reduced = [range(n) if a in axes else (0,) for a, n in enumerate(x.shape)]
    return [
        [x[tuple(np.add(outer, inner))] for inner in itertools.product(*reduced)]
        for outer in itertools.product(*kept)
    ]


def fold(kind: str, values: list[Any]) -> Any:
    """In float32, one operation after the other."""
    if kind in ("max", "min"):
        return max(values) if kind == "max" else min(values)
    total = np.float32(kind == "prod")
    for value in values:
        total = np.float32(total * value) if kind == "prod" else np.float32(total + value)
    return total / np.float32(len(values)) if kind == "mean" else total


@st.composite
def reductions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and some of its axes."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return tuple(shape), tuple(axes)


@pytest.mark.parametrize("kind", KINDS)
@given(case=reductions())
@settings(max_examples=40, deadline=None)
def test_float_reductions_go_in_row_major_order(kind: str, case: Any) -> None:
    x = floats(case[0])
    got = functional.reduce(kind, x, case[1])
    assert got.reshape(-1).tolist() == [fold(kind, g) for g in groups(x, case[1])]


@pytest.mark.parametrize("kind", ["sum", "prod"])
@pytest.mark.parametrize("shape", [(1, 3000), (300, 50), (255, 40), (3, 70_000)])
def test_long_float_reductions_are_sequential_whatever_the_method(
    kind: str, shape: tuple[int, int]
) -> None:
    x = np.exp2(floats(shape) / 8)
    total = np.full(shape[0], kind == "prod", np.float32)
    with np.errstate(over="ignore"):
        for column in x.T:
            total = total * column if kind == "prod" else total + column
    assert np.array_equal(functional.reduce(kind, x, [1])[:, 0], total)


@given(reductions())
@settings(deadline=None)
def test_reduced_axes_stay_with_length_1(case: Any) -> None:
    shape, axes = case
    expected = tuple(1 if a in axes else n for a, n in enumerate(shape))
    assert functional.reduce("sum", floats(shape), axes).shape == expected


def test_axes_may_count_from_the_end() -> None:
    x = floats((3, 4, 5))
    assert np.array_equal(functional.reduce("sum", x, [-1]), functional.reduce("sum", x, [2]))


@given(reductions(), st.integers(-128, 127))
@settings(deadline=None)
def test_sums_of_8_bit_integers_are_of_values_less_their_zero_point(case: Any, zero: int) -> None:
    x = np.random.default_rng(0).integers(-128, 128, case[0]).astype(np.int8)
    got = functional.reduce("sum", x, case[1], x_zero=zero)
    expected = [sum(int(v) - zero for v in g) for g in groups(x, case[1])]
    assert (got.dtype, got.reshape(-1).tolist()) == (np.int32, expected)


@pytest.mark.parametrize(("dtype", "width"), [(np.int32, 32), (np.int64, 64)])
def test_sums_and_products_of_integers_wrap(dtype: Any, width: int) -> None:
    x = np.array([2 ** (width - 1) - 1, 3, 5], dtype)
    for kind, exact in (("sum", sum), ("prod", math.prod)):
        total = exact(int(v) for v in x)
        expected = (total + 2 ** (width - 1)) % 2**width - 2 ** (width - 1)
        got = functional.reduce(kind, x, [0])
        assert (got.dtype, got.tolist()) == (np.dtype(dtype), [expected])


def test_a_mean_of_integers_truncates() -> None:
    x = np.array([[-7, 0], [7, 0]], np.int32)
    assert functional.reduce("mean", x, [1]).tolist() == [[-3], [3]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_max_and_min_keep_integer_types(dtype: Any) -> None:
    x = np.array([3, 100, 7], dtype)
    for kind, expected in (("max", 100), ("min", 3)):
        got = functional.reduce(kind, x, [0])
        assert (got.dtype, got.tolist()) == (np.dtype(dtype), [expected])


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_gives_nan(kind: str) -> None:
    for nan in (np.float32(np.nan), -np.float32(np.nan)):
        assert np.isnan(functional.reduce(kind, np.array([1, nan, 2], np.float32), [0])).all()


@pytest.mark.parametrize(("kind", "negative"), [("max", False), ("min", True)])
def test_zeros_are_ordered_by_sign(kind: str, negative: bool) -> None:
    x = np.array([[0.0, -0.0], [-0.0, 0.0]], np.float32)
    assert np.signbit(functional.reduce(kind, x, [1])).tolist() == [[negative], [negative]]


def test_half_precision_sums_are_float32() -> None:
    assert functional.reduce("sum", floats((3,)).astype(np.float16), [0]).dtype == np.float32


def test_a_slice_gives_the_same_bits_as_the_whole() -> None:
    x = floats((600, 123))
    whole = functional.reduce("sum", x, [1])
    part = functional.reduce("sum", x[17:18], [1])
    assert part.view(np.uint32) == whole[17:18].view(np.uint32)


def test_an_unknown_kind_is_rejected() -> None:
    with pytest.raises(KeyError, match="median"):
        functional.reduce("median", floats((2,)), [0])
