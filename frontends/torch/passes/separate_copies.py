"""What is copied into a buffer becomes a value of its own, before torch takes the copies apart.

    %n = add(%b_a, %x); copy_(%b_a, %n); copy_(%b_b, %n)

becomes

    %n = add(%b_a, %x); %1 = clone(%n); copy_(%b_a, %1); %2 = clone(%n); copy_(%b_b, %2)

Torch names the new content of a buffer by the node that makes it, and refuses a program in which
two buffers get the same one. The clones go again with `remove_noops`.
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
        source = node.args[1]
        with graph.inserting_before(node):
            clone = graph.call_function(torch().ops.aten.clone.default, (source,))
        clone.meta = {**node.meta, "val": source.meta.get("val")}
        node.update_arg(1, clone)
    return changed


def _copies(graph: Any) -> list[Any]:
    operator = torch().ops.aten.copy_.default
    return [n for n in graph.nodes
            if n.target is operator and isinstance(n.args[1], torch().fx.Node)]  # fmt: skip
