"""Numbers that are read from constants become constants, before torch decomposes the program.

    %n = item(%b_size); %y = slice(%x, 1, 0, %n)            // the buffer `size` holds 2

becomes

    %y = slice(%x, 1, 0, 2)

Shapes that depend on them are known then: the decomposition traces the graph again. Buffers that
forward changes are no constants.
"""

from __future__ import annotations

import copy
from typing import Any

from npu_dialect.frontends.torch import signature
from npu_dialect.frontends.torch.nodes import is_item
from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.passes.scalar_operands import ITEMS


def run(program: Any) -> Any:
    """The program, or a copy of it in which such numbers are constants."""
    items = [n for n in program.graph.nodes if str(n.target) in ITEMS]
    if not items:
        return program
    known = _tensors(program)
    with torch().no_grad():
        values = {node.name: _value(node, known) for node in items}
    if all(value is None for value in values.values()):
        return program
    folded = copy.copy(program)
    folded._graph_module = copy.deepcopy(program.graph_module)
    for node in list(folded._graph_module.graph.nodes):
        number = values.get(node.name)
        if number is not None:
            _replace(node, number)
    return folded


def _tensors(program: Any) -> dict[str, Any]:
    """What constants hold, by the name of their placeholder."""
    found = program.graph_signature
    paths = {**found.inputs_to_parameters, **found.inputs_to_buffers,
             **found.inputs_to_lifted_tensor_constants}  # fmt: skip
    changed = signature.written(program)
    stores = program.state_dict, program.constants
    return {name: next(store[path] for store in stores if path in store)
            for name, path in paths.items() if path not in changed}  # fmt: skip


def _value(node: Any, known: dict[str, Any]) -> Any:
    """What torch computes for a node; None where it depends on inputs, or writes."""
    if node.name in known:
        return known[node.name]
    operator = node.target
    writes = getattr(getattr(operator, "_schema", None), "is_mutable", True)
    if node.op != "call_function" or (writes and not is_item(node)):
        return None
    operands = {n: _value(n, known) for n in node.all_input_nodes}
    is_written = any(_writes(user) for n in operands for user in n.users)
    if any(value is None for value in operands.values()) or is_written:
        return None
    arguments = torch().fx.node.map_arg((node.args, node.kwargs), operands.__getitem__)
    known[node.name] = operator(*arguments[0], **arguments[1])
    return known[node.name]


def _writes(node: Any) -> bool:
    """In training IR, tensors may be written to in place."""
    return bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _replace(node: Any, number: Any) -> None:
    def put(other: Any) -> Any:
        return number if other is node else other

    for user in list(node.users):
        user.args = torch().fx.node.map_arg(user.args, put)
        user.kwargs = torch().fx.node.map_arg(user.kwargs, put)
    node.graph.erase_node(node)
