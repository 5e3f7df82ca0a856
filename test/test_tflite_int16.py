"""16-bit tensors of TFLite over random quantizations: the bits of TFLite's reference kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect import numerics

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import compare_graph as compare
from tflite_checks import seeds
from tflite_models import Array, Tensor, constant, draw, interpreter_of, model, reference

from npu_dialect.frontends import tflite
from npu_dialect.frontends.tflite.ops import single_rounding
from npu_dialect.frontends.tflite.ops.rescaling import quantized_multiplier

ALL = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
"""Every value of 16 bits."""

small = st.floats(0.0001, 0.01).map(lambda s: float(np.float32(s)))
powers = st.integers(-15, -6).map(lambda e: 2.0**e)
scales = st.one_of(small, powers)


def wide(shape: tuple[int, ...], scale: float) -> Tensor:
    return Tensor(shape, "int16", scale)


def compare_program(source: bytes, inputs: list[Array], target: str, on_host: str = "") -> None:
    """At every level; every placement is on the accelerator but for the rules `on_host`."""
    expected = reference(source, inputs)
    module = npu.load(tflite.load(source), target=target)
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        for a, b in zip(npu.execute(module, inputs).values(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    placement = npu.assemble(module).placement
    assert {p.rule for p in placement if p.engine == "host"} == set(on_host.split())


@given(seeds, scales, st.integers(1, 300), st.sampled_from([1.0, 0.5, 2.0]))
@settings(max_examples=40)
def test_softmax(seed: int, scale: float, width: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = wide((4, width), scale), wide((4, width), 2.0**-15)
    compare(model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=beta), [draw(rng, x)])


@pytest.mark.parametrize("target", ["edge256", "headset2k", "ethos_u55_256"])
def test_softmax_is_integers_on_the_accelerator(target: str) -> None:
    x, y = wide((8, 65), 0.0007), wide((8, 65), 2.0**-15)
    source = model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=1.0)
    compare_program(source, [draw(np.random.default_rng(1), x)], target)


@given(seeds, scales, scales, st.booleans(), st.sampled_from([[1, 2], [2], [1], [3], [1, 3]]))
@settings(max_examples=40)
def test_mean(seed: int, scale: float, other: float, keeps: bool, axes: list[int]) -> None:
    x, y = wide((2, 5, 3, 16), scale), wide(reduced((2, 5, 3, 16), axes, keeps), other)
    source = model("MEAN", [x, constant(axes)], [y], "ReducerOptions", keepDims=keeps)
    compare(source, [draw(np.random.default_rng(seed), x)])


@given(seeds, scales, scales, st.integers(0, 255))
@settings(max_examples=40)
def test_sum_of_bytes(seed: int, scale: float, other: float, zero: int) -> None:
    """The reference kernel reads all tensors as u8; i8 is compared with the same numbers in u8."""
    x, y = Tensor((4, 7, 16), "uint8", scale, zero), Tensor((4, 16), "uint8", other, zero)
    source = model("SUM", [x, constant([1])], [y], "ReducerOptions")
    values = draw(np.random.default_rng(seed), x)
    compare(source, [values])
    x, y = (Tensor(t.shape, "int8", t.scale, zero - 128) for t in (x, y))
    module = npu.load(
        tflite.load(model("SUM", [x, constant([1])], [y], "ReducerOptions")), target="edge256"
    )
    (found,) = npu.execute(module, [(values.astype(int) - 128).astype(np.int8)]).values()
    np.testing.assert_array_equal(found.astype(int) + 128, reference(source, [values])[0])


@pytest.mark.parametrize(("scale", "other"), [(0.003, 0.003), (0.001, 0.00377), (0.25, 1.0)])
def test_sum_of_16_bits_is_rounded_twice(scale: float, other: float) -> None:
    """The reference kernel reads them as u8, so that this is its source, written out."""
    x, y = wide((4, 7, 16), scale), wide((4, 16), other)
    source = model("SUM", [x, constant([1])], [y], "ReducerOptions")
    values = draw(np.random.default_rng(0), x)
    module = npu.load(tflite.load(source), target="edge256")
    (found,) = npu.execute(module, [values]).values()
    fraction, exponent = math.frexp(float(np.float32(scale)) / float(np.float32(other)))
    first = (values.astype(int).sum(1) << max(exponent, 0)) * round(fraction * 2**31)
    high = (first + (1 << 30)) >> 31
    half = 1 << (-exponent - 1) if exponent < 0 else 0
    steps = np.sign(high) * ((np.abs(high) + half) >> max(-exponent, 0))
    np.testing.assert_array_equal(found, np.clip(steps, -32768, 32767))


def reduced(shape: tuple[int, ...], axes: list[int], keeps: bool) -> tuple[int, ...]:
    if keeps:
        return tuple(1 if k in axes else n for k, n in enumerate(shape))
    return tuple(n for k, n in enumerate(shape) if k not in axes)


@pytest.mark.parametrize("code", ["REDUCE_MAX", "REDUCE_MIN", "MEAN"])
def test_reductions_are_on_the_accelerator(code: str) -> None:
    x, y = wide((4, 7, 16), 0.001), wide((4, 16), 0.001)
    source = model(code, [x, constant([1])], [y], "ReducerOptions")
    compare_program(source, [draw(np.random.default_rng(0), x)], "edge256")


@given(scales, st.sampled_from(["LOGISTIC", "TANH"]))
@settings(max_examples=30)
def test_sigmoid_and_tanh(scale: float, code: str) -> None:
    compare(model(code, [wide(ALL.shape, scale)], [wide(ALL.shape, 2.0**-15)]), [ALL])


@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
@pytest.mark.parametrize("scale", [2.0**e for e in range(-14, -8)])
def test_sigmoid_and_tanh_of_powers_of_two(scale: float, code: str) -> None:
    compare(model(code, [wide(ALL.shape, scale)], [wide(ALL.shape, 2.0**-15)]), [ALL])


@pytest.mark.parametrize("target", ["edge256", "ethos_u55_256"])
@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
def test_sigmoid_and_tanh_are_on_the_accelerator(code: str, target: str) -> None:
    x, y = wide((4, 33), 0.0004), wide((4, 33), 2.0**-15)
    source = model(code, [x], [y])
    compare_program(source, [draw(np.random.default_rng(0), x)], target)


@given(scales, scales, st.sampled_from(["EXP", "LOG", "GELU", "ABS", "NEG"]))
@settings(max_examples=60)
def test_functions(scale: float, other: float, code: str) -> None:
    options = {"EXP": "ExpOptions", "GELU": "GeluOptions"}.get(code, "")
    compare(model(code, [wide(ALL.shape, scale)], [wide(ALL.shape, other)], options), [ALL])


@given(scales, scales, st.sampled_from(["SQRT", "RSQRT"]))
@settings(max_examples=20)
def test_functions_of_what_is_not_negative(scale: float, other: float, code: str) -> None:
    values = ALL[1 << 15 :]
    compare(model(code, [wide(values.shape, scale)], [wide(values.shape, other)]), [values])


@given(scales, scales, st.sampled_from(["RELU", "RELU6"]))
@settings(max_examples=30)
def test_relu_rescales_to_its_result(scale: float, other: float, code: str) -> None:
    compare(model(code, [wide(ALL.shape, scale)], [wide(ALL.shape, other)]), [ALL])


@given(scales, scales, st.sampled_from([0.1, 0.3, 1.5]))
@settings(max_examples=30)
def test_leaky_relu(scale: float, other: float, alpha: float) -> None:
    x, y = wide(ALL.shape, scale), wide(ALL.shape, other)
    compare(model("LEAKY_RELU", [x], [y], "LeakyReluOptions", alpha=alpha), [ALL])


# Contractions


def weights(shape: tuple[int, ...], axis: int | None, rng: np.random.Generator) -> Tensor:
    count = 1 if axis is None else shape[axis]
    scale = rng.uniform(0.002, 0.02, count).astype(np.float32)
    values = rng.integers(-127, 127, shape, np.int8, endpoint=True)
    return constant(values, "int8", scale=scale, zero=[0] * count, axis=axis or 0)


def bias(count: int, dtype: str, x: Tensor, w: Tensor, rng: np.random.Generator) -> Tensor:
    scale = np.asarray(w.scale, np.float32) * np.float32(x.scale)
    values = rng.integers(-(1 << 20), 1 << 20, count)
    return constant(values, dtype, scale=scale, zero=[0] * scale.size)


CONVOLUTION: dict[str, Any] = {"padding": 0, "strideH": 1, "strideW": 1}


@given(seeds, scales, scales, st.booleans(), st.booleans())
@settings(max_examples=30)
def test_convolution(seed: int, scale: float, other: float, narrow: bool, by_channel: bool) -> None:
    dtype, code = ("int32", 2) if narrow else ("int64", 4)
    rng = np.random.default_rng(seed)
    x, y = wide((1, 5, 4, 20), scale), wide((1, 5, 4, 6), other)
    w = weights((6, 3, 3, 20), 0 if by_channel else None, rng)
    more = bias(6, dtype, x, w, rng)
    fields: dict[str, Any] = {**CONVOLUTION, "quantizedBiasType": code}
    source = model("CONV_2D", [x, w, more], [y], "Conv2DOptions", **fields)
    compare(source, [draw(rng, x)])


@pytest.mark.parametrize("target", ["edge256", "headset2k", "ethos_u55_256"])
def test_convolution_with_a_bias_of_32_bits_on_the_array(target: str) -> None:
    rng = np.random.default_rng(0)
    x, y, w = (
        wide((1, 6, 6, 16), 0.001),
        wide((1, 6, 6, 24), 0.003),
        weights((24, 3, 3, 16), 0, rng),
    )
    inputs = [x, w, bias(24, "int32", x, w, rng)]
    fields: dict[str, Any] = {**CONVOLUTION, "quantizedBiasType": 2}
    source = model("CONV_2D", inputs, [y], "Conv2DOptions", **fields)
    compare_program(source, [draw(rng, x)], target)


@given(seeds, scales, scales, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_fully_connected(
    seed: int, scale: float, other: float, narrow: bool, by_channel: bool, has_bias: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, y = wide((4, 30), scale), wide((4, 24), other)
    w = weights((24, 30), 0 if by_channel else None, rng)
    dtype, code = ("int32", 2) if narrow else ("int64", 4)
    inputs = [x, w, bias(24, dtype, x, w, rng) if has_bias else None]
    fields: dict[str, Any] = {"quantizedBiasType": code} if has_bias or narrow else {}
    compare(
        model("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions", **fields), [draw(rng, x)]
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_ties_of_fully_connected_go_away_from_zero(dtype: str) -> None:
    rng = np.random.default_rng(0)
    zero, w_zero = {"int8": (3, 0), "uint8": (130, 128), "int16": (0, 0)}[dtype]
    w_type = "uint8" if dtype == "uint8" else "int8"
    x = Tensor((50, 20), dtype, 0.5, zero)
    w = constant(rng.integers(-127, 128, (40, 20)) + w_zero, w_type, scale=0.125, zero=w_zero)
    y = Tensor((50, 40), dtype, 8.0 if dtype == "int16" else 64.0, zero)
    compare(model("FULLY_CONNECTED", [x, w, None], [y], "FullyConnectedOptions"), [draw(rng, x)])


@given(st.floats(1e-3, 0.6), st.integers(-128, 127))
@settings(max_examples=200)
def test_multipliers_of_31_bits_round_as_float64_does(factor: float, zero: int) -> None:
    """All sums beside those from which a result of 8 bits is another one."""
    reach, most = np.array([2**31]), max(127 - zero, zero + 128)
    made = single_rounding.multipliers([factor], most, reach)
    near = np.floor((np.arange(256) + 0.5) / factor).astype(np.int64)
    sums = np.concatenate([s * (near + d) for s in (1, -1) for d in (-1, 0, 1, 2)])
    sums = sums[np.abs(sums) < 1 << 31].astype(np.int32)
    steps = sums * factor
    expected = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    bounds = (made.values, made.shifts, "half_away", 0, zero, -128, 127)
    found = numerics.requantize_fixed(sums, *bounds)
    np.testing.assert_array_equal(found, np.clip(expected + zero, -128, 127))


def test_a_multiplier_is_chosen_where_the_nearest_one_rounds_otherwise() -> None:
    factors = np.random.default_rng(0).uniform(1e-4, 2e-4, 4000)
    pairs = [quantized_multiplier(f) for f in factors]
    nearest = np.array([m for m, _ in pairs])
    shifts = np.array([31 - e for _, e in pairs])
    chosen, is_exact = single_rounding.exact(factors, nearest, shifts, 255)
    assert is_exact.all()
    differing = np.flatnonzero(chosen != nearest)
    assert differing.size
    for k in differing:
        steps = np.arange(1, 256)
        first = single_rounding.boundaries(factors[k], steps)
        shift = 31 - pairs[k][1]
        for m, holds in ((int(nearest[k]), False), (int(chosen[k]), True)):
            least = [-(-((2 * n - 1) << shift) // (2 * m)) for n in steps.tolist()]
            assert (least == first.tolist()) == holds


@given(seeds, scales, st.sampled_from([0, 1]), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30)
def test_average_pooling(seed: int, scale: float, padding: int, height: int, width: int) -> None:
    size = (7, 6) if padding == 0 else (8 - height, 7 - width)
    x, y = wide((1, 7, 6, 8), scale), wide((1, *size, 8), scale)
    source = model(
        "AVERAGE_POOL_2D", [x], [y], "Pool2DOptions", padding=padding, strideH=1, strideW=1,
        filterHeight=height, filterWidth=width,
    )  # fmt: skip
    compare(source, [draw(np.random.default_rng(seed), x)])


@pytest.mark.parametrize("code", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_a_bias_of_another_type_than_stated_is_refused(code: str) -> None:
    """The reference kernel reads what is stated, or i64."""
    rng = np.random.default_rng(0)
    x, y = wide((1, 4, 4, 8), 0.001), wide((1, 4, 4, 8), 0.01)
    w = weights((8, 3, 3, 8) if code == "CONV_2D" else (1, 3, 3, 8), None, rng)
    options = "Conv2DOptions" if code == "CONV_2D" else "DepthwiseConv2DOptions"
    source = model(code, [x, w, bias(8, "int32", x, w, rng)], [y], options, **CONVOLUTION)
    with pytest.raises(npu.CompileError, match="bias of i32 that is stated to be i64"):
        tflite.load(source)


@given(seeds, scales, scales, st.sampled_from(["int8", "int16"]), st.booleans())
@settings(max_examples=20)
def test_batch_matmul(seed: int, scale: float, other: float, dtype: str, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = wide((2, 6, 20), scale), wide((2, 6, 9), other)
    z = Tensor((2, 9, 20) if turned else (2, 20, 9), dtype, 0.001)
    source = model("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions", adjY=turned)
    compare(source, [draw(rng, x), draw(rng, z)])


@given(seeds, scales, scales, st.booleans())
@settings(max_examples=10)
def test_transposed_convolution(seed: int, scale: float, other: float, narrow: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y, w = wide((1, 4, 3, 8), scale), wide((1, 8, 6, 5), other), weights((5, 3, 3, 8), 0, rng)
    dtype, code = ("int32", 2) if narrow else ("int64", 4)
    inputs = [constant([1, 8, 6, 5]), w, x, bias(5, dtype, x, w, rng)]
    source = model(
        "TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", strideH=2, strideW=2,
        quantizedBiasType=code,
    )  # fmt: skip
    compare(source, [draw(rng, x)])


@given(seeds, scales, scales, st.booleans(), st.sampled_from(["int32", "int64", ""]))
@settings(max_examples=20)
def test_fully_connected_with_weights_of_16_bits(
    seed: int, scale: float, other: float, by_channel: bool, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    x, y, count = wide((4, 30), scale), wide((4, 24), other), 24 if by_channel else 1
    w_scale = rng.uniform(0.0001, 0.001, count).astype(np.float32)
    values = rng.integers(-32767, 32768, (24, 30))
    w = constant(values, "int16", scale=w_scale, zero=[0] * count)
    more = bias(24, dtype, x, w, rng) if dtype else None
    fields: dict[str, Any] = {"quantizedBiasType": 2 if dtype == "int32" else 4} if dtype else {}
    source = model("FULLY_CONNECTED", [x, w, more], [y], "FullyConnectedOptions", **fields)
    compare(source, [draw(rng, x)])


# Sums


@given(seeds, st.sampled_from(["ADD", "SUB"]), st.integers(-14, -8), st.integers(0, 6))
@settings(max_examples=30)
def test_sums_of_powers_of_two(seed: int, code: str, exponent: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = [wide((3, 200), 2.0 ** (exponent - n)) for n in (0, shift)]
    if seed & 1:
        tensors.reverse()
    options = {"ADD": "AddOptions", "SUB": "SubOptions"}[code]
    for general in (False, True):
        source = model(
            code, tensors, [wide((3, 200), 2.0**exponent)], options, potScaleInt16=not general
        )
        compare(source, [draw(rng, t) for t in tensors])


def test_a_sum_of_powers_of_two_is_refused_as_the_reference_does() -> None:
    x, y = wide((8,), 2.0**-10), wide((8,), 2.0**-11)
    with pytest.raises(npu.CompileError, match="one must have the result's scale"):
        tflite.load(model("ADD", [x, x], [y], "AddOptions"))


@given(seeds, scales, scales, st.sampled_from(["MAXIMUM", "MINIMUM"]))
@settings(max_examples=20)
def test_extremes_are_of_stored_values(seed: int, scale: float, other: float, code: str) -> None:
    rng = np.random.default_rng(seed)
    x, z, y = wide((3, 50), scale), wide((3, 50), other), wide((3, 50), scale)
    compare(model(code, [x, z], [y]), [draw(rng, x), draw(rng, z)])


COMPARISONS = ["EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"]


@pytest.mark.parametrize("code", COMPARISONS)
def test_comparisons(code: str) -> None:
    """Those of order are of stored values, others as with 8 bits."""
    rng = np.random.default_rng(0)
    x, z = wide((3, 500), 0.001), wide((3, 500), 0.002)
    values = [draw(rng, x) >> 8, draw(rng, z) >> 8]
    compare(model(code, [x, z], [Tensor((3, 500), "bool")]), values)


def test_a_slope_of_16_bits_is_refused() -> None:
    x = wide((3, 5), 0.001)
    with pytest.raises(npu.CompileError, match="slope of 16 bits"):
        tflite.load(model("PRELU", [x, x], [x]))


MOVES = {
    "CONCATENATION": ([wide((2, 4), 0.02)], (2, 8), "ConcatenationOptions", {"axis": 1}),
    "PAD": ([constant([[1, 0], [0, 2]])], (3, 6), "", {}),
    "PADV2": ([constant([[1, 0], [0, 2]]), constant([5], "int16", scale=0.01)], (3, 6), "", {}),
    "TRANSPOSE": ([constant([1, 0])], (4, 2), "", {}),
    "RESHAPE": ([constant([8])], (8,), "", {}),
    "SLICE": ([constant([0, 1]), constant([2, 2])], (2, 2), "", {}),
    "TILE": ([constant([2, 1])], (4, 4), "", {}),
}  # fmt: skip


@pytest.mark.parametrize("code", MOVES)
def test_movement(code: str) -> None:
    more, shape, options, fields = MOVES[code]
    x, rng = wide((2, 4), 0.01), np.random.default_rng(0)
    inputs = [draw(rng, t) for t in (x, *more) if t.values is None]
    source = model(code, [x, *more], [wide(shape, 0.01)], options, **fields)
    compare(source, inputs)


# Quantizations


@given(seeds, scales, scales, st.sampled_from(["int8", "int16", "int32", "uint8", "float32"]))
@settings(max_examples=60)
def test_quantize(seed: int, scale: float, other: float, dtype: str) -> None:
    """To 16 bits from what there is, and from 16 bits to 8, 16 and 32."""
    rng, zero = np.random.default_rng(seed), 0 if dtype in ("int16", "float32") else 5
    x, y = Tensor((600,), dtype, None if dtype == "float32" else scale, zero), wide((600,), other)
    values = draw(rng, x)
    if dtype == "int32":
        values >>= 12
    compare(model("QUANTIZE", [x], [y]), [values])
    if dtype in ("int8", "int16", "int32"):
        x, y = wide((600,), scale), Tensor((600,), dtype, other, zero)
        compare(model("QUANTIZE", [x], [y]), [draw(rng, x)])
    if dtype == "int32":
        x, y = Tensor((600,), "int32", scale, zero), Tensor((600,), "int8", other, -3)
        compare(model("QUANTIZE", [x], [y]), [draw(rng, x) >> 20])


@given(seeds, scales)
@settings(max_examples=10)
def test_dequantize(seed: int, scale: float) -> None:
    compare(model("DEQUANTIZE", [wide(ALL.shape, scale)], [Tensor(ALL.shape, "float32")]), [ALL])


# At all levels


def one(code: str, shape: tuple[int, ...] = (2, 40), options: str = "", **fields: Any) -> bytes:
    """An operator of one tensor."""
    scale = 2.0**-15 if code in ("LOGISTIC", "TANH") else 0.0013
    return model(code, [wide(shape, 0.001)], [wide(shape, scale)], options, **fields)


def two(code: str, options: str, scales: tuple[float, float, float]) -> bytes:
    x, z, y = (wide((3, 40), scale) for scale in scales)
    return model(code, [x, z], [y], options)


def pooled() -> bytes:
    x, y = wide((1, 6, 6, 8), 0.001), wide((1, 5, 5, 8), 0.001)
    return model(
        "AVERAGE_POOL_2D", [x], [y], "Pool2DOptions", padding=1, strideH=1, strideW=1,
        filterHeight=2, filterWidth=2,
    )  # fmt: skip


def rows(dtype: str) -> bytes:
    rng = np.random.default_rng(0)
    x, y, w = wide((6, 32), 0.001), wide((6, 24), 0.004), weights((24, 32), 0, rng)
    code = 2 if dtype == "int32" else 4
    inputs = [x, w, bias(24, dtype, x, w, rng)]
    return model("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions", quantizedBiasType=code)


PROGRAMS = {
    "exp": one("EXP", options="ExpOptions"), "gelu": one("GELU", options="GeluOptions"),
    "abs": one("ABS"), "neg": one("NEG"), "relu": one("RELU"), "relu6": one("RELU6"),
    "leaky_relu": one("LEAKY_RELU", options="LeakyReluOptions", alpha=0.3),
    "add": two("ADD", "AddOptions", (0.001, 0.002, 0.003)),
    "sub of powers": two("SUB", "SubOptions", (2.0**-12, 2.0**-10, 2.0**-10)),
    "mul": two("MUL", "MulOptions", (0.001, 0.002, 0.01)),
    "average pool": pooled(), "rows, bias i32": rows("int32"), "rows, bias i64": rows("int64"),
    "to i8": model("QUANTIZE", [wide((50,), 0.001)], [Tensor((50,), "int8", 0.2, 3)]),
    "from i8": model("QUANTIZE", [Tensor((50,), "int8", 0.2, 3)], [wide((50,), 0.001)]),
    "softmax": model(
        "SOFTMAX", [wide((5, 30), 0.001)], [wide((5, 30), 2.0**-15)], "SoftmaxOptions", beta=1.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_on_the_host(name: str) -> None:
    source, rng = PROGRAMS[name], np.random.default_rng(1)
    inputs = [
        draw(rng, Tensor(d["shape"].tolist(), d["dtype"].__name__))
        for d in interpreter_of(source).get_input_details()
    ]
    compare_program(source, inputs, "edge256")
