"""Routines that bring rows of an input into the form that products read: padded, converted, dense.

void(ptr record, ptr image, i64 top, i64 rows): rows `top` and following of the padded input,
counted from the first row of padding. They may write some bytes beyond the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.runtime.compiled.builder import (
    F32,
    I8,
    I16,
    I32,
    I64,
    POINTER,
    WIDTHS,
    Function,
    Value,
    vector,
)
from npu_dialect.runtime.compiled.elements import widen
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.packing import ARITHMETICS, bias, limits
from npu_dialect.runtime.compiled.records import Fields

IMAGE = Fields(
    "source",
    "height",  # of the source: rows, columns, elements of a pixel
    "width",
    "channels",
    "row_stride",  # of the source, in bytes
    "column_stride",
    "channel_stride",
    "pad_top",
    "pad_left",
    "columns",  # of the image
    "pitch",
    "zero",  # subtracted from every element (added to make a u8)
    "fill",  # padding, as an element of the image
)

ELEMENTS = {1: I8, 2: I16, 4: I32, 8: I64}
SLACK = 256
"""Bytes behind an image that its routine may write, and a product read."""


def element_type(arithmetic: str) -> Any:
    """The type of an image's elements."""
    if arithmetic == "f32":
        return F32
    return ELEMENTS[np.dtype(ARITHMETICS[arithmetic].element).itemsize]


@emitter("image")
def emit(module: Any, symbol: str, host: Host, storage: str, arithmetic: str, layout: str) -> None:
    """`layout`: what is contiguous in the source, whole `rows`, single `pixels` or `nothing`."""
    f = Function(module, symbol, {"record": POINTER, "image": POINTER, "top": I64, "rows": I64})
    w = {name: IMAGE.whole(f, f["record"], name) for name in IMAGE.offsets}
    source = IMAGE.pointer(f, f["record"], "source")
    element = element_type(arithmetic)
    size = WIDTHS[element]
    lanes = host.vector_bytes // size
    fill = _fill_value(f, w["fill"], element)
    convert = _Converter(f, host, dtypes.BY_NAME[storage], arithmetic, w["zero"], lanes)
    copied = f.min(w["width"], f.sub(w["columns"], w["pad_left"]))
    right = f.add(w["pad_left"], copied)

    def fill_pixels(row: Value, first: Value, last: Value) -> None:
        low, high = (f.mul(f.mul(p, w["channels"]), size) for p in (first, last))
        wide = f.splat(fill, lanes)
        f.loop(low, high, lambda at, _: f.store(wide, row, at), step=host.vector_bytes)

    def copy_row(row: Value, line: Value) -> None:
        start = f.at(row, f.mul(f.mul(w["pad_left"], w["channels"]), size))
        if layout == "rows":
            convert.run(start, line, f.mul(copied, w["channels"]))
            return

        def pixel(x: Value, _: list[Value]) -> None:
            to = f.at(start, f.mul(f.mul(x, w["channels"]), size))
            of = f.at(line, f.mul(x, w["column_stride"]))
            if layout == "pixels":
                convert.run(to, of, w["channels"])
            else:
                convert.strided(to, of, w["channels"], w["channel_stride"])

        f.loop(0, copied, pixel)

    def one_row(i: Value, _: list[Value]) -> None:
        row = f.at(f["image"], f.mul(i, w["pitch"]))
        y = f.sub(f.add(f["top"], i), w["pad_top"])
        inside = f.b.icmp_unsigned("<", y, w["height"])

        def filled() -> None:
            fill_pixels(row, I64(0), w["pad_left"])
            copy_row(row, f.at(source, f.mul(y, w["row_stride"])))
            fill_pixels(row, right, w["columns"])

        f.when(inside, filled, lambda: fill_pixels(row, I64(0), w["columns"]))

    f.loop(0, f["rows"], one_row)
    f.done()


def _fill_value(f: Function, word: Value, element: Any) -> Value:
    if element is F32:
        return f.b.bitcast(f.b.trunc(word, I32), F32)
    return f.b.trunc(word, element)


class _Converter:
    """Elements of a storage type as elements of an image."""

    def __init__(
        self, f: Function, host: Host, dtype: DType, arithmetic: str, zero: Value, lanes: int
    ) -> None:
        self.f, self.host, self.dtype, self.arithmetic = f, host, dtype, arithmetic
        self.lanes = lanes
        self.element = element_type(arithmetic)
        self.stored = F32 if dtype is dtypes.f32 else ELEMENTS[dtype.itemsize]
        scalar = None if arithmetic in ("f32", "u8s8") else f.b.trunc(zero, self.element)
        self.zeros: dict[int, Value] = {}
        if scalar is not None:
            self.zeros = {n: f.splat(scalar, n) for n in (lanes, 1)}

    def run(self, to: Value, of: Value, count: Value) -> None:
        """`count` contiguous elements; whole vectors are written."""
        self._loop(to, of, count, self.lanes, self.dtype.itemsize)

    def strided(self, to: Value, of: Value, count: Value, stride: Value) -> None:
        """`count` elements, `stride` bytes apart."""
        self._loop(to, of, count, 1, stride)

    def _loop(self, to: Value, of: Value, count: Value, lanes: int, stride: Any) -> None:
        f = self.f

        def some(i: Value, _: list[Value]) -> None:
            value = f.load(vector(self.stored, lanes), of, f.mul(i, stride))
            f.store(self._convert(value, lanes), to, f.mul(i, WIDTHS[self.element]))

        f.loop(0, count, some, step=lanes)

    def _convert(self, value: Value, lanes: int) -> Value:
        f = self.f
        if self.arithmetic == "f32":
            return widen(f, self.dtype.name, value, self.host)
        if self.arithmetic == "u8s8":
            if not bias(self.dtype):
                return value
            return f.b.xor(value, f.constant(I8, -128, lanes))
        value = to_width(f, value, self.element, limits(self.dtype)[0] < 0, lanes)
        return f.b.sub(value, self.zeros[lanes])


def to_width(f: Function, value: Value, element: Any, signed: bool, lanes: int) -> Value:
    """Integers in another width."""
    have, want = WIDTHS[value.type.element], WIDTHS[element]
    if have == want:
        return value
    kind = vector(element, lanes)
    widen: Callable[[Value, Any], Value] = f.b.sext if signed else f.b.zext
    return widen(value, kind) if have < want else f.b.trunc(value, kind)
