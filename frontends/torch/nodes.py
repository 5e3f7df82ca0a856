"""What several passes ask of a node of an FX graph."""

from __future__ import annotations

from typing import Any


def is_item(node: Any) -> bool:
    """Whether a node takes one of several results: `operator.getitem`."""
    return getattr(node.target, "__name__", "") == "getitem"


def symbols(size: Any) -> set[Any]:
    """The free symbols of a size, an int or torch's SymInt."""
    return set() if isinstance(size, int) else set(size.node.expr.free_symbols)
