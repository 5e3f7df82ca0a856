"""Operators that give their operand back go.

    %1 = detach(%x); %2 = dropout(%1, 0.5, False); %3 = _to_copy(%2, dtype=f32); %4 = relu(%3)

becomes

    %4 = relu(%x)

Graphs here are functional, so that a copy is as good as the tensor. Conversions and views go only
if the type and the shape stay.
"""

from __future__ import annotations

from typing import Any

from npu_dialect.frontends.torch.package import torch

ALWAYS = frozenset({
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.detach_.default", "aten.dropout.default", "aten.feature_dropout.default",
    "aten.alpha_dropout.default", "aten.lift.default", "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default", "aten.resolve_conj.default", "aten.resolve_neg.default",
})  # fmt: skip
"""Gives back its first operand; dropout if its third argument says that this is no training."""

IF_ALIKE = frozenset({
    "aten._to_copy.default", "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device",
    "aten.type_as.default", "aten.expand.default", "aten.view.default", "aten.reshape.default",
    "aten._unsafe_view.default",
})  # fmt: skip
"""Gives back its first operand if the result has its type and shape."""


def run(module: Any) -> None:
    """Replace the no-ops of a graph module by their operands."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and _is_noop(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _is_noop(node: Any) -> bool:
    name = str(node.target)
    if not node.args or not isinstance(node.args[0], torch().fx.Node):
        return False
    if name in ALWAYS:
        return "dropout" not in name or not node.args[2]
    return name in IF_ALIKE and _is_alike(node.meta.get("val"), node.args[0].meta.get("val"))


def _is_alike(result: Any, operand: Any) -> bool:
    tensor = torch().Tensor
    if not isinstance(result, tensor) or not isinstance(operand, tensor):
        return False
    return result.dtype == operand.dtype and result.shape == operand.shape
