"""What elementwise operations of graph compute, against torch and plain numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from graph_cases import Q8, op, t, value, values
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import f32, i1, i8, i32, i64
from xdsl.ir import Attribute

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import GraphOp

TORCH = {
    "Relu": torch.relu,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Rsqrt": torch.rsqrt,
    "Reciprocal": torch.reciprocal,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Erf": torch.erf,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Sign": torch.sign,
    "Gelu": torch.nn.functional.gelu,
    "Silu": torch.nn.functional.silu,
    "HardSwish": torch.nn.functional.hardswish,
    "Softplus": torch.nn.functional.softplus,
}
INTEGER = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}
COMPARE = {
    "Eq": np.equal,
    "Ne": np.not_equal,
    "Lt": np.less,
    "Le": np.less_equal,
    "Gt": np.greater,
    "Ge": np.greater_equal,
}


def evaluate(build: Callable[..., GraphOp], *arrays: np.ndarray, element: Attribute = f32):
    kinds = [t(element, *a.shape) for a in arrays]
    return build(*values(kinds)).evaluate(*arrays)[0]


@pytest.mark.parametrize("name", TORCH)
def test_unary_functions_agree_with_torch(name: str):
    positive = name in ("Log", "Sqrt", "Rsqrt", "Reciprocal")
    x = np.linspace(0.01 if positive else -6, 6, 301, dtype=np.float32)
    expected = TORCH[name](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(evaluate(op(name), x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "reference"),
    [
        (lambda x: graph.ClampOp(x, -0.5, 2.25), lambda x: torch.clamp(x, -0.5, 2.25)),
        (lambda x: graph.LeakyReluOp(x, 0.2), lambda x: torch.nn.functional.leaky_relu(x, 0.2)),
        (lambda x: graph.EluOp(x, 0.7), lambda x: torch.nn.functional.elu(x, 0.7)),
        (lambda x: graph.HardSigmoidOp(x, 1 / 6, 0.5), torch.nn.functional.hardsigmoid),
    ],
    ids=["clamp", "leaky_relu", "elu", "hard_sigmoid"],
)
def test_functions_with_parameters_agree_with_torch(build, reference):
    x = np.linspace(-5, 5, 101, dtype=np.float32)
    expected = reference(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(evaluate(build, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", INTEGER)
def test_integer_arithmetic_wraps_at_32_bits(name: str):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-(2**31), 2**31, (2, 100), dtype=np.int64)
    expected = INTEGER[name](a, b).astype(np.int32)  # exact in 64 bits, then the low 32
    found = evaluate(op(name), a.astype(np.int32), b.astype(np.int32), element=i32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", COMPARE)
def test_comparisons_give_bool(name: str):
    a, b = np.array([[1, 2, 3]], np.int64), np.array([[2]], np.int64)
    found = evaluate(op(name), a, b, element=i64)
    np.testing.assert_array_equal(found, COMPARE[name](a, b), strict=True)


def test_integer_division_truncates_toward_zero():
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    assert evaluate(graph.DivOp, a, b, element=i32).tolist() == [3, -3, -3, 3]


def test_not_inverts_bool():
    assert evaluate(graph.NotOp, np.array([True, False]), element=i1).tolist() == [False, True]


@pytest.mark.parametrize(("name", "expected"), [("And", 0b1000), ("Or", 0b1110), ("Xor", 0b0110)])
def test_bitwise_operations_work_on_integers(name: str, expected: int):
    found = evaluate(op(name), np.array([0b1100], np.int8), np.array([0b1010], np.int8), element=i8)
    assert found.tolist() == [expected]


def test_pow_agrees_with_torch():
    x = np.linspace(0.1, 3, 50, dtype=np.float32)
    expected = torch.pow(torch.from_numpy(x), torch.from_numpy(x[::-1].copy())).numpy()
    np.testing.assert_allclose(evaluate(graph.PowOp, x, x[::-1].copy()), expected, rtol=1e-5)


def test_relu_of_a_quantized_tensor_is_the_maximum_with_the_zero_point():
    found = evaluate(graph.ReluOp, np.array([-128, -4, -3, -2, 127], np.int8), element=Q8)
    assert found.tolist() == [-3, -3, -3, -2, 127]


def test_relu_of_a_tensor_quantized_per_axis_uses_the_zero_point_of_each_channel():
    quant = graph.uniform(dtypes.i8, [0.1, 0.2], [5, -5], axis=1)
    found = evaluate(graph.ReluOp, np.array([[0, 0], [9, -9]], np.int8), element=quant)
    assert found.tolist() == [[5, 0], [9, -5]]


def test_clamp_of_a_quantized_tensor_bounds_the_stored_values():
    found = evaluate(
        lambda x: graph.ClampOp(x, -3, 100), np.array([-128, 0, 127], np.int8), element=Q8
    )
    assert found.tolist() == [-3, 0, 100]


@pytest.mark.parametrize(("low", "high"), [(-129, 1), (0, 128)])
def test_clamp_bounds_must_be_values_of_the_storage_type(low: float, high: float):
    (x,) = values([t(Q8, 4)])
    with pytest.raises(ValueError, match="must be an integer that i8 can hold; found"):
        graph.ClampOp(x, low, high)


def test_clamp_bounds_must_be_in_order():
    with pytest.raises(ValueError, match=r"min must not be above max; found 2.0 and 1.0"):
        graph.ClampOp(value(t(f32, 4)), min=2, max=1)


def test_where_chooses_by_the_condition_and_broadcasts():
    condition, a, b = (
        np.array([[True], [False]]),
        np.array([1, 2], np.float32),
        np.array([9], np.float32),
    )
    x = graph.WhereOp(*values([t(i1, 2, 1), t(f32, 2), t(f32, 1)]))
    assert x.evaluate(condition, a, b)[0].tolist() == [[1, 2], [9, 9]]


def test_cast_of_floats_truncates_and_saturates():
    x = np.array([1.9, -1.9, 300, -300, np.nan], np.float32)
    found = evaluate(lambda v: graph.CastOp(v, dtypes.i8), x)
    assert found.tolist() == [1, -1, 127, -128, 0]


def test_cast_of_integers_keeps_the_low_bits():
    found = evaluate(
        lambda v: graph.CastOp(v, dtypes.u8), np.array([257, -1], np.int32), element=i32
    )
    assert found.tolist() == [1, 255]


def test_cast_rounds_to_f16_to_nearest_even():
    found = evaluate(
        lambda v: graph.CastOp(v, dtypes.f16), np.array([1 + 2**-11, 1 + 3 * 2**-11], np.float32)
    )
    assert found.tolist() == [1.0, 1 + 2**-9]


def test_operands_must_have_the_same_element_type():
    with pytest.raises(ValueError, match="must have the same element type; found tensor<2xf32>"):
        graph.AddOp(*values([t(f32, 2), t(i32, 2)]))


def test_arithmetic_on_quantized_tensors_is_refused():
    with pytest.raises(ValueError, match=r"must have elements of type f32 or i32 or i64; found"):
        graph.AddOp(*values([t(Q8, 2), t(Q8, 2)]))


shapes = st.lists(st.integers(1, 4), max_size=4)


@given(shapes, shapes, shapes)
def test_broadcasting_is_that_of_numpy(a: list[int], b: list[int], c: list[int]):
    operands = values([t(i1, *a), t(f32, *b), t(f32, *c)])
    try:
        expected = np.broadcast_shapes(tuple(a), tuple(b), tuple(c))
    except ValueError:
        with pytest.raises(ValueError, match="shapes must broadcast together"):
            graph.WhereOp(*operands)
    else:
        assert graph.WhereOp(*operands).type.get_shape() == expected


@given(st.integers(0, 3), st.integers(0, 3))
def test_dimensions_of_size_zero_broadcast_as_in_numpy(a: int, b: int):
    operands = values([t(f32, a), t(f32, b)])
    try:
        expected = np.broadcast_shapes((a,), (b,))
    except ValueError:
        with pytest.raises(ValueError, match="shapes must broadcast together"):
            graph.AddOp(*operands)
    else:
        assert graph.AddOp(*operands).type.get_shape() == expected
