"""Operators that `graph` cannot express: `graph.opaque`, which torch computes on the host.

    aten.erfinv(%x)   ->   graph.opaque %x {domain = "aten", op_type = "erfinv.default"}

The shapes of the results must be known, and operands and results be tensors that programs have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.builder import Builder
from npu_dialect.frontends.torch.ops.common import NotExpressible, SSAValue
from npu_dialect.frontends.torch.package import torch

DOMAIN = "aten"

IGNORED = frozenset({"device", "layout", "memory_format", "pin_memory"})
"""Arguments that mean nothing to the values."""


def emit(
    b: Builder, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], reason: str
) -> Any:
    """The results of an operator of ATen, one value or a list as torch has it.

    Raises NotExpressible for one that the host cannot do either.
    """
    _check(b, target)
    operands: list[SSAValue] = []
    names = [str(a.name) for a in target._schema.arguments]
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    tree = {n: _plain(v, operands) for n, v in named.items() if n not in IGNORED}
    types = [graph.tensor_type(s.shape, dtypes.element_type(s.dtype)) for s in b.results if s]
    name = str(target).removeprefix(f"{DOMAIN}.")
    payload = json.dumps(tree).encode()
    made = graph.OpaqueOp(operands, types, DOMAIN, name, payload, reason)
    b.insert(made)
    returns = target._schema.returns
    is_list = len(returns) != 1 or "List" in str(returns[0].type)
    return list(made.results) if is_list else made.results[0]


def _check(b: Builder, target: Any) -> None:
    if getattr(target, "namespace", "") != DOMAIN or target._schema.is_mutable:
        raise NotExpressible(f"{target}, which the host does not run")
    if any(s is None or s.is_complex for s in b.results):
        raise NotExpressible(f"a result of {target} that is no tensor of real numbers")


def _plain(value: Any, operands: list[SSAValue]) -> Any:
    """An argument as JSON; tensors become operands."""
    if isinstance(value, SSAValue):
        operands.append(cast("SSAValue", value))
        return {"operand": len(operands) - 1}
    if isinstance(value, list | tuple):
        return [_plain(v, operands) for v in cast("Sequence[Any]", value)]
    if isinstance(value, torch().dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise NotExpressible(f"an argument of type {type(value).__name__}")
