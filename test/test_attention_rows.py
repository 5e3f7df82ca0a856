"""Attention by rows: tiles hold rows of each head, and later layers begin with the first ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from npu_dialect import api
from npu_dialect.passes.mapping.elementwise import Elementwise, Stream, search
from npu_dialect.runtime.program import Program
from npu_dialect.target import load_target

HEADS, TOKENS, DEPTH = 8, 64, 8
FEATURES = HEADS * DEPTH


def attention(path: Path, tokens: int) -> Path:
    """Self-attention of eight heads and two products with weights for each token, as ONNX."""
    rng = np.random.default_rng(3)
    nodes, weights = list[onnx.NodeProto](), list[onnx.TensorProto]()

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(values: np.ndarray) -> str:  # type: ignore[type-arg]
        weights.append(numpy_helper.from_array(values, f"w{len(weights)}"))
        return weights[-1].name

    def linear(x: str, ins: int, outs: int) -> str:
        values = rng.normal(0, ins**-0.5, (ins, outs)).astype(np.float32)
        return node("MatMul", x, constant(values))

    heads = constant(np.array([1, tokens, HEADS, DEPTH]))
    q, k, v = (
        node("Transpose", node("Reshape", linear("x", FEATURES, FEATURES), heads), perm=perm)
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = node("Div", node("MatMul", q, k), constant(np.array(DEPTH**0.5, np.float32)))
    context = node("MatMul", node("Softmax", scores, axis=-1), v)
    moved = node("Transpose", context, perm=[0, 2, 1, 3])
    rows = node("Reshape", moved, constant(np.array([1, tokens, FEATURES])))
    y = linear(linear(rows, FEATURES, 512), 512, FEATURES)
    shape = [1, tokens, FEATURES]
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y_info = helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "attention", [x_info], [y_info], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(path))
    return path


def compiled(path: Path) -> Program:
    return api.compile(path, "mobile4k", options=api.Options(reproducer=None))


def times(program: Program, name: str) -> list[tuple[int, int]]:
    """(start, end) of the instructions of a node."""
    timing = program.profile.timing
    return [
        (int(timing.start[k]), int(timing.end[k]))
        for k, (number, _) in enumerate(program.executed)
        if program.instructions[number].source[0] == name
    ]


@pytest.mark.parametrize("tokens", [7, 33, TOKENS])
def test_attention_is_that_of_onnxruntime(tmp_path: Path, tokens: int):
    path = attention(tmp_path / "a.onnx", tokens)
    x = np.random.default_rng(4).normal(size=(1, tokens, FEATURES)).astype(np.float32)
    expected: Any
    (expected,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})
    (found,) = api.simulate(compiled(path), [x]).outputs.values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_later_layers_begin_while_scores_are_at_work(tmp_path: Path):
    program = compiled(attention(tmp_path / "a.onnx", TOKENS))
    nodes = {d.source[0] for d in program.instructions}
    softmax = next(n for n in nodes if n.startswith("Softmax"))
    *_, up, _ = sorted((n for n in nodes if n.startswith("MatMul")), key=lambda n: int(n[6:]))
    assert min(start for start, _ in times(program, up)) < max(
        end for _, end in times(program, softmax)
    )


@pytest.mark.parametrize(("tokens", "rows"), [(64, 32), (24, 12), (2, 1)])
def test_a_tile_has_half_of_the_rows_of_a_head_at_most(tokens: int, rows: int):
    dims = (HEADS * tokens, 64)
    stream = Stream(dims, 4, resident=True)
    p = Elementwise(
        dims, (stream,), stream, value_type="f32", takes_over=1024, hands_over=1024, heads=HEADS
    )
    found = search(load_target("mobile4k"), p, 1 << 20)
    assert found is not None
    assert found[0].axis == 0
    assert found[0].chunk <= rows
    assert tokens % found[0].chunk == 0


def test_heads_that_are_one_row_each_are_cut_along_the_next_dimension():
    stream = Stream((HEADS, 4096), 4, resident=True)
    p = Elementwise(stream.dims, (stream,), stream, value_type="f32", takes_over=1024, heads=HEADS)
    found = search(load_target("mobile4k"), p, 1 << 20)
    assert found is not None
    assert found[0].axis == 1
    assert found[0].chunk <= 2048
