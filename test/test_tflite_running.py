"""LOG_SOFTMAX, products and floored quotients of 8 and 16 bits: the bits of TFLite's kernels."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check, compare, quantized, seeds, types
from tflite_models import Tensor, constant, draw, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite


def logarithms(shape: tuple[int, ...], dtype: str, scale: float, zero: int = 0) -> bytes:
    x, y = Tensor(shape, dtype, scale, zero), Tensor(shape, dtype, 1 / 16, np.iinfo(dtype).max)
    return model("LOG_SOFTMAX", [x], [y], "LogSoftmaxOptions")


@given(seeds, types, st.integers(1, 300), st.floats(-7, 1.2), st.integers(1, 90))
@settings(max_examples=6)
def test_logarithms_of_softmaxes(
    seed: int, dtype: str, width: int, exponent: float, spread: int
) -> None:
    info, rng = np.iinfo(dtype), np.random.default_rng(seed)
    source = logarithms((20, width), dtype, float(np.exp(exponent)), 5)
    middle = (info.min + info.max) / 2
    rows = np.clip(rng.normal(middle, spread, (20, width)), info.min, info.max).astype(dtype)
    compare(source, [rows])


def test_a_logarithm_of_a_softmax_must_end_at_0() -> None:
    x, y = Tensor((3, 5), "int8", 0.1), Tensor((3, 5), "int8", 1 / 16, 100)
    with pytest.raises(CompileError, match="a logarithm of a softmax of"):
        tflite.load(model("LOG_SOFTMAX", [x], [y], "LogSoftmaxOptions"))


AXES = ([1], [0, 2], [3], [0, 1, 2, 3], [2, 1])


@pytest.mark.parametrize("axes", AXES)
@given(st.data(), seeds, st.floats(-3, 0), st.floats(-5, 2))
@settings(max_examples=4)
def test_products_of_8_bits(
    axes: list[int], data: st.DataObject, seed: int, reach: float, exponent: float
) -> None:
    shape, scale = (3, 4, 2, 5), float(np.float32(np.exp(exponent)))
    x = quantized(shape, "int8", data)
    count = prod(shape[k] for k in axes)
    x.scale = float(np.exp(reach)) / 128 * scale ** (1 / count)
    kept = [n for k, n in enumerate(shape) if k not in axes]
    y = Tensor(kept, "int8", scale, data.draw(st.integers(-128, 127)))
    check(model("REDUCE_PROD", [x, constant(axes)], [y], "ReducerOptions"), [x], seed)


@given(seeds, st.floats(0.1, 1), st.floats(0.01, 3))
@settings(max_examples=8)
def test_products_of_16_bits(seed: int, reach: float, scale: float) -> None:
    x = Tensor((4, 50), "int16", reach / 32768 * scale**0.25)
    source = model("REDUCE_PROD", [x, constant([0])], [Tensor((50,), "int16", scale)])
    check(source, [x], seed)


def test_products_of_u8_are_refused_as_tflite_refuses_them() -> None:
    x = Tensor((4, 8), "uint8", 0.1)
    with pytest.raises(CompileError, match="a product of quantized u8, which TFLite has not"):
        tflite.load(model("REDUCE_PROD", [x, constant([0])], [Tensor((8,), "uint8", 0.1)]))


OPTIONS = {"FLOOR_DIV": "FloorDivOptions", "FLOOR_MOD": "FloorModOptions"}


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("code", OPTIONS)
@given(st.data(), seeds)
@settings(max_examples=5)
def test_floored_quotients_are_of_stored_values(
    code: str, dtype: str, data: st.DataObject, seed: int
) -> None:
    rng, info = np.random.default_rng(seed), np.iinfo(dtype)
    x, y, z = (quantized((9, 80), dtype, data) for _ in range(3))
    if dtype == "int16":
        x.zero = y.zero = z.zero = 0
    values, divisors = draw(rng, x), draw(rng, y)
    values[values == info.min] = 0  # -2**7 / -1 has no value of 8 bits
    divisors[divisors == 0] = 3
    compare(model(code, [x, y], [z], OPTIONS[code]), [values, divisors])


@pytest.mark.parametrize("code", OPTIONS)
def test_floored_quotients_of_plain_bytes(code: str) -> None:
    x, rng = Tensor((200,), "int8"), np.random.default_rng(0)
    values = [rng.integers(-100, 100, 200, np.int8), rng.integers(1, 9, 200, np.int8)]
    compare(model(code, [x, x], [x], OPTIONS[code]), values)


def test_remainders_of_floats_are_refused() -> None:
    x = Tensor((8,), "float32")
    with pytest.raises(CompileError, match="a floored quotient of f32"):
        tflite.load(model("FLOOR_MOD", [x, x], [x], "FloorModOptions"))
