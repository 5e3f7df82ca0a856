"""Floats times 8-bit and 4-bit weights, quantized at run time: the bits of TFLite's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, constant, draw, model, reference

from npu_dialect.frontends import tflite
from npu_dialect.levels import Level

seeds = st.integers(0, 2**32 - 1)
flags = st.booleans()


LEVELS: tuple[Level, ...] = ("graph", "tile", "npu")


def compare(source: bytes, inputs: list[Array], levels: tuple[Level, ...] = ()) -> None:
    """As imported, and at some levels."""
    expected = reference(source, inputs)
    module = npu.load(tflite.load(source), target="headset2k")
    for level in (None, *levels):
        if level:
            npu.lower(module, until=level)
        for a, b in zip(npu.execute(module, inputs).values(), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def weights(
    shape: tuple[int, ...], axis: int | None, rng: np.random.Generator, dtype: str = "int8"
) -> Tensor:
    count = 1 if axis is None else shape[axis]
    most = 7 if dtype == "int4" else 127
    scale = rng.uniform(0.002, 0.02, count).astype(np.float32)
    values = rng.integers(-most, most, shape, np.int8, endpoint=True)
    made = constant(values, "int8", scale=scale, zero=[0] * count, axis=axis or 0)
    made.dtype = dtype
    return made


def floats(shape: tuple[int, ...], rng: np.random.Generator, kind: int) -> Array:
    """Normal numbers; or of one sign, with a row of zeros, tiny, symmetric, or sparse."""
    x = rng.normal(0, 3, shape).astype(np.float32)
    if kind == 1:
        x = np.abs(x)
    elif kind == 2:
        x[: len(x) // 2 + 1] = 0
    elif kind == 3:
        x *= np.float32(1e-20)
    elif kind == 4:
        x = np.clip(x, -1, 1)
    elif kind == 5:
        x *= rng.integers(0, 2, shape).astype(np.float32)
    return x


kinds = st.integers(0, 5)


@given(seeds, kinds, flags, flags, flags)
@settings(max_examples=40)
def test_fully_connected(
    seed: int, kind: int, asymmetric: bool, by_channel: bool, has_bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, y = Tensor((5, 20), "float32"), Tensor((5, 40), "float32")
    w = weights((40, 20), 0 if by_channel else None, rng)
    bias = constant(rng.normal(size=40), "float32") if has_bias else None
    source = model(
        "FULLY_CONNECTED", [x, w, bias], [y], "FullyConnectedOptions",
        asymmetricQuantizeInputs=asymmetric,
    )  # fmt: skip
    compare(source, [floats((5, 20), rng, kind)])


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], int, str, dict[str, Any]]] = {
    "CONV_2D": ((6, 3, 3, 5), 0, "Conv2DOptions", {}),
    "DEPTHWISE_CONV_2D": ((1, 3, 3, 10), 3, "DepthwiseConv2DOptions", {"depthMultiplier": 2}),
}


@given(seeds, kinds, flags, st.sampled_from(list(CONVOLUTIONS)))
@settings(max_examples=40)
def test_convolutions(seed: int, kind: int, by_channel: bool, code: str) -> None:
    rng = np.random.default_rng(seed)
    shape, axis, options, fields = CONVOLUTIONS[code]
    x, y = Tensor((2, 5, 4, 5), "float32"), Tensor((2, 5, 4, shape[axis]), "float32")
    w = weights(shape, axis if by_channel or code != "CONV_2D" else None, rng)
    inputs = [x, w, constant(rng.normal(size=shape[axis]), "float32")]
    source = model(code, inputs, [y], options, strideH=1, strideW=1, **fields)
    compare(source, [floats((2, 5, 4, 5), rng, kind)])


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_program_gives_the_same_bits(asymmetric: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, w = Tensor((4, 64), "float32"), Tensor((4, 32), "float32"), weights((32, 64), 0, rng)
    source = model(
        "FULLY_CONNECTED", [x, w, constant(rng.normal(size=32), "float32")], [y],
        "FullyConnectedOptions", asymmetricQuantizeInputs=asymmetric,
    )  # fmt: skip
    compare(source, [draw(rng, x)], LEVELS)


def test_depthwise_weights_of_one_scale_are_refused() -> None:
    """The reference kernel reads a scale for each channel, whether there is one or not."""
    rng = np.random.default_rng(0)
    x, y = Tensor((1, 4, 4, 3), "float32"), Tensor((1, 4, 4, 3), "float32")
    inputs = [x, weights((1, 3, 3, 3), None, rng), constant(np.zeros(3), "float32")]
    source = model("DEPTHWISE_CONV_2D", inputs, [y], "DepthwiseConv2DOptions", strideH=1, strideW=1)
    with pytest.raises(npu.CompileError, match="one scale for all"):
        tflite.load(source)


# Weights of 4 bits


def scaled_bias(count: int, w: Tensor, scale: float, rng: np.random.Generator) -> Tensor:
    scales = np.asarray(w.scale, np.float32) * np.float32(scale)
    values = rng.integers(-3000, 3000, count)
    return constant(values, "int32", scale=scales, zero=[0] * scales.size)


@given(seeds, flags, st.sampled_from([*CONVOLUTIONS, "FULLY_CONNECTED"]))
@settings(max_examples=30)
def test_weights_of_4_bits_with_8_bit_activations(seed: int, by_channel: bool, code: str) -> None:
    rng = np.random.default_rng(seed)
    shape, axis, options, fields = {
        **CONVOLUTIONS, "FULLY_CONNECTED": ((10, 5), 0, "FullyConnectedOptions", {}),
    }[code]  # fmt: skip
    if code != "FULLY_CONNECTED":
        fields = {**fields, "strideH": 1, "strideW": 1}
    sizes = (2, 5, 4, 5) if code != "FULLY_CONNECTED" else (4, 5)
    x = Tensor(sizes, "int8", 0.05, 3)
    y = Tensor((*sizes[:-1], shape[axis]), "int8", 0.1, -7)
    w = weights(shape, axis if by_channel else None, rng, "int4")
    inputs = [x, w, scaled_bias(shape[axis], w, x.scale, rng)]
    compare(model(code, inputs, [y], options, **fields), [draw(rng, x)])


@given(seeds, kinds, flags, flags)
@settings(max_examples=30)
def test_floats_times_weights_of_4_bits(
    seed: int, kind: int, asymmetric: bool, by_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, y = Tensor((5, 20), "float32"), Tensor((5, 40), "float32")
    inputs = [x, weights((40, 20), 0 if by_channel else None, rng, "int4"), None]
    source = model(
        "FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions", asymmetricQuantizeInputs=asymmetric
    )
    compare(source, [floats((5, 20), rng, kind)])
