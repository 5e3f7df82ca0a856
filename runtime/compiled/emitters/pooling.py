"""npu.pool2d: windows over an image, a vector of channels at a time.

Positions of the padding change no result, so windows are cut to the image: rows once per row of the
output, columns where a window may reach beyond the image. What lies between such columns is taken
several columns at a time, or, where windows begin in neighbouring columns, as one long line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.npu.vectors import Pool2DOp
from npu_dialect.runtime.compiled.builder import F32, I32, Function, Value, Whole
from npu_dialect.runtime.compiled.emitters.copies import with_input_apart
from npu_dialect.runtime.compiled.emitters.finish import lower_finish
from npu_dialect.runtime.compiled.folds import Fold, Nest, Vectors, fold_vectors
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call, Code, Fields
from npu_dialect.runtime.compiled.translate import (
    Context,
    NotEmittedError,
    lowers,
    separate,
)

POOL = Fields(
    "input",
    "finish",
    "channels",
    "chunk",
    "chunks",
    "pitch",
    "x_zero",
    "divisor",
    image=2,
    output=2,
    size=2,
    steps=2,
    dilations=2,
    pads=2,
    strides=3,
)
"""`chunk` columns are computed before they are finished, of `chunks` chunks in a row; a position's
results take `pitch` bytes. `divisor`: 0, or what `avg` divides by everywhere.
"""
SCRATCH = 8192
"""Bytes of results that are computed before they are finished."""
SLACK = 256
"""Bytes behind the results that may be written."""


def fold_of(kind: str, dtype: str) -> Fold:
    """How a kind of pooling combines elements."""
    if kind == "max":
        return Fold(kind, dtype)
    return Fold("sum", dtype, "i32" if kind == "sum" else "f32")


@lowers(Pool2DOp)
def lower_pool(values: Values, context: Context) -> Sequence[Call]:
    """A pooling, in the mode that its strides allow."""
    separate(values["output"], *(values[n] for n in ("params", "table") if n in values))
    values, first = with_input_apart(values)
    return [*first, _call(values, context)]


def _call(values: Values, context: Context) -> Call:
    source: Operand = values["input"]
    output: Operand = values["output"]
    kind: str = values["kind"]
    if kind == "sum" and source.dtype.is_float:
        raise NotEmittedError("sums of floats in whole numbers")
    fold = fold_of(kind, source.dtype.name)
    rows, columns, channels = output.dims
    _, along, step = source.strides
    size = source.dtype.itemsize
    unit = step == size or channels == 1
    dense = unit and along == channels * size and values["strides"][1] == 1
    lanes = fold.lanes(context.host) if unit else 1
    padded = channels if dense else -(-channels // lanes) * lanes
    pitch = padded * fold.result_size
    chunk = max(1, min(columns, SCRATCH // max(pitch, 1)))
    spec, words = lower_finish(
        values,
        kernel_of(context.kernels, values) if "kernel" in values else None,
        fold.result,
        output,
        rows=rows,
        columns=columns,
        channels=channels,
        sums_stride=pitch,
        context=context,
    )
    window: int = values["size"][0] * values["size"][1]
    record = POOL.pack(
        words,
        input=Address.of(source),
        finish=Code(spec),
        channels=channels,
        chunk=chunk,
        chunks=-(-columns // chunk) if channels else 0,
        pitch=pitch,
        x_zero=values["x_zero"] if kind == "sum" else 0,
        divisor=window if values["count_include_pad"] else 0,
        image=source.dims[:2],
        output=(rows, columns),
        size=values["size"],
        steps=values["strides"],
        dilations=values["dilations"],
        pads=values["pads"][:2],
        strides=(*source.strides[:2], size if unit else step),
    )
    routine = ("pool", kind, source.dtype.name, "line" if dense else "columns", unit)
    return Call(routine, record, chunk * pitch + SLACK)


@dataclass
class Axis:
    """One axis of the image and of the windows."""

    extent: Value
    size: Value
    step: Value
    dilation: Value
    pad: Value

    def window(self, f: Function, position: Value) -> tuple[Value, Value]:
        """(first place in the image, number of places) of the window of an output position."""
        start = f.sub(f.mul(position, self.step), self.pad)
        before = f.max(f.sub(0, start), 0)
        low = f.div(f.add(before, f.sub(self.dilation, 1)), self.dilation)
        room = f.max(f.sub(self.extent, start), 0)
        high = f.min(f.div(f.add(room, f.sub(self.dilation, 1)), self.dilation), self.size)
        return f.add(start, f.mul(low, self.dilation)), f.max(f.sub(high, low), 0)

    def whole(self, f: Function) -> tuple[Value, Value]:
        """The output positions [first, last) whose windows lie within the image."""
        first = f.div(f.add(self.pad, f.sub(self.step, 1)), self.step)
        reach = f.mul(f.sub(self.size, 1), self.dilation)
        room = f.sub(f.add(self.extent, self.pad), reach)  # start + reach < extent
        last = f.div(f.add(f.max(room, 0), f.sub(self.step, 1)), self.step)
        return first, f.max(last, first)


class _Pool:
    """The code of one routine."""

    def __init__(self, f: Function, host: Host, kind: str, dtype: str, unit: bool) -> None:
        self.f, self.host, self.kind = f, host, kind
        self.fold = fold_of(kind, dtype)
        self.lanes = self.fold.lanes(host) if unit else 1
        record = f["record"]

        def word(name: str, element: int = 0) -> Value:
            return POOL.whole(f, record, name, element)

        names = ("image", "size", "steps", "dilations", "pads")
        self.rows, self.columns = (Axis(*(word(n, axis) for n in names)) for axis in (0, 1))
        self.channels, self.pitch = word("channels"), word("pitch")
        self.along, self.across, self.step = (word("strides", i) for i in range(3))
        self.x_zero, self.divisor = word("x_zero"), word("divisor")
        self.input = POOL.pointer(f, record, "input")
        self.finish = POOL.pointer(f, record, "finish")
        self.width = f.mul(self.step, self.lanes)
        """Bytes from one vector of channels to the next."""
        self.result_width = self.lanes * self.fold.result_size

    def vectors(self, elements: Value) -> Value:
        """How many vectors hold some elements."""
        f = self.f
        return f.div(f.add(elements, self.lanes - 1), self.lanes)

    def emit(self, mode: str) -> None:
        """Loops over the chunks of rows, and over columns whose windows are cut or whole."""
        f, record = self.f, self.f["record"]
        chunk, chunks = (POOL.whole(f, record, n) for n in ("chunk", "chunks"))
        rows, columns = (POOL.whole(f, record, "output", i) for i in range(2))
        inside = self.columns.whole(f)
        low, high = f.share(f.mul(rows, chunks), f["thread"], f["threads"])

        def one(index: Value, _: list[Value]) -> None:
            row = f.b.udiv(index, chunks)
            first = f.mul(f.b.urem(index, chunks), chunk)
            last = f.min(f.add(first, chunk), columns)
            place, count = self.rows.window(f, row)
            line = f.at(self.input, f.mul(place, self.along))
            taps = (count, f.mul(self.rows.dilation, self.along))
            begin, end = (f.max(f.min(c, last), first) for c in inside)

            def edge(column: Value, _: list[Value]) -> None:
                self.edge(line, taps, column, f.sub(column, first))

            target = f.at(f["scratch"], self.at(f.sub(begin, first)))
            if mode == "line":  # from left to right, as a line writes further than it should
                f.loop(first, begin, edge)
                self.by_line(line, taps, begin, end, target)
                f.loop(end, last, edge)
            else:
                skipped = f.sub(end, begin)
                cut = f.sub(f.sub(last, first), skipped)
                f.loop(0, cut, lambda i, _: edge(_beyond(f, f.add(first, i), begin, skipped), []))
                self.by_columns(line, taps, begin, end, target)
            number = f.add(f.mul(row, columns), first)
            results = [f.at(record, 8 * POOL.size), f["scratch"], number, f.sub(last, first)]
            f.call(self.finish, results)

        f.loop(low, high, one)
        f.done()

    def at(self, position: Value) -> Whole:
        """Bytes of the results of so many positions."""
        return self.f.mul(position, self.pitch)

    def edge(self, line: Value, taps: tuple[Value, Value], column: Value, place: Value) -> None:
        """One column, whose window may reach beyond the image."""
        f = self.f
        start, count = self.columns.window(f, column)
        source = f.at(line, f.mul(start, self.across))
        nest = [taps, (count, f.mul(self.columns.dilation, self.across))]
        target = f.at(f["scratch"], self.at(place))
        vectors = Vectors(self.vectors(self.channels), self.width, self.result_width)
        self.compute(source, target, vectors, nest)

    def between(self, line: Value, taps: tuple[Value, Value], begin: Value) -> tuple[Value, Nest]:
        """Where the window of a column within the image begins, and its places."""
        f = self.f
        start = f.sub(f.mul(begin, self.columns.step), self.columns.pad)
        dilation = f.mul(self.columns.dilation, self.across)
        return f.at(line, f.mul(start, self.across)), [taps, (self.columns.size, dilation)]

    def by_columns(self, line: Value, taps: Any, begin: Value, end: Value, target: Value) -> None:
        """Several columns at a time, vector by vector of their channels."""
        f = self.f
        source, nest = self.between(line, taps, begin)
        apart = f.mul(self.columns.step, self.across)
        vectors = Vectors(f.sub(end, begin), apart, self.pitch)

        def channels(i: Value, _: list[Value]) -> None:
            here = f.at(source, f.mul(i, self.width))
            self.compute(here, f.at(target, f.mul(i, self.result_width)), vectors, nest)

        f.loop(0, self.vectors(self.channels), channels)

    def by_line(self, line: Value, taps: Any, begin: Value, end: Value, target: Value) -> None:
        """The channels of all columns as one line. What is written behind it is computed next."""
        f = self.f
        source, nest = self.between(line, taps, begin)
        count = self.vectors(f.mul(f.sub(end, begin), self.channels))
        self.compute(source, target, Vectors(count, self.width, self.result_width), nest)

    def compute(self, source: Value, target: Value, vectors: Vectors, nest: Nest) -> None:
        """Results, finished as the kind asks for, to the scratch memory."""
        f, fold = self.f, self.fold
        count = f.mul(nest[0][0], nest[1][0])
        adjust = self._adjustment(count)

        def finish(totals: list[Value]) -> Value:
            result = fold.value(f, totals)
            if self.kind == "sum":
                return f.b.sub(result, adjust)
            return f.b.fdiv(result, adjust) if self.kind == "avg" else result

        fold_vectors(f, self.host, fold, self.lanes, source, target, vectors, nest, finish)

    def _adjustment(self, count: Value) -> Value:
        """What the sum of `count` elements is decreased by, or divided by."""
        f = self.f
        if self.kind == "sum":
            return f.splat(f.b.trunc(f.mul(count, self.x_zero), I32), self.lanes)
        given = f.b.icmp_signed("!=", self.divisor, f.whole(0))
        return f.splat(f.b.sitofp(f.b.select(given, self.divisor, count), F32), self.lanes)


@emitter("pool")
def emit_pool(
    module: Any, symbol: str, host: Host, kind: str, dtype: str, mode: str, unit: bool
) -> None:
    """Pools; `unit`: channels are neighbours."""
    _Pool(Function(module, symbol, ROUTINE), host, kind, dtype, unit).emit(mode)


def _beyond(f: Function, column: Value, begin: Value, skipped: Value) -> Value:
    """The column itself before `begin`, else the one behind those that are skipped."""
    return f.b.select(f.less(column, begin), column, f.add(column, skipped))
