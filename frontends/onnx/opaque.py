"""Nodes that `graph` cannot express: `graph.opaque` around a model of that one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto
from xdsl.dialects.builtin import TensorType
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.builder import Builder, dtype_of, is_small, shape_of
from npu_dialect.frontends.onnx.errors import check_shape, refuse
from npu_dialect.frontends.onnx.model import ONNX_DOMAINS

IR_VERSION = 10
MAX_HINT = 1024
"""Constants of at most so many values help shape inference (shapes, axes, scales)."""

RANDOM = (
    "Bernoulli", "Dropout", "Multinomial",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
)  # fmt: skip
"""Operators whose results are not folded."""

MISJUDGED = ("STFT",)
"""Operators of which ONNX infers a wrong shape: what the model states comes first."""

SUCCESSORS = {"Scatter": ("ScatterElements", 11)}
"""Deprecated operators that the reference lacks: the same under a new name."""

Types = Mapping[str, TensorType]


def type_proto(value: SSAValue | None) -> TypeProto:
    """The ONNX type of a value; an empty one for an absent input."""
    if value is None:
        return TypeProto()
    return onnx.helper.make_tensor_type_proto(tensors.code_of(dtype_of(value)), shape_of(value))


def declared_types(source: GraphProto) -> dict[str, TensorType]:
    """The static tensor types that a model states for its values."""
    found: dict[str, TensorType] = {}
    for value in [*source.value_info, *source.output]:
        result = _static(value.type)
        if result is not None:
            found[value.name] = result
    return found


def emit(
    b: Builder,
    node: NodeProto,
    operands: Mapping[str, SSAValue],
    opsets: Mapping[str, int],
    declared: Types,
    reason: str,
) -> Sequence[SSAValue]:
    """The results of a node as an opaque op, or as constants when its operands are."""
    model = _model(node, operands, opsets)
    _check_reference(model, reason, b.source)
    known = {name: array for name in operands if (array := b.array(operands[name])) is not None}
    if len(known) == len(operands) and _is_deterministic(node):
        static = [_static(value.type) for value in _infer(model, known, b.source)]
        if all(found is None or is_small(found, list(known.values())) for found in static):
            return _evaluate(b, model, known)
    types = _result_types(model, known, declared, b.source)
    payload = model.SerializeToString(deterministic=True)
    domain = node.domain or "ai.onnx"
    values = list(operands.values())
    op = graph.OpaqueOp(values, types, domain, node.op_type, payload, reason)
    b.insert(op)
    results = iter(op.results)
    return [next(results) if name else b.constant(np.zeros(0, np.float32)) for name in node.output]


def _model(
    node: NodeProto, operands: Mapping[str, SSAValue], opsets: Mapping[str, int]
) -> ModelProto:
    """A model of one node, its operands inputs of static type."""
    values = [
        onnx.helper.make_value_info(name, type_proto(value)) for name, value in operands.items()
    ]
    outputs = [ValueInfoProto(name=name) for name in node.output if name]
    if node.op_type in SUCCESSORS:
        node, opsets = _successor(node), {"": SUCCESSORS[node.op_type][1]}
    body = onnx.helper.make_graph([node], "opaque", values, outputs)
    imports = [
        onnx.helper.make_opsetid(domain, version)
        for domain, version in opsets.items()
        if domain in ("", node.domain)
    ]
    return onnx.helper.make_model(body, ir_version=IR_VERSION, opset_imports=imports)


def _successor(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.op_type = SUCCESSORS[node.op_type][0]
    return copy


def _check_reference(model: ModelProto, reason: str, source: str) -> None:
    """Refuse a node that neither `graph` nor the host can do."""
    from onnx.reference import ReferenceEvaluator

    try:
        ReferenceEvaluator(model)
    except Exception as problem:  # whatever the reference raises: it is not ours
        raise refuse(
            Code.OPERATOR_UNSUPPORTED, source,
            f"{model.graph.node[0].op_type}, which the host cannot run, must be expressible",
            f"{reason}; the reference of ONNX: {str(problem).partition(',')[0]}",
            "other operators for the same",
        ) from None  # fmt: skip


def _is_deterministic(node: NodeProto) -> bool:
    return node.domain in ONNX_DOMAINS and node.op_type not in RANDOM


def _evaluate(
    b: Builder, model: ModelProto, arrays: Mapping[str, np.ndarray]
) -> Sequence[SSAValue]:
    from onnx.reference import ReferenceEvaluator

    names = [name for name in model.graph.node[0].output if name]
    try:
        evaluator: Any = ReferenceEvaluator(model)
        results: Sequence[Any] = evaluator.run(names, dict(arrays))
        found = {n: np.asarray(r) for n, r in zip(names, results, strict=True)}
    except Exception as error:
        raise misfit(b.source, model.graph.node[0], str(error)) from None
    for array in found.values():
        if array.dtype not in dtypes.BY_NUMPY:
            raise misfit(b.source, model.graph.node[0], f"a result of type {array.dtype}")
    return [b.constant(found.get(name, np.zeros(0))) for name in model.graph.node[0].output]


def misfit(source: str, node: NodeProto, found: str) -> CompileError:
    """The error of a node whose inputs and attributes contradict each other."""
    rule = f"the inputs and attributes of {node.op_type} must fit together"
    return refuse(Code.SHAPE_MISMATCH, source, rule, found)


def _result_types(
    model: ModelProto, known: Mapping[str, np.ndarray], declared: Types, source: str
) -> list[TensorType]:
    """The static types of a model's outputs, by inference or else as declared."""
    found = {value.name: value.type for value in _infer(model, known, source)}
    types: list[TensorType] = []
    for output in model.graph.output:
        kind = found.get(output.name, TypeProto())
        static, stated = _static(kind), declared.get(output.name)
        is_misjudged = stated is not None and model.graph.node[0].op_type in MISJUDGED
        result = stated if is_misjudged else static or stated
        if kind.WhichOneof("value") not in (None, "tensor_type"):
            raise refuse(
                Code.OPERATOR_UNSUPPORTED, source, "the results of an operator must be tensors",
                f"a {kind.WhichOneof('value')} from {model.graph.node[0].op_type}",
                "exporting without sequences, maps and optional values",
            )  # fmt: skip
        if result is None:
            raise refuse(
                Code.SHAPE_UNBOUND, source,
                "the shape of every tensor must be known when compiling",
                f"the shape of {output.name!r} depends on the values of the inputs of "
                f"{model.graph.node[0].op_type}",
                "giving the values of the inputs that it depends on (`values`), or a model that "
                "ends before this operator",
            )  # fmt: skip
        shape = result.get_shape()
        check_shape(shape, dtypes.of(result.get_element_type()).itemsize, source)
        types.append(result)
    return types


def _infer(
    model: ModelProto, known: Mapping[str, np.ndarray], source: str
) -> Sequence[ValueInfoProto]:
    hinted = ModelProto()
    hinted.CopyFrom(model)
    for name, array in known.items():
        if array.size <= MAX_HINT:
            hinted.graph.initializer.append(tensors.tensor_of(array, name))
    try:
        result = onnx.shape_inference.infer_shapes(
            hinted, check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise misfit(source, model.graph.node[0], str(error)) from None
    return result.graph.output


def _static(found: TypeProto) -> TensorType | None:
    """The tensor type, None unless it is a tensor of a type we hold and static shape."""
    if not found.HasField("tensor_type") or not found.tensor_type.HasField("shape"):
        return None
    dims = found.tensor_type.shape.dim
    if any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in dims):
        return None
    if not tensors.is_held(found.tensor_type.elem_type):
        return None
    dtype = tensors.dtype_of(found.tensor_type.elem_type, "")
    return TensorType(dtypes.element_type(dtype), [dim.dim_value for dim in dims])
