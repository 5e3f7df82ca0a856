"""Packing of weights at run time: of activations that are the second operand, or with `strict`.

The same panels as `packing.pack` makes, in the memory that the threads share.
"""

from __future__ import annotations

from typing import Any

from npu_dialect import dtypes
from npu_dialect.machine import Operand
from npu_dialect.runtime.compiled.builder import F32, I16, I32, I64, Function, Value, vector
from npu_dialect.runtime.compiled.elements import widen
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.images import ELEMENTS, to_width
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.packing import ARITHMETICS, Arithmetic, Runs, limits
from npu_dialect.runtime.compiled.records import ROUTINE, SHARED, Address, Call, Fields, Word

PACK = Fields(
    "source",
    "panels",  # where they go, and the sums to start from
    "start",
    "runs_high",  # runs are numbered (row, column of the window)
    "runs_wide",
    "high_stride",
    "wide_stride",
    "pixels",  # pixels of a run, elements of a pixel, and their strides in the source
    "elements",
    "pixel_stride",
    "element_stride",
    "channel_stride",
    "length",  # elements and groups of a run
    "groups",
    "channels",
    "padded",
    "width",
    "zero",
    "x_zero",
)


def lower_packing(
    weights: Operand,
    runs: Runs,
    arithmetic: Arithmetic,
    lanes: int,
    width: int,
    w_zero: int,
    x_zero: int,
) -> tuple[Call, Word, Word]:
    """(the call that packs weights [KH, KW, C, N], where the panels are, where the start is)."""
    kh, kw, elements, channels = weights.dims
    padded = -(-channels // lanes) * lanes
    groups = runs.groups(arithmetic)
    start_bytes = -(-4 * padded // 64) * 64
    size = start_bytes + 4 * runs.count * groups * padded
    whole_rows = runs.count == kh
    start, panels = Address(SHARED, 0), Address(SHARED, start_bytes)
    words = PACK.pack(
        source=Address.of(weights),
        panels=panels,
        start=start,
        runs_high=kh,
        runs_wide=1 if whole_rows else kw,
        high_stride=weights.strides[0],
        wide_stride=weights.strides[1],
        pixels=kw if whole_rows else 1,
        elements=elements,
        pixel_stride=weights.strides[1],
        element_stride=weights.strides[2],
        channel_stride=weights.strides[3],
        length=runs.length,
        groups=groups,
        channels=channels,
        padded=padded,
        width=width,
        zero=w_zero,
        x_zero=x_zero,
    )
    contiguous = weights.strides[3] == weights.dtype.itemsize
    routine = ("pack", weights.dtype.name, arithmetic.name, contiguous)
    return Call(routine, words, shared=size + 64), panels, start


@emitter("pack")
def emit(
    module: Any, symbol: str, host: Host, storage: str, arithmetic: str, contiguous: bool
) -> None:
    """`contiguous`: the channels of the source are neighbours."""
    f = Function(module, symbol, ROUTINE)
    _Pack(f, host, storage, ARITHMETICS[arithmetic], contiguous).emit()
    f.done()


class _Pack:
    """Vectors of channels, group after group; the threads share the vectors."""

    def __init__(
        self, f: Function, host: Host, storage: str, arithmetic: Arithmetic, contiguous: bool
    ) -> None:
        self.f, self.host, self.lanes, self.contiguous = f, host, host.lanes, contiguous
        self.dtype = dtypes.BY_NAME[storage]
        self.arithmetic = arithmetic
        self.w = {name: PACK.whole(f, f["record"], name) for name in PACK.offsets}
        self.source = PACK.pointer(f, f["record"], "source")
        self.panels = PACK.pointer(f, f["record"], "panels")
        self.start = PACK.pointer(f, f["record"], "start")
        self.wide = vector(F32 if arithmetic.is_float else I32, self.lanes)
        if not arithmetic.is_float:
            self.zero = f.splat(f.b.trunc(self.w["zero"], I32), self.lanes)

    def emit(self) -> None:
        f = self.f
        vectors = f.div(self.w["padded"], self.lanes)
        low, high = f.share(vectors, f["thread"], f["threads"])
        f.loop(low, high, lambda v, _: self._vector(f.mul(v, self.lanes)))

    def _vector(self, n: Value) -> None:
        """All groups of one vector of channels."""
        f, w = self.f, self.w
        panel = f.mul(f.div(n, w["width"]), w["width"])
        width = f.min(w["width"], f.sub(w["padded"], panel))
        column = f.mul(f.mul(w["runs_high"], w["runs_wide"]), f.mul(w["groups"], 4))
        to = f.at(self.panels, f.add(f.mul(panel, column), f.mul(f.sub(n, panel), 4)))
        step = f.mul(width, 4)
        here = f.at(self.source, f.mul(n, w["channel_stride"]))
        valid = f.min(f.sub(w["channels"], n), self.lanes)
        zero = f.constant(self.wide.element, 0, self.lanes)

        def run(index: Value, carried: list[Value]) -> list[Value]:
            row = f.div(index, w["runs_wide"])
            place = f.sub(index, f.mul(row, w["runs_wide"]))
            offset = f.add(f.mul(row, w["high_stride"]), f.mul(place, w["wide_stride"]))
            return self._run(f.at(here, offset), valid, carried, step)

        total = f.mul(w["runs_high"], w["runs_wide"])
        _, sums = f.loop(0, total, run, [to, zero])
        if self.arithmetic.name == "u8s8":
            factor = f.splat(f.b.trunc(f.sub(0, w["x_zero"]), I32), self.lanes)
            sums = f.b.mul(sums, factor)
        else:
            sums = zero
        f.store(sums, self.start, f.mul(n, 4))

    def _run(self, source: Value, valid: Value, carried: list[Value], step: Value) -> list[Value]:
        """The groups of a run."""
        f, w = self.f, self.w

        def group(g: Value, state: list[Value]) -> list[Value]:
            to, sums = state
            parts: list[Value] = []
            for i in range(self.arithmetic.group):
                value = self._element(source, f.add(f.mul(g, self.arithmetic.group), i), valid)
                parts.append(value)
                if not self.arithmetic.is_float:
                    sums = f.b.add(sums, value)
            f.store(self._join(parts), to)
            return [f.at(to, step), sums]

        return f.loop(0, w["groups"], group, carried)

    def _element(self, source: Value, k: Value, valid: Value) -> Value:
        """Element `k` of a run for all lanes, widened, without its zero point; 0 past the end."""
        f, w = self.f, self.w
        inside = f.less(k, w["length"])
        k = f.b.select(inside, k, I64(0))
        pixel = f.div(k, w["elements"])
        element = f.sub(k, f.mul(pixel, w["elements"]))
        offset = f.add(f.mul(pixel, w["pixel_stride"]), f.mul(element, w["element_stride"]))
        value = self._lanes(f.at(source, offset), valid)
        if self.dtype.is_float:
            value = widen(f, self.dtype.name, value, self.host)
        else:
            signed = limits(self.dtype)[0] < 0
            value = f.b.sub(to_width(f, value, I32, signed, self.lanes), self.zero)
        lane = f.constant(I64, 0, self.lanes)
        for i in range(1, self.lanes):
            lane = f.b.insert_element(lane, I64(i), I32(i))
        used = f.b.icmp_signed("<", lane, f.splat(valid, self.lanes))
        used = f.b.and_(used, f.splat(inside, self.lanes))
        return f.b.select(used, value, f.constant(self.wide.element, 0, self.lanes))

    def _lanes(self, pointer: Value, valid: Value) -> Value:
        """The stored elements of some channels. Past the last one, the first is read again."""
        f = self.f
        stored = F32 if self.dtype is dtypes.f32 else ELEMENTS[self.dtype.itemsize]
        if self.contiguous:
            return f.load(vector(stored, self.lanes), pointer)
        found = f.constant(stored, 0, self.lanes)
        for i in range(self.lanes):
            place = f.b.select(f.less(i, valid), I64(i), I64(0))
            item = f.load(stored, pointer, f.mul(place, self.w["channel_stride"]))
            found = f.b.insert_element(found, item, I32(i))
        return found

    def _join(self, parts: list[Value]) -> Value:
        """One group per lane: the low bits of the parts, first one lowest."""
        f = self.f
        if len(parts) == 1:
            return parts[0]
        bits = 32 // len(parts)
        mask = f.constant(I32, (1 << bits) - 1, self.lanes)
        total = f.b.and_(parts[0], mask)
        for i, part in enumerate(parts[1:], 1):
            piece = f.b.shl(f.b.and_(part, mask), f.constant(I32, bits * i, self.lanes))
            total = f.b.or_(total, piece)
        return total


# --- depthwise ------------------------------------------------------------------------------------

DEPTHWISE = Fields(
    "source",
    "panels",
    "high",
    "wide",
    "channels",
    "padded",
    "high_stride",
    "wide_stride",
    "channel_stride",
    "zero",
)


def lower_packing_depthwise(
    weights: Operand, arithmetic: Arithmetic, lanes: int, padded: int, w_zero: int
) -> tuple[Call, Word]:
    """(the call that packs weights [KH, KW, C], where they are then)."""
    kh, kw, channels = weights.dims
    panels = Address(SHARED, 0)
    words = DEPTHWISE.pack(
        source=Address.of(weights),
        panels=panels,
        high=kh,
        wide=kw,
        channels=channels,
        padded=padded,
        high_stride=weights.strides[0],
        wide_stride=weights.strides[1],
        channel_stride=weights.strides[2],
        zero=w_zero,
    )
    routine = ("pack_depthwise", weights.dtype.name, arithmetic.name)
    return Call(routine, words, shared=4 * padded * kh * kw + 64), panels


@emitter("pack_depthwise")
def emit_depthwise(module: Any, symbol: str, host: Host, storage: str, arithmetic: str) -> None:
    """Weights as `packing.pack_depthwise` arranges them; the threads share the channels."""
    f = Function(module, symbol, ROUTINE)
    w = {name: DEPTHWISE.whole(f, f["record"], name) for name in DEPTHWISE.offsets}
    source = DEPTHWISE.pointer(f, f["record"], "source")
    panels = DEPTHWISE.pointer(f, f["record"], "panels")
    low, high = f.share(w["padded"], f["thread"], f["threads"])
    element = _Element(f, host, storage, arithmetic, w["zero"])
    row = f.mul(w["padded"], 4)
    taps = f.mul(w["high"], w["wide"])

    def channel(c: Value, _: list[Value]) -> None:
        place = _place(f, c, host.lanes) if arithmetic == "i16" else f.mul(c, 4)
        inside = f.less(c, w["channels"])
        of = f.at(source, f.mul(f.b.select(inside, c, I64(0)), w["channel_stride"]))

        def tap(t: Value, _: list[Value]) -> None:
            y = f.div(t, w["wide"])
            x = f.sub(t, f.mul(y, w["wide"]))
            here = f.at(of, f.add(f.mul(y, w["high_stride"]), f.mul(x, w["wide_stride"])))
            value = element.load(here, f.b.and_(inside, f.less(t, taps)))
            if arithmetic == "i16":
                to = f.add(f.mul(f.div(t, 2), row), f.add(place, f.mul(f.b.urem(t, I64(2)), 2)))
            else:
                to = f.add(f.mul(t, row), place)
            f.store(value, panels, to)

        padding = f.b.urem(taps, I64(2)) if arithmetic == "i16" else 0
        f.loop(0, f.add(taps, padding), tap)

    f.loop(low, high, channel)
    f.done()


def _place(f: Function, channel: Value, lanes: int) -> Value:
    """Bytes from the start of a row of pairs to a channel's pair: see `packing.interleaving`."""
    wide = 2 * lanes
    chunk = f.div(channel, wide)
    rest = f.sub(channel, f.mul(chunk, wide))
    group, within = f.div(rest, 8), f.b.urem(rest, I64(8))
    upper = f.b.icmp_signed(">=", within, I64(4))
    lane = f.add(f.mul(group, 4), f.b.urem(within, I64(4)))
    lane = f.b.select(upper, f.add(lane, lanes), lane)
    return f.mul(f.add(f.mul(chunk, wide), lane), 4)


class _Element:
    """Single weights without their zero point, in the type of the arithmetic."""

    def __init__(self, f: Function, host: Host, storage: str, arithmetic: str, zero: Value) -> None:
        self.f, self.host, self.arithmetic = f, host, arithmetic
        self.dtype = dtypes.BY_NAME[storage]
        self.zero = f.b.trunc(zero, I32)

    def load(self, pointer: Value, used: Value) -> Value:
        """The weight at `pointer`, or 0 where it is not `used`."""
        f = self.f
        stored = F32 if self.dtype is dtypes.f32 else ELEMENTS[self.dtype.itemsize]
        # A weight that is not used is read at an address that may lie anywhere: read none.
        value = f.load(vector(stored, 1), f.b.select(used, pointer, f["record"]))
        if self.dtype.is_float:
            value = widen(f, self.dtype.name, value, self.host)
        else:
            value = to_width(f, value, I32, limits(self.dtype)[0] < 0, 1)
            value = f.b.sub(value, f.splat(self.zero, 1))
        value = f.b.select(f.splat(used, 1), value, f.constant(value.type.element, 0, 1))
        return f.b.trunc(value, vector(I16, 1)) if self.arithmetic == "i16" else value
