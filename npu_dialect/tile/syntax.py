"""The shape that all operations on buffers share: operands in named groups, settings in braces,
loop indices inline.

tile.matmul ins(%a, %b : memref<...>, memref<...>) out(%y : memref<...>) reduction [%k] {x_zero = 3}
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self, cast

from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    LocationAttr,
    MemRefType,
    NoneAttr,
    StringAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import AttrConstraint, IRDLOperation, OptOperandDef, VarOperandDef
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.graph.verified import VerifiedOnce
from npu_dialect.tile.attributes import Window, WindowAttr, parse_window

Value = SSAValue | Operation
SPACES = ("dram", "spm", "acc")

INDEX = IndexType()


def memref(shape: Sequence[int], dtype: DType, space: str) -> MemRefType[Any]:
    """The type of a buffer: `memref(shape, dtypes.i8, "spm")` is `memref<...xi8, "spm">`."""
    return _memref(tuple(shape), dtype, space)


@lru_cache(maxsize=65536)
def _memref(shape: tuple[int, ...], dtype: DType, space: str) -> MemRefType[Any]:
    return MemRefType(dtypes.element_type(dtype), shape, memory_space=StringAttr(space))


def memref_of(value: Value) -> MemRefType[Any]:
    """The buffer type of a value."""
    return cast(MemRefType[Any], SSAValue.get(value).type)


def dtype_of(value: Value) -> DType:
    """The storage type of a buffer's elements."""
    return dtypes.of(memref_of(value).element_type)


def shape_of(value: Value) -> tuple[int, ...]:
    """The static shape of a buffer."""
    return memref_of(value).get_shape()


def space_of(value: Value) -> str:
    """The memory that a buffer lies in."""
    return cast(StringAttr, memref_of(value).memory_space).data


def check_memref(name: str, value: SSAValue) -> None:
    """Raises VerifyException unless `value` is a static row-major buffer of storage elements in a
    known memory.
    """
    kind = cast(MemRefType[Any], value.type)
    element = kind.element_type
    try:
        plain = dtypes.element_type(dtypes.of(element)) == element
    except KeyError:
        plain = False
    if not plain:
        raise VerifyException(f"{name} must have a plain storage element type, found {element}")
    if any(d < 0 for d in kind.get_shape()) or not isinstance(kind.layout, NoneAttr):
        raise VerifyException(f"{name} must have a static shape and no layout, found {kind}")
    space = kind.memory_space
    if not isinstance(space, StringAttr) or space.data not in SPACES:
        raise VerifyException(f'{name} must lie in "dram", "spm" or "acc", found {space}')


def ints(values: Sequence[int]) -> DenseArrayBase[Any]:
    """An array property of 64-bit integers."""
    return DenseArrayBase.from_list(i64, list(values))


def ints_constraint() -> AttrConstraint[Any]:
    """The constraint of an array property of 64-bit integers."""
    return DenseArrayBase.constr(i64)


def int_attr(value: int) -> IntegerAttr[Any]:
    """An integer property."""
    return IntegerAttr(value, i64)


def values_of(attribute: DenseArrayBase[Any]) -> tuple[int, ...]:
    """The integers of an array property."""
    return attribute.get_values()


class TileOp(VerifiedOnce, ABC):
    """An operation that prints as operand groups, windows and settings.

    Operands named in `INS` form the group `ins`; `ivs` are the loop indices of `windows`;
    `reduction` are loop indices on their own; every other operand is a group of its own name,
    absent when there is none.
    """

    INS: ClassVar[tuple[str, ...]] = ()
    SHORT: ClassVar[frozenset[str]] = frozenset({"windows", "operandSegmentSizes"})
    """Properties that are not printed in braces."""

    @classmethod
    def groups(cls) -> dict[str, tuple[str, ...]]:
        """Keyword of every operand group and the names of the operands in it."""
        names = [n for n, _ in cls.get_irdl_definition().operands if n not in ("ivs", "reduction")]
        rest = {n: (n,) for n in names if n not in cls.INS}
        return {"ins": cls.INS, **rest} if cls.INS else rest

    @classmethod
    def arrange(cls, **operands: Value | Sequence[Value] | None) -> list[Any]:
        """Operands by name, in the order of the definition."""
        return [operands[name] for name, _ in cls.get_irdl_definition().operands]

    def place(self, location: LocationAttr | None) -> None:
        """Records the source, where one is given."""
        if location is not None:
            self.location = location

    def operands_named(self, name: str) -> Sequence[SSAValue]:
        """The operands of one definition: none, one or more."""
        found = cast(SSAValue | Sequence[SSAValue] | None, getattr(self, name))
        if found is None:
            return ()
        return (found,) if isinstance(found, SSAValue) else tuple(found)

    def check_memrefs(self) -> None:
        """Raises VerifyException unless every buffer operand and result is a legal buffer."""
        for group in self.groups().values():
            for name in group:
                for value in self.operands_named(name):
                    check_memref(name, value)
        for result in self.results:
            if isinstance(result.type, MemRefType):
                check_memref("result", result)

    # --- printing

    def print(self, printer: Printer) -> None:
        for keyword, names in self.groups().items():
            values = [v for n in names for v in self.operands_named(n)]
            if values:
                printer.print_string(f" {keyword}")
                print_group(printer, values)
        windows = self.properties.get("windows")
        if windows is not None:
            printer.print_string(" window ")
            print_windows(printer, self.operands_named("ivs"), cast(ArrayAttr[WindowAttr], windows))
        if "reduction" in dict(self.get_irdl_definition().operands) and self.operands_named(
            "reduction"
        ):
            printer.print_string(" reduction ")
            with printer.in_square_brackets():
                printer.print_list(self.operands_named("reduction"), printer.print_operand)
        print_settings(printer, self)

    # --- parsing

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        definition = cls.get_irdl_definition()
        found: dict[str, list[SSAValue]] = {name: [] for name, _ in definition.operands}
        for keyword, names in cls.groups().items():
            if parser.parse_optional_keyword(keyword):
                cls._assign(parser, found, names, parse_group(parser))
        properties: dict[str, Attribute] = {}
        if "windows" in definition.properties and parser.parse_optional_keyword("window"):
            found["ivs"], properties["windows"] = parse_windows(parser)
        if "reduction" in found and parser.parse_optional_keyword("reduction"):
            found["reduction"] = parse_indices(parser)
        settings, attributes = parse_settings(parser, cls)
        operands: list[SSAValue | Sequence[SSAValue] | None] = []
        for name, kind in definition.operands:
            single = not isinstance(kind, (VarOperandDef, OptOperandDef))
            if single and not found[name]:
                parser.raise_error(f"{cls.name} must have the operand {name}")
            operands.append(found[name][0] if single else found[name])
        return cls.build(operands=operands, properties=properties | settings, attributes=attributes)

    @classmethod
    def _assign(
        cls,
        parser: Parser,
        found: dict[str, list[SSAValue]],
        names: Sequence[str],
        values: list[SSAValue],
    ) -> None:
        if len(names) == 1:
            found[names[0]] = values
            return
        if len(names) != len(values):
            parser.raise_error(f"{cls.name} must have {len(names)} inputs, found {len(values)}")
        found.update({n: [v] for n, v in zip(names, values, strict=True)})


def print_group(printer: Printer, values: Sequence[SSAValue]) -> None:
    """`(%a, %b : type, type)`."""
    with printer.in_parens():
        printer.print_list(values, printer.print_operand)
        printer.print_string(" : ")
        printer.print_list([v.type for v in values], printer.print_attribute)


def parse_group(parser: Parser) -> list[SSAValue]:
    """The values that `print_group` wrote."""
    parser.parse_punctuation("(")
    position = parser.pos
    names = parser.parse_comma_separated_list(
        parser.Delimiter.NONE, parser.parse_unresolved_operand
    )
    parser.parse_punctuation(":")
    types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
    parser.parse_punctuation(")")
    return list(parser.resolve_operands(names, types, position))


def print_windows(
    printer: Printer, indices: Sequence[SSAValue], windows: ArrayAttr[WindowAttr]
) -> None:
    """`[%i * 8 - 1 : 10, 0 : 16]`. Loop indices that no window uses are not printed."""
    with printer.in_square_brackets():
        printer.print_list(windows, lambda w: _print_window(printer, indices, w.data))


def _print_window(printer: Printer, indices: Sequence[SSAValue], window: Window) -> None:
    names = [f"{{{k}}}" for k in range(len(indices))]
    pieces = window.text(names).replace("}", "{").split("{")
    for number, piece in enumerate(pieces):
        if number % 2:
            printer.print_operand(indices[int(piece)])
        else:
            printer.print_string(piece)


def parse_windows(parser: Parser) -> tuple[list[SSAValue], ArrayAttr[WindowAttr]]:
    """The loop indices and windows that `print_windows` wrote."""
    found: dict[tuple[str, int], tuple[int, UnresolvedOperand]] = {}

    def index() -> int | None:
        operand = parser.parse_optional_unresolved_operand()
        if operand is None:
            return None
        return found.setdefault((operand.operand_name, operand.index), (len(found), operand))[0]

    windows = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: WindowAttr(parse_window(parser, index))
    )
    values: list[SSAValue] = []
    for _, operand in found.values():
        values.append(parser.resolve_operand(operand, INDEX))
    return values, ArrayAttr(windows)


def parse_indices(parser: Parser) -> list[SSAValue]:
    """`[%i, %j]`: loop indices."""
    names = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, parser.parse_unresolved_operand
    )
    return [parser.resolve_operand(name, INDEX) for name in names]


def print_settings(
    printer: Printer, op: IRDLOperation, skip: frozenset[str] = TileOp.SHORT
) -> None:
    """`{x_zero = 3, strides = [2, 2]}`: properties that differ from their defaults, then
    discardable attributes.
    """
    definitions = op.get_irdl_definition().properties
    settings: dict[str, Attribute] = {
        name: value
        for name, value in op.properties.items()
        if name not in skip
        and (name not in definitions or value != definitions[name].default_value)
    }
    settings |= op.attributes
    if settings:
        printer.print_string(" ")
        with printer.in_braces():
            printer.print_list(settings.items(), lambda item: _print_setting(printer, *item))


def _print_setting(printer: Printer, name: str, value: Attribute) -> None:
    printer.print_identifier_or_string_literal(name)
    if isinstance(value, UnitAttr):
        return
    printer.print_string(" = ")
    if isa(value, IntegerAttr[I64]):
        printer.print_string(str(value.value.data))
    elif isa(value, DenseArrayBase[I64]):
        printer.print_string(str(list(values_of(value))))
    else:
        printer.print_attribute(value)


def parse_settings(
    parser: Parser, kind: type[IRDLOperation]
) -> tuple[dict[str, Attribute], Mapping[str, Attribute]]:
    """(properties, discardable attributes) that `print_settings` wrote for an operation of this
    kind.
    """
    settings = parser.parse_optional_attr_dict()
    definitions = kind.get_irdl_definition().properties
    properties = {n: _as_array(v) for n, v in settings.items() if n in definitions}
    return properties, {n: v for n, v in settings.items() if n not in definitions}


def _as_array(value: Attribute) -> Attribute:
    if isinstance(value, ArrayAttr):
        items = cast(ArrayAttr[Attribute], value).data
        return ints([cast(IntegerAttr[Any], v).value.data for v in items])
    return value
