"""The table of operator importers, and how a node is bound to the signature of one.

An importer is a function `(b: Builder, *inputs, **attributes) -> value or values`. Its
positional parameters are the inputs of the ONNX schema in order (`None` when absent, `*xs`
when variadic) and its keyword parameters the attributes by name. An attribute that a node
omits gets the default of the node's own schema version, else the default in the signature,
else None. A node with an attribute that the function does not name is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code
from npu_dialect.frontends.onnx.errors import refuse

if TYPE_CHECKING:  # the other frontends use importers too, without onnx
    from onnx import AttributeProto, NodeProto
    from onnx.defs import OpSchema

Handler = Callable[..., Any]

MICROSOFT = "com.microsoft"

MIN_OPSET = 7
"""In older sets only operators with the meaning of 7, or with an importer `since` before it."""


@dataclass(frozen=True)
class Importer:
    """One row: the importer of an operator from version `since` on."""

    domain: str
    op_type: str
    since: int
    function: Handler
    storage: bool
    """True if it handles quantized values; others get plain integers instead."""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return _parameters(self.function)

    @property
    def inputs(self) -> list[inspect.Parameter]:
        return [p for p in self.parameters[1:] if p.kind != p.KEYWORD_ONLY]

    @property
    def attributes(self) -> dict[str, Any]:
        """Attribute names and their defaults."""
        empty = inspect.Parameter.empty
        return {
            p.name: None if p.default is empty else p.default
            for p in self.parameters
            if p.kind == p.KEYWORD_ONLY
        }


@cache
def _parameters(function: Handler) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


TABLE: dict[tuple[str, str], list[Importer]] = {}


def register(
    function: Handler, *names: str, since: int = MIN_OPSET, domain: str = "", storage: bool = False
) -> None:
    """Enter `function` as the importer of the operators `names`."""
    for name in names:
        rows = TABLE.setdefault((domain, name), [])
        rows.append(Importer(domain, name, since, function, storage))
        rows.sort(key=lambda row: row.since)


def op(
    *names: str, since: int = MIN_OPSET, domain: str = "", storage: bool = False
) -> Callable[[Handler], Handler]:
    """Decorator form of `register`."""

    def enter(function: Handler) -> Handler:
        register(function, *names, since=since, domain=domain, storage=storage)
        return function

    return enter


def find(domain: str, op_type: str, version: int) -> Importer | None:
    """The importer of an operator in `version` of its domain."""
    if domain == MICROSOFT or is_as_in_7(domain, op_type, version):
        version = max(version, MIN_OPSET)
    rows = [row for row in TABLE.get((domain, op_type), ()) if row.since <= version]
    return rows[-1] if rows else None


@cache
def schema(domain: str, op_type: str, version: int) -> OpSchema | None:
    """ONNX's own schema, None for an operator that it lacks."""
    from onnx import defs

    try:
        return defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return None


def is_as_in_7(domain: str, op_type: str, version: int) -> bool:
    """True if an operator of an older set did not change up to 7."""
    then, now = schema(domain, op_type, version), schema(domain, op_type, MIN_OPSET)
    return then is not None and now is not None and then.since_version == now.since_version


def bind(
    row: Importer, node: NodeProto, source: str, version: int, inputs: Sequence[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments for `row.function`: inputs by position, attributes by name."""
    return _inputs(row, source, inputs), _attributes(row, node, source, version)


def _inputs(row: Importer, source: str, inputs: Sequence[Any]) -> list[Any]:
    parameters = row.inputs
    variadic = bool(parameters) and parameters[-1].kind == inspect.Parameter.VAR_POSITIONAL
    most = len(inputs) if variadic else len(parameters)
    required = sum(not _is_optional(p) for p in parameters)
    given = list(inputs) + [None] * (most - len(inputs))
    places = [True] * most if variadic else [not _is_optional(p) for p in parameters]
    missing = any(value is None for value, needed in zip(given, places, strict=False) if needed)
    if not required <= len(given) <= most or missing:
        raise refuse(
            Code.MODEL_MALFORMED, source,
            f"{row.op_type} takes {required} to {'any number of' if variadic else most} inputs",
            f"{sum(value is not None for value in inputs)}",
        )  # fmt: skip
    return given


def _is_optional(parameter: inspect.Parameter) -> bool:
    """True if an input may be absent, or be left out before others that are there."""
    is_required = parameter.default is inspect.Parameter.empty
    return not (is_required and "None" not in str(parameter.annotation))


def _attributes(row: Importer, node: NodeProto, source: str, version: int) -> dict[str, Any]:
    values = dict(row.attributes)
    values.update(_defaults(row.domain, row.op_type, version, tuple(values)))
    for attribute in node.attribute:
        if attribute.name not in values:
            raise refuse(
                Code.ATTRIBUTE_INVALID, source,
                f"{row.op_type} has the attributes {sorted(values)}",
                f"attribute {attribute.name!r}",
            )  # fmt: skip
        values[attribute.name] = attribute_value(attribute)
    return values


@cache
def _defaults(domain: str, op_type: str, version: int, names: tuple[str, ...]) -> dict[str, Any]:
    from onnx import AttributeProto

    known = schema(domain, op_type, version)
    if known is None:
        return {}
    return {
        name: attribute_value(attribute.default_value)
        for name, attribute in known.attributes.items()
        if name in names and attribute.default_value.type != AttributeProto.UNDEFINED
    }


def attribute_value(attribute: AttributeProto) -> Any:
    """The Python value of an attribute: str for bytes, tuples for lists, protos as they are."""
    from onnx import AttributeProto, helper

    value: Any = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS):
        return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value)
    return value
