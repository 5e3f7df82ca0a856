"""Lowerings of the user's own operators: one function each.

    @torch.library.custom_op("mylib::clipped", mutates_args=())
    def clipped(x: torch.Tensor, limit: float) -> torch.Tensor: ...

    @npu_dialect.frontends.torch.lowering("mylib::clipped")
    def _(b, x, limit):
        return b.emit(graph.MinOp(x, b.scalar(limit, x)))

The function takes the builder and the arguments of the operator's schema, keyword-only ones by
keyword: tensors as SSA values of `graph`, all else as it is. It gives a value for each result.
Raise `NotExpressible("why")` for calls that it cannot say. A lowering of an ATen operator
(`aten::gelu`) comes before the compiler's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npu_dialect.diagnostics import Code, error
from npu_dialect.frontends.onnx.errors import NotExpressible

__all__ = ["TABLE", "NotExpressible", "lowering", "remove"]

Handler = Callable[..., Any]

TABLE: dict[str, Handler] = {}
"""The user's lowerings by operator: `mylib.clipped.default`."""


def lowering(name: str) -> Callable[[Handler], Handler]:
    """Enter a function as the lowering of `mylib::op` or `mylib::op.overload`; a decorator.

    A second one for the same operator replaces the first. Raises CompileError (NPU0004) for a name
    without namespace.
    """
    full = _full_name(name)

    def enter(function: Handler) -> Handler:
        TABLE[full] = function
        return function

    return enter


def remove(name: str) -> None:
    """Forget the lowering of `mylib::op`, if there is one."""
    TABLE.pop(_full_name(name), None)


def _full_name(name: str) -> str:
    namespace, _, rest = name.partition("::")
    operator, _, overload = rest.partition(".")
    if not namespace or not operator:
        raise error(
            Code.OPTION,
            "an operator must be named with its namespace",
            found=repr(name),
            remedy='lowering("mylib::op")',
            source="lowering",
        )
    return f"{namespace}.{operator}.{overload or 'default'}"
