"""Comparisons, quotients, choices and bits: the results of TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import activations, check, compare, every_value, quantized, seeds, types
from tflite_models import Array, Tensor, constant, draw, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite


def bounds(dtype: str) -> tuple[int, int]:
    return np.iinfo(dtype).min, np.iinfo(dtype).max


COMPARISONS = ["EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"]
OTHER = "mobile4k"


@pytest.mark.parametrize("code", COMPARISONS)
@given(st.data(), seeds, types)
@settings(max_examples=5)
def test_comparisons_of_different_scales(
    code: str, data: st.DataObject, seed: int, dtype: str
) -> None:
    x, z = quantized((2, 200), dtype, data), quantized((200,), dtype, data)
    check(model(code, [x, z], [Tensor((2, 200), "bool")]), [x, z], seed)


@pytest.mark.parametrize("code", COMPARISONS)
def test_comparisons_of_one_small_scale_count_close_values_as_equal(code: str) -> None:
    x = Tensor((256,), "int8", 0.001, 3)
    source = model(code, [x, constant(7, "int8", scale=0.001, zero=3)], [Tensor((256,), "bool")])
    compare(source, [every_value(x)])


def test_comparisons_of_a_scale_of_1_are_refused() -> None:
    x = Tensor((8,), "int8", 1.0, 3)
    with pytest.raises(CompileError, match="where TFLite compares with less than 1 only"):
        tflite.load(model("LESS", [x, x], [Tensor((8,), "bool")]))


@given(st.data(), seeds, st.sampled_from([(2, 200), (200,), ()]))
@settings(max_examples=8)
def test_squared_differences(data: st.DataObject, seed: int, shape: tuple[int, ...]) -> None:
    x, z, y = (quantized(s, "int8", data) for s in [(2, 200), shape, (2, 200)])
    source = model("SQUARED_DIFFERENCE", [x, z], [y], "SquaredDifferenceOptions")
    check(source, [x, z], seed)


def test_squared_differences_of_u8_are_refused_as_tflite_refuses_them() -> None:
    x = Tensor((8,), "uint8", 0.1, 3)
    with pytest.raises(CompileError, match="operands of u8, which TFLite has not either"):
        tflite.load(model("SQUARED_DIFFERENCE", [x, x], [x]))


def divisible(x: Tensor, z: Tensor, y: Tensor) -> None:
    """So that TFLite's right shift, of up to 38 bits without, has at most 31."""
    y.scale = float(np.float32(min(y.scale, x.scale / (z.scale * 65))))


def divisors(z: Tensor, rng: np.random.Generator) -> Array:
    values = draw(rng, z)
    return np.where(values == z.zero, values ^ 1, values).astype(z.dtype)


@given(st.data(), seeds, types, activations, st.sampled_from([(2, 200), (200,), (2, 1)]))
@settings(max_examples=12)
def test_quotients(
    data: st.DataObject, seed: int, dtype: str, function: int, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    x, z, y = (quantized(s, dtype, data) for s in [(2, 200), shape, (2, 200)])
    divisible(x, z, y)
    source = model("DIV", [x, z], [y], "DivOptions", fusedActivationFunction=function)
    compare(source, [draw(rng, x), divisors(z, rng)])


@given(st.data(), seeds, types)
@settings(max_examples=8)
def test_a_quotient_by_a_number_is_a_table(data: st.DataObject, seed: int, dtype: str) -> None:
    x, z, y = (
        quantized((256,), dtype, data),
        quantized((), dtype, data),
        quantized((256,), dtype, data),
    )
    divisible(x, z, y)
    z.values = divisors(z, np.random.default_rng(seed))
    source = model("DIV", [x, z], [y], "DivOptions")
    text = str(tflite.load(source))
    assert "graph.lookup" in text and "graph.rescale" not in text
    compare(source, [every_value(x)])


@pytest.mark.parametrize("code", ["FLOOR_DIV", "FLOOR_MOD", "DIV"])
def test_quotients_of_integers(code: str) -> None:
    x, rng = Tensor((200,), "int32"), np.random.default_rng(0)
    values = rng.integers(-50, 50, 200, np.int32), rng.integers(1, 9, 200, np.int32)
    signs = np.where(rng.random(200) < 0.5, -1, 1).astype(np.int32)
    options = {"DIV": "DivOptions", "FLOOR_DIV": "FloorDivOptions", "FLOOR_MOD": "FloorModOptions"}
    compare(model(code, [x, x], [x], options[code]), [values[0], values[1] * signs], target=OTHER)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32", "int32"])
@pytest.mark.parametrize("code", ["SELECT", "SELECT_V2"])
def test_choices(code: str, dtype: str) -> None:
    scale = 0.1 if "int8" in dtype else None
    x, condition = Tensor((3, 40), dtype, scale, 5), Tensor((3, 40), "bool")
    options = {"SELECT": "SelectOptions", "SELECT_V2": "SelectV2Options"}[code]
    check(model(code, [condition, x, x], [x], options), [condition, x, x], target=OTHER)


def test_a_choice_for_each_part() -> None:
    x, condition = Tensor((3, 40), "int8", 0.1, 5), Tensor((3,), "bool")
    check(model("SELECT", [condition, x, x], [x], "SelectOptions"), [condition, x, x])


@pytest.mark.parametrize("code", ["LOGICAL_AND", "LOGICAL_OR"])
def test_truth_values(code: str) -> None:
    x = Tensor((3, 40), "bool")
    check(model(code, [x, x], [x]), [x, x])


def test_the_other_truth_value() -> None:
    x = Tensor((3, 40), "bool")
    check(model("LOGICAL_NOT", [x], [x]), [x])


@pytest.mark.parametrize("code", ["REDUCE_ANY", "REDUCE_ALL"])
@pytest.mark.parametrize("axes", [[0], [1], [0, 1]])
def test_whether_any_or_all_hold(code: str, axes: list[int]) -> None:
    x = Tensor((3, 4), "bool")
    shape = [n for k, n in enumerate(x.shape) if k not in axes]
    source = model(code, [x, constant(axes)], [Tensor(shape, "bool")], "ReducerOptions")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.2, 0.8, 1.0):
        compare(source, [rng.random((3, 4)) < share])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_exclusive_or(dtype: str) -> None:
    x = Tensor((40,), dtype)
    check(model("BITWISE_XOR", [x, x], [x]), [x, x])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_shifts_to_the_right(dtype: str) -> None:
    x, rng = Tensor((40,), dtype), np.random.default_rng(0)
    amounts = rng.integers(0, np.iinfo(dtype).bits, 40).astype(dtype)
    compare(model("RIGHT_SHIFT", [x, x], [x]), [draw(rng, x), amounts])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_sum_of_many(dtype: str) -> None:
    x = Tensor((40,), dtype)
    check(model("ADD_N", [x, x, x], [x], "AddNOptions"), [x, x, x], target=OTHER)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize(("exclusive", "reverse"), [(False, False), (True, False), (False, True)])
def test_cumulative_sums(exclusive: bool, reverse: bool, dtype: str) -> None:
    x = Tensor((3, 10), dtype)
    source = model(
        "CUMSUM", [x, constant(1)], [x], "CumsumOptions", exclusive=exclusive, reverse=reverse
    )
    check(source, [x], rtol=1e-5, target=OTHER)


def test_powers() -> None:
    x, rng = Tensor((40,), "float32"), np.random.default_rng(0)
    values = rng.uniform(0.1, 4, (2, 40)).astype(np.float32)
    compare(model("POW", [x, x], [x], "PowOptions"), list(values), rtol=1e-5, target=OTHER)


def test_products_along_a_dimension() -> None:
    x, y = Tensor((3, 5), "float32"), Tensor((3,), "float32")
    source = model("REDUCE_PROD", [x, constant([1])], [y], "ReducerOptions")
    check(source, [x], rtol=1e-5, target=OTHER)


def test_lengths_of_1() -> None:
    x = Tensor((3, 5), "float32")
    source = model("L2_NORMALIZATION", [x], [x], "L2NormOptions")
    check(source, [x], rtol=1e-5, target=OTHER)


@pytest.mark.parametrize("width", [1, 7, 500])
@given(st.data(), seeds, types)
@settings(max_examples=3)
def test_lengths_of_1_of_8_bits(width: int, data: st.DataObject, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    x = quantized((40, width), dtype, data)
    y = Tensor((40, width), dtype, 1 / 128, 0 if dtype == "int8" else 128)
    near = np.clip(x.zero + rng.integers(-2, 3, (20, width)), *bounds(dtype)).astype(dtype)
    values = np.concatenate([near, draw(rng, Tensor((20, width), dtype))])
    compare(model("L2_NORMALIZATION", [x], [y], "L2NormOptions"), [values])


def test_the_logarithm_of_a_softmax() -> None:
    x = Tensor((3, 5), "float32")
    check(model("LOG_SOFTMAX", [x], [x], "LogSoftmaxOptions"), [x], rtol=1e-5, target=OTHER)


@pytest.mark.parametrize("padding", [0, 1])
def test_the_root_of_the_mean_of_squares(padding: int) -> None:
    x = Tensor((1, 5, 6, 3), "float32")
    y = Tensor((1, 5, 6, 3) if padding == 0 else (1, 4, 4, 3), "float32")
    source = model(
        "L2_POOL_2D", [x], [y], "Pool2DOptions", padding=padding, strideH=1, strideW=1,
        filterHeight=2, filterWidth=3,
    )  # fmt: skip
    check(source, [x], rtol=1e-5, target=OTHER)
