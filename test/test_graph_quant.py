"""The quantized element type: spelling, interning, and what is refused."""

import re

import numpy as np
import pytest
from graph_cases import context
from hypothesis import given
from hypothesis import strategies as st
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError

from npu_dialect import dtypes
from npu_dialect.graph.quant import QuantType, uniform


def parse(text: str) -> QuantType:
    found = Parser(context(), text).parse_type()
    assert isinstance(found, QuantType)
    return found


SPELLINGS = {
    "!quant.uniform<i8:f32, 0.05:-3>": uniform(dtypes.i8, 0.05, -3),
    "!quant.uniform<u8:f32, 0.25:128>": uniform(dtypes.u8, 0.25, 128),
    "!quant.uniform<i8:f32, 1.0>": uniform(dtypes.i8, 1),
    "!quant.uniform<i16:f32, 1.5e-05>": uniform(dtypes.i16, 1.5e-5),
    "!quant.uniform<i32:f32, 0.001>": uniform(dtypes.i32, 0.001),
    "!quant.uniform<i8<-127:127>:f32, 0.05>": uniform(dtypes.i8, 0.05, low=-127, high=127),
    "!quant.uniform<i8:f32:3, {0.05:-3, 0.1, 0.2:4}>": uniform(
        dtypes.i8, [0.05, 0.1, 0.2], [-3, 0, 4], axis=3
    ),
    "!quant.uniform<i8<-8:7>:f32:0, {0.5}>": uniform(dtypes.i8, [0.5], axis=0, low=-8, high=7),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_spelling_is_that_of_upstream(text: str):
    assert str(SPELLINGS[text]) == text


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_text_parses_to_the_type(text: str):
    assert parse(text) == SPELLINGS[text]


def test_scales_in_scientific_notation_are_read():
    assert parse("!quant.uniform<i8:f32, 5.000000e-02:-3>") == uniform(dtypes.i8, 0.05, -3)


def test_the_type_is_an_element_type_of_tensors():
    text = "tensor<1x4x!quant.uniform<i8:f32:1, {0.5, 0.1, 0.2, 0.4:-7}>>"
    assert str(Parser(context(), text).parse_type()) == text


def test_equal_parameters_are_one_object():
    scales = np.linspace(0.1, 1, 4096, dtype=np.float32)
    a, b = (uniform(dtypes.i8, scales.copy(), axis=3) for _ in range(2))
    assert a.data is b.data


@pytest.mark.parametrize(
    "other",
    [
        uniform(dtypes.u8, 0.5, 1),
        uniform(dtypes.i8, 0.25, 1),
        uniform(dtypes.i8, 0.5, 2),
        uniform(dtypes.i8, [0.5], [1], axis=0),
        uniform(dtypes.i8, 0.5, 1, low=-127),
    ],
    ids=["storage", "scale", "zero point", "axis", "range"],
)
def test_types_differ_when_any_parameter_does(other: QuantType):
    assert other != uniform(dtypes.i8, 0.5, 1)


@given(st.floats(width=32, min_value=2**-126, max_value=2.0**126), st.integers(-128, 127))
def test_every_scale_survives_its_text(scale: float, zero: int):
    quant = uniform(dtypes.i8, scale, zero)
    assert parse(str(quant)).data is quant.data


@given(st.lists(st.floats(width=32, min_value=2**-140, max_value=2**20), min_size=1, max_size=9))
def test_every_list_of_scales_survives_its_text(scales: list[float]):
    quant = uniform(dtypes.u8, scales, 7, axis=2)
    assert parse(str(quant)).data is quant.data


def test_parameters_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        uniform(dtypes.i8, [0.1, 0.2], axis=0).scales[0] = 1


def test_changing_the_array_that_a_type_was_made_of_does_not_change_the_type():
    scales = np.array([0.1, 0.2], np.float32)
    quant = uniform(dtypes.i8, scales, axis=0)
    scales[0] = 9
    assert quant.scales[0] == np.float32(0.1)


REFUSED = {
    "a scale of 0": ((dtypes.i8, 0.0), "scales must be positive and finite in float32"),
    "a scale below float32": ((dtypes.i8, 1e-60), "scales must be positive and finite"),
    "an infinite scale": ((dtypes.i8, float("inf")), "scales must be positive and finite"),
    "a zero point outside": (
        (dtypes.i8, 0.1, 128),
        "zero points must be values of i8; found [128]",
    ),
    "a fractional zero point": ((dtypes.i8, 0.1, 0.5), "zero points must be values of i8"),
    "several scales without axis": ((dtypes.i8, [1, 2]), "must have one scale; found 2"),
    "a negative axis": ((dtypes.i8, [1.0], 0, -1), "must not be negative; found -1"),
    "float storage": ((dtypes.f32, 0.1), "quantized storage must be one of i8, u8, i16, u16, i32"),
    "a range outside": ((dtypes.i8, 0.1, 0, None, -129, 1), "must lie in that of i8; found -129:1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_parameters_without_meaning_are_refused(what: str):
    arguments, message = REFUSED[what]
    with pytest.raises(ValueError, match=re.escape(message)):
        uniform(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!quant.uniform<i7:f32, 0.1>", "quantized storage must be one of"),
        ("!quant.uniform<i8:f64, 0.1>", "the expressed type must be f32; found f64"),
        ("!quant.uniform<i8:f32, -0.1>", "scales must be positive"),
        ("!quant.uniform<i8:f32:0, {}>", "at least one scale"),
    ],
)
def test_text_without_meaning_is_refused_where_it_stands(text: str, message: str):
    with pytest.raises(ParseError, match=message):
        parse(text)


def test_one_zero_point_may_serve_all_channels():
    assert uniform(dtypes.u8, [0.1, 0.2], 128, axis=0).zero() == 128


def test_different_zero_points_come_as_an_array():
    zeros = uniform(dtypes.u8, [0.1, 0.2], [1, 2], axis=0).zero()
    assert np.array_equal(zeros, [1, 2])


def test_a_type_with_several_scales_has_no_single_one():
    with pytest.raises(ValueError, match="must have one scale for the whole tensor"):
        _ = uniform(dtypes.u8, [0.1, 0.2], axis=0).scale


def test_the_storage_type_is_seen_through_the_type():
    assert dtypes.of(uniform(dtypes.u8, 0.1)) is dtypes.u8
