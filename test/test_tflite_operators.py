"""Operators of TFLite over random quantizations: the bits of TFLite's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import compare_graph as compare
from tflite_checks import quantized, seeds, types
from tflite_models import Tensor, constant, draw, model, reference

from npu_dialect.frontends import tflite

paddings = st.sampled_from([0, 1])


def weights(shape: tuple[int, ...], dtype: str, rng: np.random.Generator, axis: int | None) -> Any:
    """Constant weights: i8 by channel or not, with zero point 0, or u8 with any."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min + 1, info.max, shape, dtype, endpoint=True)
    count = 1 if axis is None else shape[axis]
    scale = rng.uniform(0.002, 0.02, count).astype(np.float32)
    zero = [0] * count if dtype == "int8" else [int(rng.integers(0, 256))]
    return constant(values, dtype, scale=scale, zero=zero, axis=axis or 0)


def bias(count: int, x: Tensor, w: Tensor, rng: np.random.Generator) -> Tensor:
    scale = np.asarray(w.scale, np.float32) * np.float32(x.scale)
    values = rng.integers(-5000, 5000, count)
    return constant(values, "int32", scale=scale, zero=[0] * scale.size)


activations = st.sampled_from([0, 1, 2, 3])


@given(st.data(), seeds, types, paddings, activations, st.booleans())
@settings(max_examples=25)
def test_conv_2d(
    data: st.DataObject, seed: int, dtype: str, padding: int, activation: int, by_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    x = quantized((1, 7, 6, 4), dtype, data)
    w = weights((5, kernel, kernel, 4), dtype, rng, 0 if by_channel and dtype == "int8" else None)
    size = [-(-n // stride) if padding == 0 else (n - kernel) // stride + 1 for n in (7, 6)]
    y = quantized((1, *size, 5), dtype, data)
    source = model(
        "CONV_2D", [x, w, bias(5, x, w, rng)], [y], "Conv2DOptions", padding=padding,
        strideH=stride, strideW=stride, fusedActivationFunction=activation,
    )  # fmt: skip
    compare(source, [draw(rng, x)])


@given(st.data(), seeds, types, paddings, st.integers(1, 3), st.booleans())
@settings(max_examples=25)
def test_depthwise_conv_2d(
    data: st.DataObject, seed: int, dtype: str, padding: int, times: int, by_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = quantized((1, 6, 5, 3), dtype, data)
    w = weights((1, 3, 3, 3 * times), dtype, rng, 3 if by_channel and dtype == "int8" else None)
    y = quantized((1, 6, 5, 3 * times) if padding == 0 else (1, 4, 3, 3 * times), dtype, data)
    source = model(
        "DEPTHWISE_CONV_2D", [x, w, bias(3 * times, x, w, rng)], [y], "DepthwiseConv2DOptions",
        padding=padding, strideH=1, strideW=1, depthMultiplier=times,
    )  # fmt: skip
    compare(source, [draw(rng, x)])


@given(st.data(), seeds, types, st.booleans(), st.booleans())
@settings(max_examples=25)
def test_fully_connected(
    data: st.DataObject, seed: int, dtype: str, by_channel: bool, has_bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, y = quantized((3, 20), dtype, data), quantized((3, 40), dtype, data)
    w = weights((40, 20), dtype, rng, 0 if by_channel and dtype == "int8" else None)
    inputs = [x, w, bias(40, x, w, rng) if has_bias else None]
    compare(model("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions"), [draw(rng, x)])


def symmetric(shape: tuple[int, ...], data: st.DataObject) -> Tensor:
    return Tensor(shape, "int16", float(np.float32(data.draw(st.floats(0.0001, 0.01)))), 0)


WIDE = {
    "CONV_2D": ((1, 1, 8, 20), (40, 1, 1, 20), (1, 1, 8, 40), "Conv2DOptions", 0),
    "DEPTHWISE_CONV_2D": ((1, 8, 8, 5), (1, 3, 3, 5), (1, 8, 8, 5), "DepthwiseConv2DOptions", 3),
    "FULLY_CONNECTED": ((8, 20), (40, 20), (8, 40), "FullyConnectedOptions", None),
}


@given(st.data(), seeds, st.sampled_from(list(WIDE)))
@settings(max_examples=40)
def test_16_bit_activations_times_8_bit_weights(data: st.DataObject, seed: int, code: str) -> None:
    rng = np.random.default_rng(seed)
    inner, kernel, outer, options, axis = WIDE[code]
    x, y, w = symmetric(inner, data), symmetric(outer, data), weights(kernel, "int8", rng, axis)
    scale = np.asarray(w.scale, np.float32) * np.float32(x.scale)
    values = rng.integers(-(1 << 20), 1 << 20, outer[-1])
    more = constant(values, "int64", scale=scale, zero=[0] * scale.size)
    fields: dict[str, Any] = {} if axis is None else {"strideH": 1, "strideW": 1}
    compare(model(code, [x, w, more], [y], options, **fields), [draw(rng, x)])


def test_16_bit_activations_on_a_machine() -> None:
    rng = np.random.default_rng(3)
    x, y = Tensor((1, 8, 8, 16), "int16", 0.001), Tensor((1, 8, 8, 24), "int16", 0.003)
    w = weights((24, 3, 3, 16), "int8", rng, 0)
    scale = np.asarray(w.scale, np.float32) * np.float32(0.001)
    more = constant(rng.integers(-5000, 5000, 24), "int64", scale=scale, zero=[0] * 24)
    source = model("CONV_2D", [x, w, more], [y], "Conv2DOptions", strideH=1, strideW=1)
    values = draw(rng, x)
    program = npu.compile(tflite.load(source), "ethos_u55_256")
    assert all(row.engine != "host" for row in program.placement)
    (found,) = npu.simulate(program, values).outputs.values()
    np.testing.assert_array_equal(found, reference(source, [values])[0])


@given(st.data(), seeds, activations, st.sampled_from(["ADD", "SUB", "MUL"]))
@settings(max_examples=30)
def test_sums_and_products_of_16_bits(
    data: st.DataObject, seed: int, activation: int, code: str
) -> None:
    rng = np.random.default_rng(seed)
    x, z, y = symmetric((2, 500), data), symmetric((500,), data), symmetric((2, 500), data)
    y.scale = float(np.float32(max(y.scale, x.scale / 8, z.scale / 8)))
    options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
    source = model(code, [x, z], [y], options, fusedActivationFunction=activation)
    compare(source, [draw(rng, x), draw(rng, z)])


@given(seeds, st.booleans(), st.booleans())
@settings(max_examples=25)
def test_floats_times_8_bit_weights(seed: int, has_bias: bool, is_zero: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = Tensor((3, 20), "float32"), Tensor((3, 40), "float32")
    w = weights((40, 20), "int8", rng, None)
    values = draw(rng, x)
    values[1] *= not is_zero
    more = constant(rng.normal(size=40), "float32") if has_bias else None
    compare(model("FULLY_CONNECTED", [x, w, more], [y], "FullyConnectedOptions"), [values])


@given(st.data(), seeds, types, activations, st.sampled_from(["ADD", "SUB", "MUL"]))
@settings(max_examples=40)
def test_sums_and_products(
    data: st.DataObject, seed: int, dtype: str, activation: int, code: str
) -> None:
    rng = np.random.default_rng(seed)
    x, z = quantized((2, 500), dtype, data), quantized((500,), dtype, data)
    y = quantized((2, 500), dtype, data)
    y.scale = float(np.float32(max(y.scale, x.scale / 8, z.scale / 8)))
    options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[code]
    source = model(code, [x, z], [y], options, fusedActivationFunction=activation)
    compare(source, [draw(rng, x), draw(rng, z)])


@given(st.data(), seeds, types, paddings, st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
@settings(max_examples=40)
def test_pooling(data: st.DataObject, seed: int, dtype: str, padding: int, code: str) -> None:
    rng = np.random.default_rng(seed)
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    x = quantized((1, 7, 6, 8), dtype, data)
    size = (7, 6) if padding == 0 else (8 - height, 7 - width)
    y = Tensor((1, *size, 8), dtype, x.scale, x.zero)
    source = model(
        code, [x], [y], "Pool2DOptions", padding=padding, strideH=1, strideW=1,
        filterHeight=height, filterWidth=width,
    )  # fmt: skip
    compare(source, [draw(rng, x)])


@given(st.data(), seeds, types, st.booleans(), st.sampled_from([[1, 2], [2], [1], [3], [1, 3]]))
@settings(max_examples=25)
def test_mean(data: st.DataObject, seed: int, dtype: str, keeps: bool, axes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    x = quantized((2, 5, 3, 16), dtype, data)
    kept = [1 if k in axes else n for k, n in enumerate(x.shape)]
    shape = kept if keeps else [n for k, n in enumerate(x.shape) if k not in axes]
    y = quantized(tuple(shape), dtype, data)
    source = model("MEAN", [x, constant(axes)], [y], "ReducerOptions", keepDims=keeps)
    compare(source, [draw(rng, x)])


@given(st.data(), seeds, types, st.integers(1, 300), st.sampled_from([1.0, 0.5, 2.0]))
@settings(max_examples=25)
def test_softmax(data: st.DataObject, seed: int, dtype: str, width: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    x = quantized((4, width), dtype, data)
    y = Tensor((4, width), dtype, 1 / 256, -128 if dtype == "int8" else 0)
    compare(model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=beta), [draw(rng, x)])


@given(st.data(), seeds, types, st.sampled_from(["LOGISTIC", "TANH"]))
@settings(max_examples=40)
def test_functions_by_table(data: st.DataObject, seed: int, dtype: str, code: str) -> None:
    x = quantized((256,), dtype, data)
    low = np.iinfo(dtype).min
    y = Tensor((256,), dtype, 1 / 256, low) if code == "LOGISTIC" else Tensor(
        (256,), dtype, 1 / 128, low + 128)  # fmt: skip
    compare(model(code, [x], [y]), [np.arange(low, low + 256).astype(dtype)])


@given(st.data(), seeds, types, types)
@settings(max_examples=40)
def test_quantize_from_one_type_to_another(
    data: st.DataObject, seed: int, dtype: str, other: str
) -> None:
    del seed
    x, y = quantized((256,), dtype, data), quantized((256,), other, data)
    low = np.iinfo(dtype).min
    compare(model("QUANTIZE", [x], [y]), [np.arange(low, low + 256).astype(dtype)])


@given(st.data(), seeds, types)
@settings(max_examples=25)
def test_quantize_floats_with_ties_away_from_zero(
    data: st.DataObject, seed: int, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    y = quantized((600,), dtype, data)
    ties = (np.arange(-150, 150) + np.float32(0.5)) * np.float32(y.scale)
    values = np.concatenate([ties, rng.normal(0, 50 * y.scale, 300)]).astype(np.float32)
    compare(model("QUANTIZE", [Tensor((600,), "float32")], [y]), [values])


@given(st.data(), seeds, types, st.sampled_from(["RELU", "RELU6", "RELU_N1_TO_1"]))
@settings(max_examples=30)
def test_relu_rescales_to_its_result(data: st.DataObject, seed: int, dtype: str, code: str) -> None:
    del seed
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    low = np.iinfo(dtype).min
    compare(model(code, [x], [y]), [np.arange(low, low + 256).astype(dtype)])


@given(st.data(), types, st.sampled_from([0.1, 0.3, 1.5]))
@settings(max_examples=30)
def test_leaky_relu(data: st.DataObject, dtype: str, alpha: float) -> None:
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    low = np.iinfo(dtype).min
    source = model("LEAKY_RELU", [x], [y], "LeakyReluOptions", alpha=alpha)
    compare(source, [np.arange(low, low + 256).astype(dtype)])


@given(st.data(), types)
@settings(max_examples=60)
def test_hard_swish(data: st.DataObject, dtype: str) -> None:
    x, y = quantized((256,), dtype, data), quantized((256,), dtype, data)
    y.scale = float(np.float32(max(y.scale, x.scale / 64)))
    low = np.iinfo(dtype).min
    compare(model("HARD_SWISH", [x], [y]), [np.arange(low, low + 256).astype(dtype)])


MOVES: dict[str, tuple[Any, ...]] = {
    "RESHAPE": ([constant([6, 4])], [(6, 4)], "", {}),
    "TRANSPOSE": ([constant([2, 0, 1])], [(4, 2, 3)], "", {}),
    "SLICE": ([constant([0, 1, 1]), constant([2, 2, -1])], [(2, 2, 3)], "", {}),
    "STRIDED_SLICE": (
        [constant([0, 2, 3]), constant([2, 0, 0]), constant([1, -1, -2])], [(2, 3, 2)],
        "StridedSliceOptions", {"beginMask": 1, "endMask": 2},
    ),
    "PAD": ([constant([[1, 0], [0, 2], [0, 0]])], [(3, 5, 4)], "", {}),
    "SPLIT_V": ([constant([1, 3]), constant(2)], [(2, 3, 1), (2, 3, 3)], "SplitVOptions",
        {"numSplits": 2}),
    "UNPACK": ([], [(2, 4)] * 3, "UnpackOptions", {"axis": 1, "num": 3}),
    "TILE": ([constant([1, 2, 3])], [(2, 6, 12)], "", {}),
    "REDUCE_MAX": ([constant([1])], [(2, 4)], "ReducerOptions", {}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("code", MOVES)
def test_movement(code: str, dtype: str) -> None:
    more, shapes, options, fields = MOVES[code]
    scale = None if dtype == "float32" else 0.05
    x = Tensor((2, 3, 4), dtype, scale, 7)
    outputs = [Tensor(shape, dtype, scale, 7) for shape in shapes]
    source = model(code, [x, *more], outputs, options, **fields)
    compare(source, [draw(np.random.default_rng(0), x)])


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("code", ["CONCATENATION", "PACK"])
def test_parts_put_together(code: str, dtype: str) -> None:
    scale = None if dtype == "float32" else 0.05
    x = Tensor((2, 3), dtype, scale, 7)
    shape, options = ((2, 6), "ConcatenationOptions") if code == "CONCATENATION" else (
        (2, 2, 3), "PackOptions")  # fmt: skip
    fields: dict[str, Any] = (
        {"axis": 1} if code == "CONCATENATION" else {"axis": 1, "valuesCount": 2}
    )
    source = model(code, [x, x], [Tensor(shape, dtype, scale, 7)], options, **fields)
    rng = np.random.default_rng(0)
    compare(source, [draw(rng, x), draw(rng, x)])
