"""A WHILE whose number of steps is known at run time only: a loop of the host.

    WHILE(i, x), whose body reads and assigns "v"
        -> graph.opaque(i, x, content of v) -> (i, x, content of v)

The condition and the body become functions of the values of the loop (`graph/loops.py`), and of the
contents of the variables that either of them uses, which are values as the others are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, cast

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, SSAValue

from npu_dialect import graph
from npu_dialect.diagnostics import Code, CompileError
from npu_dialect.frontends.onnx.builder import element_of
from npu_dialect.frontends.onnx.errors import Misfit, refuse
from npu_dialect.frontends.tflite.ops.rescaling import as_type
from npu_dialect.frontends.tflite.variables import RESOURCE, Given, Variable
from npu_dialect.graph import loops

if TYPE_CHECKING:
    from npu_dialect.frontends.tflite.control import Run
    from npu_dialect.frontends.tflite.importer import Importer

Kind = TensorType[Attribute]


@dataclass(frozen=True)
class HostedLoop:
    """A WHILE in the subgraph that it is part of, and the subgraphs it runs."""

    run: Run
    condition: int
    body: int
    reason: str
    """Why the host does it."""

    def results(self) -> list[Given]:
        """The values after the last step; variables have the contents of then."""
        run = self.run
        tensors = run.body(self.body).tensors
        stated = [tensors[k] for k in run.body(self.body).inputs]
        if len(run.given) != len(stated):
            raise Misfit(f"{len(run.given)} values, where {len(stated)} are stated")
        values = [
            as_type(run.b, value, tensor.element)
            for value, tensor in zip(run.given, stated, strict=True)
            if isinstance(value, SSAValue) and tensor.kind != RESOURCE
        ]
        kinds = [cast("Kind", v.type) for v in values]
        used = self._variables(kinds)
        contents = [self._content(name, kind) for name, kind in used.items()]
        functions = [self._function(k, kinds, used) for k in (self.condition, self.body)]
        found = self._emitted([*values, *contents], functions)
        for name, content in zip(used, found[len(values) :], strict=True):
            run.importer.variables.assign(run.b, self._outer(name), content)
        rest = iter(found)
        return [given if isinstance(given, Variable) else next(rest) for given in run.given]

    def _emitted(self, values: Sequence[SSAValue], functions: Sequence[FuncOp]) -> list[SSAValue]:
        b, conditions = self.run.b, self.run.frame.conditions
        payload, constants = loops.payload(*functions)
        flags = [reduce(lambda x, y: b.emit(graph.AndOp(x, y)), conditions)] if conditions else []
        known = [b.constant(op.array, element_of(op.results[0])) for op in constants]
        kinds = [cast("Kind", value.type) for value in values]
        op = graph.OpaqueOp(
            [*flags, *values, *known], kinds, loops.DOMAIN, "WHILE", payload, self.reason
        )
        b.insert(op)
        return list(op.results)

    def _outer(self, name: str) -> Variable:
        return self.run.importer.variables.by_name.setdefault(name, Variable(name))

    def _content(self, name: str, kind: Kind) -> SSAValue:
        """What a variable contains before the loop."""
        found = self.run.importer.variables.read(self._outer(name), kind)
        return as_type(self.run.b, found, kind.element_type)

    def _variables(self, kinds: Sequence[Kind]) -> dict[str, Kind]:
        """The variables that the condition or the body uses, and the types of their contents."""
        found: dict[str, Kind] = {}
        for index in (self.condition, self.body):
            inner = self.run.importer.apart(kinds)
            self._imported(inner, index, len(kinds))
            for name, variable in inner.variables.by_name.items():
                value = variable.argument or variable.value
                if value is not None:
                    found.setdefault(name, cast("Kind", value.type))
                self._outer(name).is_tensor |= variable.is_tensor
        return found

    def _function(self, index: int, kinds: Sequence[Kind], used: Mapping[str, Kind]) -> FuncOp:
        """A subgraph as a function of its own, of values and contents of variables."""
        inner = self.run.importer.apart([*kinds, *used.values()])
        by_name = inner.variables.by_name
        for name, argument in zip(used, inner.block.args[len(kinds) :], strict=True):
            is_tensor = self._outer(name).is_tensor
            by_name[name] = Variable(name, None, argument, argument, is_tensor=is_tensor)
        results = self._imported(inner, index, len(kinds))
        if any(variable.initial is not None for variable in by_name.values()):
            raise self._refused("variables that a step initializes")
        if index == self.condition:
            if any(by_name[name].is_assigned for name in used):
                raise self._refused("a condition that assigns variables")
            return inner.function(self._name(index), results)
        for name, kind in used.items():
            content = inner.variables.read(by_name[name], kind)
            results.append(as_type(inner.builder, content, kind.element_type))
        return inner.function(self._name(index), results)

    def _name(self, index: int) -> str:
        return self.run.body(index).name or f"subgraph{index}"

    def _imported(self, inner: Importer, index: int, count: int) -> list[SSAValue]:
        """The results of a subgraph of the first `count` arguments and the handles, values only."""
        values = iter(inner.block.args[:count])
        given = [
            inner.variables.by_name.setdefault(each.name, Variable(each.name))
            if isinstance(each, Variable)
            else next(values)
            for each in self.run.given
        ]
        caller = replace(self.run.frame, conditions=())  # those are values of the other function
        results = inner.subgraph(index, given, caller)
        if index == self.body:
            for before, after in zip(given, results, strict=False):
                if isinstance(before, Variable) != isinstance(after, Variable) or (
                    isinstance(before, Variable) and before is not after
                ):
                    raise self._refused("a handle that becomes another one")
        return [value for value in results if isinstance(value, SSAValue)]

    def _refused(self, found: str) -> CompileError:
        return refuse(
            Code.OPERATOR_UNSUPPORTED, self.run.b.source,
            "variables in a WHILE of the host must be read or assigned in its body",
            f"{found} ({self.reason})",
            "a condition LOGICAL_AND(i < n, ...) with a constant n of few steps, or values of the "
            "loop instead of variables",
        )  # fmt: skip
