"""Small ONNX models for tests, and running them in onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, helper
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from npu_dialect.frontends.onnx import tensors
from npu_dialect.taps import EXACT_BYTES

Array = npt.NDArray[Any]

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
"""Models and suites that live beside the repository."""


def value_info(name: str, dtype: str | np.dtype[Any], shape: Sequence[int | str] | None) -> Any:
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, code, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[str | np.dtype[Any], Sequence[int | str] | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Array] | None = None,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> ModelProto:
    """A model; an output that shape inference cannot type is taken for float32."""
    graph = helper.make_graph(
        nodes,
        "test",
        [value_info(name, *spec) for name, spec in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensors.tensor_of(array, name) for name, array in (constants or {}).items()],
    )
    domains = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    for output in inferred.graph.output:
        if output.type.WhichOneof("value") is None:
            output.CopyFrom(value_info(output.name, "float32", None))
    return inferred


def node_model(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: Mapping[str, Any],
    constants: Sequence[int] = (),
    outputs: int = 1,
    opset: int = 17,
    domain: str = "",
    result: str = "",
) -> ModelProto:
    """One node; the inputs at the positions `constants` become initializers."""
    names = ["" if array is None else f"x{k}" for k, array in enumerate(inputs)]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op_type, names, results, name="node", domain=domain, **attributes)
    given = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    known = {names[k]: given[names[k]] for k in constants}
    specs = {n: (a.dtype, a.shape) for n, a in given.items() if n not in known}
    model = model_of([node], specs, results, known, opset)
    if result:
        del model.graph.output[:]
        model.graph.output.append(value_info("y0", result, None))
    return model


BYTE_PRODUCTS = {"QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"}


def run_onnxruntime(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of onnxruntime on the CPU with optimizations off, but where it multiplies bytes:
    there one of them makes the products exact.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not any(node.op_type in BYTE_PRODUCTS for node in model.graph.node):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry(*EXACT_BYTES)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(y) for y in session.run(None, dict(feeds))]


def operations(module: ModuleOp, name: str) -> list[Operation]:
    """The operations of one kind."""
    return [op for op in module.walk() if op.name == name]
