"""Copies of coded constants, which decode them byte by byte (`npu_dialect/rice.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npu_dialect import rice
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.npu.copies import DmaDecodeOp
from npu_dialect.runtime.compiled.builder import I1, I8, I64, Function, Value, Whole
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call, Fields
from npu_dialect.runtime.compiled.translate import Context, lowers

DECODE = Fields("destination", "source", "size", "elements", "row", "codes")
"""`size` bytes of source; the unary codes begin at bit `codes`."""
LONGEST = 56
"""Bits that are there of the 64 that are read from any bit on."""


@lowers(DmaDecodeOp)
def lower_decode(values: Values, context: Context) -> Call:
    """One thread decodes: where a code begins follows from those before it."""
    source: Operand = values["source"]
    destination: Operand = values["destination"]
    planes, row = destination.dtype.itemsize, min(values["row"], destination.elements or 1)
    blocks = rice.Blocks.of(destination.elements, row, planes)
    words = DECODE.pack(
        destination=Address.of(destination),
        source=Address.of(source),
        size=source.size,
        elements=destination.elements,
        row=row,
        codes=8 * (rice.HEADER + planes) + rice.MODE_BITS * len(blocks.counts),
    )
    return Call(("decode", planes), words, alone=True)


@emitter("decode")
def emit_decode(module: Any, symbol: str, host: Host, planes: int) -> None:
    """Decodes elements of so many bytes."""
    f = Function(module, symbol, ROUTINE)
    _Decoder(f, planes).emit()
    f.done()


@dataclass
class _Decoder:
    """The stream and what is made of it. What loops carry are places in bits: of the modes, of the
    unary codes, of the low bits.
    """

    f: Function
    planes: int

    def __post_init__(self) -> None:
        f, record = self.f, self.f["record"]
        self.destination, self.source = (
            DECODE.pointer(f, record, n) for n in ("destination", "source")
        )
        self.size, self.elements, self.row, self.codes = (
            DECODE.whole(f, record, n) for n in ("size", "elements", "row", "codes")
        )

    def emit(self) -> None:
        """Row by row, plane by plane, block by block."""
        f = self.f
        low = f.whole(0)
        for k in range(rice.HEADER):
            low = f.add(low, f.b.shl(self.byte(k), I64(8 * k)))
        first = [I64(8 * (rice.HEADER + self.planes)), self.codes, f.mul(low, 8)]

        def of_row(start: Value, places: list[Value]) -> list[Value]:
            count = f.min(self.row, f.sub(self.elements, start))
            for plane in range(self.planes):
                places = self.plane(plane, start, count, places)
            return places

        f.loop(0, self.elements, of_row, first, step=self.row)

    def plane(self, plane: int, start: Value, count: Value, places: list[Value]) -> list[Value]:
        """A byte of each element of a row."""
        f = self.f
        centre = f.b.trunc(self.byte(rice.HEADER + plane), I8)

        def block(at: Value, places: list[Value]) -> list[Value]:
            stop = f.min(f.add(at, rice.BLOCK), count)
            modes, codes, low = places
            mode = f.b.lshr(self.bits(modes), I64(64 - rice.MODE_BITS))
            codes, low = f.loop(
                at, stop, lambda i, inner: self.element(mode, centre, plane, start, i, inner),
                (codes, low),
            )  # fmt: skip
            low = f.b.and_(f.add(low, 7), I64(-8))
            return [f.add(modes, rice.MODE_BITS), codes, low]

        return f.loop(0, count, block, places, step=rice.BLOCK)

    def element(
        self, mode: Value, centre: Value, plane: int, start: Value, i: Value, places: list[Value]
    ) -> list[Value]:
        """One byte."""
        f, b = self.f, self.f.b
        zero, codes, low = I64(0), places[0], places[1]
        is_growing = b.icmp_unsigned("==", mode, I64(rice.GROWING))
        is_whole = b.icmp_unsigned("==", mode, I64(rice.WHOLE))
        is_coded = b.not_(b.or_(is_whole, b.icmp_unsigned("==", mode, I64(rice.SAME))))
        number, after = self.unary(codes)
        number = b.select(is_coded, number, zero)
        width = b.select(is_growing, f.min(number, 7), b.select(is_whole, I64(8), mode))
        base = f.sub(b.shl(I64(1), f.min(number, 8)), 1)
        base = b.select(is_growing, base, b.shl(number, mode))
        bits = b.lshr(b.lshr(self.bits(low), I64(1)), f.sub(63, width))
        z = b.trunc(f.add(base, bits), I8)
        v = b.xor(b.lshr(z, I8(1)), b.neg(b.and_(z, I8(1))))
        place = f.add(f.mul(f.add(start, i), self.planes), plane)
        f.store(b.add(v, centre), self.destination, place)
        return [b.select(is_coded, f.add(after, 1), codes), f.add(low, width)]

    def unary(self, place: Value) -> tuple[Value, Value]:
        """(the ones from a bit on, the place of the zero behind them)."""
        f, b = self.f, self.f.b
        before = b.block
        head, after = (f.function.append_basic_block(n) for n in ("ones", "zero"))
        b.branch(head)
        b.position_at_end(head)
        at, number = b.phi(I64), b.phi(I64)
        ones = f.intrinsic("llvm.ctlz.i64", I64, [b.not_(self.bits(at)), I1(0)])
        ones = f.min(ones, LONGEST)
        last, found = f.add(at, ones), f.add(number, ones)
        b.cbranch(b.icmp_unsigned("==", ones, I64(LONGEST)), head, after)
        for phi, first, again in ((at, place, last), (number, I64(0), found)):
            phi.add_incoming(first, before)
            phi.add_incoming(again, b.block)
        b.position_at_end(after)
        return found, last

    def bits(self, place: Value) -> Value:
        """The bits from a place on, the first one highest; zeros beyond the end."""
        f, b = self.f, self.f.b
        first = f.min(b.lshr(place, I64(3)), self.size)
        word = f.elementwise("bswap", f.load(I64, self.source, first))
        missing = f.sub(64, f.min(f.mul(f.sub(self.size, first), 8), 64))
        half = b.lshr(missing, I64(1))  # a shift by 64 has no meaning
        kept = b.shl(b.shl(I64(-1), half), f.sub(missing, half))
        return b.shl(b.and_(word, kept), b.and_(place, I64(7)))

    def byte(self, place: Whole) -> Value:
        """A byte of the source, as a whole number."""
        return self.f.b.lshr(self.bits(self.f.mul(self.f.whole(place), 8)), I64(56))
