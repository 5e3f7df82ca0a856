"""Resizing and the greatest element, between quantized tensors, on targets without floats.

Expected values: float64 sums with the matrices of weights, numpy's argmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fixed_point_support import function, in_integers, real, steps_off
from hypothesis import given
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder
from onnx import helper
from onnx_support import model_of, run_onnxruntime
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

import npu_dialect as npu
from npu_dialect import dtypes, graph, pipeline
from npu_dialect.graph.interpret import run
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.fixed_point.steps import COARSEST
from npu_dialect.provenance import name_location

Array = np.ndarray[Any, np.dtype[Any]]
AT = name_location("resize")
BYTE = uniform(dtypes.u8, 0.1, 119)


def bilinear(old: int, new: int) -> Array:
    """[old, new] float64: the weights of old elements in new ones, pixels as areas."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    low = np.floor(at).astype(int)
    found = np.zeros((old, new))
    for place, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
        np.add.at(found, (np.clip(place, 0, old - 1), np.arange(new)), weight)
    return found


def resize(
    matrices: Sequence[Array], channels: int, x: QuantType, y: QuantType, **kwargs: Any
) -> ModuleOp:
    """quantize(rows and columns of dequantize([1, channels, h, w]) times matrices)."""
    height, width = (len(m) for m in matrices)

    def make(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
        rows = product(build, value, (channels, height, width), matrices[0], (0, 2, 1))
        shape = (channels, matrices[0].shape[1], width)
        both = product(build, rows, shape, matrices[1], (0, 1, 2))
        final = (1, channels, *(m.shape[1] for m in matrices))
        return graph.ReshapeOp(both, final, location=AT)

    return function(make, (1, channels, height, width), x, y, **kwargs)


def product(
    build: ModuleBuilder, x: SSAValue, shape: tuple[int, ...], matrix: Array, order: Sequence[int]
) -> SSAValue:
    """[a, b, c] along the dimension that `order` has last, which stays where it was."""
    weights = build.constant(matrix.astype(np.float32), None)
    ops: list[graph.GraphOp] = [graph.ReshapeOp(x, shape, location=AT)]
    ops.append(graph.TransposeOp(ops[-1], order, location=AT))
    ops.append(graph.ReshapeOp(ops[-1], _flat(shape, order), location=AT))
    ops.append(graph.MatmulOp(ops[-1], weights, location=AT))
    apart = [shape[k] for k in order[:-1]]
    ops.append(graph.ReshapeOp(ops[-1], (*apart, matrix.shape[1]), location=AT))
    ops.append(graph.TransposeOp(ops[-1], np.argsort(order).tolist(), location=AT))
    build.block.add_ops(ops)
    return ops[-1].results[0]


def _flat(shape: Sequence[int], order: Sequence[int]) -> tuple[int, int]:
    return shape[order[0]] * shape[order[1]], shape[order[2]]


def exact(x: Array, quant: QuantType, matrices: Sequence[Array]) -> Array:
    return np.einsum("bchw,hy,wx->bcyx", real(x, quant), *matrices)


def random(shape: Sequence[int], quant: QuantType, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    values = rng.integers(quant.low, quant.high + 1, shape)
    ends = rng.choice([quant.low, quant.high], shape)
    return np.where(rng.random(shape) < 0.5, values, ends).astype(quant.storage_dtype.numpy)


sizes = st.integers(2, 12)
types = st.sampled_from((dtypes.i8, dtypes.u8))


@given(sizes, sizes, sizes, sizes, types, st.floats(0.5, 2), st.integers(0, 2**32 - 1))
def test_a_bilinear_resize_is_off_by_less_than_a_step(
    height: int, width: int, rows: int, columns: int, kind: dtypes.DType, ratio: float, seed: int
) -> None:
    matrices = bilinear(height, rows), bilinear(width, columns)
    zero = int(np.random.default_rng(seed).integers(kind.low, kind.high + 1))
    quant, result = uniform(kind, 0.1, zero), uniform(kind, 0.1 / ratio, zero)
    module = resize(matrices, 3, quant, result)
    pipeline.run(module, "graph-fixed-point")
    assert in_integers(module)
    x = random((1, 3, height, width), quant, seed)
    found = run(module, [x])[0]
    assert steps_off(found, exact(x, quant, matrices), result) <= 0.5 + COARSEST


@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_any_matrices_are_taken_if_they_are_exact_enough(
    height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrices = [
        (m / np.abs(m).sum(0)).astype(np.float32).astype(np.float64)
        for m in (rng.normal(size=(n, 7)) for n in (height, width))
    ]
    module = resize(matrices, 2, BYTE, BYTE)
    pipeline.run(module, "graph-fixed-point")
    x = random((1, 2, height, width), BYTE, seed)
    if in_integers(module):
        found = run(module, [x])[0]
        assert steps_off(found, exact(x, BYTE, matrices), BYTE) <= 0.5 + COARSEST


@given(st.integers(2, 40), st.integers(2, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_a_product_with_weights_that_were_left_in_floats_is_one_too(
    before: int, after: int, count: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).normal(size=(before, after)).astype(np.float32)

    def make(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
        return graph.MatmulOp(value, build.constant(weights, None), location=AT)

    result = uniform(dtypes.u8, 0.4, 119)
    module = function(make, (count, before), BYTE, result)
    pipeline.run(module, "graph-fixed-point")
    x = random((count, before), BYTE, seed)
    if in_integers(module):
        expected = real(x, BYTE) @ weights.astype(np.float64)
        assert steps_off(run(module, [x])[0], expected, result) <= 0.5 + COARSEST


def test_a_doubled_image_is_exact_but_for_its_last_rounding() -> None:
    matrices = bilinear(8, 16), bilinear(6, 12)
    module = resize(matrices, 3, BYTE, BYTE)
    pipeline.run(module, "graph-fixed-point")
    x = random((1, 3, 8, 6), BYTE, 0)
    assert steps_off(run(module, [x])[0], exact(x, BYTE, matrices), BYTE) <= 0.5


@pytest.mark.parametrize("target", ["edge256", "ethos_u55_256", "ethos_u65_512"])
def test_a_resize_leaves_nothing_to_the_host(target: str) -> None:
    module = resize((bilinear(5, 13), bilinear(6, 17)), 4, BYTE, BYTE, target=target)
    program = npu.compile(module)
    assert {p.engine for p in program.placement} <= {"mxu", "vpu", "dma", "io"}


def test_npu_exact_leaves_a_resize_as_it_is() -> None:
    module = resize((bilinear(5, 13), bilinear(6, 17)), 4, BYTE, BYTE)
    program = npu.compile(module, exact=True)
    assert "host" in {p.engine for p in program.placement}


# --- the greatest element -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("axis", [1, 3])
def test_the_place_of_an_extreme_is_found_in_integers(kind: str, last: int, axis: int) -> None:
    node = helper.make_node
    model = model_of(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
            node(kind, ["r"], ["y"], axis=axis, keepdims=0, select_last_index=last),
        ],
        {"x": ("float32", (1, 5, 6, 7))},
        ["y"],
        {"scale": np.array(0.5, np.float32), "zero": np.array(7, np.uint8)},
    )
    program = npu.compile(model, "edge256")
    assert "host" not in {p.engine for p in program.placement}
    x = np.random.default_rng(0).integers(-3, 4, (1, 5, 6, 7)).astype(np.float32)
    found = npu.simulate(program, {"x": x}).outputs["y"]
    assert np.array_equal(found, run_onnxruntime(model, {"x": x})[0])
