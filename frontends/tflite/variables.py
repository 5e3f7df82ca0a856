"""Variables of a model, which keep their content from one run to the next: states of the program.

    VAR_HANDLE "h"; READ_VARIABLE; ...; ASSIGN_VARIABLE  ->  an argument and a result, `npu.states`

A subgraph that CALL_ONCE runs gives the initial content: constants that it assigns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Block, BlockArgument, SSAValue

from npu_dialect.blob import BlobAttr
from npu_dialect.frontends.onnx.builder import element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array, Operator, Subgraph, Tensor
from npu_dialect.frontends.tflite.ops.rescaling import retyped
from npu_dialect.frontends.tflite.package import schema
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.states import State

RESOURCE = "RESOURCE"
"""The type of the tensors that are handles."""

HANDLED = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


@dataclass
class Variable:
    """What is known of a variable so far."""

    name: str
    initial: Array | None = None
    argument: BlockArgument | None = None
    """Its content before a run, if that is read."""
    value: SSAValue | None = None
    """Its content now."""
    is_assigned: bool = False


@dataclass
class Variables:
    """The variables of a model, by name, and which of them a tensor of the main graph is."""

    block: Block
    subgraphs: tuple[Subgraph, ...]
    by_name: dict[str, Variable] = field(default_factory=dict[str, Variable])
    handles: dict[int, Variable] = field(default_factory=dict[int, Variable])

    def results(
        self, b: Builder, node: Operator, values: Sequence[SSAValue | None]
    ) -> list[SSAValue]:
        """The results of one of the operators of `HANDLED`."""
        match node.name:
            case "VAR_HANDLE":
                self.handles[_one(node.outputs)] = self._named(node)
            case "CALL_ONCE":
                self._call_once(node)
            case "READ_VARIABLE":
                return [self._read(node, b.results[0])]
            case _:
                self._assign(b, node, values)
        return []

    def _assign(self, b: Builder, node: Operator, values: Sequence[SSAValue | None]) -> None:
        if len(values) != 2 or values[1] is None:
            raise Misfit(f"{len(values)} inputs")
        variable = self._of(node.inputs[0])
        variable.value = _like(b, values[1], variable.argument)
        variable.is_assigned = True

    def _read(self, node: Operator, result: Tensor) -> SSAValue:
        """The content of a variable."""
        return self._content(self._of(_one(node.inputs)), result)

    def _content(self, variable: Variable, result: Tensor) -> SSAValue:
        if variable.value is None:
            kind = TensorType(result.element, result.shape)
            variable.argument = variable.value = self.block.insert_arg(kind, len(self.block.args))
            if SSAValue.is_valid_name(variable.name):
                variable.argument.name_hint = variable.name
        return variable.value

    def tensor(self, tensor: Tensor, name: str) -> SSAValue:
        """A variable that is a tensor itself, which operators read and write."""
        variable = self.by_name.setdefault(name, Variable(name))
        return self._content(variable, tensor)

    def update(self, b: Builder, before: SSAValue, after: SSAValue) -> None:
        """Note that an operator wrote a variable tensor."""
        for variable in self.by_name.values():
            if variable.value is before:
                variable.value = _like(b, after, variable.argument)
                variable.is_assigned = True

    def _named(self, node: Operator) -> Variable:
        name = "variable"
        if node.options_kind == "VarHandleOptions" and node.options is not None:
            table = schema().VarHandleOptions()
            table.Init(node.options.Bytes, node.options.Pos)
            parts = [table.Container(), table.SharedName()]
            name = "/".join(p.decode("utf-8", "replace") for p in parts if p) or name
        return self.by_name.setdefault(name, Variable(name))

    def _of(self, tensor: int) -> Variable:
        if tensor not in self.handles:
            raise Misfit("a handle that is not one of VAR_HANDLE")
        return self.handles[tensor]

    def _call_once(self, node: Operator) -> None:
        table = schema().CallOnceOptions()
        if node.options_kind != "CallOnceOptions" or node.options is None:
            raise Misfit(f"options of type {node.options_kind}")
        table.Init(node.options.Bytes, node.options.Pos)
        index = int(table.InitSubgraphIndex())
        if not 0 < index < len(self.subgraphs):
            raise Misfit(f"subgraph {index} of {len(self.subgraphs)}")
        graph = self.subgraphs[index]
        handles: dict[int, Variable] = {}
        for each in graph.operators:
            if each.name == "VAR_HANDLE":
                handles[_one(each.outputs)] = self._named(each)
            elif each.name == "ASSIGN_VARIABLE" and len(each.inputs) == 2:
                self._initialize(handles, each, graph)
            else:
                raise NotExpressible(f"{each.name} in what initializes variables")

    def _initialize(self, handles: dict[int, Variable], node: Operator, graph: Subgraph) -> None:
        target, source = node.inputs
        tensor = graph.tensors[source]
        if target not in handles or tensor.data is None or tensor.why:
            raise NotExpressible("variables that are initialized with computed values")
        handles[target].initial = tensor.array()

    def states(self, results: list[SSAValue]) -> list[State]:
        """The states; those that are assigned are appended to the results of the function."""
        found: list[State] = []
        for variable in self.by_name.values():
            if variable.argument is None and not variable.is_assigned:
                continue
            result = None
            if variable.is_assigned and variable.value is not None:
                result = len(results)
                results.append(variable.value)
            found.append(_state(variable, result))
        return found


def _state(variable: Variable, result: int | None) -> State:
    argument, initial = variable.argument, None
    place = None if argument is None else argument.index
    if variable.initial is not None:
        value = argument or variable.value
        assert value is not None
        if variable.initial.shape != shape_of(value):
            raise Misfit(f"an initial content of {list(variable.initial.shape)}")
        initial = BlobAttr.of(variable.initial)
    return State(variable.name, place, result, initial)


def _like(b: Builder, x: SSAValue, other: SSAValue | None) -> SSAValue:
    """`x` in the type of another tensor."""
    if other is None or x.type == other.type:
        return x
    element = element_of(other)
    if shape_of(x) != shape_of(other) or not isinstance(element, QuantType):
        raise NotExpressible(f"a variable of {other.type} that becomes {x.type}")
    return retyped(b, x, element)


def _one(tensors: tuple[int, ...]) -> int:
    if len(tensors) != 1:
        raise Misfit(f"{len(tensors)} tensors")
    return tensors[0]
