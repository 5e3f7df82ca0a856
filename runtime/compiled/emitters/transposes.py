"""Copies whose elements are neighbours along one dimension at the source and along another at the
destination: squares of elements are loaded by rows and stored by columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npu_dialect.runtime.compiled.builder import I8, I16, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.emitters.strides import RANK, each_stretch, transposed
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.records import ROUTINE, Fields

ELEMENT = {1: I8, 2: I16, 4: I32, 8: I64}
REGISTER = 16
"""Bytes of a row of a square."""
LINE = 64
"""Bytes of a cache line."""
FEW = (2, 3, 4)
"""Extents along which elements are interleaved by one shuffle."""

TRANSPOSE = Fields(
    "destination", "source", extents=2, apart=2, dims=RANK - 2, to=RANK - 2, of=RANK - 2
)
"""Elements are neighbours at the source along extent 0, at the destination along extent 1; apart:
the stride of extent 0 at the destination and of extent 1 at the source.
"""


def form(
    size: int, dims: Sequence[int], to: Sequence[int], of: Sequence[int]
) -> tuple[Spec, tuple[int, int]] | None:
    """The routine and the two dimensions (neighbours at the source, at the destination) of a copy
    of elements of `size` bytes that is transposed; None where another form suits it better.
    """
    if size not in ELEMENT or size not in to or size not in of:
        return None
    a, b = of.index(size), to.index(size)
    if a == b:
        return None
    rows, columns = dims[a], dims[b]
    if columns in FEW and to[a] == columns * size and rows >= REGISTER // size:
        return ("copy_zip", size, columns), (a, b)
    if rows in FEW and of[b] == rows * size and columns >= REGISTER // size:
        return ("copy_unzip", size, rows), (a, b)
    least = 2 if size >= 4 else 4  # smaller squares of short elements cost more than they save
    for side in (REGISTER // size, REGISTER // size // 2, REGISTER // size // 4):
        if least <= side <= min(rows, columns):
            return ("copy_transposed", size, side), (a, b)
    return None


@emitter("copy_transposed")
def emit_transposed(module: Any, symbol: str, host: Host, size: int, side: int) -> None:
    """Copies squares of `side` elements of `size` bytes a side.

    Strips as wide as a cache line at the source run along the destination's lines. The last squares
    end where the block ends, and so may overlap the ones before them.
    """
    f = Function(module, symbol, ROUTINE)
    (rows, columns), (to, of), dims, ends = _fields(f)
    kind = vector(ELEMENT[size], side)
    width = max(LINE // size, side)
    outs = [f.mul(to, i) for i in range(side)]
    ins = [f.mul(of, i) for i in range(side)]

    def stretch(at: Sequence[Value], first: Value, last: Value) -> None:
        def strip(number: Value, _: list[Value]) -> None:
            start = f.mul(number, width)
            stop = f.min(f.add(start, width), rows)

            def band(column: Value, _: list[Value]) -> None:
                column = f.min(column, f.sub(columns, side))
                target = f.at(at[0], f.mul(column, size))
                source = f.at(at[1], f.mul(column, of))

                def square(row: Value, _: list[Value]) -> None:
                    row = f.min(row, f.sub(rows, side))
                    here, there = f.at(target, f.mul(row, to)), f.at(source, f.mul(row, size))
                    loaded = [f.load(kind, there, step) for step in ins]
                    for step, value in zip(outs, transposed(f, loaded), strict=True):
                        f.store(value, here, step)

                f.loop(start, stop, square, step=side)

            f.loop(0, columns, band, step=side)

        f.loop(first, last, strip)

    each_stretch(f, dims, f.div(f.add(rows, width - 1), width), ends, stretch)
    f.done()


@emitter("copy_zip")
def emit_zip(module: Any, symbol: str, host: Host, size: int, few: int) -> None:
    """Interleaves `few` rows of elements of `size` bytes."""
    f = Function(module, symbol, ROUTINE)
    (rows, _), (_, of), dims, ends = _fields(f)
    lanes = REGISTER // size
    kind = vector(ELEMENT[size], lanes)
    order = [row * lanes + lane for lane in range(lanes) for row in range(few)]

    def block(to: Value, source: Value, at: Value) -> None:
        parts = [f.load(kind, source, f.add(f.mul(at, size), f.mul(of, i))) for i in range(few)]
        parts += parts[:1] * (few & 1)
        whole = f.concat(parts)
        f.store(f.shuffle(whole, whole, order), to, f.mul(at, size * few))

    _blocks(f, rows, lanes, dims, ends, block)
    f.done()


@emitter("copy_unzip")
def emit_unzip(module: Any, symbol: str, host: Host, size: int, few: int) -> None:
    """Splits what `emit_zip` interleaves."""
    f = Function(module, symbol, ROUTINE)
    (_, columns), (to, _), dims, ends = _fields(f)
    lanes = REGISTER // size
    kind = vector(ELEMENT[size], lanes * few)

    def block(target: Value, source: Value, at: Value) -> None:
        whole = f.load(kind, source, f.mul(at, size * few))
        for i in range(few):
            row = f.shuffle(whole, whole, range(i, lanes * few, few))
            f.store(row, target, f.add(f.mul(at, size), f.mul(to, i)))

    _blocks(f, columns, lanes, dims, ends, block)
    f.done()


def _blocks(f: Function, extent: Value, lanes: int, dims: Any, ends: Any, block: Any) -> None:
    """block(destination, source, place) for the places of a thread's share, `lanes` apart."""

    def stretch(at: Sequence[Value], first: Value, last: Value) -> None:
        def one(number: Value, _: list[Value]) -> None:
            block(*at, f.min(f.mul(number, lanes), f.sub(extent, lanes)))

        f.loop(first, last, one)

    each_stretch(f, dims, f.div(f.add(extent, lanes - 1), lanes), ends, stretch)


def _fields(f: Function) -> tuple[Any, Any, Any, Any]:
    """extents, apart, dims, ends."""
    record = f["record"]

    def words(name: str, count: int) -> list[Value]:
        return [TRANSPOSE.whole(f, record, name, i) for i in range(count)]

    ends = [
        (TRANSPOSE.pointer(f, record, "destination"), words("to", RANK - 2)),
        (TRANSPOSE.pointer(f, record, "source"), words("of", RANK - 2)),
    ]
    return words("extents", 2), words("apart", 2), words("dims", RANK - 2), ends
