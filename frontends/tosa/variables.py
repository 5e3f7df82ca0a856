"""Variables of a module as states of a function: an argument before a call, a result after it.

%0 = tosa.variable_read @s        ->   an argument s
tosa.variable_write @s, %1        ->   a result s', and what is read from then on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xdsl.ir import SSAValue

from npu_dialect.blob import BlobAttr
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.graph.states import State
from npu_dialect.tosa import VariableOp, VariableReadOp, VariableWriteOp
from npu_dialect.tosa.text import array_of

Argument = Callable[[str], SSAValue]
"""Makes the argument that a state is before a call."""


class Variables:
    """The variables that a function reads and writes, as far as it has been walked."""

    def __init__(self, declared: Mapping[str, VariableOp]) -> None:
        self.declared = declared
        self.before: dict[str, SSAValue] = {}
        self.now: dict[str, SSAValue] = {}
        self.written: list[str] = []

    def read(self, op: VariableReadOp, argument: Argument) -> SSAValue:
        """The content of a variable. Raises Misfit for one that is not declared."""
        name = self._name(op)
        if name not in self.now:
            self.before[name] = self.now[name] = argument(name)
        return self.now[name]

    def write(self, op: VariableWriteOp, value: SSAValue, argument: Argument) -> None:
        """Take over what is written. Raises Misfit for a variable that is not declared."""
        name = self._name(op)
        if name not in self.before:
            self.before[name] = argument(name)
        if value.type != self.before[name].type:
            raise Misfit(f"{value.type} for the variable {name} of {self.before[name].type}")
        self.now[name] = value
        if name not in self.written:
            self.written.append(name)

    def _name(self, op: VariableReadOp | VariableWriteOp) -> str:
        if op.variable.data not in self.declared:
            raise Misfit(f"no variable {op.variable.data}")
        return op.variable.data

    def states(self, arguments: int, results: int) -> list[State]:
        """The states, after so many arguments and results of the function."""
        found: list[State] = []
        for k, (name, value) in enumerate(self.before.items()):
            result = results + self.written.index(name) if name in self.written else None
            found.append(State(name, arguments + k, result, self._initial(name, value)))
        return found

    def _initial(self, name: str, value: SSAValue) -> BlobAttr | None:
        content: Any = self.declared[name].initial_value
        if content is None:
            return None
        array, dtype = array_of(content), dtype_of(value)
        if dtype.is_int and array.dtype.itemsize == dtype.itemsize:
            array = array.view(dtype.numpy)
        return BlobAttr.of(array.astype(dtype.numpy))
