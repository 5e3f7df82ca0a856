"""The table of importers: an ATen operator and the function that emits it.

    @op("upsample_nearest2d.vec")
    def upsample_nearest(b, input, output_size, scale_factors): ...

The positional parameters of an importer are those of the operator's schema, its keyword parameters
the keyword-only ones, except those of `IGNORED`. `"relu"` is short for `aten.relu.default`,
`"add.Tensor"` for `aten.add.Tensor`; operators of other libraries are `"lib::f"`. What has a row
is never decomposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Handler = Callable[..., Any]

TABLE: dict[str, Handler] = {}

IGNORED = frozenset({"device", "dtype", "generator", "layout", "memory_format", "non_blocking",
                     "pin_memory"})  # fmt: skip
"""Arguments without a parameter: the result's type is known, and where it lies means nothing."""

DROPPED = frozenset(
    f"aten.{name}.default"
    for name in ("_assert_async", "_assert_scalar", "_assert_tensor_metadata",
                 "sym_constrain_range", "sym_constrain_range_for_size")
)  # fmt: skip
"""Checks that hold for the shapes that were captured; they compute nothing."""


KEPT = frozenset(
    f"quantized_decomposed.dequantize_{name}"
    for name in ("per_tensor.default", "per_tensor.tensor", "per_tensor.tensor2",
                 "per_channel.default")
)  # fmt: skip
"""Operators that are imported even where all operands are known: a weight stays in its integers."""


def full_name(name: str) -> str:
    """`aten.relu.default` of `relu`, `aten.add.Tensor` of `add.Tensor`, `lib.f.default` of
    `lib::f`.
    """
    library, _, rest = name.rpartition("::")
    operator, _, overload = rest.partition(".")
    return f"{library or 'aten'}.{operator}.{overload or 'default'}"


def register(function: Handler, *names: str) -> None:
    """Enter `function` as the importer of the operators `names`."""
    for name in names:
        assert full_name(name) not in TABLE, name
        TABLE[full_name(name)] = function


def op(*names: str) -> Callable[[Handler], Handler]:
    """Decorator form of `register`."""

    def enter(function: Handler) -> Handler:
        register(function, *names)
        return function

    return enter


def bind(
    schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """All arguments of a call as an importer takes them, with the defaults of the schema."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for k, argument in enumerate(schema.arguments):
        name = str(argument.name)
        value = args[k] if k < len(args) else kwargs.get(name, argument.default_value)
        if not argument.kwarg_only:
            positional.append(value)
        elif name not in IGNORED:
            named[name] = value
    return positional, named
