"""Convolutions and matrix products against plain loops, at the extremes too."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import functional
from npu_dialect.functional import Weights, prepare_weights

ONE = (1, 1)
NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class Case:
    """A convolution; `options` are keyword arguments."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    strides: tuple[int, int] = ONE
    dilations: tuple[int, int] = ONE
    pads: tuple[int, int, int, int] = NO_PADS
    groups: int = 1

    @property
    def options(self) -> dict[str, Any]:
        return {**self.window, "groups": self.groups}

    @property
    def window(self) -> dict[str, Any]:
        return {"strides": self.strides, "dilations": self.dilations, "pads": self.pads}

    @property
    def out_hw(self) -> tuple[int, int]:
        h = self.x[1] + self.pads[0] + self.pads[2] - (self.w[0] - 1) * self.dilations[0] - 1
        w = self.x[2] + self.pads[1] + self.pads[3] - (self.w[1] - 1) * self.dilations[1] - 1
        return h // self.strides[0] + 1, w // self.strides[1] + 1


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small convolutions in which at least one window fits."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    kernel, dilations, extra = pair(1, 3), pair(1, 2), pair(0, 4)
    pads = (*pair(0, 2), *pair(0, 2))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    height, width = (max(1, spans[i] - pads[i] - pads[i + 2]) + extra[i] for i in (0, 1))
    x = (draw(st.integers(1, 2)), height, width, per_group * groups)
    return Case(x, (*kernel, per_group, outputs * groups), pair(1, 3), dilations, pads, groups)


def padded(x: np.ndarray, pads: tuple[int, int, int, int]) -> np.ndarray:
    return np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))


def exact_conv(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """By the definition, in int64, of operands without zero points; wrapped to int32."""
    image = padded(x.astype(np.int64), case.pads)
    per_group, outputs = case.w[2], case.w[3] // case.groups
    result = np.zeros((x.shape[0], *case.out_hw, case.w[3]), np.int64)
    for oy, ox, ky, kx in itertools.product(*map(range, (*case.out_hw, *case.w[:2]))):
        y = oy * case.strides[0] + ky * case.dilations[0]
        pixel = image[:, y, ox * case.strides[1] + kx * case.dilations[1]]
        for oc, ic in itertools.product(range(case.w[3]), range(per_group)):
            value = pixel[:, oc // outputs * per_group + ic]
            result[:, oy, ox, oc] += value * int(w[ky, kx, ic, oc])
    return result.astype(np.int32)


def sequential_conv(case: Case, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """By the definition, one float32 operation after the other."""
    image = padded(x, case.pads)
    per_group, outputs = case.w[2], case.w[3] // case.groups
    result = np.zeros((x.shape[0], *case.out_hw, case.w[3]), np.float32)
    for n, oy, ox, oc in itertools.product(*map(range, result.shape)):
        total = np.float32(0)
        for ky, kx, ic in itertools.product(*map(range, case.w[:3])):
            y = oy * case.strides[0] + ky * case.dilations[0]
            channel = oc // outputs * per_group + ic
            value = image[n, y, ox * case.strides[1] + kx * case.dilations[1], channel]
            total = np.float32(total + np.float32(value * w[ky, kx, ic, oc]))
        result[n, oy, ox, oc] = total
    return result


def sequential_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for m, n in itertools.product(*map(range, result.shape)):
        for k in range(a.shape[1]):
            result[m, n] = np.float32(result[m, n] + np.float32(a[m, k] * b[k, n]))
    return result


def integers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, int(info.max) + 1, shape, dtype=np.int64).astype(dtype)


def floats(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def bits(x: np.ndarray) -> list[int]:
    return x.view(np.uint32).reshape(-1).tolist()


@given(cases(), st.sampled_from([np.int8, np.uint8]), st.integers(-128, 255))
@settings(deadline=None)
def test_8_bit_convolutions_are_exact(case: Case, dtype: Any, x_zero: int) -> None:
    x, w = integers(case.x, dtype), integers(case.w, np.int8, 1)
    expected = exact_conv(case, x.astype(np.int64) - x_zero, w)
    assert np.array_equal(functional.conv2d(x, w, x_zero=x_zero, **case.options), expected)


@given(cases(), st.integers(-(2**31), 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_16_and_32_bit_convolutions_wrap(case: Case, seed: int) -> None:
    x, w = integers(case.x, np.int16), integers(case.w, np.int32, abs(seed))
    assert np.array_equal(functional.conv2d(x, w, **case.options), exact_conv(case, x, w))


@given(cases())
@settings(max_examples=50, deadline=None)
def test_float_convolutions_add_rounded_products_in_order(case: Case) -> None:
    x, w = floats(case.x), floats(case.w, 1)
    assert bits(functional.conv2d(x, w, **case.options)) == bits(sequential_conv(case, x, w))


@given(cases())
@settings(max_examples=30, deadline=None)
def test_float_convolutions_agree_with_torch(case: Case) -> None:
    torch = pytest.importorskip("torch")
    x, w = floats(case.x), floats(case.w, 1)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(padded(x, case.pads).transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(w.transpose(3, 2, 0, 1).copy()),
        stride=case.strides,
        dilation=case.dilations,
        groups=case.groups,
    )
    got = functional.conv2d(x, w, **case.options).transpose(0, 3, 1, 2)
    assert np.allclose(got, expected.numpy(), rtol=1e-5, atol=1e-5)


@given(cases(), st.integers(-128, 127))
@settings(max_examples=50, deadline=None)
def test_prepared_weights_give_the_same(case: Case, w_zero: int) -> None:
    x, w = integers(case.x, np.int8), integers(case.w, np.int8, 1)
    prepared = prepare_weights(w, w_zero)
    expected = functional.conv2d(x, w, w_zero=w_zero, **case.options)
    for _ in range(2):
        assert np.array_equal(functional.conv2d(x, prepared, **case.options), expected)


@given(cases(), st.data())
@settings(max_examples=50, deadline=None)
def test_a_tile_computed_from_its_part_of_the_input_is_the_same(
    case: Case, data: st.DataObject
) -> None:
    x, w = floats(case.x), floats(case.w, 1)
    rows, columns = case.out_hw
    first = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(1, rows - first))
    start = first * case.strides[0] - case.pads[0]
    end = start + (count - 1) * case.strides[0] + (case.w[0] - 1) * case.dilations[0] + 1
    part = x[:, max(start, 0) : max(end, 0)]
    options = dict(case.options, pads=(max(-start, 0), case.pads[1], 0, 0))
    tile = functional.conv2d(part, w, out_hw=(count, columns), **options)
    whole = functional.conv2d(x, w, **case.options)
    assert bits(tile) == bits(np.ascontiguousarray(whole[:, first : first + count]))


@pytest.mark.parametrize("depth", [1, 15, 16, 100, 1000, 4700])
@pytest.mark.parametrize("x_value", [-128, 127])
@pytest.mark.parametrize("w_value", [-128, 127])
def test_the_greatest_8_bit_sums_are_exact(depth: int, x_value: int, w_value: int) -> None:
    x = np.full((1, 2, 2, depth), x_value, np.int8)
    w = np.full((1, 1, depth, 3), w_value, np.int8)
    expected = (x_value - 127) * (w_value + 128) * depth
    result = functional.conv2d(x, w, x_zero=127, w_zero=-128)
    assert np.unique(result).tolist() == [expected]


@pytest.mark.parametrize("depth", [1, 2, 3, 4097])
def test_16_bit_sums_wrap_around(depth: int) -> None:
    x = np.full((1, depth), -32768, np.int16)
    w = np.full((depth, 2), -32768, np.int16)
    expected = (depth * 2**30 + 2**31) % 2**32 - 2**31
    assert np.unique(functional.matmul(x, w)).tolist() == [expected]


def test_32_bit_products_wrap_around() -> None:
    x = np.array([[-(2**31), 2**31 - 1]], np.int32)
    w = np.array([[2**31 - 1], [2**31 - 1]], np.int32)
    expected = (-(2**31) * (2**31 - 1) + (2**31 - 1) ** 2 + 2**31) % 2**32 - 2**31
    assert functional.matmul(x, w).tolist() == [[expected]]


def test_great_values_near_a_great_zero_point_are_exact() -> None:
    x = np.array([[2**30 + 1]], np.int32)
    assert functional.matmul(x, np.ones((1, 1), np.int8), x_zero=2**30).tolist() == [[1]]


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_sums_around_2_to_24_are_exact(excess: int) -> None:
    x = np.array([[1, 1]], np.int32)
    w = np.array([[2**23], [2**23 + excess]], np.int32)
    assert functional.matmul(x, w).tolist() == [[2**24 + excess]]


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_sums_around_2_to_53_are_exact(excess: int) -> None:
    x = np.array([[2**22, 1, 1]], np.int32)
    w = np.array([[2**31 - 1], [2**22], [excess]], np.int32)
    assert functional.matmul(x, w).tolist() == [[excess]]


def test_zero_points_of_weights_may_be_per_channel() -> None:
    x, w = integers((5, 7), np.int8), integers((7, 3), np.int8, 1)
    zeros = np.array([-3, 0, 127])
    expected = x.astype(np.int64) @ (w.astype(np.int64) - zeros)
    assert np.array_equal(functional.matmul(x, w, w_zero=zeros), expected)


def test_integer_padding_contributes_nothing() -> None:
    x, w = np.full((1, 1, 1, 1), 9, np.int8), np.ones((3, 3, 1, 1), np.int8)
    assert functional.conv2d(x, w, pads=(1, 1, 1, 1), x_zero=7).tolist() == [[[[2]]]]


def test_float_padding_takes_part_as_positive_zero() -> None:
    x, w = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    w[0, 0] = np.inf
    assert np.isnan(functional.conv2d(x, w, pads=(0, 1, 0, 0))[0, 0, 0, 0])


def test_float_sums_start_from_positive_zero() -> None:
    x = np.array([[-0.0]], np.float32)
    assert not np.signbit(functional.matmul(x, np.ones((1, 1), np.float32)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (5, 3), (3, 300), (300, 3)])
def test_float_products_add_rounded_products_in_order(shape: tuple[int, int]) -> None:
    a, b = floats((shape[0], 37)), floats((37, shape[1]), 1)
    assert bits(functional.matmul(a, b)) == bits(sequential_matmul(a, b))


@pytest.mark.parametrize("shape", [(3, 5000), (5000, 3), (150, 2500)])
def test_blocks_of_great_float_products_do_not_matter(shape: tuple[int, int]) -> None:
    a, b = floats((shape[0], 9)), floats((9, shape[1]), 1)
    total = np.zeros(shape, np.float32)
    for k in range(9):
        total += a[:, k, None] * b[k]
    assert bits(functional.matmul(a, b)) == bits(total)


def test_blocks_of_a_great_float_convolution_do_not_matter() -> None:
    case = Case((2, 70, 70, 3), (3, 3, 3, 5), pads=(1, 1, 1, 1))
    x, w = floats(case.x), floats(case.w, 1)
    image = padded(x, case.pads)
    total = np.zeros((2, 70, 70, 5), np.float32)
    for ky, kx, ic in itertools.product(range(3), range(3), range(3)):
        total += image[:, ky : ky + 70, kx : kx + 70, ic, None] * w[ky, kx, ic]
    assert bits(functional.conv2d(x, w, **case.options)) == bits(total)


def test_blocks_of_a_great_integer_convolution_do_not_matter() -> None:
    case = Case((2, 70, 70, 32), (3, 3, 32, 5), pads=(1, 1, 1, 1))
    x, w = integers(case.x, np.int8), integers(case.w, np.int8, 1)
    image = padded(x, case.pads).astype(np.int64)
    total = np.zeros((2, 70, 70, 5), np.int64)
    for ky, kx in itertools.product(range(3), range(3)):
        total += image[:, ky : ky + 70, kx : kx + 70] @ w[ky, kx].astype(np.int64)
    assert np.array_equal(functional.conv2d(x, w, **case.options), total)


@pytest.mark.parametrize(
    ("left", "right"),
    [((4, 3, 5), (4, 5, 2)), ((2, 1, 3, 5), (4, 5, 2)), ((3, 5), (6, 5, 2)), ((6, 3, 5), (5, 2))],
)
def test_leading_dimensions_of_matrix_products_broadcast(
    left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    a, b = integers(left, np.int8), integers(right, np.int8, 1)
    expected = a.astype(np.int64) @ b.astype(np.int64)
    assert np.array_equal(functional.matmul(a, b), expected)
    floating = functional.matmul(a.astype(np.float32), b.astype(np.float32))
    assert np.array_equal(floating, expected)


@given(st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_a_sum_continued_from_a_partial_one_is_the_same(split: int) -> None:
    a, b = floats((4, 9)), floats((9, 6), 1)
    partial = functional.matmul(a[:, :split], b[:split])
    assert bits(functional.matmul(a[:, split:], b[split:], acc=partial)) == bits(
        functional.matmul(a, b)
    )


def test_a_start_value_is_added_and_left_alone() -> None:
    x, w = integers((1, 3, 3, 2), np.int8), integers((2, 2, 2, 4), np.int8, 1)
    start = np.full((1, 2, 2, 4), 2**31 - 1, np.int32)
    got = functional.conv2d(x, w, acc=start)
    assert np.array_equal(got, functional.conv2d(x, w) + start)
    assert np.unique(start).tolist() == [2**31 - 1]


def depthwise_case(case: Case) -> Case:
    channels = case.x[3]
    w = (*case.w[:2], 1, channels)
    return Case(case.x, w, case.strides, case.dilations, case.pads, channels)


@given(cases(), st.integers(-128, 127), st.integers(-128, 127))
@settings(max_examples=50, deadline=None)
def test_integer_depthwise_convolutions_are_exact(case: Case, x_zero: int, w_zero: int) -> None:
    case = depthwise_case(case)
    x, w = integers(case.x, np.int8), integers(case.w, np.int8, 1)
    expected = exact_conv(case, x.astype(np.int64) - x_zero, w.astype(np.int64) - w_zero)
    got = functional.depthwise_conv2d(x, w[:, :, 0], x_zero=x_zero, w_zero=w_zero, **case.window)
    assert np.array_equal(got, expected)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_float_depthwise_convolutions_add_in_order(case: Case) -> None:
    case = depthwise_case(case)
    x, w = floats(case.x), floats(case.w, 1)
    got = functional.depthwise_conv2d(x, w[:, :, 0], **case.window)
    assert bits(got) == bits(sequential_conv(case, x, w))


def test_32_bit_depthwise_convolutions_wrap() -> None:
    x = np.full((1, 2, 2, 1), 2**31 - 1, np.int32)
    w = np.full((2, 2, 1), 3, np.int8)
    assert functional.depthwise_conv2d(x, w).item() == (12 * (2**31 - 1)) % 2**32 - 2**32


def test_strided_operands_are_accepted() -> None:
    x = integers((1, 6, 5, 8), np.int8)
    w = integers((4, 2, 3, 3), np.int8, 1)
    got = functional.conv2d(x[..., ::2], w.transpose(2, 3, 0, 1))
    expected = functional.conv2d(
        np.ascontiguousarray(x[..., ::2]), np.ascontiguousarray(w.transpose(2, 3, 0, 1))
    )
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_half_precision_operands_are_widened(dtype: Any) -> None:
    a, b = floats((3, 4)).astype(dtype), floats((4, 2), 1).astype(dtype)
    assert bits(functional.matmul(a, b)) == bits(
        functional.matmul(a.astype(np.float32), b.astype(np.float32))
    )


def test_mixed_operands_are_rejected() -> None:
    with pytest.raises(ValueError, match="both be float or both integer, found int8 and float32"):
        functional.matmul(np.zeros((1, 1), np.int8), np.zeros((1, 1), np.float32))


def test_channels_that_do_not_fit_are_rejected() -> None:
    with pytest.raises(ValueError, match="must agree and groups divide OC"):
        functional.conv2d(np.zeros((1, 2, 2, 3), np.int8), np.zeros((1, 1, 2, 4), np.int8))


def test_a_window_that_exceeds_the_image_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"a window of \(3, 3\) .* exceeds \(2, 2\)"):
        functional.conv2d(np.zeros((1, 2, 2, 1), np.int8), np.zeros((3, 3, 1, 1), np.int8))


def test_negative_pads_are_rejected() -> None:
    with pytest.raises(ValueError, match="pads must not be negative"):
        functional.conv2d(
            np.zeros((1, 2, 2, 1), np.int8), np.zeros((1, 1, 1, 1), np.int8), pads=(0, -1, 0, 0)
        )


def test_a_start_value_of_another_shape_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"shape of the result \(1, 1\), found \(1,\)"):
        one = np.ones((1, 1), np.int8)
        functional.matmul(one, one, acc=np.zeros(1, np.int32))


def test_a_second_zero_point_for_prepared_weights_is_rejected() -> None:
    with pytest.raises(ValueError, match="carry their zero point, found another one: 3"):
        functional.matmul(np.ones((1, 1), np.int8), Weights(np.ones((1, 1), np.int8)), w_zero=3)
