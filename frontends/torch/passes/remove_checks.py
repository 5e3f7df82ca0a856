"""Checks go, and what only they need.

    %m = max(%x); %c = lt(%m, 5); _assert_async.msg(%c, "too large"); %y = relu(%x)

becomes

    %y = relu(%x)

What a check of values says about a run is lost, as with `python -O`; checks of shapes hold for the
shapes that were captured.
"""

from __future__ import annotations

from typing import Any

CHECKS = frozenset(
    f"aten.{name}"
    for name in ("_assert_async.default", "_assert_async.msg", "_assert_scalar.default",
                 "_assert_tensor_metadata.default", "_functional_assert_async.msg",
                 "_functional_assert_scalar.default", "_print.default",
                 "sym_constrain_range.default", "sym_constrain_range_for_size.default")
)  # fmt: skip
"""Operators that compute nothing."""


def run(module: Any) -> None:
    """Erase the checks of a graph module, and code that is dead then."""
    for node in reversed(list(module.graph.nodes)):
        if str(node.target) in CHECKS and not node.users:
            module.graph.erase_node(node)
    eliminate_dead(module)


def eliminate_dead(module: Any) -> None:
    """Erase the calls that nothing uses; after functionalization none has an effect."""
    for node in reversed(list(module.graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            module.graph.erase_node(node)
