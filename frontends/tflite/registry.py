"""The table of importers: an operator and the function that emits it.

    @op("CONV_2D", options="Conv2DOptions")
    def conv_2d(b, x, w, bias=None, *, padding, stride_h, ...): ...

The positional parameters of an importer are the inputs of the operator, its keyword parameters
those of the fields of its options that it needs, in snake case. Enumerations come as their names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tflite.model import Operator
from npu_dialect.frontends.tflite.package import names, schema

Handler = Callable[..., Any]

ENUMS = {
    "padding": "Padding", "fused_activation_function": "ActivationFunctionType",
    "weights_format": "FullyConnectedOptionsWeightsFormat", "in_data_type": "TensorType",
    "kernel_type": "LSTMKernelType", "mode": "MirrorPadMode", "out_data_type": "TensorType",
    "quantized_bias_type": "TensorType",
}  # fmt: skip
"""The enumeration of a field, for those that have one."""

ABSENT = b"\x04\x00\x04\x00\x04\x00\x00\x00", 4
"""A table in which all fields have their defaults, and where it begins."""


@dataclass(frozen=True)
class Row:
    """An operator that can be imported."""

    name: str
    function: Handler
    options: str
    """The table of the schema that has its options; empty where it needs none."""
    fields: tuple[str, ...]
    least: int
    """Inputs that it needs."""
    most: int | None
    """Inputs that it can have, None for any number."""


TABLE: dict[str, Row] = {}
"""The importers."""

SHAPES: dict[str, Row] = {}
"""What says the shapes of results, for operators whose operands' shapes alone do not."""


def op(*operators: str, options: str = "") -> Callable[[Handler], Handler]:
    """Enter a function as the importer of `operators`."""
    return _entered(TABLE, operators, options)


def shape(*operators: str, options: str = "") -> Callable[[Handler], Handler]:
    """Enter a function as what says the shape of the result of `operators`.

    It returns a list of sizes; for several results a tuple of tuples; None where it is not known.
    """
    return _entered(SHAPES, operators, options)


def _entered(
    table: dict[str, Row], operators: Sequence[str], options: str
) -> Callable[[Handler], Handler]:
    def enter(function: Handler) -> Handler:
        found = list(inspect.signature(function).parameters.values())[1:]
        inputs = [p for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
        fields = tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY)
        assert bool(fields) <= bool(options), operators
        least = sum(p.default is p.empty for p in inputs)
        most = None if any(p.kind is p.VAR_POSITIONAL for p in found) else len(inputs)
        for name in operators:
            assert name not in table, name
            table[name] = Row(name, function, options, fields, least, most)
        return function

    return enter


def call(b: Any, node: Operator, values: Sequence[SSAValue | None]) -> list[SSAValue]:
    """The results of an operator. Raises NotExpressible and Misfit."""
    row = TABLE.get(node.name)
    if row is None:
        raise NotExpressible(f"graph has no equivalent of {node.name}")
    found = _called(row, b, node, values)
    return cast("list[SSAValue]", found) if isinstance(found, list) else [found]


def shapes(b: Any, node: Operator, values: Sequence[SSAValue | None]) -> list[tuple[int, ...]]:
    """The shapes of the results; empty where they are not known. Raises Misfit."""
    row = SHAPES.get(node.name)
    found = None if row is None else _called(row, b, node, values)
    if found is None:
        return []
    return list(found) if isinstance(found, tuple) else [tuple(found)]


def _called(row: Row, b: Any, node: Operator, values: Sequence[SSAValue | None]) -> Any:
    given = len(values)
    if given < row.least or (row.most is not None and given > row.most):
        raise Misfit(f"{given} inputs")
    if any(value is None for value in values[: row.least]):
        raise Misfit("an input that is missing")
    return row.function(b, *values, **_options(row, node))


def _options(row: Row, node: Operator) -> dict[str, Any]:
    if not row.fields:
        return {}
    if node.options_kind not in (row.options, "NONE"):
        raise Misfit(f"options of type {node.options_kind}")
    table = getattr(schema(), row.options)()
    if node.options is None or node.options_kind == "NONE":
        table.Init(*ABSENT)
    else:
        table.Init(node.options.Bytes, node.options.Pos)
    return {field: _field(table, field) for field in row.fields}


def _field(table: Any, field: str) -> Any:
    name = "".join(part[:1].upper() + part[1:] for part in field.split("_"))
    if hasattr(table, f"{name}AsNumpy"):
        found = getattr(table, f"{name}AsNumpy")()
        return () if isinstance(found, int) else tuple(int(n) for n in found)
    value = getattr(table, name)()
    enum = ENUMS.get(field)
    if enum is None:
        return value
    if value not in names(enum):
        raise Misfit(f"{field} {value}")
    return names(enum)[value]
