"""The routine of convolutions and matrix products: blocks of positions times panels of channels.

A thread takes its share of the output positions in strips: it brings the input of a strip into the
form that the arithmetic wants (`images`), then computes the sums of some positions at a time for
all channels, by register tiles of up to `rows` positions and `vectors` vectors of channels, and
hands them to the output stage while they are in the cache.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from npu_dialect.runtime.compiled.builder import (
    F32,
    I16,
    I32,
    I64,
    POINTER,
    Function,
    Value,
    vector,
)
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.llvm import ir
from npu_dialect.runtime.compiled.packing import GROUP_BYTES
from npu_dialect.runtime.compiled.records import ROUTINE, Fields

PRODUCT = Fields(
    "positions",  # output positions, and how many of them a row has
    "columns",
    "strip",  # positions per strip, and per block
    "block",
    "image",  # routine that brings input rows into scratch, 0: the input is read where it lies
    "image_record",
    "input",  # address of the input where it is read in place
    "image_row",  # input rows per output row
    "image_span",  # input rows of a window
    "row_step",  # bytes from the window of a position to the next row's, the next column's
    "column_step",
    "runs",  # runs of a window: count, where each begins, groups of each
    "run_offsets",
    "groups",
    "weights",
    "start",  # sums to start from, one per channel
    "padded",  # channels, filled up to whole vectors
    "partial",  # sums to start from instead, per position; 0: none
    "partial_row",
    "partial_column",
    "finish",  # routine of the output stage; its record is the tail
    "scratch_sums",  # offsets in scratch
    "scratch_offsets",
    "scratch_image",
)


HEIGHTS = (12, 8, 6, 4, 2, 1)
"""Positions of a register tile."""


@dataclass(frozen=True)
class Tile:
    """Register tiles: up to `vectors` vectors of channels, and `rows` positions of so many."""

    rows: int
    vectors: int

    @staticmethod
    def of(host: Host, positions: int) -> Tile:
        """The tile for so many positions."""
        vectors = 4 if host.registers == 32 else 2
        return Tile(6, vectors) if positions > 1 else Tile(1, 4)

    def heights(self, width: int) -> list[int]:
        """How many positions tiles of `width` vectors take, greatest first: the fewer vectors, the
        more positions, so that there are always enough sums to hide the latency of products.
        """
        if self.rows == 1:
            return [1]
        most = self.rows * self.vectors // width
        return [h for h in HEIGHTS if h <= most]

    def sizes(self) -> list[tuple[int, int]]:
        """(positions, vectors) of all tiles."""
        return [(h, w) for w in range(1, self.vectors + 1) for h in self.heights(w)]


def spec(arithmetic: str, tile: Tile, accumulate: bool) -> Spec:
    """The routine's name."""
    return ("product", arithmetic, tile.rows, tile.vectors, accumulate)


@emitter("product")
def emit(
    module: Any,
    symbol: str,
    host: Host,
    arithmetic: str,
    rows: int,
    vectors: int,
    accumulate: bool,
) -> None:
    """One instruction's products; `accumulate`: they are added to partial sums."""
    tile = Tile(rows, vectors)
    kernels = {
        (height, width): micro_kernel(
            module, host, arithmetic, height, width, from_zero=not accumulate
        )
        for height, width in tile.sizes()
    }
    f = Function(module, symbol, ROUTINE)
    _Product(f, host, arithmetic, accumulate, kernels, tile).emit()
    f.done()


class Positions:
    """The loops over strips and blocks of positions; `sums` is what is computed for a block."""

    def __init__(self, f: Function, host: Host, arithmetic: str, accumulate: bool) -> None:
        self.f, self.host = f, host
        self.arithmetic, self.accumulate = arithmetic, accumulate
        record = f["record"]
        self.w = {name: PRODUCT.whole(f, record, name) for name in PRODUCT.offsets}
        self.block_sums = f.at(f["scratch"], self.w["scratch_sums"])
        self.offsets = f.at(f["scratch"], self.w["scratch_offsets"])
        self.sums_row = f.mul(self.w["padded"], 4)

    @property
    def is_float(self) -> bool:
        return self.arithmetic == "f32"

    @abstractmethod
    def sums(self, base: Value, count: Value) -> None:
        """Computes `block_sums` of `count` positions; their windows begin at `base` + `offsets`."""

    def address(self, name: str) -> Value:
        return PRODUCT.pointer(self.f, self.f["record"], name)

    def emit(self) -> None:
        f = self.f
        low, high = f.share(self.w["positions"], f["thread"], f["threads"])

        def strip(first: Value, _: list[Value]) -> None:
            last = f.min(f.add(first, self.w["strip"]), high)
            base, row = self._input(first, last)

            def block(m: Value, _: list[Value]) -> None:
                self._block(base, row, m, f.min(f.sub(last, m), self.w["block"]))

            f.loop(first, last, block, step=self.w["block"])

        f.loop(low, high, strip, step=self.w["strip"])

    def _input(self, first: Value, last: Value) -> tuple[Value, Value]:
        """(address of the input, the output row that it begins with) for some positions."""
        f = self.f
        row = f.div(first, self.w["columns"])
        image = f.at(f["scratch"], self.w["scratch_image"])

        def make() -> None:
            last_row = f.div(f.sub(last, 1), self.w["columns"])
            count = f.add(f.mul(f.sub(last_row, row), self.w["image_row"]), self.w["image_span"])
            top = f.mul(row, self.w["image_row"])
            f.call(self.address("image"), [self.address("image_record"), image, top, count])

        in_place = f.b.icmp_signed("==", self.w["image"], I64(0))
        f.when(f.b.not_(in_place), make)
        base = f.b.select(in_place, self.address("input"), image)
        return base, f.b.select(in_place, I64(0), row)

    def _block(self, base: Value, row0: Value, first: Value, count: Value) -> None:
        """The sums of `count` positions, and their output stage."""
        f = self.f
        self._window_offsets(row0, first, count)
        if self.accumulate:
            self._bring_partial(first, count)
        self.sums(base, count)
        tail = PRODUCT.end(f, f["record"])
        f.call(self.address("finish"), [tail, self.block_sums, first, count])

    def _window_offsets(self, row0: Value, first: Value, count: Value) -> None:
        """Where the window of each position begins, relative to the input."""
        f = self.f

        def one(i: Value, place: list[Value]) -> list[Value]:
            down, column = place
            across = f.mul(column, self.w["column_step"])
            f.store(f.add(down, across), self.offsets, f.mul(i, 8))
            right, below = f.add(column, 1), f.add(down, self.w["row_step"])
            ends = f.b.icmp_signed("==", right, self.w["columns"])
            return [f.b.select(ends, below, down), f.b.select(ends, I64(0), right)]

        row = f.div(first, self.w["columns"])
        column = f.sub(first, f.mul(row, self.w["columns"]))
        f.loop(0, count, one, [f.mul(f.sub(row, row0), self.w["row_step"]), column])

    def _bring_partial(self, first: Value, count: Value) -> None:
        """Dense sums to start from: the partial ones plus `start`."""
        f, lanes = self.f, self.host.lanes
        kind = vector(F32 if self.is_float else I32, lanes)

        def one(i: Value, _: list[Value]) -> None:
            position = f.add(first, i)
            row = f.div(position, self.w["columns"])
            column = f.sub(position, f.mul(row, self.w["columns"]))
            place = f.add(
                f.mul(row, self.w["partial_row"]), f.mul(column, self.w["partial_column"])
            )
            of, to = (
                f.at(self.address("partial"), place),
                f.at(self.block_sums, f.mul(i, self.sums_row)),
            )

            def some(n: Value, _: list[Value]) -> None:
                at = f.mul(n, 4)
                value = f.load(kind, of, at)
                if not self.is_float:
                    value = f.b.add(value, f.load(kind, self.address("start"), at))
                f.store(value, to, at)

            f.loop(0, self.w["padded"], some, step=lanes)

        f.loop(0, count, one)


class _Product(Positions):
    """Register tiles of positions times panels of channels."""

    def __init__(
        self,
        f: Function,
        host: Host,
        arithmetic: str,
        accumulate: bool,
        kernels: dict[tuple[int, int], Value],
        tile: Tile,
    ) -> None:
        super().__init__(f, host, arithmetic, accumulate)
        self.kernels, self.tile = kernels, tile

    def sums(self, base: Value, count: Value) -> None:
        f = self.f

        def panel(n: Value, _: list[Value]) -> None:
            column = f.mul(self.w["groups"], f.mul(self.w["runs"], GROUP_BYTES))
            weights = f.at(self.address("weights"), f.mul(n, column))
            self._panel(base, weights, n, count)

        f.loop(0, self.w["padded"], panel, step=self.tile.vectors * self.host.lanes)

    def _panel(self, base: Value, weights: Value, n: Value, count: Value) -> None:
        """All positions of a block times one panel."""
        f = self.f
        vectors = f.div(f.sub(self.w["padded"], n), self.host.lanes)

        def arguments(i: Value) -> list[Value]:
            out = f.at(self.block_sums, f.add(f.mul(i, self.sums_row), f.mul(n, 4)))
            if self.accumulate:
                start, start_row = out, self.sums_row
            else:
                start, start_row = f.at(self.address("start"), f.mul(n, 4)), I64(0)
            offsets = f.at(self.offsets, f.mul(i, 8))
            runs = [self.w["runs"], self.address("run_offsets"), self.w["groups"]]
            return [base, offsets, *runs, weights, start, start_row, out, self.sums_row]

        by_tiles(f, self.kernels, self.tile, count, vectors, arguments)


def by_tiles(
    f: Function,
    kernels: dict[tuple[int, int], Value],
    tile: Tile,
    count: Value,
    vectors: Value,
    arguments: Callable[[Value], list[Value]],
) -> None:
    """`count` positions by tiles of decreasing height, as wide as the `vectors` of channels
    that are left allow; `arguments` are those of the tile that begins at a position.
    """

    def tiles(width: int) -> None:
        done: Value = I64(0)
        for height in tile.heights(width):
            full = f.sub(count, f.b.srem(f.sub(count, done), I64(height)))

            def rows(i: Value, _: list[Value], height: int = height) -> None:
                f.b.call(kernels[height, width], arguments(i))

            f.loop(done, full, rows, step=height)
            done = full

    def choose(width: int) -> None:
        if width == 1:
            tiles(1)
            return
        enough = f.b.icmp_signed(">=", vectors, I64(width))
        f.when(enough, lambda: tiles(width), lambda: choose(width - 1))

    choose(tile.vectors)


# --- register tiles -------------------------------------------------------------------------------

_KERNEL = {
    "input": POINTER,
    "offsets": POINTER,
    "runs": I64,
    "run_offsets": POINTER,
    "groups": I64,
    "weights": POINTER,
    "start": POINTER,
    "start_row": I64,
    "out": POINTER,
    "out_row": I64,
}


def micro_kernel(
    module: Any, host: Host, arithmetic: str, rows: int, vectors: int, *, from_zero: bool
) -> Value:
    """A tile of `rows` x (`vectors` * lanes) sums, kept in registers over all groups. `from_zero`:
    the sums to start from are zeros, but for u8s8.
    """
    f = Function(module, f"tile_{rows}x{vectors}", _KERNEL, internal=True)
    lanes = host.lanes
    kind = vector(F32 if arithmetic == "f32" else I32, lanes)
    size = 4 * lanes
    bases = [f.at(f["input"], f.load(I64, f["offsets"], 8 * r)) for r in range(rows)]
    if from_zero and arithmetic != "u8s8":
        sums = [f.constant(kind.element, 0, lanes)] * (rows * vectors)
    else:
        sums = [
            f.load(kind, f.at(f["start"], f.add(f.mul(f["start_row"], r), v * size)))
            for r in range(rows)
            for v in range(vectors)
        ]

    def run(index: Value, carried: list[Value]) -> list[Value]:
        offset = f.load(I64, f["run_offsets"], f.mul(index, 8))
        here = [f.at(base, offset) for base in bases]

        def group(k: Value, state: list[Value]) -> list[Value]:
            place = f.mul(k, GROUP_BYTES)
            return _step(f, host, arithmetic, [f.at(p, place) for p in here], state, vectors)

        return f.loop(0, f["groups"], group, carried)

    final = f.loop(0, f["runs"], run, [f["weights"], *sums])[1:]
    for r in range(rows):
        for v in range(vectors):
            f.store(final[r * vectors + v], f.at(f["out"], f.add(f.mul(f["out_row"], r), v * size)))
    return f.done()


def _step(
    f: Function, host: Host, arithmetic: str, inputs: list[Value], state: list[Value], vectors: int
) -> list[Value]:
    """One group: every sum plus the products of a group of inputs and a vector of weights."""
    weights, *sums = state
    lanes = host.lanes
    is_float = arithmetic == "f32"
    kind = vector(F32 if is_float else I32, lanes)
    columns = [f.load(kind, weights, 4 * lanes * v) for v in range(vectors)]
    new: list[Value] = []
    for r, pointer in enumerate(inputs):
        x = f.splat(f.load(F32 if is_float else I32, pointer), lanes)
        new += [
            multiply_add(f, host, arithmetic, sums[r * vectors + v], x, columns[v])
            for v in range(vectors)
        ]
    return [f.at(weights, 4 * lanes * vectors), *new]


def multiply_add(
    f: Function, host: Host, arithmetic: str, total: Value, x: Value, w: Value
) -> Value:
    """total + products of the elements that the lanes of `x` and `w` hold."""
    if arithmetic == "f32":
        return f.b.fadd(total, f.b.fmul(x, w))
    if arithmetic == "i32":
        return f.b.add(total, f.b.mul(x, w))
    if arithmetic == "i16":
        return f.b.add(total, _pairs(f, host, x, w))
    return _fours(f, host, total, x, w)


def _pairs(f: Function, host: Host, x: Value, w: Value) -> Value:
    """Per lane the sum of two products of i16."""
    lanes = host.lanes
    x, w = (f.b.bitcast(value, vector(I16, 2 * lanes)) for value in (x, w))
    name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}.get(lanes)
    if name and ("avx2" if lanes == 8 else "avx512bw") in host.instructions:
        return f.intrinsic(name, vector(I32, lanes), [x, w])
    if "sse2" in host.instructions and lanes == 4:
        return f.intrinsic("llvm.x86.sse2.pmadd.wd", vector(I32, lanes), [x, w])
    return _spelled_out(f, x, w, 2, lanes, unsigned=False)


def _fours(f: Function, host: Host, total: Value, x: Value, w: Value) -> Value:
    """`total` plus per lane four products of u8 and s8."""
    lanes = host.lanes
    if host.native:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
        return f.intrinsic(name, vector(I32, lanes), [total, x, w])
    a, b = (f.b.bitcast(value, vector(ir.IntType(8), 4 * lanes)) for value in (x, w))
    return f.b.add(total, _spelled_out(f, a, b, 4, lanes, unsigned=True))


def _spelled_out(
    f: Function, x: Value, w: Value, group: int, lanes: int, *, unsigned: bool
) -> Value:
    """Per lane the sum of `group` products, without a special instruction."""
    wide = vector(I32, lanes)
    total: Value = None
    for i in range(group):
        places = range(i, group * lanes, group)
        a, b = f.shuffle(x, x, places), f.shuffle(w, w, places)
        left = f.b.zext(a, wide) if unsigned else f.b.sext(a, wide)
        product = f.b.mul(left, f.b.sext(b, wide))
        total = product if total is None else f.b.add(total, product)
    return total
