"""The ports of an exported program: its inputs, outputs and the tensors that it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.frontends.torch.package import torch


@dataclass(frozen=True)
class Ports:
    """What a program takes and gives."""

    inputs: Mapping[str, str]
    """The names of the user's inputs by the name of their placeholder."""
    outputs: Mapping[str, Any]
    """The nodes of the user's outputs by name."""
    tensors: Mapping[str, Any]
    """Parameters, buffers and constants by the name of their placeholder."""
    parameters: Mapping[str, str]
    """The path of each of `tensors` in the model."""


def read(program: Any) -> Ports:
    """The ports. Raises CompileError for a program that keeps state between runs."""
    found = program.graph_signature
    if found.buffers_to_mutate:
        raise error(
            Code.OPERATOR_UNSUPPORTED,
            "a module must not change its buffers in forward",
            found=", ".join(found.buffers_to_mutate.values()),
            remedy="module.eval(), or the state as an input and an output",
            source="forward",
        )
    if found.user_inputs_to_mutate:
        raise error(
            Code.OPERATOR_UNSUPPORTED,
            "a module must not change its inputs in forward",
            found=", ".join(found.user_inputs_to_mutate.values()),
            remedy="a copy of the input (x.clone())",
            source="forward",
        )
    paths = {**found.inputs_to_parameters, **found.inputs_to_buffers,
             **found.inputs_to_lifted_tensor_constants}  # fmt: skip
    tensors = {name: _tensor(program, path) for name, path in paths.items()}
    return Ports(_inputs(program, found), _outputs(program), tensors, paths)


def _tensor(program: Any, path: str) -> Any:
    return program.state_dict[path] if path in program.state_dict else program.constants[path]


def _inputs(program: Any, found: Any) -> dict[str, str]:
    """Inputs that are tensors; numbers and None were fixed by the capture."""
    wanted = {name for name in found.user_inputs if isinstance(name, str)}
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]
    return {n.name: n.name for n in nodes if isinstance(n.meta.get("val"), torch().Tensor)}


def _outputs(program: Any) -> dict[str, Any]:
    """By the key of a dictionary or the field of a named tuple, else by the node's name."""
    tensor, output = torch(), next(n for n in program.graph.nodes if n.op == "output")
    first = len(program.graph_signature.output_specs) - len(program.graph_signature.user_outputs)
    nodes = list(output.args[0])[first:]
    names = _keys(program, len(nodes))
    result: dict[str, Any] = {}
    for node, key in zip(nodes, names, strict=True):
        if not isinstance(node, tensor.fx.Node):
            continue  # None, or a number that the capture fixed
        name = key or str(node.name)
        while name in result:
            name += "_"
        result[name] = node
    return result


def _keys(program: Any, count: int) -> list[str]:
    """`past.0` for the first of the tensors under the key `past`; "" where there is no key."""
    pytree = torch().utils._pytree
    spec = program.call_spec.out_spec
    if spec is None or spec.num_leaves != count:
        return [""] * count
    tree = pytree.tree_unflatten(list(range(count)), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    named = [any(hasattr(k, "key") or hasattr(k, "name") for k in path) for path in paths]
    return [_dotted(path) if has else "" for path, has in zip(paths, named, strict=True)]


def _dotted(path: Any) -> str:
    parts = [getattr(k, "key", getattr(k, "name", getattr(k, "idx", ""))) for k in path]
    return ".".join(map(str, parts))
