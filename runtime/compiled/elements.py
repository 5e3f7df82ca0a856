"""Storage types: vectors of elements are loaded widened and stored narrowed, as kernels see them.

Integers and bool widen to i32 (i64 stays), floats to f32. A narrowing store wraps integers, rounds
floats to nearest even, and makes bool of what differs from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npu_dialect import dtypes
from npu_dialect.kernel import widened
from npu_dialect.runtime.compiled.builder import (
    F16,
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    POINTER,
    VOID,
    Function,
    Value,
    Whole,
    byte_size,
    vector,
)
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.llvm import ir

STORAGE: dict[str, Any] = {
    "i8": I8, "u8": I8, "bool": I8, "i16": I16, "u16": I16, "f16": I16, "bf16": I16, "i32": I32,
    "f32": F32, "i64": I64, "f64": F64,
}  # fmt: skip
"""Types that elements are in memory; floats of 16 bits as integers."""
VALUES: dict[str, Any] = {"i8": I8, "i32": I32, "i64": I64, "f32": F32, "f64": F64}
"""Types of values, and of the numbers of kernels."""
_UNSIGNED = ("u8", "u16", "bool")
_INFINITY = 0x7F800000


def value_type(dtype: str) -> str:
    """The value type that a load gives."""
    return widened(dtypes.BY_NAME[dtype])


def item_size(dtype: str) -> int:
    """Bytes of an element."""
    return dtypes.BY_NAME[dtype].itemsize


def load(
    f: Function,
    dtype: str,
    pointer: Value,
    lanes: int,
    stride: Whole | None = None,
    *,
    count: Value | None = None,
    host: Host | None = None,
) -> Value:
    """`lanes` elements, widened. With `stride` they lie so many bytes apart, and only the first
    `count` are touched; without, bytes behind the last are read.
    """
    kind = STORAGE[dtype]
    if stride is None:
        return widen(f, dtype, f.load(vector(kind, lanes), pointer), host)
    stored = ir.Constant(vector(kind, lanes), ir.Undefined)
    for lane in range(lanes):
        place = lane if count is None else f.min(lane, f.sub(count, 1))
        element = f.load(kind, pointer, f.mul(place, stride))
        stored = f.b.insert_element(stored, element, I32(lane))
    return widen(f, dtype, stored, host)


def only_first(f: Function, value: Value, count: Value) -> Value:
    """A vector of floats with 0 behind the first `count`: what memory holds there may be subnormal,
    and arithmetic on such numbers takes some processors a hundred cycles. Integers stay.
    """
    kind = value.type
    if kind.element not in (F32, F64):
        return value
    whole = I32 if kind.element is F32 else I64
    numbers = ir.Constant(vector(whole, kind.count), list(range(kind.count)))
    limit = f.splat(f.b.trunc(count, I32) if whole is I32 else count, kind.count)
    first = f.b.icmp_signed("<", numbers, limit)
    return f.b.select(first, value, f.constant(kind.element, 0, kind.count))


def load_splat(
    f: Function, dtype: str, pointer: Value, lanes: int, host: Host | None = None
) -> Value:
    """One element, widened, in every lane."""
    return widen(f, dtype, f.splat(f.load(STORAGE[dtype], pointer), lanes), host)


def store(
    f: Function,
    dtype: str,
    value: Value,
    pointer: Value,
    count: Value | None = None,
    stride: Whole | None = None,
    *,
    host: Host | None = None,
) -> None:
    """Stores a vector of values narrowed: all lanes or the first `count`, `stride` bytes apart."""
    stored = narrow(f, dtype, value, host)
    if stride is not None:
        store_strided(f, stored, pointer, stride, count)
    elif count is None:
        f.store(stored, pointer)
    else:
        store_first(f, stored, pointer, count, host)


def store_first(
    f: Function, stored: Value, pointer: Value, count: Value, host: Host | None = None
) -> None:
    """Stores the first `count` lanes, fewer than all: by a mask where the processor has such
    stores, else a half, a quarter ... as count's bits say.
    """
    lanes = stored.type.count
    if host is not None and lanes >= 8 and {"avx512bw", "avx512vl"} <= set(host.instructions):
        _store_masked(f, stored, pointer, count)
        return
    size = byte_size(stored.type.element)
    while lanes > 1:
        lanes //= 2
        part = f.shuffle(stored, stored, range(lanes))
        rest = f.shuffle(stored, stored, range(lanes, 2 * lanes))
        chosen = f.b.icmp_signed("!=", f.b.and_(count, I64(lanes)), I64(0))

        def put(part: Value = part, to: Value = pointer) -> None:
            f.store(part, to)

        f.when(chosen, put)
        pointer = f.b.select(chosen, f.at(pointer, lanes * size), pointer)
        stored = f.b.select(chosen, rest, part)


def _store_masked(f: Function, stored: Value, pointer: Value, count: Value) -> None:
    lanes = stored.type.count
    ones = f.b.sub(f.b.shl(I64(1), count), I64(1))
    bits = ones if lanes == 64 else f.b.trunc(ones, ir.IntType(lanes))
    mask = f.b.bitcast(bits, vector(I1, lanes))
    element = stored.type.element
    letter = "i" if isinstance(element, ir.IntType) else "f"
    name = f"llvm.masked.store.v{lanes}{letter}{8 * byte_size(element)}.p0"
    kind = ir.FunctionType(VOID, [stored.type, POINTER, I32, mask.type])
    f.b.call(f.declare(name, kind), [stored, pointer, I32(1), mask])


def store_strided(
    f: Function, stored: Value, pointer: Value, stride: Whole, count: Value | None
) -> None:
    """Stores the lanes, or the first `count`, so many bytes apart."""
    for lane in range(stored.type.count):

        def put(lane: int = lane) -> None:
            f.store(f.b.extract_element(stored, I32(lane)), pointer, f.mul(lane, stride))

        if count is None:
            put()
        else:
            f.when(f.less(lane, count), put)


def widen(f: Function, dtype: str, stored: Value, host: Host | None = None) -> Value:
    """Stored elements as values."""
    lanes = stored.type.count
    if dtype == "f16":
        return from_half(f, stored, host)
    if dtype == "bf16":
        return from_bfloat(f, stored)
    if dtype == "bool":
        set_ = f.b.icmp_signed("!=", stored, f.constant(I8, 0, lanes))
        return f.b.zext(set_, vector(I32, lanes))
    if dtype == "f64":
        return f.b.fptrunc(stored, vector(F32, lanes))
    if dtype in ("i32", "i64", "f32"):
        return stored
    extend = f.b.zext if dtype in _UNSIGNED else f.b.sext
    return extend(stored, vector(I32, lanes))


def narrow(f: Function, dtype: str, value: Value, host: Host | None = None) -> Value:
    """Values as stored elements."""
    lanes = value.type.count
    if dtype == "f16":
        return to_half(f, value, host)
    if dtype == "bf16":
        return to_bfloat(f, value)
    if dtype == "bool":
        set_ = f.b.icmp_signed("!=", value, f.constant(I32, 0, lanes))
        return f.b.zext(set_, vector(I8, lanes))
    if dtype == "f64":
        return f.b.fpext(value, vector(F64, lanes))
    if dtype in ("i32", "i64", "f32"):
        return value
    return f.b.trunc(value, vector(STORAGE[dtype], lanes))


# --- floats of 16 bits ----------------------------------------------------------------------------


def bits_of(f: Function, value: Value) -> Value:
    """Vectors of f32 as i32."""
    return f.b.bitcast(value, vector(I32, value.type.count))


def float_of(f: Function, bits: Value) -> Value:
    """Vectors of i32 as f32."""
    return f.b.bitcast(bits, vector(F32, bits.type.count))


def from_bfloat(f: Function, stored: Value) -> Value:
    """bf16 is the upper half of a float32."""
    lanes = stored.type.count
    wide = f.b.zext(stored, vector(I32, lanes))
    return float_of(f, f.b.shl(wide, f.constant(I32, 16, lanes)))


def to_bfloat(f: Function, value: Value) -> Value:
    """To nearest even, in integers: a carry into the exponent gives the next power of two, or
    infinity. The sum would make a number of some NaNs.
    """
    lanes = value.type.count
    bits = bits_of(f, value)
    half = f.constant(I32, 16, lanes)
    odd = f.b.and_(f.b.lshr(bits, half), f.constant(I32, 1, lanes))
    rounded = f.b.add(bits, f.b.add(odd, f.constant(I32, 0x7FFF, lanes)))
    nan = f.b.fcmp_unordered("uno", value, value)
    quiet = f.b.or_(bits, f.constant(I32, 0x400000, lanes))
    chosen = f.b.lshr(f.b.select(nan, quiet, rounded), half)
    return f.b.trunc(chosen, vector(I16, lanes))


def _converts_halves(host: Host | None) -> bool:
    """Whether the processor converts f16; LLVM would call a function of a library otherwise."""
    return host is not None and "f16c" in host.instructions


def from_half(f: Function, stored: Value, host: Host | None = None) -> Value:
    """f16 to f32: the exponent is corrected by a multiplication, which subnormals need."""
    lanes = stored.type.count
    if _converts_halves(host):
        return f.b.fpext(f.b.bitcast(stored, vector(F16, lanes)), vector(F32, lanes))
    wide = f.b.zext(stored, vector(I32, lanes))
    magnitude = f.b.and_(wide, f.constant(I32, 0x7FFF, lanes))
    moved = f.b.shl(magnitude, f.constant(I32, 13, lanes))
    scaled = bits_of(f, f.b.fmul(float_of(f, moved), f.constant(F32, 2.0**112, lanes)))
    special = f.b.icmp_signed(">=", magnitude, f.constant(I32, 0x7C00, lanes))
    endless = f.b.or_(moved, f.constant(I32, _INFINITY, lanes))
    sign = f.b.shl(f.b.xor(wide, magnitude), f.constant(I32, 16, lanes))
    return float_of(f, f.b.or_(f.b.select(special, endless, scaled), sign))


def to_half(f: Function, value: Value, host: Host | None = None) -> Value:
    """f32 to f16, to nearest even."""
    lanes = value.type.count
    if _converts_halves(host):
        return f.b.bitcast(f.b.fptrunc(value, vector(F16, lanes)), vector(I16, lanes))

    def c(number: int) -> Value:
        return f.constant(I32, number, lanes)

    b = f.b
    bits = bits_of(f, value)
    magnitude = b.and_(bits, c(0x7FFFFFFF))
    odd = b.and_(b.lshr(magnitude, c(13)), c(1))
    # 2**-14 and more: the exponent's bias changes by 112; half of the last place but one, or odd.
    rounded = b.add(b.add(magnitude, c(0xFFF - (112 << 23))), odd)
    ordinary = b.lshr(rounded, c(13))
    # Below: adding 0.5 lets the float unit round to multiples of 2**-24.
    lifted = b.fadd(float_of(f, magnitude), f.constant(F32, 0.5, lanes))
    small = b.sub(bits_of(f, lifted), c(0x3F000000))
    result = b.select(b.icmp_signed("<", magnitude, c(0x38800000)), small, ordinary)
    result = b.select(b.icmp_signed(">=", magnitude, c(0x47800000)), c(0x7C00), result)
    result = b.select(b.icmp_signed(">", magnitude, c(_INFINITY)), c(0x7E00), result)
    sign = b.lshr(b.xor(bits, magnitude), c(16))
    return b.trunc(b.or_(result, sign), vector(I16, lanes))


def narrow_all(
    f: Function, dtype: str, values: Sequence[Value], host: Host, *, bounded: bool = False
) -> Value:
    """Vectors of values narrowed, one after the other. `bounded`: they are in the range of the
    type.
    """
    if dtype in ("f16", "bf16", "bool"):
        return f.concat([narrow(f, dtype, v, host) for v in values])
    if dtype in ("i8", "u8") and _packs(host, values):
        return _packed_bytes(f, dtype, values, bounded)
    return narrow(f, dtype, f.concat(values), host)


def _packs(host: Host, values: Sequence[Value]) -> bool:
    return "avx2" in host.instructions and [v.type.count for v in values] == [8] * 4


def _packed_bytes(f: Function, dtype: str, values: Sequence[Value], bounded: bool) -> Value:
    """Saturating packs of 4 x 8 numbers, which are done in both halves of a register apart: one
    permutation at the end. LLVM itself masks always and permutes thrice.
    """
    if not bounded:
        dtype = "u8"
        values = [f.b.and_(v, f.constant(I32, 255, 8)) for v in values]
    pairs = [
        f.intrinsic("llvm.x86.avx2.packssdw", vector(I16, 16), [a, b])
        for a, b in zip(values[::2], values[1::2], strict=True)
    ]
    name = "packsswb" if dtype == "i8" else "packuswb"
    packed = f.intrinsic(f"llvm.x86.avx2.{name}", vector(I8, 32), pairs)
    fours = f.b.bitcast(packed, vector(I32, 8))
    ordered = f.shuffle(fours, fours, [0, 4, 1, 5, 2, 6, 3, 7])
    return f.b.bitcast(ordered, vector(I8, 32))
