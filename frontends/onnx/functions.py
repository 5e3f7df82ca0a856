"""Functions: those of a model, and the bodies that ONNX gives for composite operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import AttributeProto, FunctionProto, NodeProto
from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx import opaque, registry
from npu_dialect.frontends.onnx.model import ONNX_DOMAINS


@dataclass(frozen=True)
class Body:
    """A function as it is inlined for one node; `attributes` are the arguments of the call."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    nodes: Sequence[NodeProto]
    opsets: dict[str, int]
    attributes: dict[str, AttributeProto]


def domain_of(node: NodeProto) -> str:
    """The domain of a node, "" for ONNX's own however it is spelled."""
    return "" if node.domain in ONNX_DOMAINS else node.domain


def key(function: FunctionProto) -> tuple[str, str, str]:
    """Domain, name and overload, by which nodes call a function of the model."""
    domain = "" if function.domain in ONNX_DOMAINS else function.domain
    return domain, function.name, function.overload


def of_model(function: FunctionProto, node: NodeProto) -> Body:
    """A function of the model, as `node` calls it."""
    return _body(function, {a.name: a for a in function.attribute_proto}, node)


def of_schema(node: NodeProto, values: Sequence[SSAValue | None], version: int) -> Body | None:
    """The function body of a composite ONNX operator, None if it has none."""
    schema = registry.schema(domain_of(node), node.op_type, version)
    if schema is None:
        return None
    function = _context_free(schema) or _context_dependent(schema, node, values, version)
    if function is None:
        return None
    defaults = {
        name: attribute.default_value
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type != AttributeProto.UNDEFINED
    }
    return _body(function, defaults, node)


def _body(function: FunctionProto, defaults: Mapping[str, AttributeProto], node: NodeProto) -> Body:
    opsets = {
        "" if entry.domain in ONNX_DOMAINS else entry.domain: entry.version
        for entry in function.opset_import
    }
    attributes = dict(defaults) | {a.name: a for a in node.attribute}
    return Body(function.input, function.output, function.node, opsets, attributes)


def _context_free(schema: Any) -> FunctionProto | None:
    return schema.function_body if schema.has_function else None


def _context_dependent(
    schema: Any, node: NodeProto, values: Sequence[SSAValue | None], version: int
) -> FunctionProto | None:
    versions: list[int] = [
        v for v in schema.context_dependent_function_opset_versions if v <= version
    ]
    if not versions:
        return None
    types = [opaque.type_proto(value).SerializeToString() for value in values]
    data: bytes = schema.get_context_dependent_function_with_opset_version(
        max(versions), node.SerializeToString(), types
    )
    function = FunctionProto()
    function.ParseFromString(data)
    return function if function.node else None


def resolve(node: NodeProto, attributes: Mapping[str, AttributeProto]) -> NodeProto:
    """`node` with references to the attributes of the enclosing function replaced."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in attributes:
            value = AttributeProto()
            value.CopyFrom(attributes[attribute.ref_attr_name])
            value.name = attribute.name
            copy.attribute.append(value)
    return copy


def without(node: NodeProto, given: Mapping[str, SSAValue | None]) -> NodeProto:
    """`node` with the function's absent optional inputs left out."""
    absent = {name for name, value in given.items() if value is None}
    if not absent.intersection(node.input):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in absent else name for name in node.input]
    return copy
