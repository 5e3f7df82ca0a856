"""A number that is made of a tensor at run time stays a tensor of no dimensions.

    %s = max(%x); %n = item(%s); %y = mul.Tensor(%x, %n)

becomes

    %s = max(%x); %y = mul.Tensor(%x, %s)

for operators that take a tensor where they take a number. Types are promoted alike: a tensor
without dimensions counts as a number does, as long as it has the kind of the number.
"""

from __future__ import annotations

from typing import Any

from npu_dialect.frontends.torch.package import torch
from npu_dialect.frontends.torch.passes.remove_checks import eliminate_dead

ITEMS = frozenset({"aten.item.default", "aten._local_scalar_dense.default"})

BINARY = ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge")

TAKERS = frozenset(f"aten.{name}.Tensor" for name in BINARY)
"""Operators whose second operand is a tensor or a number."""

SCALAR_FORMS = {f"aten.{name}.Scalar": name for name in BINARY}
"""Operators with a form for numbers, whose other form is for tensors."""


def run(module: Any) -> None:
    """Let the users of numbers take the tensors that they are made of."""
    for node in list(module.graph.nodes):
        if str(node.target) in ITEMS and _is_scalar(node.args[0]):
            for user in list(node.users):
                _give(user, node, node.args[0])
    eliminate_dead(module)


def _is_scalar(source: Any) -> bool:
    value = source.meta.get("val")
    return isinstance(value, torch().Tensor) and value.dim() == 0


def _give(user: Any, number: Any, tensor: Any) -> None:
    """Replace the number as second operand, if the result keeps its type."""
    name, aten = str(user.target), torch().ops.aten
    if len(user.args) < 2 or user.args[1] is not number or user.args[0] is number:
        return
    other: Any = user.args[0].meta["val"] if isinstance(user.args[0], torch().fx.Node) else None
    if not isinstance(other, torch().Tensor):
        return
    if torch().result_type(other, tensor.meta["val"]) != other.dtype:
        return
    if name in SCALAR_FORMS:
        user.target = getattr(aten, SCALAR_FORMS[name]).Tensor
    elif name not in TAKERS:
        return
    user.args = (user.args[0], tensor, *user.args[2:])
