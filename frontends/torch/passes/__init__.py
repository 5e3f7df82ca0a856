"""Passes over FX graphs, before and after torch's decompositions.

Each is one file with a function that changes a graph in place, and opens with the graph before and
after. A program that is given is not changed: `before` works on a copy of its graph.
"""

from __future__ import annotations

from typing import Any

from npu_dialect.frontends.torch.passes import (
    bind_shapes,
    fold_items,
    fold_shapes,
    remove_checks,
    remove_noops,
    scalar_operands,
)

AFTER = (remove_checks, fold_shapes, scalar_operands, remove_noops)
"""In this order: checks hold on to what computes their conditions, and sizes to tensors."""


def before(program: Any, shapes: bind_shapes.Shapes | None = None) -> Any:
    """An exported program as it goes into torch's decompositions; `shapes` bind free sizes.

    Raises CompileError (NPU0104, NPU0105).
    """
    return fold_items.run(bind_shapes.run(program, shapes or {}))


def after(program: Any) -> Any:
    """A decomposed program, whose graphs are ours to change."""
    for module in graph_modules(program.graph_module):
        for each in AFTER:
            each.run(module)
    return program


def graph_modules(root: Any) -> list[Any]:
    """A graph module and those of its higher-order operators."""
    return [module for module in root.modules() if hasattr(module, "graph")]
