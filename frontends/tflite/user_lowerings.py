"""Lowerings of the user's own operators: one function each.

    @npu_dialect.frontends.tflite.lowering("Doubled")
    def _(b, call, x):
        return b.emit(graph.AddOp(x, x))

The function takes the builder, what the file says of the operator (`graph.custom.Call`), and its
inputs as SSA values of `graph`, None for one that is left out. It gives a value for each result.
Raise `NotExpressible("why")` for calls that it cannot say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npu_dialect.frontends.onnx.errors import NotExpressible

__all__ = ["TABLE", "NotExpressible", "lowering", "remove"]

Handler = Callable[..., Any]

TABLE: dict[str, Handler] = {}
"""The user's lowerings by the name of the custom operator."""


def lowering(name: str) -> Callable[[Handler], Handler]:
    """Enter a function as the lowering of the custom operator `name`; a decorator.

    A second one for the same operator replaces the first.
    """

    def enter(function: Handler) -> Handler:
        TABLE[name] = function
        return function

    return enter


def remove(name: str) -> None:
    """Forget the lowering of `name`, if there is one."""
    TABLE.pop(name, None)
