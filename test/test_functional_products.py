"""Sums of integer products in float32, by numpy and by torch, against plain int64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect.functional import exact
from npu_dialect.functional.products import Products, Window

TYPES = [np.dtype(t) for t in (np.int8, np.uint8, np.int16)]


@cache
def products(name: str) -> Products:
    if name == "numpy":
        return Products()
    pytest.importorskip("torch", reason="torch is not installed: its products are not tested")
    from npu_dialect.functional.torch_products import TorchProducts

    return TorchProducts(great=0) if name == "torch, all" else TorchProducts()


each = pytest.mark.parametrize("name", ["numpy", "torch", "torch, all"])


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Small ones, also with windows that lie wholly in the padding."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    image = (*pair(1, 6), draw(st.sampled_from([1, 2, 3, 8, 17])))
    return Window(image, pair(1, 3), pair(1, 5), pair(1, 3), pair(1, 2), pair(0, 2))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Random numbers, or only the extremes."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["any", "low", "high", "ends"]))
    if kind == "any":
        return rng.integers(limits.min, int(limits.max) + 1, shape).astype(dtype)
    ends = {"low": [limits.min], "high": [limits.max], "ends": [limits.min, limits.max]}[kind]
    return rng.choice(np.array(ends, dtype), shape)


def expected(
    x: np.ndarray, filters: np.ndarray, window: Window, bias: np.ndarray, depthwise: bool
) -> np.ndarray:
    """By the definition, in int64."""
    (top, left), (rows, columns) = window.corner, window.out_hw
    room = [(top, rows * 3 + 9), (left, columns * 3 + 9), (0, 0)]
    padded = np.pad(x.astype(np.int64) - window.fill, room)
    result = np.zeros((rows, columns, filters.shape[-1]), np.int64) + bias
    for row, column in np.ndindex(*window.kernel):
        y, z = row * window.dilations[0], column * window.dilations[1]
        part = padded[y :: window.strides[0], z :: window.strides[1]][:rows, :columns]
        tap = filters[row, column]
        result += part * tap if depthwise else part @ tap
    return result.reshape(-1, filters.shape[-1])


@each
@given(windows(), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_sums_are_those_of_int64(
    name: str, window: Window, depthwise: bool, data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(TYPES))
    fill = data.draw(st.integers(-300, 300))
    window = Window(
        window.image, window.kernel, window.out_hw, window.strides, window.dilations,
        window.corner, fill,
    )  # fmt: skip
    channels = window.image[2]
    outputs = () if depthwise else (data.draw(st.sampled_from([1, 2, 9])),)
    x = data.draw(arrays(window.image, dtype))
    weights = data.draw(arrays((*window.kernel, channels, *outputs), np.dtype(np.int8)))
    filters = weights.astype(np.int64) - data.draw(st.integers(-128, 255))
    bias = data.draw(arrays(filters.shape[-1:], np.dtype(np.int16))).astype(np.int64)
    run = exact.contraction(products(name), window, filters, dtype, bias, depthwise)
    if run is None:
        assert dtype == np.int16, "sums of 8-bit products must be exact at these sizes"
        return
    for _ in range(2):
        assert np.array_equal(run(x), expected(x, filters, window, bias, depthwise))


@each
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [64, 128, 512, 1024])
@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-128, 127])
def test_the_greatest_8_bit_sums_are_exact(
    name: str, kernel: int, channels: int, x_value: int, w_value: int
) -> None:
    window = Window(
        (10, 12, channels), (kernel, kernel), (10, 12), corner=(kernel // 2, kernel // 2)
    )
    x = np.full(window.image, x_value, np.int8)
    filters = np.full((kernel, kernel, channels, 24), w_value, np.int64)
    filters[..., ::2] += 1
    bias = np.arange(24)
    run = exact.contraction(products(name), window, filters, x.dtype, bias)
    if run is None:
        assert 128 * 128 * kernel * kernel * channels > exact.PARTS << 24
    else:
        assert np.array_equal(run(x), expected(x, filters, window, bias, False))


@each
def test_great_sums_are_split_over_the_channels(name: str) -> None:
    window = Window((9, 9, 512), (3, 3), (9, 9), corner=(1, 1), fill=3)
    rng = np.random.default_rng(0)
    x = rng.integers(200, 256, window.image).astype(np.uint8)
    filters = rng.integers(0, 50, (3, 3, 512, 32))
    run = exact.contraction(products(name), window, filters, x.dtype, np.arange(32) - 9)
    assert run is not None
    sums = run(x)
    assert sums.max() > 2**24
    assert np.array_equal(sums, expected(x, filters, window, np.arange(32) - 9, False))


@each
@pytest.mark.parametrize("excess", [0, 1])
def test_partial_sums_reach_up_to_2_to_24(name: str, excess: int) -> None:
    filters = np.array([[[[2**15], [2**15], [excess - 1 - 126]]]])
    window, x = Window((1, 1, 3), (1, 1), (1, 1)), np.array([[[255, 255, 255]]], np.uint8)
    bias = np.array([2**24 - 1 - 2 * 255 * 2**15 + excess])
    run = exact.contraction(products(name), window, filters, x.dtype, bias)
    assert run is not None
    assert run(x).dtype == (np.float64 if excess else np.float32)
    assert run(x).tolist() == [[2**24 - 1 + excess + 255 * (excess - 127)]]


@each
def test_sums_that_float32_cannot_hold_are_refused(name: str) -> None:
    window = Window((1, 1, 4), (1, 1), (1, 1))
    for filters in (np.full((1, 1, 4, 2), 2**23), np.full((1, 1, 4), 2**23)):
        bias, depthwise = np.zeros(filters.shape[-1], np.int64), filters.ndim == 3
        made = exact.contraction(
            products(name), window, filters, np.dtype(np.int8), bias, depthwise
        )
        assert made is None


@each
def test_sums_that_wrap_around_are_refused(name: str) -> None:
    window, filters = Window((1, 1, 4), (1, 1), (1, 1)), np.ones((1, 1, 4, 1), np.int64)
    bias = np.array([2**31 - 1])
    assert exact.contraction(products(name), window, filters, np.dtype(np.int8), bias) is None


@each
def test_images_that_share_their_padding_do_not_mix(name: str) -> None:
    rng, made = np.random.default_rng(1), products(name)
    window = Window((12, 12, 64), (3, 3), (12, 12), corner=(1, 1), fill=7)
    filters = [rng.integers(-128, 128, (3, 3, 64, n)) for n in (16, 80)]
    x = rng.integers(0, 256, (2, *window.image)).astype(np.uint8)
    runs = [
        exact.contraction(made, window, f, x.dtype, np.zeros(f.shape[-1], np.int64))
        for f in filters
    ]
    for image in (*x, x[0]):
        for run, f in zip(runs, filters, strict=True):
            assert run is not None
            zeros = np.zeros(f.shape[-1], np.int64)
            assert np.array_equal(run(image), expected(image, f, window, zeros, False))


def test_torch_that_is_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = products("torch")
    monkeypatch.setattr(type(made), "direct", lambda *_: lambda x: np.zeros((99, 64), np.float32))
    with pytest.raises(ArithmeticError, match=r"must add whole numbers below 2\*\*24 exactly"):
        type(made)()
