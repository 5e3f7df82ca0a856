"""Functions of one tensor: tables of 8 bits with the bits of TFLite, floats near to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check, compare, every_value, quantized, seeds, types
from tflite_models import Tensor, draw, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

POSITIVE = ("SQRT", "RSQRT")


@pytest.mark.parametrize("code", ["ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT"])
@given(st.data())
@settings(max_examples=8)
def test_functions_of_i8(code: str, data: st.DataObject) -> None:
    x = quantized((256,), "int8", data)
    values = every_value(x)
    if code in POSITIVE:
        values = np.maximum(values, np.int8(x.zero))
    compare(model(code, [x], [quantized((256,), "int8", data)]), [values])


@given(st.data(), types, st.booleans())
@settings(max_examples=8)
def test_gelu(data: st.DataObject, dtype: str, approximate: bool) -> None:
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    compare(model("GELU", [x], [y], "GeluOptions", approximate=approximate), [every_value(x)])


@given(st.data(), types)
@settings(max_examples=8)
def test_relu_0_to_1(data: st.DataObject, dtype: str) -> None:
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    compare(model("RELU_0_TO_1", [x], [y]), [every_value(x)])


@given(st.data())
@settings(max_examples=8)
def test_elu_of_i8_as_the_kernels_without_delegates(data: st.DataObject) -> None:
    x, y = quantized((256,), "int8", data), quantized((256,), "int8", data)
    source = model("ELU", [x], [y])
    compare(source, [every_value(x)], "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


@given(st.data(), seeds, types, st.sampled_from([(6, 5, 8), (8,), (1, 5, 1)]))
@settings(max_examples=15)
def test_prelu(data: st.DataObject, seed: int, dtype: str, slopes: tuple[int, ...]) -> None:
    x, y = quantized((2, 6, 5, 8), dtype, data), quantized((2, 6, 5, 8), dtype, data)
    alpha = quantized(slopes, dtype, data)
    alpha.values = draw(np.random.default_rng(seed), alpha)
    check(model("PRELU", [x, alpha], [y]), [x], seed)


@given(st.data(), types, st.sampled_from([-0.3, -1.5, 0.0]))
@settings(max_examples=8)
def test_slopes_that_turn_the_sign(data: st.DataObject, dtype: str, alpha: float) -> None:
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    compare(model("LEAKY_RELU", [x], [y], "LeakyReluOptions", alpha=alpha), [every_value(x)])


FLOATS = ("ABS", "NEG", "EXP", "SIN", "COS", "FLOOR", "SQUARE", "RELU_0_TO_1", "SIGN", "GELU")


@pytest.mark.parametrize("code", FLOATS)
def test_functions_of_floats(code: str) -> None:
    x = Tensor((3, 40), "float32")
    check(model(code, [x], [x]), [x], rtol=1e-6, target="mobile4k")


@pytest.mark.parametrize("code", ["SQRT", "RSQRT", "LOG"])
def test_functions_of_positive_floats(code: str) -> None:
    x = Tensor((3, 40), "float32")
    values = np.abs(draw(np.random.default_rng(0), x)) + np.float32(0.1)
    compare(model(code, [x], [x]), [values], rtol=1e-6, target="mobile4k")


@pytest.mark.parametrize("code", ["ELU", "ROUND", "CEIL"])
def test_functions_that_only_other_kernels_have(code: str) -> None:
    x = Tensor((3, 40), "float32")
    other = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    check(model(code, [x], [x]), [x], resolver=other, rtol=1e-6, target="mobile4k")


def test_prelu_of_floats() -> None:
    x, slopes = Tensor((2, 5, 8), "float32"), Tensor((8,), "float32")
    check(model("PRELU", [x, slopes], [x]), [x, slopes], target="mobile4k")


@pytest.mark.parametrize("code", ["ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT"])
def test_a_function_of_u8_is_refused_as_tflite_refuses_it(code: str) -> None:
    x = Tensor((8,), "uint8", 0.1, 3)
    with pytest.raises(CompileError, match="this function of u8, which TFLite has not either"):
        tflite.load(model(code, [x], [x]))
