"""The ports of an exported program: its inputs, outputs and the tensors that it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npu_dialect.diagnostics import Code, remark, warn
from npu_dialect.frontends.torch.package import torch


@dataclass(frozen=True)
class State:
    """A buffer or parameter that forward changes."""

    name: str
    """Its path in the model."""
    placeholder: str
    """The name of the placeholder that is its content before a call."""
    result: Any
    """The node that is its content after it."""
    initial: Any
    """The tensor in it before the first call."""


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
    states: Sequence[State] = ()
    """What is kept from call to call."""


def read(program: Any) -> Ports:
    """The ports. What forward changes is a state, with its value as initial content.

    A warning names inputs that forward changes: a program gives results only.
    """
    found = program.graph_signature
    inputs = written(program, ("USER_INPUT_MUTATION",))
    if inputs:
        warn(
            Code.APPROXIMATION,
            "a program does not change its inputs, and the module does",
            found=", ".join(inputs),
            remedy="x.clone() before the line that writes, or the new values as an output",
            source="forward",
        )
    paths = {**found.inputs_to_parameters, **found.inputs_to_buffers,
             **found.inputs_to_lifted_tensor_constants}  # fmt: skip
    states = _states(program, found)
    held = {state.placeholder for state in states}
    tensors = {name: _tensor(program, path) for name, path in paths.items() if name not in held}
    return Ports(_inputs(program, found), _outputs(program), tensors, paths, states)


def written(
    program: Any, kinds: Sequence[str] = ("BUFFER_MUTATION", "PARAMETER_MUTATION")
) -> dict[str, Any]:
    """By the path of a buffer or parameter that forward changes, the node that it becomes.

    Other `kinds` are those of `torch.export.graph_signature.OutputKind`. The signature's own
    dictionaries go by the names of results, which two buffers may share and passes may replace.
    """
    output = next(n for n in program.graph.nodes if n.op == "output")
    pairs = zip(program.graph_signature.output_specs, output.args[0], strict=True)
    return {spec.target: node for spec, node in pairs if spec.kind.name in kinds}


def _states(program: Any, found: Any) -> tuple[State, ...]:
    held = {**found.inputs_to_parameters, **found.inputs_to_buffers}
    placeholders = {path: name for name, path in held.items()}
    return tuple(
        State(path, placeholders[path], result, _tensor(program, path))
        for path, result in written(program).items()
    )


def _tensor(program: Any, path: str) -> Any:
    return program.state_dict[path] if path in program.state_dict else program.constants[path]


def _inputs(program: Any, found: Any) -> dict[str, str]:
    """Inputs that are tensors; a remark states the numbers that the capture fixed."""
    fixed = [f"{spec.arg.name} = {spec.arg.value!r}" for spec in found.input_specs
             if spec.kind.name == "USER_INPUT" and hasattr(spec.arg, "value")]  # fmt: skip
    if fixed:
        remark(
            Code.CAPTURED,
            "inputs that are no tensors have the values of the example inputs",
            found=", ".join(fixed),
            source="forward",
        )
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
