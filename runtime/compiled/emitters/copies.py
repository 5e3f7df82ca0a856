"""Instructions of the dma engine: strided copies and fills.

A copy is brought into the form that suits it best: dimensions in the order of the destination's
addresses, neighbours merged, and the innermost elements joined to a run of bytes where they are
neighbours on both sides. What is contiguous on either side in different dimensions is transposed in
squares (`transposes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.runtime.compiled.builder import I8, I16, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.elements import store_first
from npu_dialect.runtime.compiled.emitters.strides import (
    RANK,
    End,
    each_stretch,
    merged,
    padded,
)
from npu_dialect.runtime.compiled.emitters.transposes import TRANSPOSE, form
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.records import ROUTINE, SHARED, Address, Call, Fields, Word
from npu_dialect.runtime.compiled.translate import (
    Context,
    NotEmittedError,
    coincide,
    lowers,
    overlap,
)

ELEMENT = {1: I8, 2: I16, 4: I32, 8: I64}
LONG = 4096
"""Bytes from which the C library's copy is worth its call."""
PIECE = 1024
"""Bytes (of a copy) or elements (of a fill) that are not divided among threads."""
SHORT = 16
"""Positions below which a loop costs more than going from one to the next such loop."""
UNROLLED = 4
"""Rows of short runs that are moved at a time."""

# The addresses come first in each of these.
COPY = Fields("destination", "source", "run", dims=RANK, to=RANK, of=RANK)
"""`run` bytes at each position of `dims`."""
SPREAD = Fields("destination", "source", "run", dims=RANK, to=RANK, of=RANK)
"""`run` times the element at each position of `dims`."""
FILL = Fields("destination", "bits", "run", dims=RANK, to=RANK)
"""As `SPREAD`, of one element everywhere."""


@dataclass
class Layout:
    """Blocks of the same extents, with as few dimensions as possible, by descending stride of the
    first one, whose strides are positive.
    """

    shifts: list[int]
    """Bytes from each block's first element to the one with the lowest address of the first."""
    dims: list[int]
    strides: list[list[int]]

    @staticmethod
    def of(extents: Sequence[int], *strides: Sequence[int]) -> Layout:
        if 0 in extents:
            return Layout([0] * len(strides), [0, 1], [[0, 0] for _ in strides])
        first = strides[0]
        axes = [a for a, extent in enumerate(extents) if extent > 1]
        axes.sort(key=lambda a: -abs(first[a]))
        back = [a for a in axes if first[a] < 0]
        shifts = [sum((extents[a] - 1) * s[a] for a in back) for s in strides]
        steps = [[-s[a] if a in back else s[a] for a in axes] for s in strides]
        return Layout(shifts, *merged([extents[a] for a in axes], *steps))

    def pop(self) -> int:
        """Takes the last dimension away and gives its extent."""
        for steps in self.strides:
            steps.pop()
        return self.dims.pop()

    def overlaps_itself(self, size: int) -> bool:
        """Whether elements of `size` bytes of the first block share bytes."""
        for extent, stride in zip(reversed(self.dims), reversed(self.strides[0]), strict=True):
            if extent > 1 and stride < size:
                return True
            size += (extent - 1) * stride
        return False

    def longest_last(self) -> None:
        """Moves the greatest extent to the end where the last one makes a short loop."""
        if self.dims and self.dims[-1] < SHORT:
            axis = self.dims.index(max(self.dims))
            for items in (self.dims, *self.strides):
                items.append(items.pop(axis))

    def innermost(self, *strides: int) -> bool:
        """Whether the last dimension has these strides."""
        return bool(self.dims) and tuple(s[-1] for s in self.strides) == strides


@lowers(DmaCopyOp)
def lower_copy(values: Values, context: Context) -> Sequence[Call]:
    """A copy in the form that suits it; one that overlaps itself goes through memory of its own."""
    source: Operand = values["source"]
    destination: Operand = values["destination"]
    if not overlap(destination, source):
        return [_call(destination, source, source.dims)]
    if coincide(destination, source):
        return [_call(destination, source, (0,))]
    staged, call = stage(source)
    return [call, _call(destination, staged, source.dims)]


def stage(source: Operand) -> tuple[Operand, Call]:
    """A block's content in memory that the threads share, and the call that brings it there."""
    staged = Operand.dense(SHARED, 0, source.dtype, source.dims)
    return staged, replace(_call(staged, source, source.dims), shared=source.size)


def with_input_apart(values: Values) -> tuple[Values, list[Call]]:
    """An instruction's values, where its input does not overlap its output; what to call first."""
    source: Operand = values["input"]
    if not overlap(values["output"], source):
        return values, []
    staged, call = stage(source)
    return {**values, "input": staged}, [call]


def _call(destination: Operand, source: Operand, dims: tuple[int, ...]) -> Call:
    size = destination.dtype.itemsize
    spec, shifts, words = _copy(size, dims, destination.strides, source.strides)
    places = [
        Address(o.space, o.address + shift)
        for o, shift in zip((destination, source), shifts, strict=True)
    ]
    return Call(spec, [*places, *words])


@lru_cache(1 << 14)
def _copy(
    size: int, dims: tuple[int, ...], to: tuple[int, ...], of: tuple[int, ...]
) -> tuple[Spec, list[int], list[Word]]:
    """The routine of a copy, by how many bytes its addresses move, and the words behind them."""
    layout = Layout.of(dims, to, of)
    if layout.overlaps_itself(size):
        raise NotEmittedError("its destination overlaps itself")
    run = size * layout.pop() if layout.innermost(size, size) else size
    square = form(run, layout.dims, *layout.strides)
    if square is not None:
        return square[0], layout.shifts, _square_words(layout, *square[1])
    if run in ELEMENT and layout.innermost(run, 0):
        times = layout.pop()
        return ("copy_spread", run, times > PIECE), layout.shifts, _words(SPREAD, layout, times)
    layout.longest_last()
    return _rows_routine(run), layout.shifts, _words(COPY, layout, run)


def _square_words(layout: Layout, a: int, b: int) -> list[Word]:
    to, of = layout.strides
    outer = [i for i in range(len(layout.dims)) if i not in (a, b)]
    return TRANSPOSE.pack(
        destination=0,
        source=0,
        extents=(layout.dims[a], layout.dims[b]),
        apart=(to[a], of[b]),
        dims=padded([layout.dims[i] for i in outer], 1, RANK - 2),
        to=padded([to[i] for i in outer], 0, RANK - 2),
        of=padded([of[i] for i in outer], 0, RANK - 2),
    )[2:]


def _words(fields: Fields, layout: Layout, run: int) -> list[Word]:
    to, of = layout.strides
    return fields.pack(
        destination=0,
        source=0,
        run=run,
        dims=padded(layout.dims, 1),
        to=padded(to, 0),
        of=padded(of, 0),
    )[2:]


def _rows_routine(run: int) -> Spec:
    """What moves runs of that many bytes: one move, two that overlap, a loop, or a library call."""
    if run >= LONG:
        return ("copy_long",)
    if run > 64:
        return ("copy_runs",)
    width = 1 << (run.bit_length() - 1)
    return ("copy_rows", width, run == width)


@emitter("copy_long")
def emit_long(module: Any, symbol: str, host: Host) -> None:
    """Copies runs of many bytes, which the threads divide."""
    f = Function(module, symbol, ROUTINE)
    run = COPY.whole(f, f["record"], "run")
    dims, ends = _ends(f, COPY)
    pieces = f.div(f.add(run, PIECE - 1), PIECE)

    def stretch(at: Sequence[Value], first: Value, last: Value) -> None:
        start = f.mul(first, PIECE)
        size = f.sub(f.min(f.mul(last, PIECE), run), start)
        f.when(f.less(first, last), lambda: f.copy(f.at(at[0], start), f.at(at[1], start), size))

    each_stretch(f, dims, pieces, ends, stretch)
    f.done()


@emitter("copy_runs")
def emit_runs(module: Any, symbol: str, host: Host) -> None:
    """Copies runs of more than 64 bytes, 64 at a time; the last ones end where the run ends."""
    f = Function(module, symbol, ROUTINE)
    run = COPY.whole(f, f["record"], "run")
    kind = vector(I8, 64)
    last = f.sub(run, 64)

    def move(to: Value, of: Value) -> None:
        final = f.load(kind, of, last)
        f.loop(0, last, lambda i, _: f.store(f.load(kind, of, i), to, i), step=64)
        f.store(final, to, last)

    rows(f, 1, move)
    f.done()


@emitter("copy_rows")
def emit_rows(module: Any, symbol: str, host: Host, width: int, exact: bool) -> None:
    """Copies runs of `width` bytes, else of fewer than twice as many."""
    f = Function(module, symbol, ROUTINE)
    kind = ELEMENT.get(width) or vector(I8, width)
    last = f.sub(COPY.whole(f, f["record"], "run"), width)

    def move(to: Value, of: Value) -> None:
        head = f.load(kind, of)
        if not exact:
            f.store(f.load(kind, of, last), to, last)
        f.store(head, to)

    rows(f, UNROLLED, move)
    f.done()


def _ends(f: Function, fields: Fields) -> tuple[list[Value], list[End]]:
    """The extents, and the ends of a copy: `to` and, where there is one, `of`."""
    record = f["record"]

    def words(name: str) -> list[Value]:
        return [fields.whole(f, record, name, i) for i in range(RANK)]

    ends: list[End] = [(fields.pointer(f, record, "destination"), words("to"))]
    if "of" in fields.offsets:
        ends.append((fields.pointer(f, record, "source"), words("of")))
    return words("dims"), ends


def rows(f: Function, unrolled: int, move: Callable[..., None], fields: Fields = COPY) -> None:
    """move(addresses) for the thread's share of all positions, `unrolled` at a time."""
    dims, ends = _ends(f, fields)
    steps = [strides[-1] for _, strides in ends]
    ahead = [[f.mul(step, u) for step in steps] for u in range(unrolled + 1)]

    def moves(at: Sequence[Value], count: Value, together: int) -> list[Value]:
        def some(_: Value, here: list[Value]) -> list[Value]:
            for u in range(together):
                move(*(f.at(p, ahead[u][e]) for e, p in enumerate(here)))
            return [f.at(p, ahead[together][e]) for e, p in enumerate(here)]

        return f.loop(0, count, some, at)

    def stretch(at: Sequence[Value], first: Value, last: Value) -> None:
        count = f.sub(last, first)
        here = [f.at(p, f.mul(first, step)) for p, step in zip(at, steps, strict=True)]
        if unrolled > 1:
            here = moves(here, f.div(count, unrolled), unrolled)
            count = f.b.urem(count, I64(unrolled))
        moves(here, count, 1)

    each_stretch(f, dims[:-1], dims[-1], ends, stretch)


@lowers(DmaFillOp)
def lower_fill(values: Values, context: Context) -> Call:
    """A fill of runs of elements, or of single ones."""
    destination: Operand = values["destination"]
    size = destination.dtype.itemsize
    layout = Layout.of(destination.dims, destination.strides)
    bits = int(values["bits"]) & (2 ** (8 * size) - 1)
    runs = layout.innermost(size)
    run = layout.pop() if runs else 1
    words = FILL.pack(
        destination=Address(destination.space, destination.address + layout.shifts[0]),
        bits=bits - (bits >> 63 << 64),
        run=run,
        dims=padded(layout.dims, 1),
        to=padded(layout.strides[0], 0),
    )
    return Call(("fill_runs", size, run > PIECE) if runs else ("fill_elements", size), words)


@emitter("copy_spread")
def emit_spread(module: Any, symbol: str, host: Host, size: int, divided: bool) -> None:
    """Repeats single elements of `size` bytes."""
    f = Function(module, symbol, ROUTINE)
    _fill(f, host, SPREAD, size, divided, lambda at: f.load(ELEMENT[size], at[1]))
    f.done()


@emitter("fill_runs")
def emit_fill_runs(module: Any, symbol: str, host: Host, size: int, divided: bool) -> None:
    """Writes one element of `size` bytes to runs of neighbours."""
    f = Function(module, symbol, ROUTINE)
    element = _pattern(f, size)
    _fill(f, host, FILL, size, divided, lambda at: element)
    f.done()


@emitter("fill_elements")
def emit_fill_elements(module: Any, symbol: str, host: Host, size: int) -> None:
    """Writes one element of `size` bytes everywhere."""
    f = Function(module, symbol, ROUTINE)
    element = _pattern(f, size)

    def move(to: Value) -> None:
        f.store(element, to)

    rows(f, UNROLLED, move, FILL)
    f.done()


def _pattern(f: Function, size: int) -> Value:
    bits = FILL.whole(f, f["record"], "bits")
    return bits if size == 8 else f.b.trunc(bits, ELEMENT[size])


def _fill(
    f: Function,
    host: Host,
    fields: Fields,
    size: int,
    divided: bool,
    element: Callable[[Sequence[Value]], Value],
) -> None:
    """Runs of elements(addresses); `divided`: the threads divide runs too."""
    run = fields.whole(f, f["record"], "run")
    lanes = host.vector_bytes // size

    def spread(at: Sequence[Value], start: Value, stop: Value) -> None:
        wide = f.splat(element(at), lanes)
        last = f.sub(stop, lanes)

        def store(i: Value) -> None:
            f.store(wide, f.at(at[0], f.mul(i, size)))

        def vectors() -> None:
            f.loop(start, last, lambda i, _: store(i), step=lanes)
            store(last)

        def few() -> None:
            count = f.max(f.sub(stop, start), 0)
            store_first(f, wide, f.at(at[0], f.mul(start, size)), count, host)

        f.when(f.less(last, start), few, vectors)

    if not divided:
        rows(f, 1, lambda *at: spread(at, f.whole(0), run), fields)
        return

    def stretch(at: Sequence[Value], first: Value, last: Value) -> None:
        spread(at, f.mul(first, PIECE), f.min(f.mul(last, PIECE), run))

    dims, ends = _ends(f, fields)
    each_stretch(f, dims, f.div(f.add(run, PIECE - 1), PIECE), ends, stretch)
