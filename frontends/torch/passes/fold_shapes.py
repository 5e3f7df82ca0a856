"""Numbers that follow from shapes become constants.

    %n = sym_size.int(%x, 1); %m = mul(%n, 2); %y = view(%x, [1, %m])        // %x is f32[2, 4]

becomes

    %y = view(%x, [1, 8])

Torch knows the number: the meta value of the node is an integer, or one without free symbols.
"""

from __future__ import annotations

from typing import Any

from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.passes.remove_checks import eliminate_dead


def run(module: Any) -> None:
    """Put the numbers of a graph module into the arguments that use them."""
    numbers = {node: value for node in module.graph.nodes
               if node.op == "call_function" and (value := _number(node)) is not None}  # fmt: skip
    for node in numbers:
        for user in list(node.users):
            user.args = _replaced(user.args, numbers)
            user.kwargs = _replaced(user.kwargs, numbers)
    eliminate_dead(module)


def _number(node: Any) -> int | float | bool | None:
    value = node.meta.get("val")
    if isinstance(value, bool | int | float):
        return value
    symbolic = torch().SymInt, torch().SymFloat, torch().SymBool
    if not isinstance(value, symbolic) or value.node.expr.free_symbols:
        return None
    kinds = int, float, bool
    return next(
        kind(value) for kind, s in zip(kinds, symbolic, strict=True) if isinstance(value, s)
    )


def _replaced(arguments: Any, numbers: dict[Any, Any]) -> Any:
    def number(node: Any) -> Any:
        return numbers.get(node, node)

    return torch().fx.node.map_arg(arguments, number)
