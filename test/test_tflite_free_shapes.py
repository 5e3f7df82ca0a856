"""Shapes that a file leaves free: results have those that TFLite's kernels give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import check
from tflite_graphs import Graph, Models
from tflite_models import Tensor, constant, model

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends import tflite

F32, OTHER = "float32", "mobile4k"

RULES: dict[str, tuple[Any, ...]] = {
    "RESHAPE": ((2, 6), [constant([3, -1])], 2, "ReshapeOptions", {}),
    "SQUEEZE": ((1, 3, 1, 2), [], 3, "SqueezeOptions", {"squeezeDims": [-2]}),
    "EXPAND_DIMS": ((3, 2), [constant([-1])], 3, "ExpandDimsOptions", {}),
    "SLICE": ((4, 5), [constant([1, 2]), constant([2, -1])], 2, "SliceOptions", {}),
    "BROADCAST_TO": ((1, 3), [constant([2, 4, 3])], 3, "BroadcastToOptions", {"version": 2}),
    "ZEROS_LIKE": ((2, 3), [], 2, "ZerosLikeOptions", {}),
    "DIV": ((2, 1), [constant([1.0, 2, 4], F32)], 2, "DivOptions", {}),
    "GATHER": (
        (2, 5, 3), [constant([[1, 0], [4, 2]])], 3, "GatherOptions", {"axis": 1, "batchDims": 1},
    ),
    "MEAN": ((2, 3, 4), [constant([1, -1])], 1, "ReducerOptions", {}),
    "REDUCE_MAX": ((2, 3, 4), [constant([1])], 3, "ReducerOptions", {"keepDims": True}),
    "RESIZE_BILINEAR": ((1, 2, 3, 2), [constant([4, 6])], 4, "ResizeBilinearOptions", {}),
    "SPACE_TO_DEPTH": ((1, 4, 6, 3), [], 4, "SpaceToDepthOptions", {"blockSize": 2}),
    "DEPTH_TO_SPACE": ((1, 2, 3, 8), [], 4, "DepthToSpaceOptions", {"blockSize": 2}),
    "SPACE_TO_BATCH_ND": (
        (1, 5, 6, 3), [constant([2, 3]), constant([[1, 0], [2, 1]])], 4,
        "SpaceToBatchNDOptions", {},
    ),
    "BATCH_TO_SPACE_ND": (
        (6, 3, 3, 3), [constant([2, 3]), constant([[1, 0], [2, 1]])], 4,
        "BatchToSpaceNDOptions", {},
    ),
    "FULLY_CONNECTED": (
        (2, 3, 4), [constant(np.ones((5, 4)), F32), None], 2, "FullyConnectedOptions", {},
    ),
}  # fmt: skip
"""Shape, further inputs, rank of the result, options."""


@pytest.mark.parametrize("code", RULES)
def test_a_result_whose_shape_is_free(code: str) -> None:
    shape, more, rank, options, fields = RULES[code]
    x = Tensor(shape, F32)
    y = Tensor([1] * rank, F32, signature=[-1] * rank)
    check(model(code, [x, *more], [y], options, **fields), [x], target=OTHER, rtol=1e-6)


SLICES = [
    ([1, 0], [2, 2], [1, 1], 3, {}),
    ([0, 0, 1], [1, 0, 4], [1, 1, 1], 3, {"ellipsisMask": 2}),
    ([0, 0, 1], [0, 2, 3], [1, 1, 2], 4, {"newAxisMask": 1}),
    ([1, 0, 0], [0, 0, 1], [1, 1, 1], 1, {"shrinkAxisMask": 5, "endMask": 2}),
]


@pytest.mark.parametrize(("begin", "end", "strides", "rank", "fields"), SLICES)
def test_a_slice_whose_shape_is_free(
    begin: list[int], end: list[int], strides: list[int], rank: int, fields: dict[str, int]
) -> None:
    x, y = Tensor((2, 3, 4), F32), Tensor([1] * rank, F32, signature=[-1] * rank)
    inputs = [x, *map(constant, (begin, end, strides))]
    check(model("STRIDED_SLICE", inputs, [y], "StridedSliceOptions", **fields), [x])


@pytest.mark.parametrize("code", ["SPLIT", "SPLIT_V"])
def test_parts_whose_shapes_are_free(code: str) -> None:
    x, axis = Tensor((2, 6), F32), constant(1)
    inputs = [axis, x] if code == "SPLIT" else [x, constant([2, -1]), axis]
    parts = [Tensor((1, 1), F32, signature=(-1, -1)) for _ in range(2)]
    check(model(code, inputs, parts, f"{code.title().replace('_', '')}Options", numSplits=2), [x])


def test_a_dimension_that_is_not_free_must_be_as_it_is_stated() -> None:
    x, y = Tensor((2, 6), F32), Tensor((1, 7), F32, signature=(-1, 7))
    with pytest.raises(CompileError, match=r"found f32 \[3, 4\], where f32 \[-1, 7\] is stated"):
        tflite.load(model("RESHAPE", [x, constant([3, 4])], [y], "ReshapeOptions"))


def free(main: Graph, tensor: int, rank: int) -> int:
    main.made.tensors[tensor].shapeSignature = [-1] * rank
    return tensor


def frames() -> bytes:
    """Frames of four elements, as many as a signal has, whose number the model computes."""
    m = Models()
    main = m.graph("main")
    x = free(main, main.input((1, 1), F32, name="x"), 2)
    y = free(main, main.input((1,), F32, name="y"), 1)
    shape = main.op("SHAPE", [x], [main.tensor((2,), "int32")], "ShapeOptions", outType=2)
    four = main.constant([1, 4])
    count = main.op("FLOOR_DIV", [shape, four], [main.tensor((2,), "int32")], "FloorDivOptions")
    end = main.binary("MUL", count, four, "int32", (2,))
    bounds = [main.constant([0, 0]), end, main.constant([1, 1])]
    part = free(main, main.tensor((1, 1), F32), 2)
    main.op("STRIDED_SLICE", [x, *bounds], [part], "StridedSliceOptions")
    rows = free(main, main.tensor((1, 1), F32), 2)
    main.op("RESHAPE", [part, main.constant([-1, 4])], [rows], "ReshapeOptions")
    found = free(main, main.output((1, 1), F32), 2)
    main.op("MUL", [rows, y], [found], "MulOptions")
    return m.bytes()


def test_shapes_follow_from_inputs_of_several_sizes() -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    source = frames()
    it: Any = Interpreter(
        model_content=source, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 14), (4,))]
    for detail, value in zip(it.get_input_details(), values, strict=True):
        it.resize_tensor_input(detail["index"], value.shape)
    it.allocate_tensors()
    for detail, value in zip(it.get_input_details(), values, strict=True):
        it.set_tensor(detail["index"], value)
    it.invoke()
    expected = it.get_tensor(it.get_output_details()[0]["index"])
    module = npu.load(tflite.load(source, {"x": (2, 14), "y": (4,)}), target=OTHER)
    (found,) = npu.execute(module, values).values()
    np.testing.assert_array_equal(found, expected)
