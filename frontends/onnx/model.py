"""Reading an ONNX model and checking that it is one, before anything is built from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
from google.protobuf.message import DecodeError
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
)

from npu_dialect.diagnostics import Code
from npu_dialect.frontends.onnx import contributed, registry, tensors
from npu_dialect.frontends.onnx.errors import refuse

ONNX_DOMAINS = ("", "ai.onnx")

Source = str | os.PathLike[str] | bytes | ModelProto


@dataclass(frozen=True)
class Model:
    """A checked model. `opsets` maps each domain ("" is ONNX's own) to its version."""

    proto: ModelProto
    name: str
    opsets: dict[str, int]

    @property
    def graph(self) -> GraphProto:
        return self.proto.graph


def read(source: Source) -> Model:
    """The model of a path, of the file's bytes, or of a proto; raises CompileError."""
    proto, name, folder = _parse(source)
    _check_header(proto, name)
    opsets = _opsets(proto, name)
    proto = contributed.moved(_with_inline_data(proto, folder), opsets)
    _check_nodes(proto, opsets)
    proto = _check_graph(proto)
    _check_proto(proto, name)
    return Model(proto, name, opsets)


def _parse(source: Source) -> tuple[ModelProto, str, Path | None]:
    if isinstance(source, ModelProto):
        return source, source.graph.name or "model", None
    if isinstance(source, bytes):
        return _decode(source, "model"), "model", None
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise refuse(
            Code.FILE_UNREADABLE,
            str(path),
            "the model file must be readable",
            error.strerror or str(error),
        ) from None
    return _decode(data, str(path)), str(path), path.parent


def _decode(data: bytes, name: str) -> ModelProto:
    proto = ModelProto()
    try:
        if not data:
            raise ValueError("an empty file")
        proto.ParseFromString(data)
    except (DecodeError, ValueError) as error:
        raise _not_onnx(name, str(error)) from None
    return proto


def _not_onnx(name: str, found: str) -> Exception:
    return refuse(
        Code.MODEL_MALFORMED,
        name,
        "the file must be a complete ONNX model",
        found,
        "exporting the model again, or checking that the download is complete",
    )


def _check_header(proto: ModelProto, name: str) -> None:
    if not proto.HasField("graph") or not proto.ir_version or not proto.opset_import:
        raise _not_onnx(name, "no graph, IR version or operator set in it")
    if any(isinstance(text, bytes) for text in _texts(proto)):
        raise _not_onnx(name, "a name that is no text")
    if proto.ir_version > onnx.IR_VERSION:
        raise refuse(
            Code.MODEL_VERSION,
            name,
            f"the IR version must be at most {onnx.IR_VERSION}, that of the installed onnx",
            f"IR version {proto.ir_version}",
            "installing a newer onnx, or exporting for an older one",
        )


def _texts(proto: ModelProto) -> Iterator[object]:
    """Every name in a model; protobuf gives bytes where one is not UTF-8."""
    yield from (entry.domain for entry in proto.opset_import)
    for function in proto.functions:
        yield from (function.name, function.domain, function.overload)
        yield from (*function.input, *function.output)
        for node in function.node:
            yield from _node_texts(node)
    yield from _graph_texts(proto.graph)


def _graph_texts(graph: GraphProto) -> Iterator[object]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        yield from _node_texts(node)


def _node_texts(node: NodeProto) -> Iterator[object]:
    yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
    for attribute in node.attribute:
        yield from (attribute.name, attribute.ref_attr_name)
    for inner in subgraphs(node):
        yield from _graph_texts(inner)


def _opsets(proto: ModelProto, name: str) -> dict[str, int]:
    found = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    newest = onnx.defs.onnx_opset_version()
    version = found.setdefault("", newest)
    if not 1 <= version <= newest:
        raise _opset(name, f"opset {version}")
    return found


def _opset(source: str, found: str) -> Exception:
    newest = onnx.defs.onnx_opset_version()
    return refuse(
        Code.MODEL_VERSION,
        source,
        f"the operator set must be between {registry.MIN_OPSET} and {newest}",
        found,
        "exporting with another opset_version",
    )


def _domain(domain: str) -> str:
    return "" if domain in ONNX_DOMAINS else domain


# Tensors: external data becomes inline data, and nothing outside the folder is opened.


def _with_inline_data(proto: ModelProto, folder: Path | None) -> ModelProto:
    if not any(_is_external(tensor) for tensor in _every_tensor(proto)):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for tensor in _every_tensor(copy):
        if _is_external(tensor):
            tensors.inline(tensor, folder)
    return copy


def _every_tensor(proto: ModelProto) -> Iterator[TensorProto]:
    """The tensors of the graph and of the model's functions."""
    yield from _tensors(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every tensor of a graph: initializers and attributes, in subgraphs too."""
    yield from graph.initializer
    yield from _sparse_tensors(graph.sparse_initializer)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    if attribute.HasField("sparse_tensor"):
        yield from _sparse_tensors([attribute.sparse_tensor])
    yield from attribute.tensors
    yield from _sparse_tensors(attribute.sparse_tensors)
    for graph in subgraphs_of_attribute(attribute):
        yield from _tensors(graph)


def _sparse_tensors(sparse: Iterable[SparseTensorProto]) -> Iterator[TensorProto]:
    for each in sparse:
        yield from (each.values, each.indices)


def subgraphs_of_attribute(attribute: AttributeProto) -> Iterator[GraphProto]:
    """The graphs that an attribute holds."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes (the branches of an If, the body of a Loop)."""
    for attribute in node.attribute:
        yield from subgraphs_of_attribute(attribute)


# Nodes: each operator must be known, in ONNX's tables or in ours.


def _check_nodes(proto: ModelProto, opsets: dict[str, int]) -> None:
    local = {(_domain(f.domain), f.name) for f in proto.functions}
    for node in _all_nodes(proto.graph):
        _check_operator(node, opsets, local)
    for function in proto.functions:
        own = opsets | {_domain(entry.domain): entry.version for entry in function.opset_import}
        for node in function.node:
            _check_operator(node, own, local)


def _all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _all_nodes(inner)


def _check_operator(node: NodeProto, opsets: dict[str, int], local: set[tuple[str, str]]) -> None:
    domain = _domain(node.domain)
    if (domain, node.op_type) in local:
        return
    if domain == registry.MICROSOFT and registry.find(domain, node.op_type, 1):
        return
    version = opsets.get(domain)
    if version is not None and registry.schema(domain, node.op_type, version) is not None:
        if domain == "" and version < registry.MIN_OPSET:
            _check_old(node, version)
        return
    raise refuse(
        Code.OPERATOR_UNKNOWN,
        node_source(node),
        "every operator must be one of ONNX, of a supported domain, or a function of the model",
        f"{domain or 'ai.onnx'}.{node.op_type}{'' if version is None else f' (opset {version})'}",
        "exporting without custom operators, or add an importer for it",
    )


def _check_old(node: NodeProto, version: int) -> None:
    same = registry.is_as_in_7("", node.op_type, version)
    if not same and registry.find("", node.op_type, version) is None:
        raise _opset(node_source(node), f"{node.op_type} of opset {version}")


def node_source(node: NodeProto) -> str:
    """The name under which a node is reported: its own, or that of its first output."""
    return node.name or next((name for name in node.output if name), node.op_type)


# Names: defined once, before use.


def _check_graph(proto: ModelProto) -> ModelProto:
    """`proto`, its nodes ordered if they were not; refuses duplicates, gaps and cycles."""
    graph = proto.graph
    if not graph.output:
        raise refuse(Code.MODEL_MALFORMED, graph.name, "a model must have outputs", "none")
    initial = _initial_names(graph)
    _check_single_assignment(graph, initial)
    order = _topological(graph.node, initial)
    produced = initial | {name for node in graph.node for name in node.output}
    for output in graph.output:
        if output.name not in produced:
            raise refuse(
                Code.MODEL_MALFORMED,
                output.name,
                "every output must be computed",
                "no node computes it",
            )
    if order == list(range(len(order))):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    copy.graph.node.extend(graph.node[k] for k in order)
    return copy


def _initial_names(graph: GraphProto) -> set[str]:
    inputs = [value.name for value in graph.input]
    constants = [t.name for t in graph.initializer]
    constants += [t.values.name for t in graph.sparse_initializer]
    for kind, names in (("input", inputs), ("initializer", constants)):
        _check_distinct(names, kind)
    _check_distinct([value.name for value in graph.output], "output", empty_allowed=False)
    return set(inputs) | set(constants)


def _check_distinct(names: Iterable[str], kind: str, empty_allowed: bool = False) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not (name or empty_allowed):
            raise refuse(
                Code.MODEL_MALFORMED,
                name or "(no name)",
                f"every {kind} must have a name of its own",
                f"the {kind} {name!r} twice" if name else f"an {kind} without a name",
            )
        seen.add(name)


def _check_single_assignment(graph: GraphProto, initial: set[str]) -> None:
    seen = set(initial)
    for node in graph.node:
        for name in node.output:
            if name and name in seen:
                raise refuse(
                    Code.MODEL_MALFORMED, node_source(node), "every tensor must be computed once",
                    f"a second definition of {name!r}",
                )  # fmt: skip
            seen.add(name)


def _topological(nodes: Iterable[NodeProto], initial: set[str]) -> list[int]:
    """An order of the nodes in which each follows what it reads; the given one if valid."""
    nodes = list(nodes)
    reads = [free_names(node) for node in nodes]
    producer = {name: k for k, node in enumerate(nodes) for name in node.output if name}
    for node, names in zip(nodes, reads, strict=True):
        for name in names:
            if name not in producer and name not in initial:
                raise refuse(
                    Code.MODEL_MALFORMED, node_source(node),
                    "every input of a node must be an input, an initializer or computed",
                    f"{node.op_type} reads {name!r}, which nothing defines",
                    "exporting the model again, with its weights",
                )  # fmt: skip
    done = [False] * len(nodes)
    waiting = [{producer[n] for n in names if n in producer} for names in reads]
    order: list[int] = []
    users: dict[int, list[int]] = {}
    for k, needed in enumerate(waiting):
        for other in needed:
            users.setdefault(other, []).append(k)
    _run_order(waiting, users, done, order)
    if len(order) != len(nodes):
        stuck = next(node for node, ok in zip(nodes, done, strict=True) if not ok)
        raise refuse(
            Code.MODEL_MALFORMED, node_source(stuck), "the nodes must form a graph without cycles",
            f"{stuck.op_type} depends on its own result",
        )  # fmt: skip
    return order


def _run_order(
    waiting: list[set[int]], users: dict[int, list[int]], done: list[bool], order: list[int]
) -> None:
    """Kahn's algorithm, smallest number first, so that a valid order is kept."""
    import heapq

    ready = [k for k, needed in enumerate(waiting) if not needed]
    heapq.heapify(ready)
    while ready:
        k = heapq.heappop(ready)
        done[k] = True
        order.append(k)
        for user in users.get(k, ()):
            waiting[user].discard(k)
            if not waiting[user]:
                heapq.heappush(ready, user)


def free_names(node: NodeProto) -> list[str]:
    """The names a node reads, those that its subgraphs capture included, in order."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        own |= {t.values.name for t in graph.sparse_initializer}
        own |= {name for inner in graph.node for name in inner.output}
        reads = [name for inner in graph.node for name in free_names(inner)]
        reads += [value.name for value in graph.output]
        names += [name for name in reads if name not in own]
    return list(dict.fromkeys(names))


def _as_checked(proto: ModelProto) -> ModelProto:
    """`proto` as the checker wants it. For us inputs and outputs may lack a shape, and initializers
    need not be inputs, as they must be before IR version 4: onnxruntime writes both.
    """
    values = [*proto.graph.input, *proto.graph.output]
    shaped = all(
        v.type.tensor_type.HasField("shape") for v in values if v.type.HasField("tensor_type")
    )
    version = proto.ir_version if _lists_constants(proto) else max(proto.ir_version, 4)
    if shaped and version == proto.ir_version:
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    copy.ir_version = version
    for value in [*copy.graph.input, *copy.graph.output]:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return copy


def _lists_constants(proto: ModelProto) -> bool:
    """True if every initializer is an input, too."""
    inputs = {value.name for value in proto.graph.input}
    return all(tensor.name in inputs for tensor in proto.graph.initializer)


def _check_proto(proto: ModelProto, name: str) -> None:
    try:
        checker: Any = onnx.checker
        checker.check_model(_as_checked(proto))
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        raise refuse(
            Code.MODEL_MALFORMED, name, "the model must pass onnx.checker", str(error)
        ) from None
