"""Loops, and views: the part of a buffer that an operation works on. Views are no work and move
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Self, cast

from xdsl.builder import Builder
from xdsl.dialects.builtin import ArrayAttr, IntegerAttr, LocationAttr, MemRefType
from xdsl.ir import Block, BlockArgument, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.rewriter import InsertPoint
from xdsl.traits import (
    IsTerminator,
    Pure,
    RecursiveMemoryEffect,
    SingleBlockImplicitTerminator,
    ensure_terminator,
)
from xdsl.utils.exceptions import VerifyException

from npu_dialect.tile.attributes import Span, WindowAttr, spans_of, windows_of
from npu_dialect.tile.syntax import (
    INDEX,
    TileOp,
    Value,
    dtype_of,
    int_attr,
    ints,
    ints_constraint,
    memref,
    parse_settings,
    parse_windows,
    print_settings,
    print_windows,
    shape_of,
    space_of,
    values_of,
)


@irdl_op_definition
class EndOp(IRDLOperation):
    """`tile.end`: the end of a loop's body; not written in the text."""

    name = "tile.end"
    traits = traits_def(IsTerminator())
    assembly_format = "attr-dict"


@irdl_op_definition
class ForOp(IRDLOperation):
    """Executes its body for index 0, 1, ..., trips - 1, in order.

    ```
    tile.for %i to 4 {
      %x = tile.view %image[%i * 8 - 1 : 10, 0 : 32, 0 : 16] : memref<32x32x16xi8, "dram">
    }
    ```
    """

    name = "tile.for"

    trips = prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(SingleBlockImplicitTerminator(EndOp), RecursiveMemoryEffect())

    def __init__(
        self, trips: int, body: Region | None = None, *, location: LocationAttr | None = None
    ) -> None:
        """A loop; without `body` an empty one, to be filled through `builder`."""
        body = Region(Block(arg_types=[INDEX])) if body is None else body
        super().__init__(properties={"trips": int_attr(trips)}, regions=[body])
        if location is not None:
            self.location = location
        for trait in self.get_traits_of_type(SingleBlockImplicitTerminator):
            ensure_terminator(self, trait)

    @property
    def index(self) -> BlockArgument:
        """The loop index."""
        return self.body.block.args[0]

    @property
    def count(self) -> int:
        """The number of trips."""
        return cast(IntegerAttr[Any], self.trips).value.data

    @property
    def builder(self) -> Builder:
        """Inserts at the end of the body."""
        end = self.body.block.last_op
        assert end is not None
        return Builder(InsertPoint.before(end))

    def verify_(self) -> None:
        if self.count < 1:
            raise VerifyException(f"a loop must have at least one trip, found {self.count}")
        if [a.type for a in self.body.block.args] != [INDEX]:
            found = ", ".join(str(a.type) for a in self.body.block.args)
            raise VerifyException(
                f"a loop's body must have one argument of type index, found ({found})"
            )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.index)
        printer.print_string(f" to {self.count} ")
        printer.print_region(
            self.body,
            print_entry_block_args=False,
            print_empty_block=False,
            print_block_terminators=False,
        )
        printer.print_op_attributes(self.attributes)

    @classmethod
    def parse(cls, parser: Parser) -> ForOp:
        index = parser.parse_argument(expect_type=False)
        parser.parse_keyword("to")
        trips = parser.parse_integer(allow_boolean=False)
        body = parser.parse_region([index.resolve(INDEX)])
        loop = cls(trips, body)
        loop.attributes |= parser.parse_optional_attr_dict()
        return loop


class ViewLikeOp(TileOp):
    """Shape shared by the views: another way to see a buffer, in the same memory and of the same
    type.
    """

    source = operand_def(MemRefType)
    result = result_def(MemRefType)

    traits = traits_def(Pure())

    def check_result(self, shape: Sequence[int]) -> None:
        """Raises VerifyException unless the result's type is the source's with `shape`."""
        self.check_memrefs()
        expected = memref(shape, dtype_of(self.source), space_of(self.source))
        if self.result.type != expected:
            raise VerifyException(f"{self.name} must give {expected}, found {self.result.type}")

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.source)
        print_settings(printer, self)
        printer.print_string(" : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" to ")
        printer.print_attribute(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        name = parser.parse_unresolved_operand()
        properties, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        source = parser.resolve_operand(name, parser.parse_type())
        parser.parse_keyword("to")
        result = parser.parse_type()
        return cls.build(
            operands=[source], result_types=[result], properties=properties, attributes=attributes
        )


@irdl_op_definition
class ViewOp(ViewLikeOp):
    """A part of a buffer: in each dimension, elements `start : size : step`, clamped to the
    buffer's extents.

    Starts are affine in the loop indices. The type's shape is the sizes; at the edges the actual
    extents are smaller.

    ```
    %x = tile.view %image[%i * 8 - 1 : 10, 0 : 16 : 2] : memref<32x32xi8, "dram">
    ```
    """

    name = "tile.view"

    ivs = var_operand_def(INDEX)
    windows = prop_def(ArrayAttr[WindowAttr])

    def __init__(
        self, source: Value, spans: Iterable[Span | int], *, location: LocationAttr | None = None
    ) -> None:
        """One span per dimension; an integer is the whole dimension of that size."""
        indices, windows = windows_of(Span(s) if isinstance(s, int) else s for s in spans)
        super().__init__(
            operands=self.arrange(source=source, ivs=indices),
            result_types=[view_type(source, windows)],
            properties={"windows": windows},
        )
        self.place(location)

    @property
    def spans(self) -> list[Span]:
        """The windows, named by their loop indices."""
        return spans_of(self.ivs, self.windows)

    def verify_(self) -> None:
        check_windows(self.windows, len(shape_of(self.source)), len(self.ivs))
        self.check_result([w.data.size for w in self.windows])

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.source)
        print_windows(printer, self.ivs, self.windows)
        print_settings(printer, self)
        printer.print_string(" : ")
        printer.print_attribute(self.source.type)

    @classmethod
    def parse(cls, parser: Parser) -> ViewOp:
        name = parser.parse_unresolved_operand()
        indices, windows = parse_windows(parser)
        _, attributes = parse_settings(parser, cls)
        parser.parse_punctuation(":")
        source = parser.resolve_operand(name, parser.parse_type())
        return cls.build(
            operands=cls.arrange(source=source, ivs=indices),
            result_types=[view_type(source, windows)],
            properties={"windows": windows},
            attributes=attributes,
        )


def view_type(source: Value, windows: ArrayAttr[WindowAttr]) -> MemRefType[Any]:
    """The type of the view of `source` through `windows`."""
    return memref([w.data.size for w in windows], dtype_of(source), space_of(source))


def check_windows(windows: ArrayAttr[WindowAttr], rank: int, indices: int) -> None:
    """Raises VerifyException unless there is one window per dimension, over at most `indices` loop
    indices.
    """
    if len(windows) != rank:
        raise VerifyException(
            f"there must be one window per dimension ({rank}), found {len(windows)}"
        )
    for window in windows:
        if len(window.data.coefficients) > indices:
            raise VerifyException(
                f"a window must use the {indices} loop indices given, found {window.data}"
            )


@irdl_op_definition
class TransposeOp(ViewLikeOp):
    """A buffer with its dimensions in another order: dimension k of the result is dimension
    permutation[k].

    ```
    %y = tile.transpose %x {permutation = [1, 0]} : memref<4x8xi8, "dram"> to memref<8x4xi8, "dram">
    ```
    """

    name = "tile.transpose"

    permutation = prop_def(ints_constraint())

    def __init__(
        self, source: Value, permutation: Sequence[int], *, location: LocationAttr | None = None
    ) -> None:
        shape = [shape_of(source)[p] for p in permutation]
        super().__init__(
            operands=[source],
            result_types=[memref(shape, dtype_of(source), space_of(source))],
            properties={"permutation": ints(permutation)},
        )
        self.place(location)

    def verify_(self) -> None:
        permutation, shape = values_of(self.permutation), shape_of(self.source)
        if sorted(permutation) != list(range(len(shape))):
            raise VerifyException(
                f"permutation must name each of the {len(shape)} dimensions once, "
                f"found {list(permutation)}"
            )
        self.check_result([shape[p] for p in permutation])


@irdl_op_definition
class ReshapeOp(ViewLikeOp):
    """The same elements in another shape. Dimensions that are merged must lie densely in memory.

    ```
    %y = tile.reshape %x : memref<4x8x16xi8, "spm"> to memref<32x16xi8, "spm">
    ```
    At the edges, merged dimensions multiply their actual extents, and only the first of split
    dimensions shrinks.
    """

    name = "tile.reshape"

    def __init__(
        self, source: Value, shape: Sequence[int], *, location: LocationAttr | None = None
    ) -> None:
        super().__init__(
            operands=[source], result_types=[memref(shape, dtype_of(source), space_of(source))]
        )
        self.place(location)

    def verify_(self) -> None:
        source, result = shape_of(self.source), shape_of(self.result)
        if prod(source) != prod(result):
            raise VerifyException(
                "a reshape must keep the number of elements, "
                f"found {list(source)} and {list(result)}"
            )
        self.check_result(result)


@irdl_op_definition
class BroadcastOp(ViewLikeOp):
    """Repeats dimensions of size 1, and adds leading ones; numpy's rule. Repeated elements have
    stride 0.

    ```
    %y = tile.broadcast %x : memref<1x16xi8, "dram"> to memref<4x8x16xi8, "dram">
    ```
    """

    name = "tile.broadcast"

    def __init__(
        self, source: Value, shape: Sequence[int], *, location: LocationAttr | None = None
    ) -> None:
        super().__init__(
            operands=[source], result_types=[memref(shape, dtype_of(source), space_of(source))]
        )
        self.place(location)

    def verify_(self) -> None:
        source, result = shape_of(self.source), shape_of(self.result)
        tail = result[len(result) - len(source) :]
        if len(source) > len(result) or any(
            s not in (1, r) for s, r in zip(source, tail, strict=True)
        ):
            raise VerifyException(
                "a broadcast must keep every dimension or repeat one of size 1, "
                f"found {list(source)} and {list(result)}"
            )
        self.check_result(result)


@irdl_op_definition
class StridedOp(ViewLikeOp):
    """Elements of a dense buffer by strides: element (i, j, ...) of the result is element
    `offset + i * strides[0] + j * strides[1] + ...` of the source, counted in its row-major order.

    It shows what any chain of views can (transposed, sliced, repeated, reversed), also where the
    shapes in between could not be addressed.

    ```
    %y = tile.strided %x {offset = 2, strides = [1, 8]}
        : memref<4x8xi8, "spm"> to memref<6x4xi8, "spm">
    ```
    """

    name = "tile.strided"

    offset = prop_def(IntegerAttr, default_value=int_attr(0))
    strides = prop_def(ints_constraint())

    def __init__(
        self,
        source: Value,
        shape: Sequence[int],
        strides: Sequence[int],
        offset: int = 0,
        *,
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=[source],
            result_types=[memref(shape, dtype_of(source), space_of(source))],
            properties={"offset": int_attr(offset), "strides": ints(strides)},
        )
        self.place(location)

    @property
    def first(self) -> int:
        """The number of the source's element that is the result's first."""
        return cast(IntegerAttr[Any], self.offset).value.data

    def verify_(self) -> None:
        shape, strides = shape_of(self.result), values_of(self.strides)
        if len(strides) != len(shape):
            raise VerifyException(
                f"there must be one stride per dimension ({len(shape)}), found {len(strides)}"
            )
        self.check_result(shape)
        reach = [(d - 1) * s for d, s in zip(shape, strides, strict=True)]
        low = self.first + sum(r for r in reach if r < 0)
        high = self.first + sum(r for r in reach if r > 0)
        elements = prod(shape_of(self.source))
        if 0 not in shape and not 0 <= low <= high < elements:
            raise VerifyException(
                f"the elements must lie in the source's [0, {elements}), found [{low}, {high}]"
            )


@irdl_op_definition
class UnfoldOp(ViewLikeOp):
    """Each `size` neighbouring columns of [.., W, C] as the channels of one, the next ones `step`
    further: element (.., p, k * C + c) of the result is element (.., p * step + k, c) of the
    source. A column may be seen several times, so the result is for reading.

    A convolution over columns is then one over channels. Columns must lie densely in memory.

    ```
    %y = tile.unfold %x {size = 3, step = 2}
        : memref<10x9x4xi8, "spm"> to memref<10x4x12xi8, "spm">
    ```
    """

    name = "tile.unfold"

    size = prop_def(IntegerAttr)
    step = prop_def(IntegerAttr, default_value=int_attr(1))

    def __init__(
        self, source: Value, size: int, step: int = 1, *, location: LocationAttr | None = None
    ) -> None:
        shape = _unfolded(shape_of(source), size, step)
        super().__init__(
            operands=[source],
            result_types=[memref(shape, dtype_of(source), space_of(source))],
            properties={"size": int_attr(size), "step": int_attr(step)},
        )
        self.place(location)

    @property
    def columns(self) -> tuple[int, int]:
        """How many columns become one, and how far apart they begin."""
        size, step = cast(IntegerAttr[Any], self.size), cast(IntegerAttr[Any], self.step)
        return size.value.data, step.value.data

    def verify_(self) -> None:
        source, (size, step) = shape_of(self.source), self.columns
        if len(source) < 2 or not 1 <= size <= source[-2] or step < 1:
            raise VerifyException(
                "size must be 1 to the number of columns, and step at least 1, "
                f"found {size} and {step} for {list(source)}"
            )
        self.check_result(_unfolded(source, size, step))


def _unfolded(shape: Sequence[int], size: int, step: int) -> list[int]:
    *outer, columns, channels = shape
    return [*outer, (columns - size) // step + 1, size * channels]


def strided(value: SSAValue) -> StridedOp | None:
    """The operation by which a view sees a buffer through strides; None where none does."""
    while isinstance(value.owner, ViewLikeOp):
        if isinstance(value.owner, StridedOp):
            return value.owner
        value = value.owner.source
    return None
