"""The walk over a TFLite graph: inputs, constants, operators, outputs -> one `func.func @main`.

    CONV_2D(x, w) -> "conv/Relu"   ->   %0 = graph.conv2d %x, %w      loc("conv/Relu")
                                        %1 = graph.requantize %0      loc("conv/Relu")

Operators have no names in TFLite: a node is called as its first result.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region, SSAValue

from npu_dialect import provenance
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.frontends.dead import erase_dead
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible, refuse
from npu_dialect.frontends.tflite import control, custom, registry
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.frame import Frame, unique_names
from npu_dialect.frontends.tflite.model import (
    BROKEN,
    COMPLEX,
    Array,
    Model,
    Operator,
    Tensor,
    malformed,
    read,
)
from npu_dialect.frontends.tflite.ops import TOPICS
from npu_dialect.frontends.tflite.ops.rescaling import as_type
from npu_dialect.frontends.tflite.ops.spectra import SPECTRAL
from npu_dialect.frontends.tflite.resizing import Shapes, inputs_of, resized
from npu_dialect.frontends.tflite.shapes import is_as_stated, is_free, settled
from npu_dialect.frontends.tflite.variables import HANDLED, RESOURCE, Given, Variables
from npu_dialect.graph.entries import merge
from npu_dialect.graph.states import State, set_states


def load(source: str | Path | bytes, shapes: Shapes) -> ModuleOp:
    """The module of a model; see `npu_dialect.frontends.tflite.load`."""
    assert TOPICS, "the table is filled by importing the topics"
    model = read(source)
    entries = [replace(model, entry=k) for k in dict.fromkeys(model.signatures.values())] or [model]
    known = {name for each in entries for name in inputs_of(each)}
    importers: list[Importer] = []
    for each in entries:
        wanted = known - set(inputs_of(each))
        own = {name: shape for name, shape in shapes.items() if name not in wanted}
        importers.append(Importer(resized(each, own)))
        importers[-1].walk()
    if len(entries) == 1:
        return importers[0].module()
    for importer in importers:
        importer.variables.take_over(other.variables for other in importers)
    names = {k: name for name, k in reversed(model.signatures.items())}
    return merge({names[importer.model.entry]: importer.module() for importer in importers})


class Importer:
    """One import: the function under construction. `walk` fills it, `module` is what it is in."""

    def __init__(self, model: Model, kinds: Sequence[Attribute] = ()) -> None:
        self.model = model
        self.frame = Frame(model.main, unique_names(model.main))
        self.block = Block(arg_types=kinds)
        self.builder = Builder(self.block)
        self.variables = Variables(self.block)
        self.inlined = [0]
        """How many operators subgraphs became; shared with importers of loops of the host."""
        self.limit: int | None = None
        """The most that they may become while a loop is unrolled."""

    def walk(self) -> None:
        """Import the operators of the main graph."""
        frame = self.frame
        for tensor in frame.tensors(frame.graph.inputs):
            self._argument(tensor, frame)
        for number, node in enumerate(frame.graph.operators):
            self._node(number, node, frame)

    def module(self) -> ModuleOp:
        """The module of the function, whose results are the main graph's outputs in order."""
        for tensor in self.frame.tensors(self.frame.graph.outputs):
            self._plain(tensor, self.frame)
        outputs = [self._value(k, "an output", self.frame) for k in self.frame.graph.outputs]
        states = self._states(outputs)
        return self._module(self.frame, self.function("main", outputs), states)

    def function(self, name: str, results: Sequence[SSAValue]) -> FuncOp:
        """The function that was imported."""
        self.builder.attach(results)
        self.block.add_op(ReturnOp(*results))
        erase_dead(self.block)
        types = [argument.type for argument in self.block.args], [v.type for v in results]
        return FuncOp(name, types, Region(self.block))

    def _states(self, outputs: list[SSAValue]) -> list[State]:
        try:
            return self.variables.states(outputs)
        except Misfit as why:
            raise malformed(self.model.source, str(why)) from None

    def _module(self, frame: Frame, function: FuncOp, states: list[State]) -> ModuleOp:
        held = [s.name for s in sorted(states, key=_place) if s.argument is not None]
        new = [f"{s.name}'" for s in states if s.result is not None]
        names = [
            [frame.names[k] for k in ends] for ends in (frame.graph.inputs, frame.graph.outputs)
        ]
        function.attributes["npu.input_names"] = _strings([*names[0], *held])
        function.attributes["npu.output_names"] = _strings([*names[1], *new])
        set_states(function, states)
        module = ModuleOp([function])
        module.attributes["npu.nodes"] = ArrayAttr(
            DictionaryAttr({"source": StringAttr(frame.source(k)), "op": StringAttr(node.name)})
            for k, node in enumerate(frame.graph.operators)
        )
        return module

    # Subgraphs

    def subgraph(
        self, index: int, given: Sequence[Given], caller: Frame, *conditions: SSAValue
    ) -> list[Given]:
        """The results of a subgraph whose inputs are `given`, written out for the current operator.

        They are used where the conditions hold, and those of the caller. Raises Misfit.
        """
        if caller.depth >= control.MAX_DEPTH:
            raise Misfit(f"subgraphs that run each other {control.MAX_DEPTH} deep")
        graph = self.model.subgraphs[index]
        source = caller.caller or self.builder.source
        names = unique_names(graph, f"{graph.name or f'subgraph{index}'}/")
        frame = Frame(graph, names, source, caller.depth + 1, (*caller.conditions, *conditions))
        if len(given) != len(graph.inputs):
            raise Misfit(f"{len(given)} values for the {len(graph.inputs)} inputs of a subgraph")
        self._give(frame, graph.inputs, given)
        here = self.builder.location
        for number, node in enumerate(graph.operators):
            self.count()
            self._node(number, node, frame)
        found = [frame.handles.get(k) or self._value(k, "an output", frame) for k in graph.outputs]
        self.builder.location = here
        return [*found]

    def _give(self, frame: Frame, tensors: Sequence[int], given: Sequence[Given]) -> None:
        """Make values those of some tensors, in their types."""
        for k, value in zip(tensors, given, strict=True):
            tensor = frame.graph.tensors[k]
            if isinstance(value, SSAValue) and tensor.kind != RESOURCE:
                value = as_type(self.builder, value, self._checked(tensor, frame).element)
                check_type(value, tensor)
            frame.set(k, value)

    def apart(self, kinds: Sequence[Attribute] = ()) -> Importer:
        """An importer for a function of its own, with arguments of some types."""
        inner = Importer(self.model, kinds)
        inner.inlined, inner.builder.location = self.inlined, self.builder.location
        return inner

    def count(self) -> None:
        """Count an operator of a subgraph. Raises Misfit and TooLong where there are too many."""
        self.inlined[0] += 1
        if self.inlined[0] > control.MAX_INLINED:
            raise Misfit(f"subgraphs of more than {control.MAX_INLINED} operators, written out")
        if self.limit is not None and self.inlined[0] > self.limit:
            raise control.TooLong

    @contextmanager
    def at_most(self, operators: int) -> Generator[None, None, None]:
        """Let subgraphs become so many operators in the block, if it is in no other such block."""
        outer = self.limit
        self.limit = self.inlined[0] + operators if outer is None else outer
        try:
            yield
        finally:
            self.limit = outer

    # Values

    def _argument(self, tensor: Tensor, frame: Frame) -> None:
        name = frame.names[tensor.index]
        if tensor.index in frame.scope:
            raise malformed(name, "an input that is stated twice")
        self._plain(tensor, frame)
        kind = TensorType(self._checked(tensor, frame).element, tensor.shape)
        argument = self.block.insert_arg(kind, len(self.block.args))
        argument.name_hint = name if SSAValue.is_valid_name(name) else None
        frame.scope[tensor.index] = argument

    def _plain(self, tensor: Tensor, frame: Frame) -> None:
        """Refuse complex numbers as inputs and outputs of a model."""
        if tensor.kind == COMPLEX:
            rule = "inputs and outputs must be real numbers"
            raise refuse(Code.DTYPE_MISMATCH, frame.names[tensor.index], rule, tensor.kind)

    def _checked(self, tensor: Tensor, frame: Frame, source: str = "") -> Tensor:
        """A tensor that programs can have."""
        source = source or frame.names[tensor.index]
        if tensor.why:
            rule = "tensors must be dense, of numbers or truth values"
            raise refuse(Code.DTYPE_MISMATCH, source, rule, f"{tensor.why} ({tensor.name})")
        try:
            TensorType(tensor.element, tensor.shape)
        except ValueError as problem:
            raise malformed(source, f"{tensor.name}: {problem}") from None
        return tensor

    def _value(self, index: int, what: str, frame: Frame) -> SSAValue:
        found = frame.scope.get(index)
        if found is not None:
            return found
        tensor, name = frame.graph.tensors[index], frame.names[index]
        self._checked(tensor, frame)
        if tensor.is_variable and tensor.data is None:
            frame.scope[index] = self.variables.tensor(tensor, name)
            return frame.scope[index]
        if tensor.data is None and 0 not in tensor.shape:
            raise malformed(name, f"{what} that nothing computes before")
        here = self.builder.location
        self.builder.location = provenance.name_location(frame.caller or name)
        if tensor.sparsity is not None:
            self.builder.reserve(*tensor.shape, itemsize=tensor.dtype.itemsize)
        try:
            array = tensor.array() if tensor.data is not None else _empty(tensor)
        except ValueError as problem:
            raise malformed(name, str(problem)) from None
        frame.scope[index] = self.builder.constant(array, tensor.element)
        self.builder.location = here
        return frame.scope[index]

    # Operators

    def _node(self, number: int, node: Operator, frame: Frame) -> None:
        source = frame.source(number)
        self.builder.location = provenance.name_location(frame.caller or source)
        results = [k for k in node.outputs if k >= 0]
        if len(results) != len(set(results)) or any(k in frame.scope for k in results):
            raise malformed(source, "a tensor that is computed twice")
        tensors = frame.tensors(results)
        self.builder.results = [
            self._checked(t, frame, source) for t in tensors if t.kind != RESOURCE
        ]
        self.builder.operands = [frame.graph.tensors[k] if k >= 0 else None for k in node.inputs]
        self.builder.intermediates = frame.tensors(node.intermediates)
        given = [self._input(k, frame) for k in node.inputs]
        try:
            found = self._results(node, given, frame)
            if len(found) != len(results):
                raise Misfit(f"{len(results)} results")
            for k, value in zip(results, found, strict=True):
                if isinstance(value, SSAValue) and node.name not in custom.SHAPES:
                    check_type(value, frame.graph.tensors[k])
                frame.set(k, value)
            self._update(frame)
        except NotExpressible as why:
            raise refuse(
                Code.OPERATOR_UNSUPPORTED, source,
                f"{node.name} must be expressible in graph", str(why),
                "the model without it, or the same model as ONNX",
            ) from None  # fmt: skip
        except (Misfit, *BROKEN) as why:
            raise misfit(source, node, str(why)) from None

    def _input(self, index: int, frame: Frame) -> Given:
        """An input of an operator; None for one that is left out."""
        if index < 0:
            return None
        if frame.graph.tensors[index].kind == RESOURCE:
            return frame.handles.get(index)
        return self._value(index, "an input", frame)

    def _results(self, node: Operator, given: Sequence[Given], frame: Frame) -> Sequence[Given]:
        """The results of an operator. Raises NotExpressible and Misfit."""
        tensors = [*self.builder.operands, *self.builder.results]
        if node.name not in SPECTRAL and any(t is not None and t.kind == COMPLEX for t in tensors):
            raise NotExpressible("complex numbers")
        if node.is_custom:
            return custom.call(self.builder, node, _values(given))
        if node.name in control.HANDLERS:
            stated = self.builder.results
            found = control.HANDLERS[node.name](control.Run(self, frame, node, given))
            self.builder.results = stated
            return self._stated(found, node, frame)
        if node.name in HANDLED:
            return self.variables.results(self.builder, node, given)
        values = _values(given)
        self.builder.results = settled(self.builder, node, values, self.builder.results)
        return registry.call(self.builder, node, values)

    def _stated(self, found: Sequence[Given], node: Operator, frame: Frame) -> list[Given]:
        """The results of a subgraph in the types that the operator states for its own."""
        tensors = frame.tensors([k for k in node.outputs if k >= 0])
        if len(tensors) != len(found):
            raise Misfit(f"{len(tensors)} results")
        return [
            as_type(self.builder, value, tensor.element)
            if isinstance(value, SSAValue) and tensor.kind != RESOURCE
            else value
            for value, tensor in zip(found, tensors, strict=True)
        ]

    def _update(self, frame: Frame) -> None:
        """Take over what the operator wrote to variable tensors."""
        for before, after in self.builder.updates:
            self.variables.update(self.builder, before, after)
            frame.scope |= {k: after for k, value in frame.scope.items() if value is before}
        self.builder.updates = ()


def check_type(value: SSAValue, tensor: Tensor) -> None:
    """Raise Misfit unless a value is what the model states."""
    if dtype_of(value) is tensor.dtype and is_as_stated(shape_of(value), tensor):
        return
    stated = list(tensor.signature if is_free(tensor) else tensor.shape)
    found = f"{dtype_of(value)} {list(shape_of(value))}"
    raise Misfit(f"{found}, where {tensor.dtype} {stated} is stated")


def misfit(source: str, node: Operator, found: str) -> CompileError:
    """The error of an operator whose inputs, options and results contradict each other."""
    rule = f"the inputs, options and results of {node.name} must fit together"
    return refuse(Code.SHAPE_MISMATCH, source, rule, found)


def _place(state: State) -> int:
    return -1 if state.argument is None else state.argument


def _values(given: Sequence[Given]) -> list[SSAValue | None]:
    """Without handles."""
    return [value if isinstance(value, SSAValue) else None for value in given]


def _strings(names: Sequence[str]) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(name) for name in names])


def _empty(tensor: Tensor) -> Array:
    return np.zeros(tensor.shape, tensor.dtype.numpy)
