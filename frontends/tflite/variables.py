"""Variables of a model, which keep their content from one run to the next: states of the program.

    VAR_HANDLE "h"; READ_VARIABLE; ...; ASSIGN_VARIABLE  ->  an argument and a result, `npu.states`

The initial content is what a subgraph assigns that CALL_ONCE runs (`control.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Block, BlockArgument, SSAValue

from npu_dialect.blob import BlobAttr
from npu_dialect.frontends.onnx.builder import element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array, Operator, Tensor
from npu_dialect.frontends.tflite.ops.rescaling import retyped
from npu_dialect.frontends.tflite.package import schema
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.states import State

RESOURCE = "RESOURCE"
"""The type of the tensors that are handles."""

HANDLED = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


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
    is_tensor: bool = False
    """Whether it is a tensor of a graph, which operators write to, and has no handle."""


Given = SSAValue | Variable | None
"""What a tensor is: a value, the variable that a handle means, or nothing."""

Content = tuple[SSAValue | None, bool]
"""The content of a variable, None if nothing is known of it, and whether it was assigned."""


@dataclass
class Variables:
    """The variables of a model, by name; `block` is that of the function they are arguments of."""

    block: Block
    by_name: dict[str, Variable] = field(default_factory=dict[str, Variable])
    initialized: set[int] = field(default_factory=set[int])
    """The subgraphs that CALL_ONCE has run."""

    def results(self, b: Builder, node: Operator, given: Sequence[Given]) -> list[Given]:
        """The results of one of the operators of `HANDLED`. Raises Misfit."""
        if node.name == "VAR_HANDLE":
            return [self._named(node)]
        handle = given[0] if given else None
        if not isinstance(handle, Variable):
            raise Misfit("a handle that is not one of VAR_HANDLE")
        if node.name == "READ_VARIABLE":
            return [self.read(handle, _stated(b))]
        value = given[1] if len(given) == 2 else None
        if not isinstance(value, SSAValue):
            raise Misfit(f"{len(given)} inputs")
        self.assign(b, handle, value)
        return []

    def initialize(self, name: str, value: Array) -> None:
        """Give a variable its content before the first run."""
        variable = self.by_name.setdefault(name, Variable(name))
        if variable.value is not None or variable.argument is not None:
            raise NotExpressible(f"the variable {name}, which is used before it is initialized")
        variable.initial = value

    def take_over(self, others: Iterable[Variables]) -> None:
        """Take over the initial contents that other functions of the model give."""
        for each in others:
            for name, variable in self.by_name.items():
                if variable.initial is None and name in each.by_name:
                    variable.initial = each.by_name[name].initial

    def _named(self, node: Operator) -> Variable:
        """The variable of a VAR_HANDLE."""
        name = "variable"
        if node.options_kind == "VarHandleOptions" and node.options is not None:
            table = schema().VarHandleOptions()
            table.Init(node.options.Bytes, node.options.Pos)
            parts = [table.Container(), table.SharedName()]
            name = "/".join(p.decode("utf-8", "replace") for p in parts if p) or name
        return self.by_name.setdefault(name, Variable(name))

    def assign(self, b: Builder, variable: Variable, value: SSAValue) -> None:
        """Make a value the content of a variable."""
        variable.value = _like(b, value, variable.argument)
        variable.is_assigned = True

    def read(self, variable: Variable, kind: Attribute) -> SSAValue:
        """The content of a variable, whose type is `kind` if nothing was assigned to it yet."""
        if variable.value is None:
            variable.value = self._before(variable, kind)
        return variable.value

    def _before(self, variable: Variable, kind: Attribute) -> BlockArgument:
        """The content before a run."""
        if variable.argument is None:
            variable.argument = self.block.insert_arg(kind, len(self.block.args))
            if SSAValue.is_valid_name(variable.name):
                variable.argument.name_hint = variable.name
        return variable.argument

    def tensor(self, tensor: Tensor, name: str) -> SSAValue:
        """A variable that is a tensor itself, which operators read and write."""
        variable = self.by_name.setdefault(name, Variable(name, is_tensor=True))
        return self.read(variable, TensorType(tensor.element, tensor.shape))

    def update(self, b: Builder, before: SSAValue, after: SSAValue) -> None:
        """Note that an operator wrote a variable tensor."""
        for variable in self.by_name.values():
            if variable.is_tensor and variable.value is before:
                self.assign(b, variable, after)

    # Contents under conditions

    def contents(self) -> dict[str, Content]:
        """What all variables contain now, for `restore` and `choose`."""
        return {name: (v.value, v.is_assigned) for name, v in self.by_name.items()}

    def restore(self, contents: Mapping[str, Content]) -> None:
        """Make the contents those of before."""
        for name, variable in self.by_name.items():
            variable.value, variable.is_assigned = contents.get(name, (None, False))

    def choose(self, b: Builder, condition: SSAValue, other: Mapping[str, Content]) -> None:
        """Make the contents those of now where a condition of run time holds, else `other`."""
        for name, variable in self.by_name.items():
            value, is_assigned = other.get(name, (None, False))
            if not (variable.is_assigned or is_assigned) or variable.value is value:
                continue
            known = variable.value or value
            assert known is not None
            now = variable.value or self._before(variable, known.type)
            old = value or self._before(variable, known.type)
            variable.value = where(b, condition, now, _like(b, old, now))
            variable.is_assigned = True

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


def _stated(b: Builder) -> Attribute:
    """The type of the result of a READ_VARIABLE."""
    if len(b.results) != 1:
        raise Misfit(f"{len(b.results)} results")
    return TensorType(b.element, b.shape)


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
