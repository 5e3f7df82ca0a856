"""A tiled nest computes, bit for bit, what the function of whole arrays computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_nests import Conv, conv_nest, matmul_nest, pool_nest

from npu_dialect import dtypes, functional
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.tile.interpret import run
from npu_dialect.tile.verify import verify

Array = npt.NDArray[Any]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    return rng.integers(dtype.low, dtype.high, shape, dtype.numpy, endpoint=True)


def same_bits(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(
        np.ascontiguousarray(found).view(np.uint8), np.ascontiguousarray(expected).view(np.uint8)
    )


def whole(conv: Conv, x: Array, w: Array) -> Array:
    function = functional.depthwise_conv2d if conv.depthwise else functional.conv2d
    return function(
        x[None],
        w,
        strides=conv.strides,
        dilations=conv.dilations,
        pads=conv.pads,
        x_zero=conv.x_zero,
        w_zero=conv.w_zero,
    )[0]


def check_conv(conv: Conv, seed: int) -> None:
    rng = np.random.default_rng(seed)
    func = conv_nest(conv)
    func.verify()
    verify(func)
    x, w, _ = (values(rng, a.type.get_shape(), conv.dtype) for a in func.args)  # pyright: ignore
    (y,) = run(func, [x, w])
    same_bits(y, whole(conv, x, w))


small = st.integers(1, 3)
pads = st.integers(0, 4)


@st.composite
def convs(draw: st.DrawFn, *, dtype: DType, depthwise: bool = False, split: bool = True) -> Conv:
    kernel, strides, dilations = (draw(st.tuples(small, small)) for _ in range(3))
    image = (draw(st.integers(7, 14)), draw(st.integers(7, 14)), draw(st.integers(1, 7)))
    zero = st.integers(-5, 5) if dtype.is_int else st.just(0)
    return Conv(
        image=image,
        channels=image[2] if depthwise else draw(st.integers(1, 7)),
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        pads=draw(st.tuples(pads, pads, pads, pads)),
        rows=draw(st.integers(1, 6)),
        columns=draw(st.integers(1, 6)),
        out_tile=draw(st.integers(1, 7)),
        in_tile=draw(st.integers(1, 7)) if split and draw(st.booleans()) else 0,
        dtype=dtype,
        x_zero=draw(zero),
        w_zero=draw(zero),
        depthwise=depthwise,
    )


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(convs(dtype=dtypes.i8), seeds)
def test_a_tiled_integer_convolution_is_exact_for_any_tiling(conv: Conv, seed: int):
    check_conv(conv, seed)


@settings(max_examples=40, deadline=None)
@given(convs(dtype=dtypes.f32, split=False), seeds)
def test_a_tiled_float_convolution_keeps_every_bit(conv: Conv, seed: int):
    check_conv(conv, seed)


@settings(max_examples=20, deadline=None)
@given(convs(dtype=dtypes.f32), seeds)
def test_cutting_the_channels_of_a_1x1_float_convolution_keeps_the_order(conv: Conv, seed: int):
    one = Conv(**{**conv.__dict__, "kernel": (1, 1), "in_tile": conv.in_tile or 2})
    check_conv(one, seed)


@settings(max_examples=30, deadline=None)
@given(convs(dtype=dtypes.u8, depthwise=True, split=False), seeds)
def test_a_tiled_depthwise_convolution_is_exact(conv: Conv, seed: int):
    check_conv(conv, seed)


@settings(max_examples=15, deadline=None)
@given(convs(dtype=dtypes.f32, depthwise=True, split=False), seeds)
def test_a_tiled_float_depthwise_convolution_keeps_every_bit(conv: Conv, seed: int):
    check_conv(conv, seed)


def test_a_tile_that_lies_in_the_padding_entirely_is_the_zero_point_of_nothing():
    conv = Conv((4, 4, 2), 3, pads=(6, 6, 6, 6), rows=2, columns=2, x_zero=3)
    check_conv(conv, 0)


def test_the_kernel_runs_once_the_sum_is_complete():
    conv = Conv((6, 6, 6), 5, in_tile=2, out_tile=2)
    kernel = Kernel.parse("(t0: i32) -> i8: v0 = clamp.i32 t0 {low=-128, high=127}")
    rng = np.random.default_rng(1)
    x, w = values(rng, (6, 6, 6), dtypes.i8), values(rng, (3, 3, 6, 5), dtypes.i8)
    (y,) = run(conv_nest(conv, kernel), [x, w])
    same_bits(y, np.clip(whole(conv, x, w), -128, 127).astype(np.int8))


tiles = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3), tiles, st.sampled_from([dtypes.i8, dtypes.f32]), seeds)
def test_a_matrix_product_may_be_cut_in_all_three_ways(
    shape: tuple[int, int, int], tiles: tuple[int, int, int], dtype: DType, seed: int
):
    m, k, n = shape
    rng = np.random.default_rng(seed)
    func = matmul_nest(m, k, n, tiles, dtype)
    func.verify()
    verify(func)
    a, b = values(rng, (m, k), dtype), values(rng, (k, n), dtype)
    (y,) = run(func, [a, b])
    same_bits(y, functional.matmul(a, b))


@settings(max_examples=30, deadline=None)
@given(convs(dtype=dtypes.i8), seeds)
def test_a_tiled_maximum_passes_storage_values_through(conv: Conv, seed: int):
    x = values(np.random.default_rng(seed), conv.image, conv.dtype)
    func = pool_nest(conv, "max", dtypes.i8)
    func.verify()
    verify(func)
    (y,) = run(func, [x])
    expected = functional.max_pool2d(x[None], conv.kernel, conv.strides, conv.dilations, conv.pads)
    same_bits(y, expected[0])


@settings(max_examples=20, deadline=None)
@given(convs(dtype=dtypes.i8), seeds)
def test_a_tiled_sum_pool_subtracts_the_zero_point(conv: Conv, seed: int):
    x = values(np.random.default_rng(seed), conv.image, conv.dtype)
    (y,) = run(pool_nest(conv, "sum", dtypes.i32, x_zero=conv.x_zero), [x])
    expected = functional.sum_pool2d(
        x[None], conv.kernel, conv.strides, conv.dilations, conv.pads, x_zero=conv.x_zero
    )
    same_bits(y, expected[0])


@settings(max_examples=20, deadline=None)
@given(convs(dtype=dtypes.f32), st.booleans(), seeds)
def test_a_tiled_average_counts_as_the_whole_does(conv: Conv, include: bool, seed: int):
    x = values(np.random.default_rng(seed), conv.image, conv.dtype)
    (y,) = run(pool_nest(conv, "avg", dtypes.f32, count_include_pad=include), [x])
    expected = functional.avg_pool2d(
        x[None], conv.kernel, conv.strides, conv.dilations, conv.pads, count_include_pad=include
    )
    same_bits(y, expected[0])
