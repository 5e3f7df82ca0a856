"""A graph of Dynamo in parts: what imports becomes modules of `graph`, the rest stays with torch.

    linear -> svdvals -> relu        with no importer for svdvals

becomes

    %0 = part_0(%x); %1 = svdvals(%0); %2 = part_1(%1)

What imports is found by importing: the nodes that the walk notes as problems stay with torch.
Parameters and buffers that the graph does not change are constants of the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects.builtin import ModuleOp

from npu_dialect.frontends.torch import importer, signature
from npu_dialect.frontends.torch.builder import dtype_of
from npu_dialect.frontends.torch.importer import Importer
from npu_dialect.frontends.torch.nodes import is_item
from npu_dialect.frontends.torch.package import quiet, torch
from npu_dialect.frontends.torch.problems import Problem
from npu_dialect.frontends.torch.signature import Ports


@dataclass(frozen=True)
class Part:
    """A part that is compiled."""

    name: str
    """Its name in `Parts.module`."""
    module: ModuleOp
    inputs: Sequence[str]
    """The names of its arguments; those that are constants are no inputs of the module."""
    nodes: int
    """The operators of ATen in it."""


@dataclass(frozen=True)
class Parts:
    """A graph in parts."""

    module: Any
    """The FX graph module, which calls the parts as submodules; its placeholders are `sources`."""
    sources: Sequence[int | Any]
    """For each placeholder, the number of the argument, or the tensor that it is."""
    changed: Mapping[int, int]
    """Of the results, which are new values of arguments: the number of the argument."""
    results: Sequence[int]
    """Of the results, which are those of the graph, in order."""
    compiled: Sequence[Part]
    problems: Sequence[Problem]
    """Why nodes stay with torch."""
    kept: Sequence[Any]
    """The nodes that stay with torch."""


def split(graph_module: Any, args: Sequence[Any], static: Sequence[int]) -> Parts:
    """The parts of a graph of Dynamo, for arguments like these; `static` are the numbers of those
    that are parameters and buffers. Raises what `torch.export` raises.
    """
    program = _exported(graph_module, args, static)
    attempt = importer.best_attempt(program, _ports)
    found = attempt.program.graph_signature
    module = attempt.program.graph_module
    kept = {why.node for why in attempt.problems}
    compiled = [Part(name, _module_of(fused, attempt.ports), _names(fused), _size(fused))
                for name, fused in _fuse(module, kept, attempt.ports)]  # fmt: skip
    changes = _changes(found, [k for k in range(len(args)) if k not in static])
    return Parts(
        module,
        _sources(attempt, args),
        changes,
        [k for k in range(len(found.output_specs)) if k not in changes],
        compiled,
        [importer.problem(why) for why in attempt.problems],
        [n for n in module.graph.nodes if n.op == "call_function" and not is_item(n)],
    )


def _exported(graph_module: Any, args: Sequence[Any], static: Sequence[int]) -> Any:
    base: type[Any] = torch().nn.Module

    class Bound(base):
        """The graph with its parameters and buffers as buffers, called `argument3`."""

        def __init__(self) -> None:
            base.__init__(self)
            self.graph = graph_module
            for k in static:
                self.register_buffer(f"argument{k}", args[k].detach())

        def forward(self, *others: Any) -> Any:
            left = list(others)
            given = [getattr(self, f"argument{k}") if k in static else left.pop(0)
                     for k in range(len(args))]  # fmt: skip
            return self.graph(*given)

    free = tuple(x for k, x in enumerate(args) if k not in static)
    with quiet(everything=True), torch().no_grad():
        return torch().export.export(Bound(), free, strict=False)


def _ports(program: Any) -> Ports:
    """No outputs yet: parts have their own. Buffers that change are inputs."""
    found = program.graph_signature
    paths = {**found.inputs_to_parameters, **found.inputs_to_buffers,
             **found.inputs_to_lifted_tensor_constants}  # fmt: skip
    changed = signature.written(program)
    stores = program.state_dict, program.constants
    tensors = {name: next(store[path] for store in stores if path in store)
               for name, path in paths.items() if path not in changed}  # fmt: skip
    inputs = {n.name: n.name for n in program.graph.nodes
              if n.op == "placeholder" and n.name not in tensors
              and isinstance(n.meta.get("val"), torch().Tensor)}  # fmt: skip
    return Ports(inputs, {}, tensors, paths)


def _sources(attempt: Importer, args: Sequence[Any]) -> list[int | Any]:
    """What the placeholders are: arguments by number, or tensors."""
    paths, tensors = attempt.ports.parameters, attempt.ports.tensors
    found: list[int | Any] = []
    free = [k for k in range(len(args)) if f"argument{k}" not in paths.values()]
    bound = {f"argument{k}": k for k in range(len(args))}
    for node in attempt.program.graph.nodes:
        if node.op != "placeholder":
            continue
        path = paths.get(node.name)
        if path in bound:
            found.append(bound[path])
        else:
            found.append(tensors[node.name] if path is not None else free.pop(0))
    return found


def _changes(ports: Any, free: Sequence[int]) -> dict[int, int]:
    """By the number of a result, the number of the argument whose new value it is."""
    inputs = list(ports.user_inputs)
    found: dict[int, int] = {}
    for k, spec in enumerate(ports.output_specs):
        if "MUTATION" in spec.kind.name:
            is_bound = spec.target.startswith("argument")
            found[k] = int(spec.target[8:]) if is_bound else free[inputs.index(spec.target)]
    return found


def _fuse(module: Any, kept: set[Any], ports: Ports) -> list[tuple[str, Any]]:
    """Replace what is not kept by submodules, in place; they and their names."""
    from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
    from torch.fx.passes.operator_support import OperatorSupportBase

    class Support(OperatorSupportBase):
        def is_node_supported(self, submodules: Any, node: Any) -> bool:
            return node.op == "call_function" and node not in kept and _is_of_tensors(node)

    partitioner = CapabilityBasedPartitioner(module, Support(), allows_single_node_partition=True)
    fused = partitioner.fuse_partitions(partitioner.propose_partitions(), "part_")
    return [(str(n.target), getattr(fused, str(n.target)))
            for n in fused.graph.nodes if n.op == "call_module"]  # fmt: skip


def _is_of_tensors(node: Any) -> bool:
    value: Any = node.meta.get("val")
    values: list[Any] = [*value] if isinstance(value, list | tuple) else [value]
    operands = [n.meta.get("val") for n in node.all_input_nodes]
    return all(map(_crosses, values)) and all(map(_crosses, operands))


def _crosses(value: Any) -> bool:
    """Whether a value can be an input or output of a part."""
    if isinstance(value, list | tuple):
        return all(map(_crosses, value))  # pyright: ignore
    tensor = torch().Tensor
    return (
        isinstance(value, tensor) and dtype_of(value.dtype) is not None and not value.is_complex()
    )


def _module_of(fused: Any, ports: Ports) -> ModuleOp:
    nodes = list(fused.graph.nodes)
    placeholders = [n for n in nodes if n.op == "placeholder"]
    inputs = {n.name: n.name for n in placeholders if n.name not in ports.tensors}
    found: Any = next(n for n in nodes if n.op == "output").args[0]
    results = cast("Sequence[Any]", found if isinstance(found, list | tuple) else [found])
    outputs = {f"y{k}": node for k, node in enumerate(results)}
    attempt = Importer(fused.graph, Ports(inputs, outputs, ports.tensors, ports.parameters))
    attempt.run()
    assert not attempt.problems, attempt.problems
    return attempt.module()


def _names(fused: Any) -> list[str]:
    return [str(n.name) for n in fused.graph.nodes if n.op == "placeholder"]


def _size(fused: Any) -> int:
    return sum(1 for n in fused.graph.nodes if n.op == "call_function" and not is_item(n))
