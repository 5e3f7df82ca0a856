"""What is copied into a buffer becomes a value of its own, before torch takes the copies apart.

    %n = add(%b_a, %x); copy_(%b_a, %n); copy_(%b_b, %n)

becomes

    %n = add(%b_a, %x); %1 = clone(%n); copy_(%b_a, %1); %2 = clone(%n); copy_(%b_b, %2)

Torch names the new content of a buffer by the node that makes it, and refuses a program in which
two buffers get the same one. It also takes the source for the content where that has another type
or fewer elements: here it is converted and repeated. The clones go again with `remove_noops`.
"""

from __future__ import annotations

import copy
from typing import Any

from npu_dialect.frontends.torch.package import torch


def run(program: Any) -> Any:
    """The program, or a copy of it in which no two copies have the same source."""
    if not _copies(program.graph):
        return program
    changed = copy.copy(program)
    changed._graph_module = copy.deepcopy(program.graph_module)
    graph = changed._graph_module.graph
    for node in _copies(graph):
        with graph.inserting_before(node):
            _separate(graph, node)
    return changed


def _separate(graph: Any, node: Any) -> None:
    """Put before a copy what makes its source like its destination."""
    aten = torch().ops.aten
    wanted, given = (n.meta["val"] for n in node.args[:2])

    def put(operator: Any, *arguments: Any, **options: Any) -> None:
        value = graph.call_function(operator, (node.args[1], *arguments), options)
        value.meta = {**node.meta, "val": wanted}
        node.update_arg(1, value)

    if given.dtype != wanted.dtype:
        put(aten._to_copy.default, dtype=wanted.dtype)
    if not _has_shape(given, wanted.shape) and _has_shape(wanted, wanted.shape):
        put(aten.expand.default, list(wanted.shape))
    put(aten.clone.default)


def _has_shape(value: Any, shape: Any) -> bool:
    """Whether it has this shape whatever the free sizes are."""
    is_fixed = all(isinstance(d, int) for d in (*value.shape, *shape))
    return is_fixed and value.shape == shape


def _copies(graph: Any) -> list[Any]:
    operator = torch().ops.aten.copy_.default
    return [n for n in graph.nodes if n.target is operator and all(map(_is_tensor, n.args[:2]))]


def _is_tensor(node: Any) -> bool:
    is_node = isinstance(node, torch().fx.Node)
    return is_node and isinstance(node.meta.get("val"), torch().Tensor)
