"""Emitting tosa operations on behalf of one graph operation at a time.

Storage: what is stored in 8 bits without a sign is i8 in TOSA, 128 less; what has 16 bits without a
sign is i32; whole numbers of 64 bits are i32 where their range is known to fit, and sums of 64 bits
are i48. A truth value is i1. `stored_as` and `offset` say that once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import (
    BoolAttr,
    DenseArrayBase,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    LocationAttr,
    TensorType,
    UnknownLoc,
    f32,
    i1,
    i8,
    i16,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, SSAValue

from npu_dialect import dtypes, graph, provenance, tosa
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.ranges import Ranges
from npu_dialect.tosa.base import EnumAttr, make
from npu_dialect.tosa.text import elements, numpy_type, width_of

Array = NDArray[Any]

i48 = IntegerType(48)

STORAGE: dict[DType, Attribute] = {
    dtypes.bool_: i1, dtypes.i8: i8, dtypes.u8: i8, dtypes.i16: i16, dtypes.u16: i32,
    dtypes.i32: i32, dtypes.i64: i32, dtypes.f32: f32,
}  # fmt: skip
"""The element type in TOSA of a storage type."""


class Refused(Exception):  # noqa: N818  (becomes a CompileError that names the operation)
    """What TOSA cannot express; the text says what was found, `remedy` what would work."""

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found)
        self.remedy = remedy


def stored_as(dtype: DType) -> Attribute:
    """The element type in TOSA of a storage type. Raises Refused for one that has none."""
    if dtype not in STORAGE:
        raise Refused(f"elements of {dtype}")
    return STORAGE[dtype]


def offset(dtype: DType) -> int:
    """What the stored values of a type are less in TOSA: 128 for u8."""
    return 128 if dtype is dtypes.u8 else 0


def element_of(value: SSAValue) -> Any:
    """The element type of a tosa value."""
    assert isinstance(value.type, TensorType)
    return value.type.get_element_type()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


class Emitter:
    """Appends tosa operations to a block; constants of equal content are one."""

    def __init__(self, block: Block, ranges: Ranges, *, is_open: bool) -> None:
        self.block = block
        self.ranges = ranges
        self.is_open = is_open
        """Whether what TOSA leaves open may decide integers too."""
        self.is_deciding = False
        """Whether integers depend on the current operation's floats."""
        self.location: LocationAttr = UnknownLoc()
        self.opened: dict[str, list[str]] = {}
        """What TOSA leaves open, and the sources of the operations that have it."""
        self.constants: dict[Any, SSAValue] = {}
        self.scope: dict[SSAValue, SSAValue] = {}
        """The tosa values of graph values."""

    def value(self, value: SSAValue) -> SSAValue:
        """The tosa value of a graph value; a constant is written when it is first read."""
        if value not in self.scope and isinstance(value.owner, graph.ConstantOp):
            self.scope[value] = self.stored(value.owner.array, value)
        return self.scope[value]

    def stored(self, array: Array, value: SSAValue) -> SSAValue:
        """The stored values of the graph value `value` as a constant."""
        dtype = dtype_of(value)
        element = stored_as(dtype)
        if not array.size:
            raise Refused("a tensor without elements", "the model without it")
        if dtype is dtypes.i64 and (array != array.astype(np.int32)).any():
            raise Refused("a constant of 64 bits that 32 bits cannot hold")
        if offset(dtype):
            array = (array.astype(np.int16) - offset(dtype)).astype(np.int8)
        return self.const(array, element)

    # Operations

    def op(
        self, name: str, operands: Sequence[SSAValue], type: Attribute, **properties: Any
    ) -> SSAValue:
        """Append an operation of one result; properties are attributes or plain values."""
        found = {k: _attribute(v) for k, v in properties.items()}
        made = make(tosa.BY_NAME[name], operands, [type], found, self.location)
        self.block.add_op(made)
        return made.results[0]

    def same(self, name: str, *operands: SSAValue, **properties: Any) -> SSAValue:
        """An operation whose result has the type of its first operand."""
        return self.op(name, operands, operands[0].type, **properties)

    def spread(
        self, name: str, *operands: SSAValue, element: Attribute | None = None, **properties: Any
    ) -> SSAValue:
        """An elementwise operation: operands of equal rank, which broadcast as in numpy."""
        rank = max(len(shape_of(v)) for v in operands)
        shape = np.broadcast_shapes(*(shape_of(v) for v in operands))
        found = [self.reshape(v, (1,) * (rank - len(shape_of(v))) + shape_of(v)) for v in operands]
        kind = element or element_of(found[-1])
        return self.op(name, found, TensorType(kind, shape), **properties)

    # Constants

    def const(self, array: Array, element: Attribute) -> SSAValue:
        """A constant of TOSA's stored values."""
        array = np.asarray(array, numpy_type(element), order="C")
        type = TensorType(element, array.shape)
        key = (type, array.tobytes())
        if key not in self.constants:
            values = elements(array, type)
            self.constants[key] = self.op("const", (), type, values=values)
        return self.constants[key]

    def fill(self, value: float, element: Attribute, rank: int = 1) -> SSAValue:
        """A constant of one element."""
        return self.const(np.full((1,) * rank, value), element)

    def like(self, value: float, x: SSAValue) -> SSAValue:
        """A constant of one element, of the element type and rank of `x`."""
        return self.fill(value, element_of(x), len(shape_of(x)))

    def shape(self, sizes: Sequence[int]) -> SSAValue:
        """A list of sizes."""
        key = ("shape", tuple(sizes))
        if key not in self.constants:
            array = np.array(sizes, np.int64)
            values = elements(array, TensorType(IndexType(), [max(len(sizes), 0)]))
            kind = tosa.ShapeType.of(len(sizes))
            self.constants[key] = self.op("const_shape", (), kind, values=values)
        return self.constants[key]

    # Movement and conversion, which many rules need

    def reshape(self, x: SSAValue, sizes: Sequence[int]) -> SSAValue:
        """The same elements in another shape."""
        if tuple(sizes) == shape_of(x):
            return x
        return self.op("reshape", (x, self.shape(sizes)), TensorType(element_of(x), list(sizes)))

    def transpose(self, x: SSAValue, order: Sequence[int]) -> SSAValue:
        """Dimension k of the result is dimension order[k] of `x`."""
        if list(order) == list(range(len(order))):
            return x
        shape = [shape_of(x)[k] for k in order]
        perms = DenseArrayBase.from_list(i32, order)
        return self.op("transpose", (x,), TensorType(element_of(x), shape), perms=perms)

    def slice(self, x: SSAValue, starts: Sequence[int], sizes: Sequence[int]) -> SSAValue:
        """A part of `x`."""
        if tuple(sizes) == shape_of(x):
            return x
        type = TensorType(element_of(x), list(sizes))
        return self.op("slice", (x, self.shape(starts), self.shape(sizes)), type)

    def cast(self, x: SSAValue, element: Attribute) -> SSAValue:
        """The numbers as another type; floats to the nearest integer, ties to even."""
        if element_of(x) == element:
            return x
        return self.op("cast", (x,), TensorType(element, shape_of(x)))

    # What TOSA leaves open

    def open(self, what: str) -> None:
        """Note that the bits of the current operation's result are left open by TOSA.

        Raises Refused where integers depend on them, unless that was allowed.
        """
        if self.is_deciding and not self.is_open:
            raise Refused(f"{what}, on which integers of the model depend", "--tosa-open")
        sources = self.opened.setdefault(what, [])
        sources.append(next(iter(provenance.sources(self.location)), "an operation"))

    def zero_of(self, value: SSAValue) -> int:
        """The zero point in TOSA of a graph value that has one scale; 0 for a plain one."""
        quant = quant_of(value)
        return 0 if quant is None else quant.zero_point - offset(quant.storage_dtype)

    def type_of(self, value: SSAValue) -> TensorType[Any]:
        """The type in TOSA of a graph value."""
        return TensorType(stored_as(dtype_of(value)), shape_of(value))


def _attribute(value: Any) -> Attribute:
    if isinstance(value, Attribute):
        return value
    if isinstance(value, bool):
        return BoolAttr.from_bool(value)
    if isinstance(value, tuple | list):
        return DenseArrayBase.from_list(i64, list(value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, int):
        return IntegerAttr(value, i32)
    raise TypeError(f"a property of {value!r}")


def bound(value: float, element: Any) -> Attribute:
    """The attribute of a bound of `tosa.clamp`."""
    whole = width_of(element)
    return IntegerAttr(int(value), element) if whole else FloatAttr(float(value), element)


@cache
def word(kind: type[EnumAttr], text: str) -> EnumAttr:
    """A word of an enumeration."""
    return kind.of(text)
