"""The table of rules: a graph operation and the function that emits it in TOSA.

    @rule(graph.ReluOp)
    def relu(e, op): ...

A rule takes the emitter, of which `value` has the tosa values of the operands, and the graph
operation. It returns the tosa value of the result, stored as `emitter.stored_as` states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdsl.ir import Operation

Rule = Callable[..., Any]

TABLE: dict[type[Operation], Rule] = {}


def rule(*operations: type[Operation]) -> Callable[[Rule], Rule]:
    """Enter a function as the rule of `operations`."""

    def enter(function: Rule) -> Rule:
        for kind in operations:
            assert kind not in TABLE, kind.name
            TABLE[kind] = function
        return function

    return enter
