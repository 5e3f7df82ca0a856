"""The walk over a TFLite graph: inputs, constants, operators, outputs -> one `func.func @main`.

    CONV_2D(x, w) -> "conv/Relu"   ->   %0 = graph.conv2d %x, %w      loc("conv/Relu")
                                        %1 = graph.requantize %0      loc("conv/Relu")

Operators have no names in TFLite: a node is called as its first result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.traits import is_side_effect_free

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, refuse
from npu_dialect.frontends.tflite import registry
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import (
    BROKEN,
    Array,
    Model,
    Operator,
    Subgraph,
    Tensor,
    malformed,
    read,
)
from npu_dialect.frontends.tflite.ops import TOPICS
from npu_dialect.frontends.tflite.variables import HANDLED, RESOURCE, Variables
from npu_dialect.graph.states import State, set_states


def load(source: str | Path | bytes) -> ModuleOp:
    """The module of a model; see `npu_dialect.frontends.tflite.load`."""
    assert TOPICS, "the table is filled by importing the topics"
    return Importer(read(source)).run()


class Importer:
    """One import: the function under construction and the values by number of their tensor."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.main
        self.block = Block()
        self.builder = Builder(self.block)
        self.scope: dict[int, SSAValue] = {}
        self.variables = Variables(self.block, model.subgraphs)
        self.names = unique_names(self.graph)

    def run(self) -> ModuleOp:
        """Import everything; the function's results are the graph's outputs in order."""
        for k in self.graph.inputs:
            self._argument(self.graph.tensors[k])
        for number, node in enumerate(self.graph.operators):
            self._node(number, node)
        outputs = [self._value(k, "an output") for k in self.graph.outputs]
        states = self._states(outputs)
        self.builder.attach(outputs)
        self.block.add_op(ReturnOp(*outputs))
        _erase_dead(self.block)
        return self._module(outputs, states)

    def _states(self, outputs: list[SSAValue]) -> list[State]:
        try:
            return self.variables.states(outputs)
        except Misfit as why:
            raise malformed(self.model.source, str(why)) from None

    def _module(self, outputs: list[SSAValue], states: list[State]) -> ModuleOp:
        types = [argument.type for argument in self.block.args], [v.type for v in outputs]
        function = FuncOp("main", types, Region(self.block))
        held = [s.name for s in sorted(states, key=_place) if s.argument is not None]
        new = [f"{s.name}'" for s in states if s.result is not None]
        function.attributes["npu.input_names"] = self._strings(self.graph.inputs, held)
        function.attributes["npu.output_names"] = self._strings(self.graph.outputs, new)
        set_states(function, states)
        module = ModuleOp([function])
        module.attributes["npu.nodes"] = ArrayAttr(
            DictionaryAttr({"source": StringAttr(self._source(k)), "op": StringAttr(node.name)})
            for k, node in enumerate(self.graph.operators)
        )
        return module

    def _strings(self, tensors: Sequence[int], more: list[str]) -> ArrayAttr[StringAttr]:
        return ArrayAttr([StringAttr(n) for n in [*(self.names[k] for k in tensors), *more]])

    def _source(self, number: int) -> str:
        """What an operator is called."""
        node = self.graph.operators[number]
        if node.outputs and node.outputs[0] >= 0:
            return self.names[node.outputs[0]]
        return f"{node.name}.{number}"

    # Values

    def _argument(self, tensor: Tensor) -> None:
        name = self.names[tensor.index]
        if tensor.index in self.scope:
            raise malformed(name, "an input that is stated twice")
        kind = TensorType(self._checked(tensor, name).element, tensor.shape)
        argument = self.block.insert_arg(kind, len(self.block.args))
        argument.name_hint = name if SSAValue.is_valid_name(name) else None
        self.scope[tensor.index] = argument

    def _checked(self, tensor: Tensor, source: str) -> Tensor:
        """A tensor that programs can have."""
        if tensor.why:
            rule = "tensors must be dense, of numbers or truth values"
            raise refuse(Code.DTYPE_MISMATCH, source, rule, f"{tensor.why} ({tensor.name})")
        try:
            TensorType(tensor.element, tensor.shape)
        except ValueError as problem:
            raise malformed(source, f"{tensor.name}: {problem}") from None
        return tensor

    def _value(self, index: int, what: str) -> SSAValue:
        found = self.scope.get(index)
        if found is not None:
            return found
        tensor, name = self.graph.tensors[index], self.names[index]
        self._checked(tensor, name)
        if tensor.is_variable and tensor.data is None:
            self.scope[index] = self.variables.tensor(tensor, name)
            return self.scope[index]
        if tensor.data is None and 0 not in tensor.shape:
            raise malformed(name, f"{what} that nothing computes before")
        here = self.builder.location
        self.builder.location = provenance.name_location(name)
        try:
            array = tensor.array() if tensor.data is not None else _empty(tensor)
        except ValueError as problem:
            raise malformed(name, str(problem)) from None
        self.scope[index] = self.builder.constant(array, tensor.element)
        self.builder.location = here
        return self.scope[index]

    # Operators

    def _node(self, number: int, node: Operator) -> None:
        source = self._source(number)
        self.builder.location = provenance.name_location(source)
        results = [k for k in node.outputs if k >= 0]
        if len(results) != len(set(results)) or any(k in self.scope for k in results):
            raise malformed(source, "a tensor that is computed twice")
        tensors = [self.graph.tensors[k] for k in results]
        self.builder.results = [self._checked(t, source) for t in tensors if t.kind != RESOURCE]
        values = [self._input(k) for k in node.inputs]
        if len(self.builder.results) < len(results) and node.name in HANDLED:
            results = []
        for k, value in zip(results, self._results(source, node, values), strict=True):
            self.scope[k] = value

    def _input(self, index: int) -> SSAValue | None:
        """An input of an operator; None for one that is left out, or a handle."""
        if index < 0 or self.graph.tensors[index].kind == RESOURCE:
            return None
        return self._value(index, "an input")

    def _results(
        self, source: str, node: Operator, values: Sequence[SSAValue | None]
    ) -> list[SSAValue]:
        try:
            if node.name in HANDLED and not node.is_custom:
                found = self.variables.results(self.builder, node, values)
            else:
                found = registry.call(self.builder, node, values)
            self._check(found)
            self._update()
            return found
        except NotExpressible as why:
            raise refuse(
                Code.OPERATOR_UNSUPPORTED, source,
                f"{node.name} must be expressible in graph", str(why),
                "the model without it, or the same model as ONNX",
            ) from None  # fmt: skip
        except (Misfit, *BROKEN) as why:
            raise misfit(source, node, str(why)) from None

    def _update(self) -> None:
        """Take over what the operator wrote to variable tensors."""
        for before, after in self.builder.updates:
            self.variables.update(self.builder, before, after)
            self.scope |= {k: after for k, value in self.scope.items() if value is before}
        self.builder.updates = ()

    def _check(self, values: Sequence[SSAValue]) -> None:
        """The results must be what the model states."""
        stated = self.builder.results
        if len(values) != len(stated):
            raise Misfit(f"{len(stated)} results")
        for value, tensor in zip(values, stated, strict=True):
            found = f"{dtype_of(value)} {list(shape_of(value))}"
            if found != f"{tensor.dtype} {list(tensor.shape)}":
                raise Misfit(f"{found}, where {tensor.dtype} {list(tensor.shape)} is stated")


def misfit(source: str, node: Operator, found: str) -> CompileError:
    """The error of an operator whose inputs, options and results contradict each other."""
    rule = f"the inputs, options and results of {node.name} must fit together"
    return refuse(Code.SHAPE_MISMATCH, source, rule, found)


def _place(state: State) -> int:
    return -1 if state.argument is None else state.argument


def unique_names(graph: Subgraph) -> list[str]:
    """A name for each tensor: its own, with its number where another one has it too."""
    taken: set[str] = set()
    found: list[str] = []
    for tensor in graph.tensors:
        name = tensor.name if tensor.name not in taken else f"{tensor.name}.{tensor.index}"
        taken.add(name)
        found.append(name)
    return found


def _empty(tensor: Tensor) -> Array:
    return np.zeros(tensor.shape, tensor.dtype.numpy)


def _erase_dead(block: Block) -> None:
    """Erase what nothing uses."""
    for op in reversed(list(block.ops)):
        unused = not any(result.uses.get_length() for result in op.results)
        if not isinstance(op, ReturnOp) and is_side_effect_free(op) and unused:
            op.detach()
            op.erase()
