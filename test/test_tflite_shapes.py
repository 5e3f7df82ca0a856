"""Operators that move elements or follow from shapes: the results of TFLite's reference kernels."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check, compare, like, quantized, seeds
from tflite_models import Tensor, constant, model

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

KINDS = ["int8", "uint8", "float32"]


def tensor(shape: tuple[int, ...], dtype: str) -> Tensor:
    return Tensor(shape, dtype, 0.05, 7) if dtype in ("int8", "uint8") else Tensor(shape, dtype)


BLOCKS: dict[str, tuple[Any, ...]] = {
    "SPACE_TO_DEPTH": ((2, 4, 6, 3), [], (2, 2, 3, 12), "SpaceToDepthOptions", {"blockSize": 2}),
    "DEPTH_TO_SPACE": ((2, 2, 3, 12), [], (2, 4, 6, 3), "DepthToSpaceOptions", {"blockSize": 2}),
    "SPACE_TO_BATCH_ND": (
        (2, 5, 6, 3), [constant([2, 3]), constant([[1, 0], [2, 1]])], (12, 3, 3, 3),
        "SpaceToBatchNDOptions", {},
    ),
    "BATCH_TO_SPACE_ND": (
        (12, 3, 3, 3), [constant([2, 3]), constant([[1, 0], [2, 1]])], (2, 5, 6, 3),
        "BatchToSpaceNDOptions", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("code", BLOCKS)
def test_blocks(code: str, dtype: str) -> None:
    shape, more, result, options, fields = BLOCKS[code]
    x = tensor(shape, dtype)
    check(model(code, [x, *more], [like(x, result)], options, **fields), [x], target="mobile4k")


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(("mode", "amount"), [(0, [[1, 0], [2, 3]]), (1, [[2, 2], [0, 4]])])
def test_mirror_pad(mode: int, amount: list[list[int]], dtype: str) -> None:
    x = tensor((2, 4), dtype)
    result = [n + sum(a) for n, a in zip(x.shape, amount, strict=True)]
    inputs = [x, constant(amount)]
    source = model("MIRROR_PAD", inputs, [like(x, result)], "MirrorPadOptions", mode=mode)
    check(source, [x], target="mobile4k")


@given(st.data(), seeds)
@settings(max_examples=15)
def test_parts_of_u8_are_rescaled(data: st.DataObject, seed: int) -> None:
    x, z, y = (quantized(s, "uint8", data) for s in [(2, 30), (2, 20), (2, 50)])
    check(model("CONCATENATION", [x, z], [y], "ConcatenationOptions", axis=1), [x, z], seed)


def test_parts_of_i8_of_another_scale_are_refused_as_tflite_refuses_them() -> None:
    x, z = Tensor((2, 3), "int8", 0.1, 3), Tensor((2, 3), "int8", 0.2, 3)
    source = model("CONCATENATION", [x, z], [like(x, (2, 6))], "ConcatenationOptions", axis=1)
    with pytest.raises(CompileError, match="different scales, which TFLite has for u8 only"):
        tflite.load(source)


OTHER: dict[str, tuple[Any, ...]] = {
    "AVERAGE_POOL_2D": (
        [], (1, 3, 2, 1), "Pool2DOptions",
        {"padding": 0, "strideH": 1, "strideW": 1, "filterHeight": 2, "filterWidth": 2},
    ),
    "RESHAPE": ([constant([3, 2])], (3, 2), "ReshapeOptions", {}),
    "PAD": ([constant([[1, 0], [0, 2]])], (3, 5), "PadOptions", {}),
    "TRANSPOSE": ([constant([1, 0])], (3, 2), "TransposeOptions", {}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("code", OTHER)
def test_stored_values_stay_where_the_result_has_another_zero_point(code: str, dtype: str) -> None:
    more, shape, options, fields = OTHER[code]
    x = tensor(shape if "POOL" in code else (2, 3), dtype)
    check(model(code, [x, *more], [Tensor(shape, dtype, 0.3, 19)], options, **fields), [x])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("code", ["MAXIMUM", "MINIMUM"])
def test_the_greater_of_stored_values(code: str, dtype: str) -> None:
    x, z = tensor((2, 30), dtype), Tensor((2, 30), dtype, 0.3, 40)
    source = model(code, [x, z], [Tensor((2, 30), dtype, 0.1, 1)], "MaximumMinimumOptions")
    check(source, [x, z])


SLICES: list[tuple[Any, ...]] = [
    ([1, 0], [2, 2], [1, 1], (1, 2, 4), {}),
    ([0, 1], [0, 3], [1, 2], (2, 3, 1), {"ellipsisMask": 1}),
    ([0, 0, 1], [1, 0, 4], [1, 1, 1], (1, 3, 3), {"ellipsisMask": 2}),
    ([0, 0, 1], [0, 2, 3], [1, 1, 1], (1, 2, 2, 4), {"newAxisMask": 1}),
    ([1, 0, 0], [0, 0, 1], [1, 1, 1], (3,), {"shrinkAxisMask": 5, "endMask": 2}),
    ([0, 1, 1], [2, 2, 2], [1, 1, 2], (2, 2, 1), {"offset": True}),
]


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(("begin", "end", "strides", "shape", "fields"), SLICES)
def test_strided_slice(
    begin: list[int],
    end: list[int],
    strides: list[int],
    shape: tuple[int, ...],
    fields: dict[str, Any],
    dtype: str,
) -> None:
    x = tensor((2, 3, 4), dtype)
    inputs = [x, *map(constant, (begin, end, strides))]
    source = model("STRIDED_SLICE", inputs, [like(x, shape)], "StridedSliceOptions", **fields)
    check(source, [x])


def test_fill() -> None:
    value = constant(5, "int8", scale=0.5, zero=3)
    y = Tensor((2, 3), "int8", 0.5, 3)
    compare(model("FILL", [constant([2, 3]), value], [y], "FillOptions"), [])


@pytest.mark.parametrize(("code", "shape"), [("SHAPE", (3,)), ("RANK", ())])
def test_what_a_shape_says(code: str, shape: tuple[int, ...]) -> None:
    x, y = tensor((2, 3, 4), "int8"), Tensor(shape, "int32")
    fields: dict[str, Any] = {"outType": 2} if code == "SHAPE" else {}
    options = {"SHAPE": "ShapeOptions", "RANK": "RankOptions"}[code]
    check(model(code, [x], [y], options, **fields), [x])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_zeros_like(dtype: str) -> None:
    x = tensor((2, 3), dtype)
    check(model("ZEROS_LIKE", [x], [x], "ZerosLikeOptions"), [x])


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_range(dtype: str) -> None:
    inputs = [constant(v, dtype) for v in (1, 8, 2)]
    compare(model("RANGE", inputs, [Tensor((4,), dtype)], "RangeOptions"), [])


def test_where_of_a_constant() -> None:
    condition = constant([[1, 0], [1, 1]], "bool")
    compare(model("WHERE", [condition], [Tensor((3, 2), "int64")], "WhereOptions"), [])


def test_where_of_run_time_is_refused() -> None:
    source = model("WHERE", [Tensor((2, 2), "bool")], [Tensor((3, 2), "int64")], "WhereOptions")
    with pytest.raises(CompileError, match="a condition is computed at run time"):
        tflite.load(source)


@pytest.mark.parametrize(
    ("before", "after"),
    [("int8", "float32"), ("uint8", "int32"), ("int8", "uint8"), ("int32", "int8")],
)
def test_cast_is_of_stored_values(before: str, after: str) -> None:
    x, y = tensor((2, 30), before), tensor((2, 30), after)
    check(model("CAST", [x], [y], "CastOptions"), [x], target="mobile4k")


def test_broadcast_to() -> None:
    x = tensor((1, 4), "int8")
    inputs = [x, constant([3, 4])]
    source = model("BROADCAST_TO", inputs, [like(x, (3, 4))], "BroadcastToOptions", version=2)
    check(source, [x])
