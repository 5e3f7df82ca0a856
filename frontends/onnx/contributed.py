"""Operators that onnxruntime has in ONNX's domain and ONNX itself has not, or not any more.

onnxruntime's optimizer and older exporters write them. They get the domain com.microsoft, in which
the table has their importers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto

from npu_dialect.frontends.onnx import registry

NAMES = ("GroupNormalization", "LayerNormalization", "SimplifiedLayerNormalization")


def moved(proto: ModelProto, opsets: dict[str, int]) -> ModelProto:
    """`proto` with these operators in the domain com.microsoft, and `opsets` with that domain."""
    if not any(_is_contributed(node, opsets) for node in _nodes(proto.graph)):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for node in _nodes(copy.graph):
        if _is_contributed(node, opsets):
            node.domain = registry.MICROSOFT
    if registry.MICROSOFT not in opsets:
        opsets[registry.MICROSOFT] = 1
        copy.opset_import.add(domain=registry.MICROSOFT, version=1)
    return copy


def _is_contributed(node: NodeProto, opsets: Mapping[str, int]) -> bool:
    if node.op_type not in NAMES or node.domain not in ("", "ai.onnx"):
        return False
    known = registry.schema("", node.op_type, opsets[""])
    return known is None or known.deprecated


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
            for inner in attribute.graphs:
                yield from _nodes(inner)
