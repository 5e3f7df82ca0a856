"""A subgraph under import: what is known of its tensors so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.tflite.model import Subgraph, Tensor
from npu_dialect.frontends.tflite.variables import RESOURCE, Given, Variable

JOINED = ";"
"""What stands between the parts of a name that a converter joined."""


@dataclass
class Frame:
    """The tensors of a subgraph, by their numbers: values, and the variables that handles mean."""

    graph: Subgraph
    names: Sequence[str]
    """A name for each tensor."""
    caller: str = ""
    """The operator of the main graph that the subgraph is run for; empty for the main graph."""
    depth: int = 0
    conditions: tuple[SSAValue, ...] = ()
    """The conditions of run time under which its results are used."""
    scope: dict[int, SSAValue] = field(default_factory=dict[int, SSAValue])
    handles: dict[int, Variable] = field(default_factory=dict[int, Variable])

    def source(self, number: int) -> str:
        """What an operator is called: as its first result, and briefly where that is enough.

        Converters join the names of what they fused: `conv/Relu;conv/BiasAdd;conv/Conv2D`.
        """
        node = self.graph.operators[number]
        if not node.outputs or node.outputs[0] < 0:
            return f"{node.name}.{number}"
        name = self.names[node.outputs[0]]
        brief = name.partition(JOINED)[0]
        return brief if brief and self.briefs[brief] == 1 else name

    @cached_property
    def briefs(self) -> Counter[str]:
        """How many tensors have a name that begins so."""
        return Counter(name.partition(JOINED)[0] for name in self.names)

    def set(self, tensor: int, given: Given) -> None:
        """Note what a tensor is. Raises Misfit for a handle in the place of values, and reverse."""
        is_handle = self.graph.tensors[tensor].kind == RESOURCE
        if isinstance(given, Variable) != is_handle or given is None:
            raise Misfit("a handle in the place of a tensor" if given else "a tensor that is none")
        if isinstance(given, Variable):
            self.handles[tensor] = given
        else:
            self.scope[tensor] = given

    def tensors(self, numbers: Sequence[int]) -> list[Tensor]:
        """The tensors of some numbers."""
        return [self.graph.tensors[k] for k in numbers]


def unique_names(graph: Subgraph, prefix: str = "") -> list[str]:
    """A name for each tensor: its own, with its number where another one has it too."""
    taken: set[str] = set()
    found: list[str] = []
    for tensor in graph.tensors:
        name = tensor.name if tensor.name not in taken else f"{tensor.name}.{tensor.index}"
        taken.add(name)
        found.append(prefix + name)
    return found
