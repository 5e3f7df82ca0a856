"""Instructions with an index stream: rows that are read, written or accumulated by indices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.npu.indexed import DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.runtime.compiled.builder import F32, I8, I16, I32, I64, Function, Value
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call, Fields, Word
from npu_dialect.runtime.compiled.translate import (
    Context,
    NotEmittedError,
    lowers,
    separate,
)

ELEMENT = {1: I8, 2: I16, 4: I32, 8: I64}
VALUE = {"i32": I32, "i64": I64, "f32": F32}

ROWS = Fields(
    *("block", "listed", "indices", "rows", "count", "elements", "index_step", "first"),
    block_steps=2,
    listed_steps=2,
)
"""A block of rows, and those in the order of the indices. `elements` of a row that is moved as one
run are its bytes.
"""


@lowers(DmaGatherOp)
def lower_gather(values: Values, context: Context) -> Call:
    """Rows in one move each where they are dense, else element by element."""
    source, indices, destination = (values[n] for n in ("source", "indices", "destination"))
    separate(destination, source, indices)
    width, elements = _moves(source, destination)
    words = _words(source, destination, indices, elements, 0)
    return Call(("gather", indices.dtype.itemsize, width), words)


@lowers(DmaScatterOp)
def lower_dma_scatter(values: Values, context: Context) -> Call:
    """By one thread, since rows go in order."""
    source, indices, destination = (values[n] for n in ("source", "indices", "destination"))
    separate(destination, source, indices)
    width, elements = _moves(destination, source)
    words = _words(destination, source, indices, elements, values["first"])
    return Call(("scatter", "set", indices.dtype.itemsize, width), words, alone=True)


@lowers(ScatterOp)
def lower_scatter(values: Values, context: Context) -> Call:
    """By one thread, since rows go in order."""
    output, indices, updates = (values[n] for n in ("output", "indices", "updates"))
    separate(output, updates, indices)
    kind = values["kind"]
    if kind in ("max", "min"):
        raise NotEmittedError("it takes a maximum or minimum")
    width, elements = _moves(output, updates) if kind == "set" else (0, updates.dims[1])
    what = width if kind == "set" else updates.dtype.name
    words = _words(output, updates, indices, elements, values["first"])
    return Call(("scatter", kind, indices.dtype.itemsize, what), words, alone=True)


def _moves(block: Operand, listed: Operand) -> tuple[int, int]:
    """(bytes of a move, 0 for a whole row at once; moves of a row, or its bytes)."""
    size, elements = block.dtype.itemsize, block.dims[1]
    dense = elements == 1 or block.strides[1] == listed.strides[1] == size
    if not dense:
        return size, elements
    row = size * elements
    return (row, 1) if row in ELEMENT else (0, row)


def _words(
    block: Operand, listed: Operand, indices: Operand, elements: int, first: int
) -> list[Word]:
    return ROWS.pack(
        block=Address.of(block),
        listed=Address.of(listed),
        indices=Address.of(indices),
        rows=block.dims[0],
        count=listed.dims[0],
        elements=elements,
        index_step=indices.strides[0],
        first=first,
        block_steps=list(block.strides),
        listed_steps=list(listed.strides),
    )


@dataclass
class _Rows:
    """The fields of a record, read before any loop."""

    f: Function
    index_bytes: int

    def __post_init__(self) -> None:
        f, record = self.f, self.f["record"]
        self.block, self.listed, self.indices = (
            ROWS.pointer(f, record, n) for n in ("block", "listed", "indices")
        )
        self.rows, self.count, self.elements, self.index_step, self.first = (
            ROWS.whole(f, record, n) for n in ("rows", "count", "elements", "index_step", "first")
        )
        self.block_steps, self.listed_steps = (
            [ROWS.whole(f, record, n, k) for k in range(2)] for n in ("block_steps", "listed_steps")
        )

    def index(self, k: Value) -> Value:
        """Index number k."""
        found = self.f.load(ELEMENT[self.index_bytes], self.indices, self.f.mul(k, self.index_step))
        return found if self.index_bytes == 8 else self.f.b.sext(found, I64)

    def of_block(self, row: Value) -> Value:
        """The address of a row of the block."""
        return self.f.at(self.block, self.f.mul(row, self.block_steps[0]))

    def of_list(self, k: Value) -> Value:
        """The address of row k of the list."""
        return self.f.at(self.listed, self.f.mul(k, self.listed_steps[0]))

    def each(self, to: Value, of: Value, steps: Any, do: Callable[[Value, Value], None]) -> None:
        """do(addresses) for each element of two rows."""

        def element(e: Value, _: list[Value]) -> None:
            do(*(self.f.at(p, self.f.mul(e, s)) for p, s in zip((to, of), steps, strict=True)))

        self.f.loop(0, self.elements, element)

    def move(self, width: int, to: Value, of: Value, steps: Any) -> None:
        """Copies a row, at once or by moves of `width` bytes."""
        f = self.f
        if width == 0:
            f.copy(to, of, self.elements)
            return
        self.each(to, of, steps, lambda a, b: f.store(f.load(ELEMENT[width], b), a))


@emitter("gather")
def emit_gather(module: Any, symbol: str, host: Host, index_bytes: int, width: int) -> None:
    """Copies the rows of the block that indices name to those of the list."""
    f = Function(module, symbol, ROUTINE)
    r = _Rows(f, index_bytes)
    steps = (r.listed_steps[1], r.block_steps[1])
    last = f.sub(r.rows, 1)

    def row(k: Value, _: list[Value]) -> None:
        index = r.index(k)
        index = f.b.select(f.less(index, 0), f.add(index, r.rows), index)
        index = f.min(f.max(index, 0), last)
        r.move(width, r.of_list(k), r.of_block(index), steps)

    f.loop(*f.share(r.count, f["thread"], f["threads"]), row)
    f.done()


@emitter("scatter")
def emit_scatter(
    module: Any, symbol: str, host: Host, kind: str, index_bytes: int, what: int | str
) -> None:
    """Brings the rows of the list to those of the block that indices name: kind set by moves of
    `what` bytes, the others on elements of the type `what`.
    """
    f = Function(module, symbol, ROUTINE)
    r = _Rows(f, index_bytes)
    steps = (r.block_steps[1], r.listed_steps[1])

    def accumulate(to: Value, of: Value) -> None:
        element = VALUE[str(what)]
        f.store(_OPERATIONS[kind, element is F32](f)(f.load(element, to), f.load(element, of)), to)

    def row(k: Value, _: list[Value]) -> None:
        index = f.sub(r.index(k), r.first)

        def bring() -> None:
            to, of = r.of_block(index), r.of_list(k)
            if isinstance(what, int):
                r.move(what, to, of, steps)
            else:
                r.each(to, of, steps, accumulate)

        f.when(f.b.icmp_unsigned("<", index, r.rows), bring)

    f.loop(0, r.count, row)
    f.done()


_OPERATIONS: dict[tuple[str, bool], Callable[[Function], Callable[[Value, Value], Value]]] = {
    ("add", False): lambda f: f.b.add,
    ("add", True): lambda f: f.b.fadd,
    ("mul", False): lambda f: f.b.mul,
    ("mul", True): lambda f: f.b.fmul,
}
"""By kind and whether elements are floats."""
