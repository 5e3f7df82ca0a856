"""The table of importers: an operation of TOSA and the function that emits it.

    @op("conv2d")
    def conv2d(b, input, weight, bias, input_zp, weight_zp, *, pad, stride, dilation): ...

The positional parameters of an importer are the operands of the operation, its keyword parameters
those of the attributes that it needs, as Python values: a word of an enumeration is a string. An
operand that is a shape comes as a tuple.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, SSAValue

from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.tosa import TosaOp
from npu_dialect.tosa.base import EnumAttr

Handler = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """An operation that can be imported."""

    name: str
    function: Handler
    attributes: tuple[str, ...]
    least: int
    """Operands that it needs."""
    most: int | None
    """Operands that it can have, None for any number."""


TABLE: dict[str, Row] = {}

SHAPES = {"shape", "start", "size", "multiples", "padding", "scale", "offset", "border"}
"""Operands that are lists of sizes."""


def op(*operations: str) -> Callable[[Handler], Handler]:
    """Enter a function as the importer of `operations`."""

    def enter(function: Handler) -> Handler:
        found = list(inspect.signature(function).parameters.values())[1:]
        operands = [p for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
        names = tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY)
        most = None if any(p.kind is p.VAR_POSITIONAL for p in found) else len(operands)
        for name in operations:
            assert name not in TABLE, name
            TABLE[name] = Row(name, function, names, len(operands), most)
        return function

    return enter


def call(b: Any, node: TosaOp, operands: Sequence[Any]) -> list[SSAValue]:
    """The results of an operation. Raises NotExpressible and Misfit."""
    name = node.name.removeprefix("tosa.")
    row = TABLE.get(name)
    if row is None:
        raise NotExpressible(f"graph has no equivalent of tosa.{name}")
    given = len(operands)
    if given < row.least or (row.most is not None and given > row.most):
        raise Misfit(f"{given} operands")
    names = (*node.OPERANDS, *node.OPERANDS[-1:] * given)
    for operand, operand_name in zip(operands, names, strict=False):
        if isinstance(operand, tuple) != (operand_name in SHAPES):
            raise Misfit(
                f"a {'shape' if isinstance(operand, tuple) else 'tensor'} as {operand_name}"
            )
    found = row.function(b, *operands, **{n: _attribute(node, n) for n in row.attributes})
    return cast("list[SSAValue]", found) if isinstance(found, list) else [found]


def _attribute(node: TosaOp, name: str) -> Any:
    found = node.properties.get(name)
    if found is None and name == "nan_mode":
        return "PROPAGATE"
    if found is None:
        raise Misfit(f"no attribute {name}")
    return _plain(found)


def _plain(found: Attribute) -> Any:
    if isinstance(found, EnumAttr):
        return found.word.data
    if isinstance(found, DenseArrayBase):
        return tuple(cast("Any", found).get_values())
    if isinstance(found, IntegerAttr):
        number = cast("Any", found)
        return bool(number.value.data) if str(number.type) == "i1" else int(number.value.data)
    if isinstance(found, FloatAttr):
        return float(cast("Any", found).value.data)
    if isinstance(found, StringAttr):
        return found.data
    return found
