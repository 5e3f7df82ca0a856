"""The base class of instructions: one op class per machine instruction, and the class is the table
row.

A subclass states its opcode, engine, fields (properties whose constraint is a `Field` and so knows
its width), meaning (`execute`) and cost; assembly, encoding, decoding, the disassembler and the ISA
manual follow from these. Instances serve as IR operations and, detached, as decoded instructions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self, cast

from xdsl.dialects.builtin import DenseArrayBase, UnknownLoc
from xdsl.ir import Attribute
from xdsl.irdl import IRDLOperation, OptPropertyDef, VerificationContext, opt_prop_def, prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from npu_dialect.cost import Cost
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.attributes import OperandAttr
from npu_dialect.npu.bits import BitReader, BitWriter
from npu_dialect.npu.fields import (
    Field,
    Int,
    OperandField,
    OperandsField,
    integers,
    ints_of,
)
from npu_dialect.target import ENGINES, Target


class Wait(NamedTuple):
    """Start only when engine `engine` of core `core` has completed `count` instructions."""

    core: int
    engine: str
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


@dataclass(frozen=True)
class WaitsField(Field):
    """The counts that an instruction waits for, one per engine at most."""

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, DenseArrayBase):
            raise VerifyException(f"waits must be an array of integers, found {attr}")
        waits = self.value(cast(Attribute, attr))
        if len({w[:2] for w in waits}) != len(waits):
            raise VerifyException("an instruction must wait for each engine at most once")

    def attribute(self, value: Sequence[Wait]) -> Attribute:
        return integers(tuple(x for w in value for x in (w.core, ENGINES.index(w.engine), w.count)))

    def value(self, attribute: Attribute) -> tuple[Wait, ...]:
        flat = ints_of(attribute)
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return tuple(Wait(core, ENGINES[engine], count) for core, engine, count in triples)

    def encode(self, writer: BitWriter, value: Sequence[Wait]) -> None:
        writer.write(len(value), 4)
        for w in value:
            writer.write(w.core, 4)
            writer.write(ENGINES.index(w.engine), 4)
            writer.write(w.count, 32)

    def decode(self, reader: BitReader) -> tuple[Wait, ...]:
        waits: list[Wait] = []
        for _ in range(reader.read(4)):
            core, engine, count = reader.read(4), reader.read(4), reader.read(32)
            if engine >= len(ENGINES):
                raise ValueError(f"a wait must name an engine, found number {engine}")
            waits.append(Wait(core, ENGINES[engine], count))
        return tuple(waits)

    def describe(self) -> str:
        return "up to 15 waits of core (4 bits), engine (4 bits), count (32 bits)"

    def print(self, printer: Printer, value: Sequence[Wait]) -> None:
        items = (f"{f'{w.core}:' if w.core else ''}{w.engine}: {w.count}" for w in value)
        printer.print_string("{" + ", ".join(items) + "}")

    def parse(self, parser: Parser) -> Any:
        def wait() -> Wait:
            core = parser.parse_optional_integer(allow_boolean=False)
            if core is not None:
                parser.parse_punctuation(":")
            engine = parser.parse_identifier("an engine")
            if engine not in ENGINES:
                parser.raise_error(f"an engine must be one of {', '.join(ENGINES)}, found {engine}")
            parser.parse_punctuation(":")
            return Wait(core or 0, engine, parser.parse_integer())

        return tuple(parser.parse_comma_separated_list(parser.Delimiter.BRACES, wait))


@dataclass(frozen=True)
class StepsField(Field):
    """Up to 255 signed steps of `width` bits: what a repeat adds at every trip."""

    width: int

    def verify(self, attr: Attribute, constraint_context: VerificationContext) -> None:
        if not isinstance(attr, DenseArrayBase):
            raise VerifyException(f"steps must be an array of integers, found {attr}")

    def attribute(self, value: Sequence[int]) -> Attribute:
        return integers(tuple(value))

    def value(self, attribute: Attribute) -> tuple[int, ...]:
        return ints_of(attribute)

    def encode(self, writer: BitWriter, value: Sequence[int]) -> None:
        writer.write(len(value), 16)
        for v in value:
            writer.write(v, self.width, True)

    def decode(self, reader: BitReader) -> tuple[int, ...]:
        return tuple(reader.read(self.width, True) for _ in range(reader.read(16)))

    def describe(self) -> str:
        return f"up to 255 signed steps, {self.width} bits each"

    def print(self, printer: Printer, value: Sequence[int]) -> None:
        printer.print_string("[" + ", ".join(map(str, value)) + "]")

    def parse(self, parser: Parser) -> Any:
        items = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        return tuple(items)


WAITS = WaitsField()

Values = dict[str, Any]
"""The fields of an instruction that are present, by name, as Python values."""


class Instruction(IRDLOperation):
    """One instruction. See the module docstring."""

    OPCODE: ClassVar[int]
    ENGINE: ClassVar[str]

    core = prop_def(Int(4))
    waits = opt_prop_def(WAITS)
    address_steps = opt_prop_def(StepsField(36))
    """In a repeat: bytes that each operand moves per trip, in the order of `operand_fields`."""
    wait_steps = opt_prop_def(StepsField(32))
    """In a repeat: what is added to each wait's count per trip."""

    def __init__(self, *, core: int = 0, location: Any = None, **values: Any):
        table = field_table(type(self))
        unknown = values.keys() - table.keys()
        if unknown:
            raise TypeError(f"{self.name} must be given its own fields, found {', '.join(unknown)}")
        properties = {
            name: table[name].field.attribute(value)
            for name, value in values.items()
            if value is not None and not (table[name].optional and value == ())
        }
        properties["core"] = table["core"].field.attribute(core)
        super().__init__(properties=properties)
        self.location = location or UnknownLoc()

    def verify(self, verify_nested_ops: bool = True) -> None:
        """As every operation; once for the same fields, for passes leave most of a program as it
        is, and attributes never change.
        """
        if vars(self).get("verified") != self.properties:
            super().verify(verify_nested_ops)
            vars(self)["verified"] = dict(self.properties)

    # --- what it touches ----------------------------------------

    def operand_fields(self) -> Sequence[tuple[str, str, Operand]]:
        """(field, role, operand) of every operand that is present, in field order."""
        known = [*self.properties, *self.properties.values()]
        found = vars(self).get("known_operands")
        if found is None or found[0] != known:
            found = known, tuple(self._operand_fields())
            vars(self)["known_operands"] = found
        return found[1]

    def _operand_fields(self) -> Iterator[tuple[str, str, Operand]]:
        for name, role, many in _operand_table(type(self)):
            attribute = self.properties.get(name)
            if attribute is None:
                continue
            if many:
                for item in cast(Any, attribute):
                    yield name, role, item.data
            else:
                yield name, role, cast(OperandAttr, attribute).data

    def places(self) -> Sequence[tuple[str, str, Operand]]:
        """(field, role, block of memory) of the operands: what lies there, be it coded."""
        return self.operand_fields()

    def reads(self) -> list[Operand]:
        """The blocks of memory that the instruction reads."""
        return [o for _, role, o in self.operand_fields() if role in ("read", "update")]

    @property
    def takes_dma(self) -> bool:
        """Whether it takes the place of the dma engine too, as long as its own is busy."""
        return False

    def writes(self) -> list[Operand]:
        """The blocks of memory that the instruction writes."""
        return [o for _, role, o in self.operand_fields() if role in ("write", "update")]

    @property
    def engine(self) -> str:
        """The engine whose queue the instruction goes through."""
        return self.ENGINE

    @property
    def core_index(self) -> int:
        return cast(Any, self.core).value.data

    @property
    def wait_list(self) -> tuple[Wait, ...]:
        return () if self.waits is None else WAITS.value(self.waits)

    # --- what it means ----------------------------------------

    @abstractmethod
    def execute(self, machine: Machine, values: Values) -> None:
        """Does the instruction's work on the state: its definition. `values` is what `values()`
        gives.
        """

    @abstractmethod
    def cost(self, target: Target, kernels: Sequence[Kernel]) -> Cost:
        """What it costs on `target`."""

    # --- fields ----------------------------------------

    def values(self) -> Values:
        """Every field that is present, as Python values."""
        table = field_table(type(self))
        return {n: table[n].field.value(a) for n, a in self.properties.items() if n in table}

    def with_values(self, **changes: Any) -> Self:
        """A copy with other values in some fields; None removes an optional one."""
        table = field_table(type(self))
        properties = dict(self.properties)
        for name, value in changes.items():
            if value is None:
                properties.pop(name, None)
            else:
                properties[name] = table[name].field.attribute(value)
        return type(self).create(
            properties=properties, attributes=self.attributes, location=self.location
        )

    def at(self, trip: int) -> Self:
        """The instruction as trip number `trip` of the enclosing repeat executes it."""
        if self.address_steps is None:
            return self
        steps = iter(StepsField(36).value(self.address_steps))
        table = field_table(type(self))
        properties = dict(self.properties)
        del properties["address_steps"]
        for name, _, many in _operand_table(type(self)):
            attribute = properties.get(name)
            if attribute is None:
                continue
            value = table[name].field.value(attribute)
            moved = [v.moved(trip * next(steps)) for v in (value if many else (value,))]
            properties[name] = table[name].field.attribute(moved if many else moved[0])
        wait_steps = properties.pop("wait_steps", None)
        if wait_steps is not None:
            by = StepsField(32).value(wait_steps)
            pairs = zip(self.wait_list, by, strict=True)
            waits = tuple(Wait(w.core, w.engine, w.count + trip * s) for w, s in pairs)
            properties["waits"] = WAITS.attribute(waits)
        return type(self).create(
            properties=properties, attributes=self.attributes, location=self.location
        )

    # --- assembly ----------------------------------------

    def print(self, printer: Printer) -> None:
        table = field_table(type(self))
        separator = " "
        for name, row in table.items():
            attribute = self.properties.get(name)
            if attribute is None or (name == "core" and self.core_index == 0):
                continue
            printer.print_string(f"{separator}{name} = ")
            row.field.print(printer, row.field.value(attribute))
            separator = ", "
        if self.attributes:
            printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        table = field_table(cls)
        properties: dict[str, Attribute] = {"core": table["core"].field.attribute(0)}
        name = parser.parse_optional_identifier()
        while name is not None:
            if name not in table:
                parser.raise_error(f"{cls.name} must have only its own fields, found {name}")
            parser.parse_punctuation("=")
            properties[name] = table[name].field.attribute(table[name].field.parse(parser))
            more = parser.parse_optional_punctuation(",") is not None
            name = parser.parse_identifier("a field") if more else None
        attributes = parser.parse_optional_attr_dict()
        return cls.create(properties=properties, attributes=attributes)

    # --- encoding ----------------------------------------

    def encode(self) -> bytes:
        """The instruction as it lies in a program, without its opcode: whole 32-bit words."""
        writer = BitWriter()
        for name, row in field_table(type(self)).items():
            attribute = self.properties.get(name)
            if row.optional:
                writer.write(int(attribute is not None), 1)
            if attribute is not None:
                row.field.encode(writer, row.field.value(attribute))
        return writer.bytes()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The instruction that `encode` wrote. Raises ValueError on bytes that are not one."""
        reader = BitReader(data)
        properties: dict[str, Attribute] = {}
        for name, row in field_table(cls).items():
            if not row.optional or reader.read(1):
                properties[name] = row.field.attribute(row.field.decode(reader))
        return cls.create(properties=properties)


def kernel_of(kernels: Sequence[Kernel], values: Values) -> Kernel:
    """The kernel that an instruction names by number."""
    number: int = values["kernel"]
    return kernels[number]


class FieldRow(NamedTuple):
    """A field of an instruction and whether it may be absent."""

    field: Field
    optional: bool


@cache
def field_table(cls: type[Instruction]) -> dict[str, FieldRow]:
    """The fields of an instruction by name, in the order of the encoding."""
    definition = cls.get_irdl_definition()
    table: dict[str, FieldRow] = {}
    for name, prop in definition.properties.items():
        if isinstance(prop.constr, Field):
            table[name] = FieldRow(prop.constr, isinstance(prop, OptPropertyDef))
    return table


@cache
def _operand_table(cls: type[Instruction]) -> tuple[tuple[str, str, bool], ...]:
    rows = [(name, row.field) for name, row in field_table(cls).items()]
    return tuple(
        (name, field.role, isinstance(field, OperandsField))
        for name, field in rows
        if isinstance(field, OperandField)
    )
