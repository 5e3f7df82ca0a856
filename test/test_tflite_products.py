"""Transposed convolutions, products of two activations, volumes, and weights of 4 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import activations, check, quantized, seeds, types
from tflite_models import Tensor, constant, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite


def weights(shape: tuple[int, ...], dtype: str, rng: np.random.Generator, many: bool) -> Tensor:
    """Of i8 by channel or not, with zero point 0; of u8 with any."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min + 1, info.max, shape, dtype, endpoint=True)
    count = shape[0] if many else 1
    scale = rng.uniform(0.002, 0.02, count).astype(np.float32)
    zero = [0] * count if dtype == "int8" else [int(rng.integers(0, 256))]
    return constant(values, dtype, scale=scale, zero=zero)


def bias(count: int, x: Tensor, w: Tensor, rng: np.random.Generator) -> Tensor:
    scale = np.asarray(w.scale, np.float32) * np.float32(x.scale)
    return constant(rng.integers(-5000, 5000, count), "int32", scale=scale, zero=[0] * scale.size)


def transposed(
    x: Tensor, w: Tensor, more: list[Tensor], y: Tensor, padding: int, stride: int, **fields: Any
) -> bytes:
    inputs = [constant(y.shape), w, x, *more]
    return model(
        "TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", padding=padding, strideH=stride,
        strideW=stride, **fields,
    )  # fmt: skip


@given(
    st.data(), seeds, types, st.sampled_from([0, 1]), st.booleans(),
    st.integers(1, 4), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=10)
def test_transposed_convolution(
    data: st.DataObject, seed: int, dtype: str, padding: int, many: bool, kernel: int, stride: int
) -> None:
    rng = np.random.default_rng(seed)
    x = quantized((2, 3, 4, 6), dtype, data)
    w = weights((5, kernel, kernel, 6), dtype, rng, many and dtype == "int8")
    more = data.draw(st.integers(0, stride - 1))
    spare = -more if padding == 0 else kernel - stride + more
    size = [n * stride + spare for n in (3, 4)]
    y = quantized((2, *size, 5), dtype, data)
    added = [bias(5, x, w, rng)] if seed % 2 else []
    check(transposed(x, w, added, y, padding, stride), [x], seed)


@given(st.data(), activations)
@settings(max_examples=3)
def test_transposed_convolution_with_a_function(data: st.DataObject, function: int) -> None:
    rng = np.random.default_rng(1)
    x, y = quantized((1, 3, 3, 4), "int8", data), quantized((1, 6, 6, 5), "int8", data)
    w = weights((5, 3, 3, 4), "int8", rng, True)
    check(transposed(x, w, [], y, 0, 2, fusedActivationFunction=function), [x])


@pytest.mark.parametrize(("padding", "kernel", "stride"), [(0, 3, 2), (1, 2, 2), (1, 1, 2)])
def test_transposed_convolution_of_floats(padding: int, kernel: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    x = Tensor((1, 3, 4, 6), "float32")
    w = constant(rng.normal(size=(5, kernel, kernel, 6)), "float32")
    y = Tensor((1, 3 * stride, 4 * stride, 5), "float32")
    check(transposed(x, w, [], y, padding, stride), [x], rtol=1e-5, target="mobile4k")


@given(st.data(), seeds, st.booleans(), st.booleans(), st.sampled_from([(), (2,), (2, 3)]))
@settings(max_examples=8)
def test_products_of_activations(
    data: st.DataObject, seed: int, adj_x: bool, adj_y: bool, batch: tuple[int, ...]
) -> None:
    x = quantized((*batch, 20, 4) if adj_x else (*batch, 4, 20), "int8", data)
    z = quantized((*batch, 9, 20) if adj_y else (*batch, 20, 9), "int8", data)
    y = quantized((*batch, 4, 9), "int8", data)
    source = model("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions", adjX=adj_x, adjY=adj_y)
    check(source, [x, z], seed)


@pytest.mark.parametrize("shape", [(3, 20, 9), (1, 20, 9), (20, 9)])
def test_one_factor_for_all_of_a_batch(shape: tuple[int, ...]) -> None:
    x, z = Tensor((3, 4, 20), "int8", 0.03, 4), Tensor(shape, "int8", 0.02, -9)
    source = model(
        "BATCH_MATMUL", [x, z], [Tensor((3, 4, 9), "int8", 0.3, 2)], "BatchMatMulOptions"
    )
    check(source, [x, z])


def test_a_constant_factor() -> None:
    rng = np.random.default_rng(0)
    x, y = Tensor((3, 4, 20), "int8", 0.03, 4), Tensor((3, 4, 9), "int8", 0.3, 2)
    z = constant(rng.integers(-128, 128, (20, 9)), "int8", scale=0.02, zero=-9)
    check(model("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions"), [x])


def test_products_of_floats() -> None:
    x, z, y = (Tensor(s, "float32") for s in [(2, 4, 20), (2, 20, 9), (2, 4, 9)])
    source = model("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions")
    check(source, [x, z], rtol=1e-5, target="mobile4k")


def test_products_of_u8_are_refused() -> None:
    x, z, y = (Tensor(s, "uint8", 0.1, 3) for s in [(4, 20), (20, 9), (4, 9)])
    with pytest.raises(CompileError, match=r"products of !quant.uniform<u8:f32, 0.1:3> and"):
        tflite.load(model("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions"))


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 1), (0, 2)])
def test_a_convolution_of_volumes(padding: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    x = Tensor((2, 4, 5, 6, 3), "float32")
    w = constant(rng.normal(size=(2, 3, 2, 3, 4)), "float32")
    size = [-(-n // stride) for n in (4, 5, 6)] if padding == 0 else [3, 3, 5]
    more = constant(rng.normal(size=4), "float32")
    source = model(
        "CONV_3D", [x, w, more], [Tensor((2, *size, 4), "float32")], "Conv3DOptions",
        padding=padding, strideD=stride, strideH=stride, strideW=stride,
    )  # fmt: skip
    check(source, [x], rtol=1e-5, target="mobile4k")


def test_strides_of_a_broken_file_are_refused() -> None:
    x, y = Tensor((1, 3, 3, 4), "float32"), Tensor((1, 6, 6, 5), "float32")
    w = constant(np.ones((5, 3, 3, 4)), "float32")
    with pytest.raises(CompileError, match="strides of 1000000 and 1000000"):
        tflite.load(transposed(x, w, [], y, 0, 1_000_000))
