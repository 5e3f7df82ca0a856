"""Convolution and matrix product, against loops in int64 and against torch."""

import numpy as np
import pytest
import torch
from graph_cases import Q8, QU8, t, values
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import f32, i32, i64

from npu_dialect import dtypes, graph


def slow_conv(x, w, strides, pads, dilations, groups):
    """The definition, one output element at a time, in Python integers."""
    n, height, width, _ = x.shape
    kh, kw, depth, oc = w.shape
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    rows = (height + top + bottom - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    columns = (width + left + right - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.zeros((n, rows, columns, oc), np.int64)
    for at in np.ndindex(out.shape):
        first = at[3] // (oc // groups) * depth
        for i, j, k in np.ndindex(kh, kw, depth):
            row, column = (
                at[1] * strides[0] + i * dilations[0],
                at[2] * strides[1] + j * dilations[1],
            )
            out[at] += x[at[0], row, column, first + k] * w[i, j, k, at[3]]
    return out


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_integer_convolution_is_exact(data: st.DataObject):
    draw = data.draw
    groups, depth, per_group = draw(st.tuples(*[st.integers(1, 2)] * 3))
    kh, kw = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides, dilations = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    x_zero, w_zero = draw(st.tuples(st.integers(-128, 127), st.integers(0, 255)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    x = rng.integers(-128, 128, (2, 6, 5, groups * depth)).astype(np.int8)
    w = rng.integers(0, 256, (kh, kw, depth, groups * per_group)).astype(np.uint8)
    types = [
        t(graph.uniform(dtypes.i8, 0.1, x_zero), *x.shape),
        t(graph.uniform(dtypes.u8, 0.1, w_zero), *w.shape),
    ]
    conv = graph.Conv2DOp(
        *values(types), strides=strides, pads=pads, dilations=dilations, groups=groups
    )
    expected = slow_conv(
        x.astype(np.int64) - x_zero, w.astype(np.int64) - w_zero, strides, pads, dilations, groups
    )
    np.testing.assert_array_equal(conv.evaluate(x, w)[0], expected)
    assert conv.type == t(i32, *expected.shape)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_convolution_of_16_bit_activations_is_exact_in_64_bits(data: st.DataObject):
    """Extremes are frequent: a sum of some thousand products of them does not fit 32 bits."""
    draw = data.draw
    groups, depth, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 70)), 2
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    x_zero, w_zero = draw(st.sampled_from([0, -32768, 17])), draw(st.sampled_from([0, -128, 127]))
    weights = draw(st.sampled_from([dtypes.i8, dtypes.i16]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    x = rng.choice(np.array([-32768, 32767, 12345], np.int16), (1, 4, 3, groups * depth))
    w = rng.choice(np.array([-128, 127, 3]), (2, 3, depth, groups * per_group))
    w = w.astype(weights.numpy)
    types = [
        t(graph.uniform(dtypes.i16, 0.1, x_zero), *x.shape),
        t(graph.uniform(weights, 0.1, w_zero), *w.shape),
    ]
    conv = graph.Conv2DOp(*values(types), strides=strides, pads=pads, groups=groups)
    expected = slow_conv(
        x.astype(np.int64) - x_zero, w.astype(np.int64) - w_zero, strides, pads, (1, 1), groups
    )
    np.testing.assert_array_equal(conv.evaluate(x, w)[0], expected)
    assert conv.type == t(i64, *expected.shape)


def test_matrix_product_of_16_bit_operands_is_exact_in_64_bits():
    a = np.full((2, 5000), -32768, np.int16)
    b = np.full((5000, 3), -32768, np.int16)
    quant = graph.uniform(dtypes.i16, 0.1)
    product = graph.MatmulOp(*values([t(quant, 2, 5000), t(quant, 5000, 3)]))
    assert product.evaluate(a, b)[0].tolist() == [[5000 * 2**30] * 3] * 2


def test_sums_of_16_bit_activations_may_be_stated_to_be_of_32_bits():
    a = np.full((1, 600), -32768, np.int16)
    b = np.full((600, 1), -128, np.int8)
    kinds = [
        t(graph.uniform(q, 0.1), *s) for q, s in ((dtypes.i16, (1, 600)), (dtypes.i8, (600, 1)))
    ]
    product = graph.MatmulOp(*values([*kinds, t(i32, 1)]), sums="i32")
    wrapped = (600 * 2**22 + 5 + 2**31) % 2**32 - 2**31
    assert product.evaluate(a, b, np.array([5], np.int32))[0].tolist() == [[wrapped]]


@pytest.mark.parametrize(
    ("kinds", "sums", "message"),
    [
        ([t(Q8, 1, 2), t(Q8, 2, 1)], "i16", "sums must be i32 or i64"),
        ([t(f32, 1, 2), t(f32, 2, 1)], "i64", "sums of f32 are f32"),
        ([t(graph.uniform(dtypes.i16, 1), 1, 2), t(Q8, 2, 1), t(i32, 1)], None, "the bias must be"),
    ],
)
def test_sums_that_operands_cannot_have_are_refused(kinds, sums, message):
    with pytest.raises(ValueError, match=message):
        graph.MatmulOp(*values(kinds), sums=sums)


def test_zero_points_per_channel_are_subtracted_per_channel():
    quant = graph.uniform(dtypes.i8, [0.1, 0.1], [0, 5], axis=3)
    conv = graph.Conv2DOp(*values([t(Q8, 1, 1, 1, 1), t(quant, 1, 1, 1, 2)]))
    assert conv.evaluate(np.array([[[[7]]]], np.int8), np.array([[[[2, 2]]]], np.int8))[
        0
    ].tolist() == [[[[20, -30]]]]


def test_the_bias_of_an_integer_convolution_wraps():
    conv = graph.Conv2DOp(*values([t(Q8, 1, 1, 1, 1), t(Q8, 1, 1, 1, 1), t(i32, 1)]))
    one = np.array([[[[-2]]]], np.int8)
    assert conv.evaluate(one, one, np.array([2**31 - 1], np.int32))[0].tolist() == [[[[-(2**31)]]]]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_float_convolution_agrees_with_torch(groups: int):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 9, 8, 4), np.float32)
    w = rng.standard_normal((3, 2, 4 // groups, 4), np.float32)
    bias = rng.standard_normal(4, np.float32)
    operands = values([t(f32, *a.shape) for a in (x, w, bias)])
    conv = graph.Conv2DOp(
        *operands, strides=(2, 1), pads=(1, 2, 1, 2), dilations=(1, 2), groups=groups
    )
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(w.transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(bias),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        groups=groups,
    )
    found = conv.evaluate(x, w, bias)[0]
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_float_products_are_added_in_ascending_order():
    """1e8 + 1 - 1e8 is 0 in that order, and 1 in another."""
    a, b = np.array([[1e8, 1, -1e8]], np.float32), np.ones((3, 1), np.float32)
    product = graph.MatmulOp(*values([t(f32, 1, 3), t(f32, 3, 1)]))
    assert product.evaluate(a, b)[0].tolist() == [[0.0]]


def test_integer_matmul_subtracts_zero_points():
    rng = np.random.default_rng(5)
    a = rng.integers(0, 256, (2, 1, 3, 70)).astype(np.uint8)
    b = rng.integers(-128, 128, (4, 70, 5)).astype(np.int8)
    product = graph.MatmulOp(*values([t(QU8, *a.shape), t(Q8, *b.shape)]))
    expected = np.einsum("aimk,bkn->abmn", a.astype(np.int64) - 128, b.astype(np.int64) + 3)
    np.testing.assert_array_equal(product.evaluate(a, b)[0], expected)


def test_float_matmul_agrees_with_torch():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((3, 4, 8), np.float32), rng.standard_normal((8, 5), np.float32)
    bias = rng.standard_normal(5, np.float32)
    product = graph.MatmulOp(*values([t(f32, 3, 4, 8), t(f32, 8, 5), t(f32, 5)]))
    expected = torch.from_numpy(a) @ torch.from_numpy(b) + torch.from_numpy(bias)
    found = product.evaluate(a, b, bias)[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("groups", "weights", "depthwise"),
    [(4, (3, 3, 1, 4), True), (4, (3, 3, 1, 8), False), (1, (3, 3, 4, 4), False)],
)
def test_a_convolution_is_depthwise_when_groups_equal_both_channel_counts(
    groups: int, weights: tuple[int, ...], depthwise: bool
):
    conv = graph.Conv2DOp(*values([t(f32, 1, 6, 6, 4), t(f32, *weights)]), groups=groups)
    assert conv.is_depthwise is depthwise


IMAGE = (f32, 1, 6, 6, 4)
REFUSED = {
    "an input of rank 3": ([t(f32, 6, 6, 4), t(f32, 3, 3, 4, 2)], {}, "the input must have 4 dim"),
    "weights of rank 3": ([t(*IMAGE), t(f32, 3, 4, 2)], {}, "the weights must have 4 dimensions"),
    "other channels": (
        [t(*IMAGE), t(f32, 3, 3, 3, 2)],
        {},
        r"weights must have 4 input channels \(4 in 1 groups\); found 3",
    ),
    "groups that do not divide": (
        [t(*IMAGE), t(f32, 3, 3, 1, 4)],
        {"groups": 3},
        "groups must divide the 4 channels .* found 3",
    ),
    "a window beyond the input": (
        [t(*IMAGE), t(f32, 7, 3, 4, 2)],
        {},
        "the window must fit the padded input; found a reach of 7 over 6 in dimension 1",
    ),
    "negative pads": ([t(*IMAGE), t(f32, 3, 3, 4, 2)], {"pads": (0, 0, -1, 0)}, "pads must be at"),
    "three strides": (
        [t(*IMAGE), t(f32, 3, 3, 4, 2)],
        {"strides": (1, 1, 1)},
        "must have 2 entries",
    ),
    "float with quantized": (
        [t(*IMAGE), t(Q8, 3, 3, 4, 2)],
        {},
        "must be floats or both quantized",
    ),
    "plain integers": (
        [t(i32, 1, 6, 6, 4), t(i32, 3, 3, 4, 2)],
        {},
        "elements of type f32 or f16 or bf16 or quant8",
    ),
    "a bias of another length": (
        [t(*IMAGE), t(f32, 3, 3, 4, 2), t(f32, 4)],
        {},
        "the bias must be tensor<2xf32>; found tensor<4xf32>",
    ),
    "weights quantized along the input channels": (
        [t(Q8, 1, 6, 6, 4), t(graph.uniform(dtypes.i8, [1, 2, 3, 4], axis=2), 3, 3, 4, 2)],
        {},
        "must be quantized along its last dimension",
    ),
    "an input quantized per axis": (
        [t(graph.uniform(dtypes.i8, [1, 2, 3, 4], axis=3), 1, 6, 6, 4), t(Q8, 3, 3, 4, 2)],
        {},
        "must have one scale for the whole tensor",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_convolution_refuses(what: str):
    types, keywords, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        graph.Conv2DOp(*values(types), **keywords)


def test_matmul_refuses_inner_dimensions_that_differ():
    with pytest.raises(ValueError, match=r"must be \[..., M, K\] and \[..., K, N\]; found"):
        graph.MatmulOp(*values([t(f32, 2, 3), t(f32, 4, 2)]))
