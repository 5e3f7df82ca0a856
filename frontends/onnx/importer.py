"""The walk over an ONNX graph: inputs, constants, nodes, outputs -> one `func.func @main`.

    Conv(x, w) named "conv1"   ->   %0 = graph.transpose %x      loc("conv1")
                                    %1 = graph.conv2d %0, %w     loc("conv1")
                                    %2 = graph.transpose %1      loc("conv1")

A node is imported by the first of these that applies: a function of the model (inlined), an
importer of the table, the function body that the ONNX schema gives (inlined), `graph.opaque`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    LocationAttr,
    ModuleOp,
    StringAttr,
    TensorType,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue

from npu_dialect import provenance
from npu_dialect.diagnostics import Code
from npu_dialect.frontends.dead import erase_dead
from npu_dialect.frontends.onnx import (
    control,
    functions,
    inputs,
    opaque,
    registry,
    stated,
    tensors,
    widen,
)
from npu_dialect.frontends.onnx.builder import Builder, dtype_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, refuse
from npu_dialect.frontends.onnx.model import Model, Source, free_names, node_source, read
from npu_dialect.frontends.onnx.topics import TOPICS

MAX_DEPTH = 32
"""Functions and subgraphs nested deeper than this are taken for a recursion."""

Values = Mapping[str, NDArray[np.generic]]
Scope = dict[str, SSAValue]
Results = Sequence[SSAValue | None]


@dataclass(frozen=True)
class Frame:
    """What holds for the nodes of one body: the model's, a branch's or a function's."""

    opsets: Mapping[str, int]
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict[str, AttributeProto])
    """What `ref_attr_name` refers to, inside a function."""
    location: LocationAttr | None = None
    """The node that was inlined, for all that came from it."""
    depth: int = 0

    def version(self, node: NodeProto) -> int:
        return self.opsets.get(functions.domain_of(node), 1)


def load(source: Source, shapes: Mapping[str, Sequence[int]], values: Values) -> ModuleOp:
    """The module of a model; see `npu_dialect.frontends.onnx.load`."""
    assert TOPICS, "the table is filled by importing the topics"
    model = read(source)
    return Importer(model, inputs.bind(model, shapes, values), values).run()


class Importer:
    """One import: the function under construction and the values by name."""

    def __init__(self, model: Model, arguments: Mapping[str, TensorType], values: Values) -> None:
        self.model = model
        self.block = Block(arg_types=list(arguments.values()))
        self.builder = Builder(self.block)
        self.scope: Scope = dict(zip(arguments, self.block.args, strict=True))
        for name, argument in self.scope.items():
            argument.name_hint = name if SSAValue.is_valid_name(name) else None
        for name, array in values.items():
            self.builder.location = provenance.name_location(name)
            self.scope[name] = self.builder.constant(np.asarray(array))
        self.local = {functions.key(f): f for f in model.proto.functions}
        self.declared = opaque.declared_types(model.graph)

    def run(self) -> ModuleOp:
        """Import everything; the function's results are the graph's outputs in order."""
        names = list(self.scope)[: len(self.block.args)]
        self._constants(self.model.graph, self.scope)
        frame = Frame(self.model.opsets)
        for node in self.model.graph.node:
            self._node(node, self.scope, frame)
        outputs = [self._output(value.name, value.type) for value in self.model.graph.output]
        self.builder.attach(outputs)
        self.block.add_op(ReturnOp(*outputs))
        erase_dead(self.block)
        return self._module(names, outputs)

    def _module(self, names: list[str], outputs: list[SSAValue]) -> ModuleOp:
        types = [argument.type for argument in self.block.args], [v.type for v in outputs]
        function = FuncOp("main", types, Region(self.block))
        function.attributes["npu.input_names"] = _strings(names)
        results = [value.name for value in self.model.graph.output]
        function.attributes["npu.output_names"] = _strings(results)
        module = ModuleOp([function])
        module.attributes["npu.nodes"] = _nodes(self.model.graph)
        return module

    def _constants(self, graph: GraphProto, scope: Scope) -> None:
        for tensor in graph.initializer:
            self.builder.location = provenance.name_location(tensor.name)
            scope[tensor.name] = self.builder.constant(tensors.array_of(tensor, tensor.name))
        for sparse in graph.sparse_initializer:
            self.builder.location = provenance.name_location(sparse.values.name)
            scope[sparse.values.name] = self.builder.constant(tensors.dense(sparse))

    def _output(self, name: str, declared: object) -> SSAValue:
        value = self.scope[name]
        found = dtype_of(value)
        code = getattr(getattr(declared, "tensor_type", None), "elem_type", 0)
        if code and tensors.type_name(code) != tensors.type_name(tensors.code_of(found)):
            raise refuse(
                Code.DTYPE_MISMATCH, name, "an output must have its declared element type",
                f"declared {tensors.type_name(code)}, computed {found}",
            )  # fmt: skip
        return value

    # Nodes

    def _node(self, node: NodeProto, scope: Scope, frame: Frame) -> None:
        node = functions.resolve(node, frame.attributes)
        location = frame.location or provenance.name_location(node_source(node))
        self.builder.location = location
        frame = replace(frame, location=location) if frame.depth else frame
        for name, value in zip(node.output, self._results(node, scope, frame), strict=False):
            if name and value is not None:
                scope[name] = value

    def _results(self, node: NodeProto, scope: Scope, frame: Frame) -> Results:
        """The values of the outputs; None may stand for one that nobody wants."""
        values = [scope[name] if name else None for name in node.input]
        local = self.local.get((functions.domain_of(node), node.op_type, node.overload))
        if local is not None:
            return self._inline(functions.of_model(local, node), node, values, frame)
        branch = self._static_branch(node, values)
        if branch is not None:
            return self._subgraph(branch, scope, frame)
        steps = self._unrolled(node, values, scope, frame)
        if steps is not None:
            return steps
        if not frame.depth:
            values = stated.complete(self.builder, node, values, self.declared)
        try:
            return self._table(node, values, frame)
        except NotExpressible as why:
            reason = str(why)
        except Misfit as why:
            raise opaque.misfit(self.builder.source, node, str(why)) from None
        body = functions.of_schema(node, values, frame.version(node))
        if body is not None:
            return self._inline(body, node, values, frame)
        if functions.domain_of(node):
            raise refuse(
                Code.OPERATOR_UNSUPPORTED, node_source(node),
                f"{node.domain}.{node.op_type}, which the host cannot run, must be expressible",
                reason, "the same in operators of ONNX",
            )  # fmt: skip
        return self._opaque(node, scope, frame, reason)

    def _table(self, node: NodeProto, values: list[SSAValue | None], frame: Frame) -> Results:
        domain, version = functions.domain_of(node), frame.version(node)
        row = registry.find(domain, node.op_type, version)
        if row is None:
            raise NotExpressible(f"graph has no equivalent of {node.op_type}")
        self.builder.opset, self.builder.outputs = version, list(node.output)
        self.builder.declared = {} if frame.depth else self.declared
        results = widen.call(self.builder, row, node, version, values)
        if any(name for name in node.output[len(results) :]):
            raise NotExpressible(f"{node.op_type} with {len(node.output)} outputs")
        return results

    def _opaque(self, node: NodeProto, scope: Scope, frame: Frame, reason: str) -> Results:
        operands = {name: scope[name] for name in free_names(node)}
        declared = {} if frame.depth else self.declared
        return opaque.emit(self.builder, node, operands, frame.opsets, declared, reason)

    # Bodies

    def _inline(
        self,
        body: functions.Body,
        node: NodeProto,
        values: Sequence[SSAValue | None],
        frame: Frame,
    ) -> Results:
        """The nodes of a function in the place of the node that calls it."""
        absent = [None] * (len(body.inputs) - len(values))
        given = dict(zip(body.inputs, [*values, *absent], strict=False))
        scope = {name: value for name, value in given.items() if value is not None}
        inner = Frame(
            dict(frame.opsets) | body.opsets, body.attributes, self.builder.location,
            self._deeper(node, frame),
        )  # fmt: skip
        for child in body.nodes:
            self._node(functions.without(child, given), scope, inner)
        return [scope.get(name) for name in body.outputs[: len(node.output)]]

    def _static_branch(
        self, node: NodeProto, values: Sequence[SSAValue | None]
    ) -> GraphProto | None:
        """The branch of an If whose condition is known."""
        if node.op_type != "If" or functions.domain_of(node):
            return None
        condition = self.builder.array(values[0])
        if condition is None or condition.size != 1:
            return None
        wanted = "then_branch" if bool(condition.reshape(())) else "else_branch"
        return next(a.g for a in node.attribute if a.name == wanted)

    def _unrolled(
        self, node: NodeProto, values: Sequence[SSAValue | None], scope: Scope, frame: Frame
    ) -> Results | None:
        """The steps of a Loop or Scan."""

        def body(graph: GraphProto, given: Mapping[str, SSAValue]) -> list[SSAValue]:
            inner = replace(frame, location=frame.location or self.builder.location)
            return self._subgraph(graph, {**scope, **given}, inner)

        declared = {} if frame.depth else self.declared
        nest = control.Nest(self.builder, node, values, declared, body)
        return control.unrolled(nest, frame.version(node))

    def _subgraph(self, graph: GraphProto, scope: Scope, frame: Frame) -> list[SSAValue]:
        inner = dict(scope)
        self._constants(graph, inner)
        for node in graph.node:
            self._node(node, inner, replace(frame, depth=self._deeper(node, frame)))
        return [inner[value.name] for value in graph.output]

    def _deeper(self, node: NodeProto, frame: Frame) -> int:
        if frame.depth < MAX_DEPTH:
            return frame.depth + 1
        raise refuse(
            Code.MODEL_MALFORMED, node_source(node), "functions must not call themselves",
            f"{node.op_type} nested {MAX_DEPTH} deep",
        )  # fmt: skip


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(name) for name in names])


def _nodes(graph: GraphProto) -> ArrayAttr[DictionaryAttr]:
    """The nodes of the model. Some leave no operation behind, and are to be reported still."""
    return ArrayAttr(
        DictionaryAttr({"source": StringAttr(node_source(n)), "op": StringAttr(n.op_type)})
        for n in graph.node
    )
