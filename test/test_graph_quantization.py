"""Quantize, dequantize, requantize and lookup, against integer and rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from graph_cases import Q8, QM, QU8, context, t, value, values
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import f32, i8, i32
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import RequantAttr


def test_quantize_divides_rounds_to_even_and_saturates():
    made = graph.QuantizeOp(value(t(f32, 5)), graph.uniform(dtypes.i8, 0.5, -3))
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9], np.float32)  # quotients 0.5, 1.5, -0.5
    assert made.evaluate(x)[0].tolist() == [-3, -1, -3, 127, -128]


def test_quantize_saturates_to_a_narrower_storage_range():
    quant = graph.uniform(dtypes.i8, 0.5, 0, low=-127, high=7)
    made = graph.QuantizeOp(value(t(f32, 2)), quant)
    assert made.evaluate(np.array([1e9, -1e9], np.float32))[0].tolist() == [7, -127]


def test_quantize_per_axis_uses_the_parameters_of_each_channel():
    made = graph.QuantizeOp(value(t(f32, 1, 3)), QM)
    assert made.evaluate(np.array([[1, 1, 1.5]], np.float32))[0].tolist() == [[11, 7, 8]]


def test_dequantize_per_axis_uses_the_parameters_of_each_channel():
    made = graph.DequantizeOp(value(t(QM, 1, 3)))
    found = made.evaluate(np.array([[11, 7, 8]], np.int8))[0]
    expected = np.array([10, 5, 5], np.float32) * np.array([0.1, 0.2, 0.3], np.float32)
    np.testing.assert_array_equal(found, expected[None], strict=True)


@given(st.floats(2**-10, 2**10, width=32), st.integers(-128, 127))
def test_every_stored_value_survives_dequantize_and_quantize(scale: float, zero: int):
    quant = graph.uniform(dtypes.i8, scale, zero)
    stored = np.arange(-128, 128).astype(np.int8)
    real = graph.DequantizeOp(value(t(quant, 256))).evaluate(stored)[0]
    back = graph.QuantizeOp(value(t(f32, 256)), quant).evaluate(real)[0]
    np.testing.assert_array_equal(back, stored)


def test_requantize_in_f32_rounds_to_even_adds_the_zero_point_and_saturates():
    made = graph.RequantizeOp(value(t(i32, 5)), graph.requant_f32(0.5), Q8)
    x = np.array([1, 3, -1, 1000, -1000], np.int32)
    assert made.evaluate(x)[0].tolist() == [-3, -1, -3, 127, -128]


def test_requantize_uses_one_multiplier_per_index_of_the_last_dimension():
    made = graph.RequantizeOp(value(t(i32, 2, 2)), graph.requant_f32([1, 10]), i32)
    assert made.evaluate(np.array([[1, 2], [3, 4]], np.int32))[0].tolist() == [[1, 20], [3, 40]]


def test_requantize_subtracts_the_zero_point_of_its_operand():
    made = graph.RequantizeOp(value(t(QU8, 2)), graph.requant_f32(2), i32)
    assert made.evaluate(np.array([128, 0], np.uint8))[0].tolist() == [0, -256]


ROUND = {
    "half_even": round,
    "half_up": lambda x: (x + Fraction(1, 2)).__floor__(),
    "half_away": lambda x: (abs(x) + Fraction(1, 2)).__floor__() * (1 if x >= 0 else -1),
}


@pytest.mark.parametrize("rounding", ROUND)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(0, 62))
def test_fixed_point_requantization_is_the_rational_product_rounded(
    rounding: str, x: int, multiplier: int, shift: int
):
    recipe = graph.requant_fixed(multiplier, shift, rounding)
    made = graph.RequantizeOp(value(t(i32, 1)), recipe, i32)
    exact = ROUND[rounding](Fraction(x * multiplier, 2**shift))
    expected = min(max(exact, -(2**31)), 2**31 - 1)
    assert made.evaluate(np.array([x], np.int32))[0].tolist() == [expected]


def test_requantize_refuses_another_number_of_multipliers():
    recipe = graph.requant_f32([1, 2, 3])
    with pytest.raises(ValueError, match=r"1 multiplier or 4 \(the last dimension\); found 3"):
        graph.RequantizeOp(value(t(i32, 2, 4)), recipe, Q8)


def test_requantize_refuses_float_results():
    with pytest.raises(ValueError, match="the result must have elements of type i32 or quant"):
        graph.RequantizeOp(value(t(i32, 2)), graph.requant_f32(1), f32)


RECIPES = {
    "#graph.requant<f32, [0.0123]>": graph.requant_f32(0.0123),
    "#graph.requant<f32, [0.5, 1.0e-07]>": graph.requant_f32([0.5, 1e-7]),
    "#graph.requant<fixed, [1073741824], [38], half_up>": graph.requant_fixed(
        1 << 30, 38, "half_up"
    ),
    "#graph.requant<fixed, [-5, 6], [0, 62], double>": graph.requant_fixed(
        [-5, 6], [0, 62], "double"
    ),
}


@pytest.mark.parametrize("text", RECIPES)
def test_recipes_read_as_they_print(text: str):
    assert str(RECIPES[text]) == text
    assert Parser(context(), text).parse_attribute() == RECIPES[text]


def test_equal_recipes_are_one_object():
    many = np.linspace(1e-4, 1e-2, 2048)
    assert graph.requant_f32(many).data is graph.requant_f32(many).data


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: graph.requant_fixed(1 << 31, 0), "multipliers must fit 32 bits"),
        (lambda: graph.requant_fixed(1, 63), "shifts must lie in 0..62; found"),
        (lambda: graph.requant_fixed(1, 1, "up"), "the rounding must be one of"),
        (lambda: graph.requant_f32(float("nan")), "multipliers must be finite"),
        (lambda: graph.requant_f32([]), "multipliers must be finite"),
    ],
    ids=["multiplier", "shift", "rounding", "nan", "empty"],
)
def test_recipes_without_meaning_are_refused(build, message: str):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_recipe_of_an_unknown_kind_is_refused_where_it_stands():
    with pytest.raises(ParseError, match="a recipe must be f32 or fixed; found bf16"):
        Parser(context(), "#graph.requant<bf16, [0.5]>").parse_attribute()


def test_recipes_are_attributes_of_their_own():
    assert isinstance(graph.requant_f32(1), RequantAttr)


@pytest.mark.parametrize(("x", "index"), [(-128, 0), (0, 128), (127, 255)])
def test_lookup_of_i8_starts_at_the_smallest_value(x: int, index: int):
    table = np.arange(256).astype(np.uint8)
    made = graph.LookupOp(*values([t(Q8, 1), t(QU8, 256)]), type=QU8)
    assert made.evaluate(np.array([x], np.int8), table)[0].tolist() == [index]


def test_lookup_of_u8_starts_at_zero():
    table = np.arange(256).astype(np.float32)
    made = graph.LookupOp(*values([t(QU8, 1), t(f32, 256)]), type=f32)
    assert made.evaluate(np.array([200], np.uint8), table)[0].tolist() == [200.0]


def test_the_table_must_have_256_entries():
    with pytest.raises(ValueError, match=r"the table must have the shape \[256\]; found"):
        graph.LookupOp(*values([t(Q8, 1), t(i8, 255)]), type=Q8)


def test_the_result_must_have_the_storage_type_of_the_table():
    with pytest.raises(ValueError, match="must have the storage type of the table"):
        graph.LookupOp(*values([t(Q8, 1), t(i8, 256)]), type=QU8)


@pytest.mark.parametrize("rounding", ROUND)
def test_rescale_multiplies_by_numbers_of_run_time_and_rounds_once(rounding: str) -> None:
    """Against exact fractions, at the ends of the range too."""
    x = np.array([[0, 5, -5, 7, 2**31 - 1, -(2**31)]], np.int32)
    by = np.array([[3], [-1], [2**31 - 1], [-(2**31)]], np.int32)
    made = graph.RescaleOp(value(t(i32, 1, 6)), value(t(i32, 4, 1)), 33, i32, rounding)
    (found,) = made.evaluate(x, by)
    exact = [[Fraction(int(a) * int(b[0]), 2**33) for a in x[0]] for b in by]
    assert found.tolist() == [[ROUND[rounding](v) for v in row] for row in exact]


def test_rescale_takes_and_gives_quantized_values() -> None:
    made = graph.RescaleOp(value(t(QU8, 2)), value(t(i32, 1)), 1, Q8)
    (found,) = made.evaluate(np.array([200, 3], np.uint8), np.array([1], np.int32))
    zero, out = QU8.zero_point, Q8.zero_point
    assert found.tolist() == [min(max(round((v - zero) / 2) + out, -128), 127) for v in (200, 3)]


def test_rescale_checks_the_shift() -> None:
    with pytest.raises(ValueError, match="the shift must be 0 to 62; found 63"):
        graph.RescaleOp(value(t(i32, 2)), value(t(i32, 1)), 63, i32)
