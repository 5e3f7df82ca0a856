"""Look-up tables: copies that lie dense, and look-ups of bytes by shuffles of registers.

A register holds 16 entries of a table of bytes, and an instruction looks 32 indices up in it; where
the index is negative, it gives 0. So one subtracts 16 at a time, and combines what the 8 registers
of half a table give for the indices that are not negative yet: each holds the difference (by
exclusive or) to the one before.
"""

from __future__ import annotations

from npu_dialect.runtime.compiled.builder import I8, I32, POINTER, Function, Value, Whole, vector
from npu_dialect.runtime.compiled.elements import STORAGE, item_size
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.llvm import ir

ENTRIES = 256
LANES = 32
"""Bytes that are looked up at a time."""
_ROW = 16


def shuffles(host: Host, dtype: str | None) -> bool:
    """Whether look-ups in tables of this type are done by shuffles."""
    return dtype in ("i8", "u8") and "avx2" in host.instructions


def room(f: Function, words: int) -> Value:
    """Memory of the function's own, in words of 4 bytes."""
    found = f.b.alloca(ir.ArrayType(I32, words))
    found.align = 64
    found.type = POINTER
    return found


def ready(f: Function, host: Host, dtype: str, table: Value, step: Whole, gapless: bool) -> Value:
    """The address of the table as look-ups need it; its elements lie `step` bytes apart."""
    with_differences = shuffles(host, dtype)
    if gapless and not with_differences:
        return table
    size, kind = item_size(dtype), STORAGE[dtype]
    copy = room(f, (ENTRIES * size * (1 + with_differences)) // 4)

    def one(i: Value, _: list[Value]) -> None:
        f.store(f.load(kind, table, f.mul(i, step)), copy, f.mul(i, size))

    if gapless:
        f.copy(copy, table, ENTRIES * size)
    else:
        f.loop(0, ENTRIES, one)
    if with_differences:
        _add_differences(f, copy)
    return copy


def _add_differences(f: Function, copy: Value) -> None:
    """Behind a table of bytes: its rows as differences to those before, in either half."""
    rows = [f.load(vector(I8, _ROW), copy, _ROW * i) for i in range(ENTRIES // _ROW)]
    half = len(rows) // 2
    for i, row in enumerate(rows):
        difference = row if i % half == 0 else f.b.xor(row, rows[i - 1])
        f.store(difference, copy, ENTRIES + _ROW * i)


def shuffled(f: Function, table: Value, index: Value) -> Value:
    """`LANES` entries of a table that is `ready`, by their numbers as bytes."""
    kind = vector(I8, LANES)
    half = ENTRIES // _ROW // 2
    above = f.b.xor(index, f.constant(I8, -128, LANES))
    found: Value = None
    for first, rest in ((0, index), (half, above)):
        for i in range(half):
            row = f.load(vector(I8, _ROW), table, ENTRIES + _ROW * (first + i))
            both = f.shuffle(row, row, [*range(_ROW)] * 2)
            part = f.intrinsic("llvm.x86.avx2.pshuf.b", kind, [both, rest])
            found = part if found is None else f.b.xor(found, part)
            rest = f.elementwise("ssub.sat", rest, f.constant(I8, _ROW, LANES))
    return found
