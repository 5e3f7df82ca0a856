"""From an exported program to a module: decomposition, passes, the walk, `func.func @main`.

An operator of the table that cannot be expressed as it is called is given back to torch, which may
have a decomposition. All that is left is one error, with every problem.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, cast

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region
from xdsl.ir import SSAValue as Value

from npu_dialect import dtypes
from npu_dialect.blob import BlobAttr
from npu_dialect.frontends.dead import erase_dead
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.torch import (
    higher_order,
    locations,
    passes,
    registry,
    signature,
    user_lowerings,
)
from npu_dialect.frontends.torch.builder import Builder, array_of
from npu_dialect.frontends.torch.decompose import can_decompose, decompose
from npu_dialect.frontends.torch.ops import TOPICS
from npu_dialect.frontends.torch.ops.complex_numbers import Complex
from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.passes.bind_shapes import Shapes
from npu_dialect.frontends.torch.problems import Problem, Refused, cause_of
from npu_dialect.frontends.torch.signature import Ports
from npu_dialect.frontends.torch.walk import LOST, Unsupported, Walk, specs
from npu_dialect.graph.states import State, set_states


def load(program: Any, name: str = "the program", shapes: Shapes | None = None) -> ModuleOp:
    """The module of an exported program; see `npu_dialect.frontends.torch.load`."""
    attempt = best_attempt(passes.before(program, shapes), name=name)
    if attempt.problems:
        raise Refused(name, map(problem, attempt.problems))
    return attempt.module()


def problems(program: Any) -> list[Problem]:
    """What of a program cannot be imported."""
    return [problem(why) for why in best_attempt(program).problems]


def best_attempt(
    program: Any, read: Callable[[Any], Ports] = signature.read, name: str = "the program"
) -> Importer:
    """The import in which as few calls as possible are left over; `read` gives the ports.

    The sizes of the program are bound.
    """
    assert len(TOPICS), "the table is filled by importing the topics"
    torch()
    given_back: set[str] = set()
    while True:
        decomposed = passes.after(_decomposed(program, given_back, name))
        attempt = Importer(decomposed.graph, read(decomposed), decomposed)
        attempt.run()
        names = {str(why.node.target) for why in attempt.problems} & registry.TABLE.keys()
        names -= user_lowerings.TABLE.keys()
        more = {name for name in names - given_back if can_decompose(name)}
        if not more:
            return attempt
        given_back |= more


def _decomposed(program: Any, given_back: Set[str], name: str) -> Any:
    try:
        return decompose(program, given_back)
    except Exception as why:
        text = f"{type(why).__name__}: {why}"
        frames = [f for f in locations.FRAME.findall(text) if locations.is_users(f[0])]
        file, line = frames[-1] if frames else ("", 0)
        found = Problem(cause_of(text), "", text, "", str(file), int(line))
        raise Refused(name, [found]) from why


def problem(why: Unsupported) -> Problem:
    """A call that was noted, as a record for the user."""
    file, line = locations.source_line(why.node)
    path = locations.module_path(why.node) or ("" if file else str(why.node.name))
    return Problem(why.cause, str(why.node.target), why.reason, path, file, line)


class Importer:
    """One import: the function under construction, and what each node is."""

    def __init__(self, graph: Any, ports: Ports, program: Any = None) -> None:
        self.graph = graph
        self.program = program
        """The exported program of the graph, if it is a whole one."""
        self.ports = ports
        held = {state.placeholder: state.name for state in ports.states}
        named = {**ports.inputs, **held}
        order = [n.name for n in graph.nodes if n.op == "placeholder" and n.name in named]
        self.arguments = {name: named[name] for name in order}
        """The names of inputs and states by that of their placeholder, in order."""
        self.block = Block()
        self.walk = Walk(Builder(self.block), ports.parameters, higher=higher_order.TABLE)

    @property
    def problems(self) -> list[Unsupported]:
        """The nodes that cannot be imported."""
        return self.walk.problems

    def run(self) -> None:
        """Import what can be."""
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
        self.walk.run(self.graph)
        for node in self.ports.outputs.values():
            if isinstance(self.walk.find(node), Complex):
                self.problems.append(Unsupported(node, "complex numbers as an output", "dtype"))

    def module(self) -> ModuleOp:
        """The module, whose results are the user's outputs in order."""
        nodes = [*self.ports.outputs.values(), *(s.result for s in self.ports.states)]
        outputs = [self._output(node) for node in nodes]
        self.walk.builder.attach(outputs)
        self.block.add_op(ReturnOp(*outputs))
        erase_dead(self.block)
        types = [argument.type for argument in self.block.args], [v.type for v in outputs]
        function = FuncOp("main", types, Region(self.block))
        new = [f"{state.name}'" for state in self.ports.states]
        function.attributes["npu.input_names"] = _strings(self.arguments.values())
        function.attributes["npu.output_names"] = _strings([*self.ports.outputs, *new])
        set_states(function, self._states())
        return ModuleOp([function])

    def _states(self) -> list[State]:
        places = {name: k for k, name in enumerate(self.arguments)}
        first = len(self.ports.outputs)
        return [
            State(s.name, places[s.placeholder], first + k, BlobAttr.of(array_of(s.initial)))
            for k, s in enumerate(self.ports.states)
        ]

    def _output(self, node: Any) -> Value:
        found: Any = self.walk.value(node)
        return self.walk.constant(found) if not isinstance(found, Value) else cast(Value, found)

    def _placeholder(self, node: Any) -> None:
        name = self.arguments.get(node.name)
        if name is None:
            self.walk.known[node] = self.ports.tensors.get(node.name)
            return
        try:
            self.walk.values[node] = self._argument(node, name)
        except (Unsupported, Misfit) as why:
            cause = why.cause if isinstance(why, Unsupported) else "dtype"
            self.problems.append(Unsupported(node, f"{why} (the input {name})", cause))
            self.walk.values[node] = LOST

    def _argument(self, node: Any, name: str) -> Value:
        (spec,) = specs(node)
        if spec is None or spec.is_complex:
            found = "complex numbers" if spec else f"a {type(node.meta['val']).__name__}"
            raise Unsupported(node, found, "dtype")
        kind = TensorType(dtypes.element_type(spec.dtype), spec.shape)
        argument = self.block.insert_arg(kind, len(self.block.args))
        argument.name_hint = name if Value.is_valid_name(name) else None
        return argument


def _strings(names: Any) -> ArrayAttr[StringAttr]:
    return ArrayAttr([StringAttr(name) for name in names])
