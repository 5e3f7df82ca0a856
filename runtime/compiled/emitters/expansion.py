"""Copies of packed weights, which expand them block by block."""

from __future__ import annotations

from functools import partial
from typing import Any

from npu_dialect.codecs import KEPT, QUAD, Sparse, by_group
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.npu.copies import DmaExpandOp
from npu_dialect.runtime.compiled.builder import I8, I32, Function, Value, vector
from npu_dialect.runtime.compiled.emitters.copies import COPY, rows
from npu_dialect.runtime.compiled.emitters.strides import padded
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.library import emitter
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call
from npu_dialect.runtime.compiled.translate import Context, lowers

TOGETHER = 16
"""Blocks of one byte that are expanded as one where rows have a multiple of so many."""


@lowers(DmaExpandOp)
def lower_expand(values: Values, context: Context) -> Call:
    """An expansion: blocks are one more dimension."""
    source: Operand = values["source"]
    destination: Operand = values["destination"]
    codec = by_group(values["group"])
    assert codec is not None, "verified"
    *outer, size = source.dims
    bytes_of_block = codec.bytes
    if not codec.group and size % TOGETHER == 0:
        bytes_of_block = TOGETHER
    blocks = size // bytes_of_block
    elements = destination.dims[-1] // max(blocks, 1)
    words = COPY.pack(
        destination=Address.of(destination),
        source=Address.of(source),
        run=elements,
        dims=padded([*outer, blocks], 1),
        to=padded([*destination.strides[:-1], elements], 0),
        of=padded([*source.strides[:-1], bytes_of_block], 0),
    )
    if isinstance(codec, Sparse):
        return Call(("expand_sparse",), words)
    return Call(("expand", elements // 2, bool(codec.group)), words)


@emitter("expand")
def emit_expand(module: Any, symbol: str, host: Host, size: int, grouped: bool) -> None:
    """Expands blocks of `size` bytes and, if `grouped`, a multiplier before them."""
    f = Function(module, symbol, ROUTINE)
    rows(f, 1, partial(_block, f, size, grouped))
    f.done()


def _block(f: Function, size: int, grouped: bool, to: Value, of: Value) -> None:
    b, eight = f.b, f.splat(I8(8), 2 * size)
    pairs = f.load(vector(I8, size), of, int(grouped))
    low = b.and_(pairs, f.splat(I8(15), size))
    high = b.lshr(pairs, f.splat(I8(4), size))
    places = [lane for i in range(size) for lane in (i, size + i)]
    values = b.sub(b.xor(f.shuffle(low, high, places), eight), eight)
    if grouped:
        values = b.mul(values, f.splat(f.load(I8, of), 2 * size))
    f.store(values, to)


@emitter("expand_sparse")
def emit_expand_sparse(module: Any, symbol: str, host: Host) -> None:
    """Expands blocks of two fours, of each two bytes and their places."""
    f = Function(module, symbol, ROUTINE)
    rows(f, 1, partial(_sparse_block, f))
    f.done()


def _sparse_block(f: Function, to: Value, of: Value) -> None:
    b = f.b
    places = b.zext(f.load(I8, of, QUAD), I32)
    for four in range(2):
        word: Value = I32(0)
        for k in range(KEPT):
            number = KEPT * four + k
            place = b.and_(b.lshr(places, I32(2 * number)), I32(3))
            shift = b.shl(place, I32(3))
            value = b.shl(b.zext(f.load(I8, of, number), I32), shift)
            word = b.or_(b.and_(word, b.not_(b.shl(I32(0xFF), shift))), value)
        f.store(word, to, QUAD * four)
