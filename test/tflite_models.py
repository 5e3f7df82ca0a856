"""TFLite models of one operator, and what TFLite's reference kernels give for them.

Needs ai-edge-litert: its object API of the schema writes the files, its interpreter runs them with
the reference kernels (`BUILTIN_REF`), without delegates.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "bool": 6,
    "int16": 7,
    "complex64": 8,
    "int8": 9,
    "int4": 17,
}


@dataclass
class Tensor:
    """A tensor of a model: a constant where it has values."""

    shape: Sequence[int]
    dtype: str = "int8"
    scale: Any = None
    """A number, or one for each index of `axis`; None where it is not quantized."""
    zero: Any = 0
    axis: int = 0
    values: Array | None = None
    is_variable: bool = False
    """Whether it keeps its content from run to run."""
    signature: Sequence[int] = ()
    """The shape with -1 for dimensions that are free."""


def schema() -> Any:
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def constant(values: Any, dtype: str = "int32", **more: Any) -> Tensor:
    array = np.asarray(values, dtype)
    return Tensor(array.shape, dtype, values=array, **more)


def model(
    code: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
    options: str = "",
    version: int = 1,
    intermediates: Any = (),
    **fields: Any,
) -> bytes:
    """A file with one operator; its computed inputs are those of the model, in order."""
    s = schema()

    found = s.ModelT()
    found.version = 3
    found.buffers = [s.BufferT()]
    operator = s.OperatorCodeT()
    operator.builtinCode = getattr(s.BuiltinOperator, code)
    operator.deprecatedBuiltinCode = min(operator.builtinCode, 127)
    operator.version = version
    found.operatorCodes = [operator]
    graph, node = s.SubGraphT(), s.OperatorT()
    graph.tensors, graph.inputs, node.inputs, node.outputs = [], [], [], []
    for k, tensor in enumerate(inputs):
        index = -1 if tensor is None else len(graph.tensors)
        node.inputs.append(index)
        if tensor is not None:
            graph.tensors.append(written(found, tensor, f"x{k}"))
            if tensor.values is None and not tensor.is_variable:
                graph.inputs.append(index)
    for k, tensor in enumerate(outputs):
        node.outputs.append(len(graph.tensors))
        graph.tensors.append(written(found, tensor, f"y{k}"))
    graph.outputs = list(node.outputs)
    if intermediates:
        node.intermediates = [len(graph.tensors) + k for k in range(len(intermediates))]
        graph.tensors += [written(found, t, f"i{k}") for k, t in enumerate(intermediates)]
    set_options(node, options, fields)
    graph.operators = [node]
    found.subgraphs = [graph]
    return packed(found)


def set_options(node: Any, options: str, fields: Mapping[str, Any]) -> None:
    """Give an operator options of a kind; none for an empty one."""
    if not options:
        return
    s = schema()
    node.builtinOptionsType = getattr(s.BuiltinOptions, options)
    node.builtinOptions = getattr(s, f"{options}T")()
    for name, value in fields.items():
        assert hasattr(node.builtinOptions, name), name
        setattr(node.builtinOptions, name, value)


def packed(model: Any) -> bytes:
    """The file of a model of the schema's object API."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def first_operator(source: bytes) -> bytes:
    """The model that ends with its first operator."""
    s = schema()

    found = s.ModelT.InitFromPackedBuf(source, 0)
    (graph,) = found.subgraphs
    graph.operators = graph.operators[:1]
    graph.outputs = list(graph.operators[0].outputs)
    found.signatureDefs = None
    return packed(found)


def written(found: Any, tensor: Tensor, name: str) -> Any:
    s = schema()
    made = s.TensorT()
    made.name, made.shape, made.type = name, list(tensor.shape), TYPES[tensor.dtype]
    made.hasRank, made.isVariable = True, tensor.is_variable
    if tensor.signature:
        made.shapeSignature = list(tensor.signature)
    if tensor.values is not None:
        buffer = s.BufferT()
        buffer.data = stored(tensor)
        made.buffer = len(found.buffers)
        found.buffers.append(buffer)
    if tensor.scale is not None:
        made.quantization = s.QuantizationParametersT()
        made.quantization.scale = np.atleast_1d(np.asarray(tensor.scale, np.float32)).tolist()
        zeros = np.atleast_1d(tensor.zero)
        made.quantization.zeroPoint = [int(z) for z in zeros]
        made.quantization.quantizedDimension = tensor.axis
    return made


def interpreter_of(source: bytes, resolver: str = "BUILTIN_REF") -> Any:
    """TFLite's interpreter of a model, with its reference kernels or those `resolver` has."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=source, experimental_op_resolver_type=OpResolverType[resolver]
    )
    interpreter.allocate_tensors()
    return interpreter


def reference(source: bytes, inputs: Sequence[Array], resolver: str = "BUILTIN_REF") -> list[Array]:
    """The outputs of TFLite's reference kernels, or of the kernels that `resolver` has."""
    return _run(interpreter_of(source, resolver), inputs)


def reference_runs(source: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The first output of run after run, for a model of one input, which keeps its variables."""
    interpreter = interpreter_of(source)
    return [_run(interpreter, [array])[0] for array in inputs]


def _run(interpreter: Any, inputs: Sequence[Array]) -> list[Array]:
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]).copy() for d in interpreter.get_output_details()]


def stored(tensor: Tensor) -> Array:
    """The bytes of a constant; values of 4 bits lie two in a byte, the lower half first."""
    assert tensor.values is not None
    if tensor.dtype != "int4":
        return np.frombuffer(np.ascontiguousarray(tensor.values).tobytes(), np.uint8)
    halves = tensor.values.reshape(-1).astype(np.uint8) & 15
    pairs = np.append(halves, halves[:0] if halves.size % 2 == 0 else [np.uint8(0)]).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8)


def draw(rng: np.random.Generator, tensor: Tensor) -> Array:
    """Values of a tensor, over all of its range."""
    if tensor.dtype == "float32":
        return rng.normal(0, 3, tensor.shape).astype(np.float32)
    if tensor.dtype == "bool":
        return rng.random(tensor.shape) < 0.5
    info = np.iinfo(tensor.dtype)
    return rng.integers(info.min, info.max, tensor.shape, tensor.dtype, endpoint=True)
