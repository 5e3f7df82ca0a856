"""The routine of depthwise convolutions of bytes, where four of them can be multiplied at a time.

Its image holds, for each row of the output, the input bytes of up to four rows of a window, one
above the other, as one 32-bit element: a *stack*. A window of 3 x 3 is three stacks wide, one of
5 x 5 is two rows of five. The weights of a chunk of channels stay in registers for all positions.
"""

from __future__ import annotations

from typing import Any

from npu_dialect import dtypes
from npu_dialect.runtime.compiled.builder import I8, I32, I64, POINTER, Function, Value, vector
from npu_dialect.runtime.compiled.depthwise import Depthwise
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.images import IMAGE
from npu_dialect.runtime.compiled.library import Spec, emitter
from npu_dialect.runtime.compiled.packing import GROUP_BYTES, bias
from npu_dialect.runtime.compiled.products import multiply_add
from npu_dialect.runtime.compiled.records import ROUTINE

SPARE = 2
"""Registers for what is neither a weight nor a sum."""
WIDEST = 4
"""Vectors of channels at a time at most."""


def stacks(kh: int) -> int:
    """Stacks that hold a column of a window."""
    return -(-kh // GROUP_BYTES)


def taps(kh: int, kw: int) -> int:
    """Stacks of a window."""
    return stacks(kh) * kw


def most_taps(host: Host) -> int:
    """Taps of the greatest window whose weights stay in registers."""
    return host.registers - SPARE - 2


def spec(kh: int, kw: int, accumulate: bool) -> Spec:
    """The routine's name."""
    return ("stacked", taps(kh, kw), accumulate)


@emitter("stacked")
def emit(module: Any, symbol: str, host: Host, count: int, accumulate: bool) -> None:
    """One instruction, whose window has `count` taps; `accumulate`: the products are added to
    partial sums.
    """
    f = Function(module, symbol, ROUTINE)
    _Stacked(f, host, count, accumulate).emit()
    f.done()


class _Stacked(Depthwise):
    """Chunks of channels, for each of them all positions."""

    def __init__(self, f: Function, host: Host, count: int, accumulate: bool) -> None:
        super().__init__(f, host, "u8s8", accumulate)
        self.taps = count
        room = (host.registers - SPARE) // (count + 2)  # weights, what sums start from, sums
        self.widths = [w for w in (4, 2, 1) if w <= min(room, WIDEST)]

    def chunk(self, base: Value, count: Value, n: Value, vectors: int) -> None:
        f, lanes = self.f, self.host.lanes
        kind, size, place = vector(I32, lanes), 4 * lanes, f.mul(n, 4)
        weights = [
            [f.load(kind, self._weights(t, place), size * v) for v in range(vectors)]
            for t in range(self.taps)
        ]
        start = [f.load(kind, f.at(self.address("start"), place), size * v) for v in range(vectors)]
        taps = [f.load(I64, self.address("run_offsets"), 8 * t) for t in range(self.taps)]

        def position(i: Value, _: list[Value]) -> None:
            window = f.at(f.at(base, f.load(I64, self.offsets, f.mul(i, 8))), place)
            out = f.at(self.block_sums, f.add(f.mul(i, self.sums_row), place))
            sums = (
                [f.load(kind, out, size * v) for v in range(vectors)] if self.accumulate else start
            )
            for tap, row in zip(taps, weights, strict=True):
                of = f.at(window, tap)
                sums = [
                    multiply_add(f, self.host, "u8s8", total, f.load(kind, of, size * v), w)
                    for v, (total, w) in enumerate(zip(sums, row, strict=True))
                ]
            for v, value in enumerate(sums):
                f.store(value, out, size * v)

        f.loop(0, count, position)

    def _weights(self, tap: int, place: Value) -> Value:
        return self.f.at(self.address("weights"), self.f.add(self.f.mul(self.sums_row, tap), place))


# --- the image ------------------------------------------------------------------------------------


@emitter("stacked_image")
def emit_image(module: Any, symbol: str, host: Host, storage: str, kh: int, layout: str) -> None:
    """void(ptr record, ptr image, i64 top, i64 rows): the stacks of `rows` rows of the output, from
    row `top` on. In a row, all first stacks come before all second ones, `pitch` bytes further.

    The record is that of an image, and the windows' rows: how far apart those of one output row and
    of the next are, and those within a window. Of pixels in memory, `layout` is contiguous.
    """
    arguments = {"record": POINTER, "image": POINTER, "top": I64, "rows": I64}
    f = Function(module, symbol, arguments)
    _Image(f, host, storage, kh, layout).emit()
    f.done()


class _Image:
    """The code of the stacks of an input."""

    def __init__(self, f: Function, host: Host, storage: str, kh: int, layout: str) -> None:
        self.f, self.host, self.kh, self.layout = f, host, kh, layout
        self.w = {name: IMAGE.whole(f, f["record"], name) for name in IMAGE.offsets}
        self.source = IMAGE.pointer(f, f["record"], "source")
        self.down, self.dilation = (f.word(IMAGE.end(f, f["record"]), i) for i in range(2))
        self.flip = bias(dtypes.BY_NAME[storage])
        """What makes bytes u8, by exclusive or."""
        byte = f.b.trunc(self.w["fill"], I8)
        self.fill = f.splat(byte, host.vector_bytes)
        """Padding as in the image, and as in memory."""
        self.raw = f.splat(f.b.xor(byte, I8(self.flip - 256 if self.flip else 0)), host.lanes)
        self.copied = f.min(self.w["width"], f.sub(self.w["columns"], self.w["pad_left"]))

    def emit(self) -> None:
        f = self.f

        def row(i: Value, _: list[Value]) -> None:
            y = f.sub(f.mul(f.add(f["top"], i), self.down), self.w["pad_top"])
            for stack in range(stacks(self.kh)):
                place = f.add(f.mul(i, stacks(self.kh)), stack)
                first = GROUP_BYTES * stack
                rows = [f.add(y, f.mul(self.dilation, k)) for k in range(first, self.kh)]
                self._plane(f.at(f["image"], f.mul(place, self.w["pitch"])), rows[:GROUP_BYTES])

        f.loop(0, f["rows"], row)

    def _plane(self, to: Value, rows: list[Value]) -> None:
        """The stacks of the input's `rows`, with the padding on both sides."""
        f, w = self.f, self.w
        inside = [f.b.icmp_unsigned("<", y, w["height"]) for y in rows]
        every = inside[0]
        for one in inside[1:]:
            every = f.b.and_(every, one)
        # What is read instead of a row of padding is not used.
        safe = [f.b.select(one, y, I64(0)) for one, y in zip(inside, rows, strict=True)]
        lines = [f.at(self.source, f.mul(y, w["row_stride"])) for y in safe]
        self._padding(to, I64(0), w["pad_left"])
        begin = f.at(to, self._bytes(w["pad_left"]))
        f.when(
            every,
            lambda: self._line(begin, lines, None),
            lambda: self._line(begin, lines, inside),
        )
        self._padding(to, f.add(w["pad_left"], self.copied), w["columns"])

    def _bytes(self, pixels: Value) -> Value:
        return self.f.mul(self.f.mul(pixels, self.w["channels"]), GROUP_BYTES)

    def _padding(self, to: Value, first: Value, last: Value) -> None:
        f = self.f
        low, high = self._bytes(first), self._bytes(last)
        f.loop(low, high, lambda at, _: f.store(self.fill, to, at), step=self.host.vector_bytes)

    def _line(self, to: Value, lines: list[Value], inside: list[Value] | None) -> None:
        """The stacks of all pixels; of rows that are not `inside`, padding."""
        f, w = self.f, self.w
        if self.layout == "rows":
            self._run(to, lines, f.mul(self.copied, w["channels"]), inside)
            return

        def pixel(x: Value, _: list[Value]) -> None:
            of = [f.at(line, f.mul(x, w["column_stride"])) for line in lines]
            self._run(f.at(to, self._bytes(x)), of, w["channels"], inside)

        f.loop(0, self.copied, pixel)

    def _run(self, to: Value, lines: list[Value], count: Value, inside: list[Value] | None) -> None:
        """`count` neighbours; whole vectors are written."""
        f, lanes = self.f, self.host.lanes
        kind = vector(I32, lanes)

        def some(i: Value, _: list[Value]) -> None:
            stack = f.constant(I32, self.flip * 0x01010101 - (self.flip and 1 << 32), lanes)
            for k, line in enumerate(lines):
                value = f.load(vector(I8, lanes), line, i)
                if inside is not None:
                    value = f.b.select(inside[k], value, self.raw)
                shifted = f.b.shl(f.b.zext(value, kind), f.constant(I32, 8 * k, lanes))
                stack = f.b.xor(stack, shifted)
            f.store(stack, to, f.mul(i, GROUP_BYTES))

        f.loop(0, count, some, step=lanes)
