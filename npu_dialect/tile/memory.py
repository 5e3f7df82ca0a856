"""Buffers and what moves data between them: constants, allocation, asynchronous copies, fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

from xdsl.dialects.builtin import (
    FloatAttr,
    IntegerAttr,
    LocationAttr,
    MemRefType,
    StringAttr,
    UnitAttr,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, BlockArgument, Operation
from xdsl.irdl import (
    base,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryAllocEffect, MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes
from npu_dialect.blob import BlobAttr
from npu_dialect.dtypes import DType
from npu_dialect.graph.verified import VerifiedOnce
from npu_dialect.tile.attributes import TokenType
from npu_dialect.tile.syntax import (
    TileOp,
    Value,
    dtype_of,
    int_attr,
    memref,
    parse_group,
    parse_settings,
    print_settings,
    shape_of,
)


@irdl_op_definition
class ConstantOp(TileOp):
    """A constant array in dram.

    ```
    %w = tile.constant {value = #graph.blob<i8, [2, 2], [1, 2, 3, 4]>} : memref<2x2xi8, "dram">
    ```
    """

    name = "tile.constant"

    value = prop_def(BlobAttr)
    result = result_def(MemRefType)

    traits = traits_def(Pure())

    def __init__(self, value: BlobAttr, *, location: LocationAttr | None = None) -> None:
        result = memref(value.data.shape, value.data.dtype, "dram")
        super().__init__(properties={"value": value}, result_types=[result])
        self.place(location)

    def verify_(self) -> None:
        expected = memref(self.value.data.shape, self.value.data.dtype, "dram")
        if self.result.type != expected:
            raise VerifyException(
                f"a constant must have the type {expected}, found {self.result.type}"
            )

    def print(self, printer: Printer) -> None:
        print_settings(printer, self)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        properties, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        return cls.build(
            result_types=[parser.parse_type()], properties=properties, attributes=attributes
        )


@irdl_op_definition
class AllocOp(TileOp):
    """Fresh memory at every execution; what it holds is undefined.

    The type's shape is what is reserved. With `like`, the actual extents are those of that buffer,
    laid out densely in row-major order of the actual extents; without, they are the shape. `depth`
    slots are used in rotation, so that an execution may still be read while the next `depth - 1`
    are written. `offset` is the byte address of slot 0, and `label` names the buffer in reports;
    the slots follow each other. `part` marks a buffer of the function that holds no tensor of the
    model: some rows of one at a time, or a constant that was loaded.

    ```
    %x = tile.alloc like(%view : memref<10x32xi8, "dram">) {depth = 2, label = "x"}
      : memref<10x32xi8, "spm">
    ```
    An alloc that is only viewed, and whose views are only named in `like`, occupies nothing.
    """

    name = "tile.alloc"

    like = opt_operand_def(MemRefType)
    depth = prop_def(IntegerAttr, default_value=int_attr(1))
    offset = opt_prop_def(IntegerAttr)
    label = opt_prop_def(StringAttr)
    part = opt_prop_def(UnitAttr)
    result = result_def(MemRefType)

    traits = traits_def(MemoryAllocEffect())

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DType,
        space: str = "spm",
        *,
        like: Value | None = None,
        depth: int = 1,
        label: str | None = None,
        offset: int | None = None,
        part: bool = False,
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=[like],
            result_types=[memref(shape, dtype, space)],
            properties={
                "depth": int_attr(depth),
                "offset": None if offset is None else int_attr(offset),
                "label": None if label is None else StringAttr(label),
                "part": UnitAttr() if part else None,
            },
        )
        self.place(location)

    @staticmethod
    def of(
        view: Value,
        space: str = "spm",
        *,
        dtype: DType | None = None,
        depth: int = 1,
        label: str | None = None,
        part: bool = False,
        location: LocationAttr | None = None,
    ) -> AllocOp:
        """A buffer for what `view` shows: its shape, its actual extents, and its type unless
        `dtype` is given.
        """
        return AllocOp(
            shape_of(view),
            dtype_of(view) if dtype is None else dtype,
            space,
            like=view,
            depth=depth,
            label=label,
            part=part,
            location=location,
        )

    @property
    def slots(self) -> int:
        """The number of rotating slots."""
        return cast(IntegerAttr[Any], self.depth).value.data

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        elements = dtype_of(self.result).itemsize
        for size in shape_of(self.result):
            elements *= size
        return elements

    def verify_(self) -> None:
        self.check_memrefs()
        if self.slots < 1:
            raise VerifyException(f"depth must be at least 1, found {self.slots}")
        if self.like is not None and len(shape_of(self.like)) != len(shape_of(self.result)):
            raise VerifyException(
                "like must have the rank of the result, "
                f"found {self.like.type} and {self.result.type}"
            )

    def print(self, printer: Printer) -> None:
        super().print(printer)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        like = parse_group(parser) if parser.parse_optional_keyword("like") else []
        properties, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        return cls.build(
            operands=[like],
            result_types=[parser.parse_type()],
            properties=properties,
            attributes=attributes,
        )


def holds_tensor(owner: Operation | BlockArgument) -> bool:
    """Whether the buffer that `owner` makes is a tensor between loop nests: an argument, or a
    buffer of the function that holds all of one.
    """
    if isinstance(owner, BlockArgument):
        return True
    is_part = isinstance(owner, AllocOp) and owner.part is not None
    return not is_part and isinstance(owner.parent_op(), FuncOp)


@irdl_op_definition
class CopyOp(TileOp):
    """Starts a copy by the dma engine. It is done, and its effect defined, once its token has been
    waited for.

    Until then the source must not be written and the destination not be used.

    ```
    %t = tile.copy %a to %b : memref<8x8xi8, "dram"> to memref<8x8xi8, "spm">
    ```
    """

    name = "tile.copy"

    source = operand_def(MemRefType)
    destination = operand_def(MemRefType)
    token = result_def(TokenType)

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(
        self, source: Value, destination: Value, *, location: LocationAttr | None = None
    ) -> None:
        super().__init__(operands=[source, destination], result_types=[TokenType()])
        self.place(location)

    def verify_(self) -> None:
        self.check_memrefs()
        source, destination = self.source.type, self.destination.type
        if dtype_of(self.source) != dtype_of(self.destination):
            raise VerifyException(
                f"a copy must keep the element type, found {source} to {destination}"
            )
        if shape_of(self.source) != shape_of(self.destination):
            raise VerifyException(f"a copy must keep the shape, found {source} to {destination}")

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.source)
        printer.print_string(" to ")
        printer.print_operand(self.destination)
        print_settings(printer, self)
        printer.print_string(" : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" to ")
        printer.print_attribute(self.destination.type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        source = parser.parse_unresolved_operand()
        parser.parse_keyword("to")
        destination = parser.parse_unresolved_operand()
        properties, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        operands = [parser.resolve_operand(source, parser.parse_type())]
        parser.parse_keyword("to")
        operands.append(parser.resolve_operand(destination, parser.parse_type()))
        return cls.build(
            operands=operands,
            result_types=[TokenType()],
            properties=properties,
            attributes=attributes,
        )


@irdl_op_definition
class WaitOp(VerifiedOnce):
    """Waits until the copies of all its tokens are done.

    ```
    tile.wait %t0, %t1
    ```
    """

    name = "tile.wait"

    tokens = var_operand_def(base(TokenType))

    assembly_format = "$tokens attr-dict"

    def __init__(self, *tokens: Value, location: LocationAttr | None = None) -> None:
        super().__init__(operands=[list(tokens)])
        if location is not None:
            self.location = location

    def verify_(self) -> None:
        if not self.tokens:
            raise VerifyException("a wait must have at least one token, found none")


@irdl_op_definition
class FillOp(TileOp):
    """Writes one storage value to every element.

    ```
    tile.fill %x {value = -3 : i8} : memref<8x8xi8, "spm">
    ```
    """

    name = "tile.fill"

    destination = operand_def(MemRefType)
    value = prop_def(base(IntegerAttr) | base(FloatAttr))

    traits = traits_def(MemoryWriteEffect())

    def __init__(
        self, destination: Value, value: float, *, location: LocationAttr | None = None
    ) -> None:
        attribute = scalar(value, dtype_of(destination))
        super().__init__(operands=[destination], properties={"value": attribute})
        self.place(location)

    @property
    def number(self) -> float:
        """The value as a Python number; an integer for integer types."""
        return self.value.value.data

    def verify_(self) -> None:
        self.check_memrefs()
        element = cast(MemRefType[Any], self.destination.type).element_type
        found = cast(IntegerAttr[Any] | FloatAttr[Any], self.value).type
        if found != element:
            raise VerifyException(f"the value must have the element type {element}, found {found}")

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.destination)
        print_settings(printer, self)
        printer.print_string(" : ")
        printer.print_attribute(self.destination.type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        name = parser.parse_unresolved_operand()
        properties, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        destination = parser.resolve_operand(name, parser.parse_type())
        return cls.build(operands=[destination], properties=properties, attributes=attributes)


def scalar(value: float, dtype: DType) -> Attribute:
    """A storage value as an attribute of the element type."""
    element = cast(Any, dtypes.element_type(dtype))
    return FloatAttr(value, element) if dtype.is_float else IntegerAttr(int(value), element)
