"""Operators with indices: the results of TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check, compare, like, quantized, seeds, types
from tflite_models import Tensor, constant, draw, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

KINDS = ["int8", "uint8", "float32", "int32"]


def tensor(shape: tuple[int, ...], dtype: str) -> Tensor:
    return Tensor(shape, dtype, 0.05, 7) if dtype in ("int8", "uint8") else Tensor(shape, dtype)


@given(st.data(), seeds, types, st.sampled_from(["ARG_MAX", "ARG_MIN"]), st.integers(-3, 2))
@settings(max_examples=20)
def test_the_first_of_the_greatest_of_8_bits(
    data: st.DataObject, seed: int, dtype: str, code: str, axis: int
) -> None:
    shape = (3, data.draw(st.sampled_from([1, 2, 21, 256, 257])), 2)
    x = quantized(shape, dtype, data)
    y = Tensor([n for k, n in enumerate(shape) if k != axis % 3], "int32")
    options = {"ARG_MAX": "ArgMaxOptions", "ARG_MIN": "ArgMinOptions"}[code]
    source = model(code, [x, constant(axis)], [y], options, outputType=2)
    values = draw(np.random.default_rng(seed), x)
    compare(source, [values if seed % 2 else values // 64])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_the_first_of_the_greatest_of_others(dtype: str, kind: str) -> None:
    x, y = Tensor((4, 9), dtype), Tensor((4,), kind)
    number = {"int32": 2, "int64": 4}[kind]
    source = model("ARG_MAX", [x, constant(-1)], [y], "ArgMaxOptions", outputType=number)
    check(source, [x], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
def test_the_greatest_in_order(dtype: str) -> None:
    x = tensor((3, 11), dtype)
    outputs = [like(x, (3, 4)), Tensor((3, 4), "int32")]
    source = model("TOPK_V2", [x, constant(4)], outputs, "TopKV2Options")
    check(source, [x], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (2, 2, 3, 4)), (1, (2, 2, 2, 4)), (-1, (2, 3, 2, 2))]
)
@pytest.mark.parametrize("is_known", [True, False])
def test_gather(axis: int, shape: tuple[int, ...], dtype: str, is_known: bool) -> None:
    x = tensor((2, 3, 4), dtype)
    values = np.array([[0, 1], [1, 0]], np.int32)
    indices = constant(values) if is_known else Tensor((2, 2), "int32")
    source = model("GATHER", [x, indices], [like(x, shape)], "GatherOptions", axis=axis)
    inputs = [draw(np.random.default_rng(0), x)]
    compare(source, inputs if is_known else [*inputs, values], target="mobile4k")


@pytest.mark.parametrize(
    ("axis", "batch", "shape"), [(1, 1, (2, 5, 4)), (2, 1, (2, 3, 5)), (2, 2, (2, 3, 5))]
)
def test_gather_of_batches(axis: int, batch: int, shape: tuple[int, ...]) -> None:
    x = tensor((2, 3, 4), "int8")
    rng = np.random.default_rng(0)
    values = rng.integers(0, x.shape[axis], (*x.shape[:batch], 5), np.int32)
    inputs = [x, Tensor(values.shape, "int32")]
    y, options = like(x, shape), "GatherOptions"
    source = model("GATHER", inputs, [y], options, axis=axis, batchDims=batch)
    compare(source, [draw(rng, x), values], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("indices", [[[1], [0]], [[1, 2], [0, 0], [1, 1]]])
def test_gather_by_tuples(dtype: str, indices: list[list[int]]) -> None:
    x = tensor((2, 3, 4), dtype)
    y = like(x, (len(indices), *x.shape[len(indices[0]) :]))
    check(model("GATHER_ND", [x, constant(indices)], [y]), [x], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
def test_embedding_lookup(dtype: str) -> None:
    x, indices = tensor((5, 4), dtype), constant([3, 1, 1])
    check(model("EMBEDDING_LOOKUP", [indices, x], [like(x, (3, 4))]), [x], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
def test_scatter_to_different_places(dtype: str) -> None:
    x = tensor((2, 4), dtype)
    inputs = [constant([[3], [1]]), x, constant([5, 4])]
    source = model("SCATTER_ND", inputs, [like(x, (5, 4))], "ScatterNdOptions")
    check(source, [x], target="mobile4k")


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_scatter_adds_what_goes_to_one_place(dtype: str) -> None:
    x = tensor((3, 4), dtype)
    inputs = [constant([[3], [1], [3]]), x, constant([5, 4])]
    source = model("SCATTER_ND", inputs, [like(x, (5, 4))], "ScatterNdOptions")
    check(source, [x], target="mobile4k")


def test_scatter_of_8_bits_to_one_place_is_refused() -> None:
    x = tensor((2, 4), "int8")
    inputs = [constant([[3], [3]]), x, constant([5, 4])]
    source = model("SCATTER_ND", inputs, [like(x, (5, 4))], "ScatterNdOptions")
    with pytest.raises(CompileError, match="not known to be different, and updates of i8"):
        tflite.load(source)


@pytest.mark.parametrize("start", [(1, 2), (0, 0), (9, -3)])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_dynamic_update_slice_at_a_known_place(dtype: str, start: tuple[int, int]) -> None:
    x = tensor((4, 5), dtype)
    inputs = [x, like(x, (2, 3)), constant(start)]
    source = model("DYNAMIC_UPDATE_SLICE", inputs, [x], version=1)
    check(source, [x, like(x, (2, 3))], target="mobile4k")


@pytest.mark.parametrize("start", [(1, 0), (9, 0)])
def test_dynamic_update_slice_at_a_place_of_run_time(start: tuple[int, int]) -> None:
    x, part = tensor((4, 5), "int8"), tensor((2, 5), "int8")
    source = model("DYNAMIC_UPDATE_SLICE", [x, part, Tensor((2,), "int32")], [x])
    rng = np.random.default_rng(0)
    values = [draw(rng, x), draw(rng, part), np.array(start, np.int32)]
    compare(source, values, target="mobile4k")


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int8"])
def test_one_hot(axis: int, dtype: str) -> None:
    indices = Tensor((2, 3), "int32")
    on, off = (constant(v, dtype, scale=0.5, zero=1) for v in (5, -2))
    shape = list(indices.shape)
    shape.insert(axis % 3, 4)
    y = Tensor(shape, dtype, 0.5 if dtype == "int8" else None, 1)
    source = model("ONE_HOT", [indices, constant(4), on, off], [y], "OneHotOptions", axis=axis)
    compare(source, [np.array([[0, 3, -1], [2, 7, 1]], np.int32)], target="mobile4k")


@pytest.mark.parametrize("axes", [[0], [1], [1, 2]])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_reverse(axes: list[int], dtype: str) -> None:
    x = tensor((2, 3, 4), dtype)
    check(model("REVERSE_V2", [x, constant(axes)], [x], "ReverseV2Options"), [x])


def test_reverse_sequence() -> None:
    x = tensor((3, 5, 2), "uint8")
    inputs, options = [x, constant([2, 5, 1])], "ReverseSequenceOptions"
    source = model("REVERSE_SEQUENCE", inputs, [x], options, seqDim=1, batchDim=0)
    check(source, [x], target="mobile4k")
