"""What all operations of the tosa dialect share: their text, and how they are made.

    %3 = tosa.conv2d %x, %w, %b, %zx, %zw {acc_type = i32, pad = array<i64: 0, 0, 1, 1>, ...}
         : (tensor<1x8x8x3xi8>, ...) -> tensor<1x4x4x16xi32>

That is upstream's form of nearly all of them, and it is read and written here by one function. An
enumeration is a bare word in it, `rounding_mode = DOUBLE_ROUND`, and an attribute
`#tosa.rounding_mode<DOUBLE_ROUND>` in the generic form.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from xdsl.dialects.builtin import IntAttr, LocationAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer


@irdl_attr_definition
class ShapeType(ParametrizedAttribute, TypeAttribute):
    """`!tosa.shape<4>`: the type of a list of so many sizes."""

    name = "tosa.shape"

    rank: IntAttr

    @classmethod
    def of(cls, rank: int) -> ShapeType:
        """The type of `rank` sizes."""
        return cls(IntAttr(rank))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            return [IntAttr(parser.parse_integer(allow_negative=False))]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.rank.data))


class EnumAttr(ParametrizedAttribute, ABC):
    """A word out of a few."""

    WORDS: ClassVar[tuple[str, ...]] = ()

    word: StringAttr

    @classmethod
    def of(cls, word: str) -> EnumAttr:
        """The attribute of a word."""
        return cls(StringAttr(word))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            found = parser.parse_identifier(" ".join(cls.WORDS))
            if found not in cls.WORDS:
                parser.raise_error(f"must be one of {', '.join(cls.WORDS)}; found {found}")
            return [StringAttr(found)]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.word.data)


@irdl_attr_definition
class RoundingModeAttr(EnumAttr):
    """How `tosa.rescale` rounds: `#tosa.rounding_mode<DOUBLE_ROUND>`."""

    name = "tosa.rounding_mode"
    WORDS: ClassVar[tuple[str, ...]] = ("SINGLE_ROUND", "INEXACT_ROUND", "DOUBLE_ROUND")


@irdl_attr_definition
class NanModeAttr(EnumAttr):
    """Whether NaN wins a comparison: `#tosa.nan_mode<PROPAGATE>`."""

    name = "tosa.nan_mode"
    WORDS: ClassVar[tuple[str, ...]] = ("PROPAGATE", "IGNORE")


@irdl_attr_definition
class ResizeModeAttr(EnumAttr):
    """How `tosa.resize` reads between elements: `#tosa.resize_mode<BILINEAR>`."""

    name = "tosa.resize_mode"
    WORDS: ClassVar[tuple[str, ...]] = ("NEAREST_NEIGHBOR", "BILINEAR")


ENUMS: dict[str, type[EnumAttr]] = {
    "rounding_mode": RoundingModeAttr,
    "nan_mode": NanModeAttr,
    "mode": ResizeModeAttr,
}
"""The enumeration of an attribute, by the attribute's name."""


class TosaOp(IRDLOperation, ABC):
    """An operation of TOSA: operands, attributes, results. What they must be, TOSA's own tools
    check; reading one in checks what it needs of it.
    """

    OPERANDS: ClassVar[tuple[str, ...]] = ()
    """The names of the operands; one that begins with `*` stands for any number."""

    REQUIRED: ClassVar[tuple[str, ...]] = ()
    """The attributes that must be there."""

    inputs = var_operand_def()
    outputs = var_result_def()


class PlainOp(TosaOp, ABC):
    """An operation in the form `tosa.name %a, %b {attributes} : (types) -> types`."""

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_ssa_value)
        if self.properties:
            printer.print_string(" {")
            printer.print_list(sorted(self.properties.items()), lambda e: _print_entry(printer, *e))
            printer.print_string("}")
        printer.print_string(" : ")
        printer.print_function_type(self.operand_types, self.result_types)

    @classmethod
    def parse(cls, parser: Parser) -> PlainOp:
        position = parser.pos
        unresolved = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        entries = parser.parse_optional_comma_separated_list(
            parser.Delimiter.BRACES, lambda: _parse_entry(parser)
        )
        parser.parse_punctuation(":")
        types = parser.parse_function_type()
        operands = parser.resolve_operands(unresolved or [], types.inputs.data, position)
        names = cls.get_irdl_definition().properties
        found = dict(entries or ())
        return cls.create(
            operands=operands,
            result_types=types.outputs.data,
            properties={k: v for k, v in found.items() if k in names},
            attributes={k: v for k, v in found.items() if k not in names},
        )


def _print_entry(printer: Printer, name: str, value: Attribute) -> None:
    printer.print_string(f"{name} = ")
    if isinstance(value, EnumAttr):
        printer.print_string(value.word.data)
    else:
        printer.print_attribute(value)


def _parse_entry(parser: Parser) -> tuple[str, Attribute]:
    name = parser.parse_optional_str_literal() or parser.parse_identifier("an attribute's name")
    parser.parse_punctuation("=")
    enum = ENUMS.get(name)
    for word in enum.WORDS if enum else ():
        if parser.parse_optional_keyword(word):
            assert enum is not None
            return name, enum.of(word)
    return name, parser.parse_attribute()


def define(name: str, operands: str, attributes: str, meaning: str) -> type[TosaOp]:
    """The class of the operation `tosa.<name>`.

    `operands` and `attributes` are names with spaces between them; an attribute that ends with `?`
    may be left out.
    """
    names = attributes.split()
    base = TosaOp if name == "const" else PlainOp  # MLIR has no other form of constants
    members: dict[str, Any] = {
        "__doc__": f"{meaning}\n\n`tosa.{name} {operands}`",
        "__module__": __name__,
        "__annotations__": dict.fromkeys(("OPERANDS", "REQUIRED"), ClassVar[tuple[str, ...]]),
        "name": f"tosa.{name}",
        "OPERANDS": tuple(operands.split()),
        "REQUIRED": tuple(n for n in names if not n.endswith("?")),
    }
    for attribute in names:
        made = opt_prop_def if attribute.endswith("?") else prop_def
        members[attribute.rstrip("?")] = made(prop_name=attribute.rstrip("?"))
    title = "".join(part.capitalize() for part in name.split("_"))
    made: Any = type(f"{title}Op", (base,), members)
    return irdl_op_definition(made)


def make(
    kind: type[TosaOp],
    operands: Sequence[SSAValue],
    result_types: Sequence[Attribute],
    properties: Mapping[str, Attribute],
    location: LocationAttr,
) -> TosaOp:
    """An operation of a class that `define` made."""
    op = kind.create(operands=operands, result_types=result_types, properties=properties)
    op.location = location
    return op
