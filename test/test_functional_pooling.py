"""Pooling against plain loops."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import functional


@dataclass(frozen=True)
class Pool:
    """A pooling of an image of `shape`."""

    shape: tuple[int, int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def options(self) -> dict[str, Any]:
        return {
            "kernel": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
        }

    @property
    def out_hw(self) -> tuple[int, int]:
        hw = self.shape[1], self.shape[2]
        return functional.output_size(hw, self.kernel, self.strides, self.dilations, self.pads)

    def window(self, x: np.ndarray, n: int, oy: int, ox: int, c: int) -> list[Any]:
        """The values that a window meets within the image, row-major."""
        found: list[Any] = []
        for ky, kx in itertools.product(range(self.kernel[0]), range(self.kernel[1])):
            y = oy * self.strides[0] + ky * self.dilations[0] - self.pads[0]
            z = ox * self.strides[1] + kx * self.dilations[1] - self.pads[1]
            if 0 <= y < self.shape[1] and 0 <= z < self.shape[2]:
                found.append(x[n, y, z, c])
        return found

    def windows(self, x: np.ndarray) -> list[list[Any]]:
        extents = (self.shape[0], *self.out_hw, self.shape[3])
        return [self.window(x, *index) for index in itertools.product(*map(range, extents))]


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilations, pads = pair(1, 3), pair(1, 2), (*pair(0, 1), *pair(0, 1))
    height, width = ((k - 1) * d + e for k, d, e in zip(kernel, dilations, pair(1, 4), strict=True))
    shape = (draw(st.integers(1, 2)), height, width, draw(st.integers(1, 3)))
    return Pool(shape, kernel, pair(1, 3), dilations, pads)


def floats(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def words(shape: tuple[int, ...], dtype: Any = np.int8) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(0).integers(info.min, info.max, shape, dtype, endpoint=True)


@given(pools())
@settings(deadline=None)
def test_max_is_the_greatest_value_of_the_window(pool: Pool) -> None:
    x = floats(pool.shape)
    expected = [max(window, default=-np.inf) for window in pool.windows(x)]
    assert functional.max_pool2d(x, **pool.options).reshape(-1).tolist() == expected


@given(pools(), st.sampled_from([np.int8, np.uint8, np.int16, np.int32]))
@settings(deadline=None)
def test_max_keeps_integer_types(pool: Pool, dtype: Any) -> None:
    x = words(pool.shape, dtype)
    got = functional.max_pool2d(x, **pool.options)
    expected = [max(window, default=np.iinfo(dtype).min) for window in pool.windows(x)]
    assert (got.dtype, got.reshape(-1).tolist()) == (np.dtype(dtype), expected)


@given(pools(), st.integers(-128, 127))
@settings(deadline=None)
def test_sum_is_of_values_less_their_zero_point(pool: Pool, zero: int) -> None:
    x = words(pool.shape)
    got = functional.sum_pool2d(x, x_zero=zero, **pool.options)
    expected = [sum(int(v) - zero for v in window) for window in pool.windows(x)]
    assert (got.dtype, got.reshape(-1).tolist()) == (np.int32, expected)


def sequential_sum(values: list[Any]) -> Any:
    total = np.float32(0)
    for value in values:
        total = np.float32(total + value)
    return total


@given(pools())
@settings(max_examples=50, deadline=None)
def test_avg_divides_the_sequential_sum_by_the_count_within_the_image(pool: Pool) -> None:
    x = floats(pool.shape)
    windows = pool.windows(x)
    expected = [sequential_sum(w) / np.float32(len(w)) if w else np.nan for w in windows]
    got = functional.avg_pool2d(x, **pool.options).reshape(-1)
    assert np.array_equal(got, np.array(expected, np.float32), equal_nan=True)


@given(pools())
@settings(max_examples=50, deadline=None)
def test_avg_may_count_padding(pool: Pool) -> None:
    x = floats(pool.shape)
    count = np.float32(pool.kernel[0] * pool.kernel[1])
    expected = [sequential_sum(window) / count for window in pool.windows(x)]
    got = functional.avg_pool2d(x, count_include_pad=True, **pool.options)
    assert got.reshape(-1).tolist() == expected


@given(pools(), st.data())
@settings(max_examples=50, deadline=None)
def test_a_tile_is_the_same_as_that_part_of_the_whole(pool: Pool, data: st.DataObject) -> None:
    x = floats(pool.shape)
    first = data.draw(st.integers(0, pool.out_hw[0] - 1))
    start = first * pool.strides[0] - pool.pads[0]
    end = start + (pool.kernel[0] - 1) * pool.dilations[0] + 1
    options = dict(pool.options, pads=(max(-start, 0), pool.pads[1], 0, 0))
    part = x[:, max(start, 0) : max(end, 0)]
    tile = functional.avg_pool2d(part, out_hw=(1, pool.out_hw[1]), **options)
    whole = functional.avg_pool2d(x, **pool.options)
    assert np.array_equal(tile, whole[:, first : first + 1], equal_nan=True)


def test_max_gives_nan_for_a_nan_of_either_sign() -> None:
    x = np.ones((1, 1, 4, 1), np.float32)
    x[0, 0, 1], x[0, 0, 2] = np.nan, -np.float32(np.nan)
    assert np.isnan(functional.max_pool2d(x, (1, 2))).all()


@pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0)])
def test_max_of_both_zeros_is_the_positive_one(zeros: tuple[float, float]) -> None:
    x = np.array(zeros, np.float32).reshape(1, 1, 2, 1)
    assert not np.signbit(functional.max_pool2d(x, (1, 2)))


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_max_works_in_half_precision(dtype: Any) -> None:
    x = floats((1, 4, 4, 2)).astype(dtype)
    got = functional.max_pool2d(x, (3, 3), pads=(1, 1, 1, 1))
    wide = functional.max_pool2d(x.astype(np.float32), (3, 3), pads=(1, 1, 1, 1))
    assert (got.dtype, got.tolist()) == (x.dtype, wide.tolist())


def test_a_window_that_exceeds_the_image_is_rejected() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        functional.max_pool2d(floats((1, 2, 2, 1)), (3, 3))
