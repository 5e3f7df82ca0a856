"""Operators of com.microsoft that onnxruntime has on other processors only: what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from onnx_cases import Array, floats, ints
from onnx_support import model_of, run_onnxruntime

from npu_dialect.diagnostics import CompileError
from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

node = helper.make_node


@dataclass(frozen=True)
class Equal:
    """An operator, and nodes from the same inputs x0, x1, ... to `y` that mean the same."""

    op_type: str
    inputs: Sequence[Array]
    nodes: Sequence[NodeProto]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])


HEADS = floats(2, 5, 4, 3, 8)


def unpacked(count: int) -> list[NodeProto]:
    """The parts of x0 [batch, steps, heads, count, size] as p0, p1, ..."""
    names = [f"part{k}" for k in range(count)]
    shapes = [node("Constant", [], ["flat"], value_ints=[2, 5, 32])]
    parts = [node("Reshape", [name, "flat"], [f"p{k}"]) for k, name in enumerate(names)]
    return [node("Split", ["x0"], names, axis=3, num_outputs=count), *shapes, *parts]


CASES = [
    Equal("FusedMatMulActivation", [floats(3, 4), floats(4, 5)],
          [node("MatMul", ["x0", "x1"], ["t"]), node("Relu", ["t"], ["y"])],
          {"activation": "Relu"}),
    Equal("GemmFastGelu", [floats(3, 4), floats(4, 5), floats(5)],
          [node("MatMul", ["x0", "x1"], ["t"]), node("Add", ["t", "x2"], ["u"]),
           node("Gelu", ["u"], ["y"], approximate="tanh")]),
    Equal("BiasSplitGelu", [floats(2, 3, 8), floats(8)],
          [node("Add", ["x0", "x1"], ["t"]),
           node("Split", ["t"], ["l", "r"], axis=-1, num_outputs=2),
           node("Gelu", ["r"], ["g"]), node("Mul", ["l", "g"], ["y"])]),
    Equal("BiasSoftmax", [floats(2, 3, 8), floats(1, 1, 8)],
          [node("Add", ["x0", "x1"], ["t"]), node("Softmax", ["t"], ["y"], axis=-1)],
          {"axis": 2, "is_inner_broadcast": 1}),
    Equal("BiasAdd", [floats(2, 3, 8), floats(8), floats(2, 3, 8, seed=1)],
          [node("Add", ["x0", "x1"], ["t"]), node("Add", ["t", "x2"], ["y"])]),
    Equal("NhwcFusedConv", [floats(1, 6, 7, 4), floats(5, 3, 3, 4), floats(5)],
          [node("Transpose", ["x0"], ["x"], perm=[0, 3, 1, 2]),
           node("Transpose", ["x1"], ["w"], perm=[0, 3, 1, 2]),
           node("Conv", ["x", "w", "x2"], ["t"]), node("Relu", ["t"], ["u"]),
           node("Transpose", ["u"], ["y"], perm=[0, 2, 3, 1])], {"activation": "Relu"}),
    Equal("NhwcConv", [floats(1, 6, 7, 4), floats(5, 3, 3, 4)],
          [node("Transpose", ["x0"], ["x"], perm=[0, 3, 1, 2]),
           node("Transpose", ["x1"], ["w"], perm=[0, 3, 1, 2]),
           node("Conv", ["x", "w"], ["t"], strides=[2, 1]),
           node("Transpose", ["t"], ["y"], perm=[0, 2, 3, 1])], {"strides": [2, 1]}),
    Equal("MultiHeadAttention", [HEADS],
          [*unpacked(3), node("MultiHeadAttention", ["p0", "p1", "p2"], ["y"], num_heads=4,
                              domain="com.microsoft")], {"num_heads": 4}),
]  # fmt: skip


def outputs_of(nodes: Sequence[NodeProto], inputs: Sequence[Array]) -> Any:
    specs = {f"x{k}": (x.dtype, x.shape) for k, x in enumerate(inputs)}
    return model_of(nodes, specs, ["y"], opset=20)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op_type)
def test_a_fused_operator_is_what_it_was_fused_from(case: Equal) -> None:
    names = [f"x{k}" for k in range(len(case.inputs))]
    fused = node(case.op_type, names, ["y"], domain="com.microsoft", **case.attributes)
    module = load(outputs_of([fused], case.inputs))
    (y,) = run(module, list(case.inputs))
    feeds = dict(zip(names, case.inputs, strict=True))
    (expected,) = run_onnxruntime(outputs_of(case.nodes, case.inputs), feeds)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)


def test_the_mean_of_quantized_values_is_that_of_the_real_ones() -> None:
    x = ints(2, 3, 8, low=0, high=255, dtype=np.uint8)
    constants = {"s": np.array(0.02, np.float32), "z": np.array(120, np.uint8),
                 "t": np.array(0.01, np.float32), "w": np.array(90, np.uint8)}  # fmt: skip
    fused = node("QLinearReduceMean", ["x0", "s", "z", "t", "w"], ["y"], domain="com.microsoft",
                 axes=[-1], keepdims=0)  # fmt: skip
    apart = [
        node("DequantizeLinear", ["x0", "s", "z"], ["real"]),
        node("ReduceMean", ["real"], ["mean"], axes=[-1], keepdims=0),
        node("QuantizeLinear", ["mean", "t", "w"], ["y"]),
    ]
    models = [model_of(nodes, {"x0": (x.dtype, x.shape)}, ["y"], constants, 17)
              for nodes in ([fused], apart)]  # fmt: skip
    models[0].graph.output[0].type.tensor_type.elem_type = 2
    (y,) = run(load(models[0]), [x])
    (expected,) = run_onnxruntime(models[1], {"x0": x})
    np.testing.assert_array_equal(y, expected)


def test_what_neither_graph_nor_the_host_can_do_is_refused_with_the_reason() -> None:
    fused = node("FusedGemm", ["x0", "x1"], ["y"], name="g", domain="com.microsoft",
                 activation="Swirl")  # fmt: skip
    with pytest.raises(CompileError, match="NPU0109.*FusedGemm.*the activation Swirl"):
        load(outputs_of([fused], [floats(3, 4), floats(4, 5)]))
