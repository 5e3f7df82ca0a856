"""Blobs: the constant arrays of the IR, immutable and compared by content.

    #graph.blob<f32, [2, 2], [1.0, -2.5, 0.1, 0x7FC00000]>       up to 64 elements: written out
    #graph.blob<"9f86d081884c7d65...", i8, [3, 3, 16, 32]>       else: the sha256 of its bytes

Floats are written so that they read back exactly; NaNs and infinities as their bits. The bytes of
large blobs lie in a side file beside the text:

    save_blobs("model.npz", module)              # what the text of `module` refers to by digest
    with blobs_from("model.npz"):                # while the text is parsed
        module = Parser(context, text).parse_module()
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr
from xdsl.ir import Attribute, Data, Operation, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer

from npu_dialect import dtypes
from npu_dialect.diagnostics import Code, error
from npu_dialect.dtypes import DType

Array = npt.NDArray[Any]

_NAMES = ", ".join(dtypes.BY_NAME)

INLINE_ELEMENTS = 64
"""Blobs up to this size are written out in the text of the IR."""


class Blob:
    """A read-only C-contiguous array; equal to another when type, shape and bytes are.

    A writeable array is copied, so that a blob never changes. Raises ValueError for an array whose
    type is no storage type.
    """

    def __init__(self, array: npt.ArrayLike) -> None:
        array = np.asarray(array)
        if array.dtype not in dtypes.BY_NUMPY:
            raise ValueError(f"a blob must hold one of {_NAMES}; found an array of {array.dtype}")
        if array.flags.writeable or not array.flags.c_contiguous:
            array = np.array(array, order="C", copy=True)
        array.flags.writeable = False
        self.array: Array = array

    @property
    def dtype(self) -> DType:
        return dtypes.BY_NUMPY[self.array.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def bytes(self) -> memoryview:
        """The elements in row-major order, little endian; nothing is copied."""
        return _as_bytes(self.array).data

    @cached_property
    def digest(self) -> str:
        """The sha256 of the bytes, in hexadecimal; computed at the first use."""
        return hashlib.sha256(self.bytes).hexdigest()

    @property
    def is_inline(self) -> bool:
        """Whether the text of the IR holds the elements rather than the digest."""
        return self.array.size <= INLINE_ELEMENTS

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Blob) or self.shape != other.shape:
            return False
        return self.array.dtype == other.array.dtype and self.digest == other.digest

    def __hash__(self) -> int:
        return hash((self.digest, self.array.dtype, self.shape))

    def __repr__(self) -> str:
        return f"Blob({self.dtype}, {list(self.shape)}, {self.digest[:12]})"


def _as_bytes(array: Array) -> npt.NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


@irdl_attr_definition
class BlobAttr(Data[Blob]):
    """`#graph.blob<...>`: a constant array as an attribute. See the module's docstring."""

    name = "graph.blob"

    @staticmethod
    def of(array: npt.ArrayLike) -> BlobAttr:
        """The attribute of an array of a storage type."""
        return BlobAttr(Blob(array))

    @property
    def array(self) -> Array:
        """The elements, read-only."""
        return self.data.array

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Blob:
        with parser.in_angle_brackets():
            digest = parser.parse_optional_str_literal()
            if digest is not None:
                parser.parse_punctuation(",")
            dtype, shape = _parse_type(parser)
            if digest is not None:
                return _find(digest, dtype, shape)
            parser.parse_punctuation(",")
            return _parse_elements(parser, dtype, shape)

    def print_parameter(self, printer: Printer) -> None:
        blob = self.data
        head = f"{blob.dtype}, {list(blob.shape)}"
        with printer.in_angle_brackets():
            if blob.is_inline:
                printer.print_string(f"{head}, [{', '.join(_texts(blob))}]")
            else:
                printer.print_string(f'"{blob.digest}", {head}')


# Text of elements


def _texts(blob: Blob) -> list[str]:
    flat = blob.array.reshape(-1)
    if not blob.dtype.is_float:
        return [str(int(x)) for x in flat]
    bits = flat.view(f"u{blob.dtype.itemsize}")
    digits = 2 * blob.dtype.itemsize
    return [
        float_text(x) if np.isfinite(x) else f"0x{int(b):0{digits}X}"
        for x, b in zip(flat, bits, strict=True)
    ]


def float_text(value: np.floating[Any]) -> str:
    """The shortest decimal number with a point that a double reads back as `value`."""
    wide = np.float32(value) if value.dtype.itemsize < 4 else value
    small = 1e-4 <= abs(wide) < 1e9 or wide == 0
    write = np.format_float_positional if small else np.format_float_scientific
    text = write(wide, unique=True, trim="0")
    return text if value.dtype.type(float(text)) == value else repr(float(value))


def _parse_type(parser: AttrParser) -> tuple[DType, tuple[int, ...]]:
    name = parser.parse_identifier("a storage type")
    if name not in dtypes.BY_NAME:
        parser.raise_error(
            f"a blob's type must be one of {', '.join(dtypes.BY_NAME)}; found {name}"
        )
    parser.parse_punctuation(",")
    shape = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parser.parse_integer(allow_negative=False)
    )
    return dtypes.BY_NAME[name], tuple(shape)


def _parse_elements(parser: AttrParser, dtype: DType, shape: tuple[int, ...]) -> Blob:
    items = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parser.parse_number(allow_boolean=True)
    )
    if len(items) != int(np.prod(shape, dtype=np.int64)):
        parser.raise_error(
            f"a blob of shape {list(shape)} must have as many elements; found {len(items)}"
        )
    try:
        array = _float_array(items, dtype) if dtype.is_float else _integer_array(items, dtype)
    except (OverflowError, TypeError):
        parser.raise_error(f"a blob's elements must be values of {dtype}; found {items}")
    return Blob(array.reshape(shape))


def _integer_array(items: list[int | float], dtype: DType) -> Array:
    if any(isinstance(x, float) for x in items):
        raise TypeError
    return np.array(items, dtype.numpy)


def _float_array(items: list[int | float], dtype: DType) -> Array:
    """A number without a point is the bits of a float."""
    bits = np.dtype(f"u{dtype.itemsize}")
    out = np.empty(len(items), dtype.numpy)
    for i, item in enumerate(items):
        if isinstance(item, int):
            out.view(bits)[i] = item
        else:
            out[i] = item
    return out


# Side files

_store: ContextVar[Mapping[str, Array] | None] = ContextVar("blobs", default=None)


@contextmanager
def blobs_from(source: str | os.PathLike[str] | Mapping[str, Array]) -> Generator[None]:
    """While the block runs, digests in parsed text are looked up in `source`.

    That is a side file, or a mapping from digest to array (as `collect_blobs` gives it).
    """
    store = source if isinstance(source, Mapping) else load_blobs(source)
    token = _store.set(store)
    try:
        yield
    finally:
        _store.reset(token)


def load_blobs(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of bytes in a side file, by digest."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as reason:
        raise error(
            Code.FILE_UNREADABLE,
            "the side file of a module must be the .npz file that was saved with it",
            found=reason,
            source=str(path),
        ) from None


def save_blobs(path: str | os.PathLike[str], module: Operation) -> None:
    """Write the blobs that the text of `module` names by digest to an `.npz` file.

    The file is the same from run to run.
    """
    arrays = {digest: _as_bytes(array) for digest, array in sorted(collect_blobs(module).items())}
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def collect_blobs(module: Operation) -> dict[str, Array]:
    """Every array that the text of `module` names by digest, by digest."""
    found: dict[str, Array] = {}

    def visit(blob: Blob) -> None:
        if not blob.is_inline:
            found[blob.digest] = blob.array

    for op in module.walk():
        for attribute in (*op.properties.values(), *op.attributes.values()):
            _each_blob(attribute, visit)
    return found


def _each_blob(attribute: Attribute, visit: Callable[[Blob], None]) -> None:
    if isinstance(attribute, BlobAttr):
        visit(attribute.data)
    elif isinstance(attribute, ArrayAttr):
        for item in cast(ArrayAttr[Attribute], attribute).data:
            _each_blob(item, visit)
    elif isinstance(attribute, DictionaryAttr):
        for item in attribute.data.values():
            _each_blob(item, visit)
    elif isinstance(attribute, ParametrizedAttribute):
        for item in attribute.parameters:
            _each_blob(item, visit)


def _find(digest: str, dtype: DType, shape: tuple[int, ...]) -> Blob:
    array = (_store.get() or {}).get(digest)
    if array is None:
        raise error(
            Code.BLOB_MISSING,
            "the bytes of a large constant must be in the side file of the module",
            found=f"none with the digest {digest[:16]}...",
            remedy="putting the .npz file that was saved with the module beside it",
        )
    data = _as_bytes(np.ascontiguousarray(array))
    if data.size != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise _corrupt(digest, f"{data.size} bytes for {dtype} and shape {list(shape)}")
    blob = Blob(data.view(dtype.numpy).reshape(shape))
    if blob.digest != digest:
        raise _corrupt(digest, f"bytes with the digest {blob.digest[:16]}...")
    return blob


def _corrupt(digest: str, found: str) -> Exception:
    return error(
        Code.BLOB_MISSING,
        f"the side file must hold the bytes that the digest {digest[:16]}... names",
        found=found,
        remedy="saving the module and its side file again",
    )
