"""Reductions, pooling and normalizations, against torch and plain numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from graph_cases import Q8, op, t, value, values
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Attribute

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import GraphOp

RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 5, 6, 3), np.float32)
Q = RNG.integers(-128, 128, (2, 5, 6, 3)).astype(np.int8)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def nhwc(x: torch.Tensor) -> np.ndarray:
    return x.numpy().transpose(0, 2, 3, 1)


def apply(
    build: Callable[..., GraphOp], *arrays: np.ndarray, element: Attribute = f32
) -> np.ndarray:
    made: GraphOp = build(*values([t(element, *a.shape) for a in arrays]))
    return made.evaluate(*arrays)[0]


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max", "Min", "Prod"])
def test_float_reductions_agree_with_numpy(kind: str):
    found = apply(lambda x: op(f"Reduce{kind}")(x, (1, 3)), X)
    expected = getattr(np, kind.lower())(X.astype(np.float64), axis=(1, 3), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_sum_of_a_quantized_tensor_is_of_the_differences_to_the_zero_point():
    found = apply(lambda x: graph.ReduceSumOp(x, (1, 2)), Q, element=Q8)
    expected = (Q.astype(np.int64) + 3).sum((1, 2), keepdims=True)
    np.testing.assert_array_equal(found, expected.astype(np.int32), strict=True)


def test_the_maximum_of_a_quantized_tensor_keeps_its_type():
    reduced = graph.ReduceMaxOp(value(t(Q8, *Q.shape)), axes=(3,))
    assert reduced.type == t(Q8, 2, 5, 6, 1)
    np.testing.assert_array_equal(reduced.evaluate(Q)[0], Q.max(3, keepdims=True))


def test_integer_sums_wrap():
    x = np.array([[2**31 - 1, 1]], np.int32)
    assert apply(lambda v: graph.ReduceSumOp(v, (1,)), x, element=i32).tolist() == [[-(2**31)]]


@pytest.mark.parametrize("axes", [(3,), (1, 1), (2, 1)])
def test_axes_must_exist_and_ascend(axes: tuple[int, ...]):
    with pytest.raises(ValueError, match="axis must lie in 0..2|axes must ascend"):
        graph.ReduceSumOp(value(t(f32, 2, 3, 4)), axes=axes)


def test_the_mean_of_integers_is_refused():
    with pytest.raises(ValueError, match="must have elements of type f32"):
        graph.ReduceMeanOp(value(t(i32, 2)), axes=(0,))


def test_max_pooling_agrees_with_torch():
    found = apply(lambda x: graph.MaxPool2DOp(x, (3, 2), (2, 1), (1, 1, 1, 1)), X)
    expected = torch.nn.functional.max_pool2d(nchw(X), (3, 2), (2, 1), (1, 1))
    np.testing.assert_array_equal(found, nhwc(expected))


def test_max_pooling_with_dilation_agrees_with_torch():
    found = apply(lambda x: graph.MaxPool2DOp(x, (2, 2), dilations=(2, 3)), X)
    expected = torch.nn.functional.max_pool2d(nchw(X), (2, 2), 1, 0, (2, 3))
    np.testing.assert_array_equal(found, nhwc(expected))


def test_the_padding_of_a_quantized_maximum_is_the_smallest_stored_value():
    x = np.full((1, 1, 1, 1), -128, np.int8)
    found = apply(lambda v: graph.MaxPool2DOp(v, (2, 2), pads=(1, 1, 0, 0)), x, element=Q8)
    assert found.tolist() == [[[[-128]]]]


@pytest.mark.parametrize("include", [False, True])
def test_average_pooling_agrees_with_torch(include: bool):
    found = apply(
        lambda x: graph.AvgPool2DOp(x, (3, 2), (2, 1), (1, 1, 1, 1), count_include_pad=include),
        X,
    )
    expected = torch.nn.functional.avg_pool2d(
        nchw(X), (3, 2), (2, 1), (1, 1), count_include_pad=include
    )
    np.testing.assert_allclose(found, nhwc(expected), rtol=1e-5, atol=1e-6)


def test_sum_pooling_adds_differences_to_the_zero_point_and_nothing_for_padding():
    found = apply(lambda x: graph.SumPool2DOp(x, (2, 2), (2, 2), (1, 0, 0, 0)), Q, element=Q8)
    padded = np.pad(Q.astype(np.int64) + 3, ((0, 0), (1, 0), (0, 0), (0, 0)))
    expected = padded.reshape(2, 3, 2, 3, 2, 3).sum((2, 4))
    np.testing.assert_array_equal(found, expected)


def test_pooling_of_a_window_beyond_the_input_is_refused():
    with pytest.raises(
        ValueError, match="the window must fit the padded input; found a reach of 9"
    ):
        graph.MaxPool2DOp(value(t(f32, 1, 6, 8, 1)), kernel=(1, 9))


@pytest.mark.parametrize("axis", range(4))
def test_softmax_agrees_with_torch(axis: int):
    expected = torch.softmax(torch.from_numpy(X), axis).numpy()
    np.testing.assert_allclose(apply(lambda x: graph.SoftmaxOp(x, axis), X), expected, rtol=1e-5)


def test_softmax_of_great_values_does_not_overflow():
    found = apply(lambda x: graph.SoftmaxOp(x, 0), np.array([1000, 1000], np.float32))
    assert found.tolist() == [0.5, 0.5]


def test_log_softmax_agrees_with_torch():
    expected = torch.log_softmax(torch.from_numpy(X), 3).numpy()
    found = apply(lambda x: graph.LogSoftmaxOp(x, 3), X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [1, 3])
def test_batch_norm_agrees_with_torch(axis: int):
    size = X.shape[axis]
    scale, bias, mean = RNG.standard_normal((3, size), np.float32)
    variance = RNG.uniform(0.5, 2, size).astype(np.float32)
    found = apply(
        lambda *v: graph.BatchNormOp(*v, axis=axis, epsilon=1e-3), X, scale, bias, mean, variance
    )
    expected = torch.nn.functional.batch_norm(
        torch.from_numpy(np.moveaxis(X, axis, 1).copy()),
        torch.from_numpy(mean),
        torch.from_numpy(variance),
        torch.from_numpy(scale),
        torch.from_numpy(bias),
        eps=1e-3,
    )
    expected = np.moveaxis(expected.numpy(), 1, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [2, 3])
def test_layer_norm_agrees_with_torch(axis: int):
    shape = X.shape[axis:]
    scale, bias = RNG.standard_normal((2, *shape), np.float32)
    found = apply(lambda *v: graph.LayerNormOp(*v, axis=axis, epsilon=1e-4), X, scale, bias)
    expected = torch.nn.functional.layer_norm(
        torch.from_numpy(X), shape, torch.from_numpy(scale), torch.from_numpy(bias), 1e-4
    )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_parameters_of_a_normalization_must_fit_its_axis():
    with pytest.raises(
        ValueError, match="every parameter must be tensor<4xf32>; found tensor<3xf32>"
    ):
        graph.LayerNormOp(*values([t(f32, 2, 4), t(f32, 4), t(f32, 3)]), axis=1)


def test_reducing_a_tensor_quantized_per_axis_is_refused():
    quant = graph.uniform(dtypes.i8, [0.1, 0.2], axis=0)
    with pytest.raises(ValueError, match="must have one scale for the whole tensor"):
        graph.ReduceMaxOp(value(t(quant, 2, 3)), axes=(1,))
