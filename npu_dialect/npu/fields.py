"""Fields of instructions as IRDL constraints: each states its width, checks it, and writes itself
into the encoding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from typing_extensions import TypeVar
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, IntegerAttr, i64
from xdsl.ir import Attribute
from xdsl.irdl import AttrConstraint, IntConstraint, VerificationContext
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes
from npu_dialect.machine import Operand
from npu_dialect.npu.attributes import OperandAttr, operand_text, parse_operand
from npu_dialect.npu.bits import BitReader, BitWriter
from npu_dialect.target import SPACES


@lru_cache(65536)
def integer(value: int) -> IntegerAttr[Any]:
    """A cached 64-bit integer attribute."""
    return IntegerAttr(value, i64)


@lru_cache(65536)
def integers(values: tuple[int, ...]) -> DenseArrayBase[Any]:
    """A cached array of 64-bit integers."""
    return DenseArrayBase.from_list(i64, list(values))


def ints_of(attribute: Attribute) -> tuple[int, ...]:
    """The elements of an array of integers, unpacked once."""
    known: dict[str, Any] = vars(attribute)
    if "npu.ints" not in known:
        known["npu.ints"] = tuple(cast(DenseArrayBase[Any], attribute).get_values())
    return known["npu.ints"]


@dataclass(frozen=True)
class Field(AttrConstraint):
    """A field of an instruction."""

    def mapping_type_vars(
        self, type_var_mapping: Mapping[TypeVar, AttrConstraint | IntConstraint]
    ) -> AttrConstraint:
        return self

    @abstractmethod
    def attribute(self, value: Any) -> Attribute:
        """The attribute of a Python value."""

    @abstractmethod
    def value(self, attribute: Attribute) -> Any:
        """The Python value of an attribute."""

    @abstractmethod
    def encode(self, writer: BitWriter, value: Any) -> None: ...

    @abstractmethod
    def decode(self, reader: BitReader) -> Any: ...

    @abstractmethod
    def describe(self) -> str:
        """Type and width, for the manual."""

    def print(self, printer: Printer, value: Any) -> None:
        printer.print_string(str(value))

    def parse(self, parser: Parser) -> Any:
        return parser.parse_integer()


@dataclass(frozen=True)
class Int(Field):
    """An integer of `width` bits, two's complement when `signed`."""

    width: int
    signed: bool = False

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, IntegerAttr):
            raise VerifyException(f"must be an integer, found {attr}")
        check_range(self.value(cast(Attribute, attr)), self.width, self.signed)

    def attribute(self, value: Any) -> Attribute:
        return integer(int(value))

    def value(self, attribute: Attribute) -> int:
        value = cast(IntegerAttr[Any], attribute).value.data
        is_wrapped = value < 0 and self.width == 64 and not self.signed
        return value + (1 << 64) if is_wrapped else value

    def encode(self, writer: BitWriter, value: int) -> None:
        writer.write(value, self.width, self.signed)

    def decode(self, reader: BitReader) -> int:
        return reader.read(self.width, self.signed)

    def describe(self) -> str:
        return f"{'signed' if self.signed else 'unsigned'}, {self.width} bits"


def check_range(value: int, width: int, signed: bool) -> None:
    """Raises VerifyException unless `value` fits."""
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    if not low <= value <= high:
        raise VerifyException(f"must lie in [{low}, {high}] ({width} bits), found {value}")


@dataclass(frozen=True)
class Choice(Field):
    """One of the named `options`, in 4 bits."""

    options: tuple[str, ...]

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, IntegerAttr):
            raise VerifyException(f"must be a choice, found {attr}")
        code = cast(IntegerAttr[Any], attr).value.data
        if not 0 <= code < len(self.options):
            raise VerifyException(f"must be one of {', '.join(self.options)}, found number {code}")

    def attribute(self, value: Any) -> Attribute:
        if value not in self.options:
            raise ValueError(f"must be one of {', '.join(self.options)}, found {value}")
        return integer(self.options.index(value))

    def value(self, attribute: Attribute) -> str:
        return self.options[cast(IntegerAttr[Any], attribute).value.data]

    def encode(self, writer: BitWriter, value: str) -> None:
        writer.write(self.options.index(value), 4)

    def decode(self, reader: BitReader) -> str:
        code = reader.read(4)
        if code >= len(self.options):
            raise ValueError(f"a choice must be one of {len(self.options)}, found number {code}")
        return self.options[code]

    def describe(self) -> str:
        return " / ".join(self.options) + ", 4 bits"

    def parse(self, parser: Parser) -> Any:
        return parser.parse_identifier()


@dataclass(frozen=True)
class Ints(Field):
    """`count` integers of `width` bits each."""

    count: int
    width: int
    signed: bool = False

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, DenseArrayBase):
            raise VerifyException(f"must be an array of {self.count} integers, found {attr}")
        values = self.value(cast(Attribute, attr))
        if len(values) != self.count:
            raise VerifyException(f"must have {self.count} integers, found {len(values)}")
        for v in values:
            check_range(v, self.width, self.signed)

    def attribute(self, value: Sequence[int]) -> Attribute:
        return integers(tuple(int(v) for v in value))

    def value(self, attribute: Attribute) -> tuple[int, ...]:
        return ints_of(attribute)

    def encode(self, writer: BitWriter, value: Sequence[int]) -> None:
        if len(value) != self.count:
            raise ValueError(f"a field must have {self.count} integers, found {len(value)}")
        for v in value:
            writer.write(v, self.width, self.signed)

    def decode(self, reader: BitReader) -> tuple[int, ...]:
        return tuple(reader.read(self.width, self.signed) for _ in range(self.count))

    def describe(self) -> str:
        return f"{self.count} x {'signed' if self.signed else 'unsigned'}, {self.width} bits each"

    def print(self, printer: Printer, value: Any) -> None:
        printer.print_string("[" + ", ".join(map(str, value)) + "]")

    def parse(self, parser: Parser) -> Any:
        items = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        return tuple(items)


DIM_BITS, ADDRESS_BITS = 32, 36
"""Widths of an operand's dimensions, and of its address and strides."""

MAX_RANK = 5
"""Dimensions of an operand at most."""

COUNT_BITS = 16
"""Width of the length of a list of operands."""


@dataclass(frozen=True)
class OperandField(Field):
    """A strided block of memory. `role` is "read", "write" or "update"; `spaces` are the memories
    it may name.
    """

    role: str
    spaces: tuple[str, ...] = SPACES

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, OperandAttr):
            raise VerifyException(f"must be an operand, found {attr}")
        self.check(attr.data)

    def check(self, operand: Operand) -> None:
        if operand.space not in self.spaces:
            raise VerifyException(f"must lie in {' or '.join(self.spaces)}, found {operand.space}")
        if len(operand.dims) > MAX_RANK:
            raise VerifyException(
                f"must have at most {MAX_RANK} dimensions, found {len(operand.dims)}"
            )
        for d in operand.dims:
            check_range(d, DIM_BITS, False)
        for s in operand.strides:
            check_range(s, ADDRESS_BITS, True)
        check_range(operand.address, ADDRESS_BITS, False)

    def attribute(self, value: Any) -> Attribute:
        return OperandAttr(value)

    def value(self, attribute: Attribute) -> Any:
        return cast(OperandAttr, attribute).data

    def encode(self, writer: BitWriter, value: Any) -> None:
        if len(value.dims) > MAX_RANK:
            raise ValueError(
                f"an operand must have at most {MAX_RANK} dimensions, found {len(value.dims)}"
            )
        writer.write(SPACES.index(value.space), 2)
        writer.write(value.dtype.code, 4)
        writer.write(len(value.dims), 3)
        writer.write(value.address, ADDRESS_BITS)
        for d, s in zip(value.dims, value.strides, strict=True):
            writer.write(d, DIM_BITS)
            writer.write(s, ADDRESS_BITS, True)

    def decode(self, reader: BitReader) -> Any:
        space, dtype, rank = reader.read(2), reader.read(4), reader.read(3)
        if space >= len(SPACES) or dtype not in dtypes.BY_CODE or rank > MAX_RANK:
            raise ValueError(
                f"an operand must name a memory, a storage type and at most {MAX_RANK} dimensions"
            )
        address = reader.read(ADDRESS_BITS)
        pairs = [(reader.read(DIM_BITS), reader.read(ADDRESS_BITS, True)) for _ in range(rank)]
        dims, strides = tuple(d for d, _ in pairs), tuple(s for _, s in pairs)
        return Operand(SPACES[space], address, dtypes.BY_CODE[dtype], dims, strides)

    def describe(self) -> str:
        return f"operand ({self.role}) in {' or '.join(self.spaces)}"

    def print(self, printer: Printer, value: Any) -> None:
        printer.print_string(f"<{operand_text(value)}>")

    def parse(self, parser: Parser) -> Any:
        with parser.in_angle_brackets():
            return parse_operand(parser)


@dataclass(frozen=True)
class OperandsField(OperandField):
    """A list of up to 65,535 operands."""

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, ArrayAttr):
            raise VerifyException(f"must be a list of operands, found {attr}")
        for operand in self.value(cast(Attribute, attr)):
            self.check(operand)

    def attribute(self, value: Sequence[Operand]) -> Attribute:
        return ArrayAttr([OperandAttr(v) for v in value])

    def value(self, attribute: Attribute) -> tuple[Operand, ...]:
        return tuple(a.data for a in cast(ArrayAttr[OperandAttr], attribute))

    def encode(self, writer: BitWriter, value: Sequence[Operand]) -> None:
        writer.write(len(value), COUNT_BITS)
        for v in value:
            super().encode(writer, v)

    def decode(self, reader: BitReader) -> tuple[Operand, ...]:
        decode = super().decode
        return tuple(decode(reader) for _ in range(reader.read(COUNT_BITS)))

    def describe(self) -> str:
        return f"list of operands ({self.role}) in {' or '.join(self.spaces)}"

    def print(self, printer: Printer, value: Sequence[Operand]) -> None:
        printer.print_string("[" + ", ".join(f"<{operand_text(v)}>" for v in value) + "]")

    def parse(self, parser: Parser) -> Any:
        items = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: super(OperandsField, self).parse(parser)
        )
        return tuple(items)
