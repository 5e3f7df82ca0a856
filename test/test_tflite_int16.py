"""16-bit tensors of TFLite over random quantizations: the bits of TFLite's reference kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, constant, draw, model, reference

from npu_dialect.frontends import tflite

ALL = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
"""Every value of 16 bits."""

seeds = st.integers(0, 2**32 - 1)
small = st.floats(0.0001, 0.01).map(lambda s: float(np.float32(s)))
powers = st.integers(-15, -6).map(lambda e: 2.0**e)
scales = st.one_of(small, powers)


def wide(shape: tuple[int, ...], scale: float) -> Tensor:
    return Tensor(shape, "int16", scale)


def compare(source: bytes, inputs: list[Array], target: str = "edge256") -> None:
    """At level graph as imported, and after the passes of that level."""
    expected = reference(source, inputs)
    module = npu.load(tflite.load(source), target=target)
    for until in (None, "graph"):
        if until:
            npu.lower(module, until=until)
        found = list(npu.execute(module, inputs).values())
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


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
