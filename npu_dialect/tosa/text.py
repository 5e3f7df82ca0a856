"""TOSA as text: reading what MLIR's tools write, and writing what they read.

    "tosa.const"() <{values = dense<"0x0304F5..."> : tensor<64xi8>}> : () -> tensor<64xi8>

The elements of a constant are what MLIR takes them for: of a float, a hexadecimal number is its
bits. `array_of` and `elements` go between them and numpy.
"""

from __future__ import annotations

import math
from io import StringIO
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import (
    BFloat16Type,
    Builtin,
    BytesAttr,
    DenseIntOrFPElementsAttr,
    Float16Type,
    Float32Type,
    IndexType,
    IntegerType,
    ModuleOp,
    Signedness,
    TensorType,
)
from xdsl.dialects.func import Func
from xdsl.ir import Attribute
from xdsl.printer import Printer

from npu_dialect.diagnostics import Code, error
from npu_dialect.dtypes import bf16
from npu_dialect.parser import PlacingParser
from npu_dialect.tosa import Tosa

Array = NDArray[Any]

LISTED = 32
"""Constants of up to so many elements are written as numbers, others as bytes in hexadecimal."""

MOST_ELEMENTS = 1 << 29
"""Of a constant, so that a text of few bytes does not stand for all of a memory."""

FLOATS: dict[type[Attribute], np.dtype[Any]] = {
    Float32Type: np.dtype(np.float32),
    Float16Type: np.dtype(np.float16),
    BFloat16Type: bf16.numpy,
}
"""The floats that constants can have."""


def parse(text: str, name: str = "<text>", line: int = 0) -> ModuleOp:
    """The module that `text` spells, in operations of the dialects func and tosa.

    Operations of other dialects stand in it unregistered. Raises CompileError (NPU0201) for text
    that is no IR.
    """
    context = Context(allow_unregistered=True)
    for dialect in (Builtin, Func, Tosa):
        context.load_dialect(dialect)
    try:
        return _Parser(context, text, name, line).module()
    except (ArithmeticError, AssertionError, NotImplementedError, ValueError) as problem:
        found = str(problem) or type(problem).__name__
        raise error(Code.IR_SYNTAX, "must be valid IR", found=found, source=name) from problem


class _Parser(PlacingParser):
    """The parser, with the elements of constants as MLIR reads and writes them."""

    def parse_dense_int_or_fp_elements_attr(self, type: Any) -> Any:
        """What stands after `dense`."""
        start = self.pos
        self.parse_punctuation("<")
        text = self.parse_optional_str_literal()
        if text is not None:
            self.parse_punctuation(">")
            type = type or self._type()
            return self._from_bytes(text, type)
        self._resume_from(start)
        if type is None:
            return self._from_literal(start)
        return super().parse_dense_int_or_fp_elements_attr(type)

    def _type(self) -> Any:
        self.parse_punctuation(":")
        found: Any = self._parse_dense_literal_type()  # pyright: ignore[reportUnknownVariableType]
        if math.prod(found.get_shape()) > MOST_ELEMENTS:
            self.raise_error(f"a constant of at most {MOST_ELEMENTS:,} elements, not {found}")
        return found

    def _from_literal(self, start: int) -> Any:
        """Floats: an integer among the elements is the bits of one."""
        self.parse_punctuation("<")
        contents = None if self.parse_optional_punctuation(">") else self._parse_tensor_literal()
        if contents is not None:
            self.parse_punctuation(">")
        type = self._type()
        dtype = FLOATS.get(type.element_type.__class__)
        if dtype is None or contents is None:
            self._resume_from(start)
            return super().parse_dense_int_or_fp_elements_attr(None)
        values, shape = contents
        if shape and list(type.get_shape()) != shape:
            self.raise_error(f"elements of {shape} for {type}")
        array = np.array([_float(v.value, dtype) for v in values], dtype)
        return elements(np.broadcast_to(array, math.prod(type.get_shape())), type)

    def _from_bytes(self, text: str, type: Any) -> Any:
        try:
            data = bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            self.raise_error("hexadecimal digits must follow 0x")
        count, size = math.prod(type.get_shape()), _stored_size(type.element_type)
        if len(data) == size:
            data *= count
        if len(data) != size * count:
            self.raise_error(f"{len(data)} bytes for {type}")
        if size == type.element_type.compile_time_size:
            return DenseIntOrFPElementsAttr(type, BytesAttr(data))
        wide = np.zeros((count, 8), np.uint8)
        wide[:, :size] = np.frombuffer(data, np.uint8).reshape(count, size)
        wide[:, size:] = np.where(wide[:, size - 1 : size] & 0x80, 0xFF, 0)
        return DenseIntOrFPElementsAttr(type, BytesAttr(wide.tobytes()))


def width_of(element: Attribute) -> int:
    """The bits of a type of integers, 0 for any other."""
    return cast("Any", element).width.data if isinstance(element, IntegerType) else 0


def _stored_size(element: Any) -> int:
    """Bytes of an element in MLIR's form: integers of 48 bits have six."""
    width = width_of(element)
    return (width + 7) // 8 if width else element.compile_time_size


def _float(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, int):
        return np.array(value, f"u{dtype.itemsize}").view(dtype)
    return value


# Constants


def numpy_type(element: Attribute) -> np.dtype[Any]:
    """The numpy type of elements; i48 is held in 64 bits. ValueError for one that has none."""
    found = FLOATS.get(type(element))
    if found is not None:
        return found
    if isinstance(element, IndexType):
        return np.dtype(np.int64)
    width = width_of(element)
    if width == 1:
        return np.dtype(np.bool_)
    size = next((s for s in (8, 16, 32, 64) if 0 < width <= s), None)
    if size is None:
        raise ValueError(f"elements of {element}")
    is_unsigned = cast("Any", element).signedness.data == Signedness.UNSIGNED
    return np.dtype(f"{'u' if is_unsigned else 'i'}{size // 8}")


def array_of(attribute: Attribute) -> Array:
    """The elements of `dense<...>`, read-only. ValueError for another attribute."""
    if not isinstance(attribute, DenseIntOrFPElementsAttr):
        raise ValueError(f"the value {str(attribute)[:80]}, where dense<...> can be read")
    found = cast("Any", attribute)
    dtype = numpy_type(found.type.element_type)
    raw = np.dtype(np.uint8) if dtype == np.bool_ else dtype
    array = np.frombuffer(found.data.data, raw).reshape(found.type.get_shape())
    return array != 0 if dtype == np.bool_ else array


def elements(array: Array, type: Any) -> Any:
    """The attribute `dense<...>` of an array, as a tensor type says."""
    dtype = numpy_type(type.element_type)
    return DenseIntOrFPElementsAttr(type, BytesAttr(np.ascontiguousarray(array, dtype).tobytes()))


# Printing


def to_text(module: ModuleOp, *, locations: bool = False) -> str:
    """The text of a module in the form that `mlir-opt` reads."""
    stream = StringIO()
    _Printer(stream=stream, print_debuginfo=locations).print_op(module)
    stream.write("\n")
    return stream.getvalue()


class _Printer(Printer):
    """The printer, which writes large constants as bytes."""

    def print_attribute(self, attribute: Attribute) -> None:
        found: Any = attribute
        if isinstance(attribute, DenseIntOrFPElementsAttr) and _is_long(found):
            self.print_string(f'dense<"0x{found.data.data.hex().upper()}"> : ')
            super().print_attribute(found.type)
            return
        super().print_attribute(found)


def _is_long(attribute: Any) -> bool:
    """Whether a constant is written as bytes: large ones, and floats that are no numbers."""
    if width_of(attribute.type.element_type) not in (0, 8, 16, 32):
        return False
    array = array_of(attribute)
    return array.size > LISTED or not bool(np.isfinite(array.astype(np.float64)).all())


def tensor(element: Attribute, *shape: int) -> TensorType[Any]:
    """A tensor type."""
    return TensorType(element, shape)
