"""SOFTMAX of 8 bits: the bits of TFLite's reference kernels, which are gemmlowp's fixed point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, model, reference

from npu_dialect.frontends import tflite

PAIRS = np.array(list(itertools.product(range(256), repeat=2)), np.uint8)
"""Every row of two bytes."""

scales = st.floats(0.0005, 2.0).map(lambda s: float(np.float32(s)))
betas = st.sampled_from([1.0, 0.5, 3.0])
types = st.sampled_from(["int8", "uint8"])


def softmax(shape: tuple[int, ...], dtype: str, scale: float, beta: float = 1.0) -> bytes:
    x, y = Tensor(shape, dtype, scale, 5), Tensor(shape, dtype, 1 / 256, 0)
    y.zero = -128 if dtype == "int8" else 0
    return model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=beta)


def executed(source: bytes, rows: Array) -> Array:
    (found,) = npu.execute(npu.load(tflite.load(source)), [rows]).values()
    return found


@given(scales, types, betas)
@settings(max_examples=20)
def test_every_pair(scale: float, dtype: str, beta: float) -> None:
    source, rows = softmax(PAIRS.shape, dtype, scale, beta), PAIRS.view(dtype)
    np.testing.assert_array_equal(executed(source, rows), reference(source, [rows])[0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), scales, types, betas)
@settings(max_examples=40)
def test_rows(seed: int, width: int, scale: float, dtype: str, beta: float) -> None:
    rng = np.random.default_rng(seed)
    source = softmax((50, width), dtype, scale, beta)
    spread = rng.normal(0, rng.uniform(1, 60), (50, width)) + (128 if dtype == "uint8" else 0)
    info = np.iinfo(dtype)
    rows = np.clip(spread, info.min, info.max).astype(dtype)
    np.testing.assert_array_equal(executed(source, rows), reference(source, [rows])[0])


@pytest.mark.parametrize("target", ["edge256", "ethos_u55_256", "headset2k"])
def test_it_is_integers_on_the_accelerator_at_all_levels(target: str) -> None:
    source = softmax((9, 100), "int8", 0.07)
    rows = np.random.default_rng(0).integers(-128, 128, (9, 100), np.int8)
    expected = reference(source, [rows])[0]
    module = npu.load(tflite.load(source), target=target)
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        (found,) = npu.execute(module, [rows]).values()
        np.testing.assert_array_equal(found, expected)
    assert all(row.engine != "host" for row in npu.assemble(module).placement)
