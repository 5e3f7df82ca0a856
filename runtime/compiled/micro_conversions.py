"""Micro-operations that change a value's type: quantization, casts; look-ups; and, by the name of
their definition, the transcendental functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Immediate
from npu_dialect.runtime.compiled import elementary, tables
from npu_dialect.runtime.compiled.builder import I8, I32, I64, Value, vector
from npu_dialect.runtime.compiled.elements import (
    STORAGE,
    bits_of,
    from_bfloat,
    from_half,
    item_size,
    to_bfloat,
    to_half,
    widen,
)
from npu_dialect.runtime.compiled.llvm import ir
from npu_dialect.runtime.compiled.micro_ops import Encoded, Scope, at_least, at_most, row

MAGIC_F32 = 1.5 * 2.0**23
"""Added to a float32 of at most 2**22, it rounds to a whole number, which is in the low bits."""
MAGIC_F32_BITS = 0x4B400000
MAGIC_F64 = 1.5 * 2.0**52
SMALL = 1 << 22

Numbers = list[tuple[str, int | float]]


# --- to quantized values --------------------------------------------------------------------------


def _encode_end(zero: int, low: int, high: int) -> Encoded:
    """Rounding, shift by `zero`, clamp: the bounds before the shift, and the shift. The magic
    number is among them: code for a constant would be repeated in every iteration.
    """
    bounds = low - zero, high - zero
    if max(map(abs, bounds)) <= SMALL:
        magic: Numbers = [("i32", zero - MAGIC_F32_BITS), ("f32", MAGIC_F32)]
        return "small", [*(("f32", b) for b in bounds), *magic]
    return "great", [*(("f64", b) for b in bounds), ("i32", zero), ("f64", MAGIC_F64)]


def _end(s: Scope, form: str, immediates: Sequence[Value], real: Value) -> Value:
    """clamp(rint(real) + zero, low, high) of float32 numbers: clamped first, which gives the same,
    as the bounds are whole.
    """
    low, high, zero, magic = immediates
    if form == "small":
        real = at_most(s, at_least(s, real, low), high)
        whole = bits_of(s.f, s.b.fadd(real, magic))
        return s.b.add(whole, zero)
    wide = s.b.fpext(real, s.kind("f64"))
    wide = at_most(s, at_least(s, wide, low), high)
    sums = s.b.bitcast(s.b.fadd(wide, magic), s.kind("i64"))
    return s.b.add(s.b.trunc(sums, s.kind("i32")), zero)


def _split_form(form: str) -> tuple[str, bool]:
    """(form, whether a zero point is subtracted first)."""
    name, _, shifted = form.partition(" ")
    return name, bool(shifted)


def _encode_requantize(zero_in: int, zero_out: int, low: int, high: int) -> Encoded:
    form, numbers = _encode_end(zero_out, low, high)
    if zero_in == 0:
        return form, numbers
    return f"{form} shifted", [*numbers, ("i32", zero_in)]


@row("requantize.f32", encode=_encode_requantize)
def _requantize(
    s: Scope, form: str, immediates: Sequence[Value], x: Value, multiplier: Value
) -> Value:
    name, shifted = _split_form(form)
    if shifted:
        x = s.b.sub(x, immediates[4])
    real = s.b.fmul(s.b.sitofp(x, s.kind("f32")), multiplier)
    return _end(s, name, immediates[:4], real)


def _encode_quantize(scale: float, zero_point: int, low: int, high: int) -> Encoded:
    form, numbers = _encode_end(zero_point, low, high)
    return form, [*numbers, ("f32", scale)]


@row("quantize", encode=_encode_quantize)
def _quantize(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    steps = s.b.fdiv(x, immediates[4])
    number = s.b.fcmp_ordered("ord", steps, steps)
    return _end(s, form, immediates[:4], s.b.select(number, steps, s.number("f32", 0.0)))


def _encode_dequantize(scale: float, zero_point: int) -> Encoded:
    shift: Numbers = [("i32", zero_point)] if zero_point else []
    return ("shifted" if zero_point else ""), [("f32", scale), *shift]


@row("dequantize", encode=_encode_dequantize)
def _dequantize(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    if form:
        x = s.b.sub(x, immediates[1])
    return s.b.fmul(s.b.sitofp(x, s.kind("f32")), immediates[0])


def _encode_fixed(rounding: str, zero_in: int, zero_out: int, low: int, high: int) -> Encoded:
    # The quotient of "double" has 32 bits: there the bounds before the shift, if they have as many.
    form = rounding
    numbers: Numbers = [("i64", n) for n in (zero_out, low, high)]
    bounds = low - zero_out, high - zero_out
    if rounding == "double" and dtypes.i32.low <= min(bounds) <= max(bounds) <= dtypes.i32.high:
        form = "short"
        numbers = [("i32", n) for n in (zero_out, *bounds)]
    if zero_in == 0:
        return form, numbers
    return f"{form} shifted", [*numbers, ("i32", zero_in)]


@row("requantize.fixed", encode=_encode_fixed)
def _requantize_fixed(
    s: Scope, form: str, immediates: Sequence[Value], x: Value, multiplier: Value, shift: Value
) -> Value:
    """In 64 bits, as `numerics.requantize_fixed`; the product is one of 32-bit numbers."""
    rounding, shifted = _split_form(form)
    zero, low, high = immediates[:3]
    if shifted:
        x = s.b.sub(x, immediates[3])
    if rounding == "short":
        result = _double(s, x, multiplier, shift)
        result = s.b.select(s.b.icmp_signed(">", result, low), result, low)
        result = s.b.select(s.b.icmp_signed("<", result, high), result, high)
        return s.b.add(result, zero)
    result = s.b.add(_QUOTIENTS[rounding](s, x, multiplier, shift), zero)
    result = s.b.select(s.b.icmp_signed(">", result, low), result, low)
    result = s.b.select(s.b.icmp_signed("<", result, high), result, high)
    return s.b.trunc(result, s.kind("i32"))


@row("pair.i64")
def _pair(s: Scope, form: str, immediates: Sequence[Value], low: Value, high: Value) -> Value:
    above = s.b.shl(s.b.zext(high, s.kind("i64")), s.number("i64", 32))
    return s.b.or_(above, s.b.zext(low, s.kind("i64")))


def _encode_requantize_wide(zero_in: int, zero_out: int, low: int, high: int) -> Encoded:
    form, numbers = _encode_end(zero_out, low, high)
    return form, [*numbers, ("i64", zero_in)]


@row("requantize.f32.i64", encode=_encode_requantize_wide, heavy=True)
def _requantize_wide(
    s: Scope, form: str, immediates: Sequence[Value], x: Value, multiplier: Value
) -> Value:
    x = s.b.sub(x, immediates[4])
    return _end(s, form, immediates[:4], s.b.fmul(s.b.sitofp(x, s.kind("f32")), multiplier))


def _encode_fixed_wide(rounding: str, zero_in: int, zero_out: int, low: int, high: int) -> Encoded:
    bounds = low - zero_out, high - zero_out
    return rounding, [("i64", n) for n in (zero_in, *bounds, zero_out)]


@row("requantize.fixed.i64", encode=_encode_fixed_wide, heavy=True)
def _requantize_fixed_wide(
    s: Scope, form: str, immediates: Sequence[Value], x: Value, multiplier: Value, shift: Value
) -> Value:
    """In 128 bits, as `numerics.requantize_fixed`; clamped before the zero point is added."""
    b, long = s.b, vector(ir.IntType(128), s.lanes)
    zero_in, low, high, zero_out = immediates
    product = b.mul(b.sext(b.sub(x, zero_in), long), b.sext(multiplier, long))
    wide = b.zext(shift, s.kind("i64"))
    up, down = (b.zext(half(s, wide), long) for half in (_half, _below_half))
    by = b.zext(wide, long)
    if form == "half_even":
        odd = b.trunc(b.ashr(product, by), s.kind("i64"))
        rounds = b.icmp_signed("!=", wide, s.number("i64", 0))
        odd = b.and_(odd, b.zext(rounds, s.kind("i64")))
        nudge = b.add(down, b.zext(odd, long))
    elif form == "half_away":
        zero = ir.Constant(long, [ir.Constant(ir.IntType(128), 0)] * s.lanes)
        nudge = b.select(b.icmp_signed("<", product, zero), down, up)
    else:
        nudge = up
    result = b.ashr(b.add(product, nudge), by)
    low, high = (b.sext(bound, long) for bound in (low, high))
    result = b.select(b.icmp_signed(">", result, low), result, low)
    result = b.select(b.icmp_signed("<", result, high), result, high)
    return b.trunc(b.add(b.trunc(result, s.kind("i64")), zero_out), s.kind("i32"))


def _product(s: Scope, x: Value, multiplier: Value) -> Value:
    return s.b.mul(s.b.sext(x, s.kind("i64")), s.b.sext(multiplier, s.kind("i64")))


def _half(s: Scope, shift: Value) -> Value:
    """2**(shift - 1), or 0 for shift 0."""
    one = s.number("i64", 1)
    return s.b.lshr(s.b.shl(one, shift), one)


def _below_half(s: Scope, shift: Value) -> Value:
    """2**(shift - 1) - 1, or 0 for shift 0."""
    one = s.number("i64", 1)
    return s.b.lshr(s.b.sub(s.b.shl(one, shift), one), one)


def shift_right(s: Scope, x: Value, shift: Value) -> Value:
    """x >> shift, signed: processors without such an instruction for 64 bits have the unsigned one,
    which is right after 2**63 is added and 2**63 >> shift subtracted.
    """
    top = s.number("i64", -(1 << 63))
    return s.b.sub(s.b.lshr(s.b.xor(x, top), shift), s.b.lshr(top, shift))


def _half_even(s: Scope, x: Value, multiplier: Value, shift: Value) -> Value:
    product = _product(s, x, multiplier)
    wide = s.b.zext(shift, s.kind("i64"))
    rounds = s.b.icmp_signed("!=", wide, s.number("i64", 0))
    odd = s.b.and_(s.b.lshr(product, wide), s.b.zext(rounds, s.kind("i64")))
    return shift_right(s, s.b.add(s.b.add(product, _below_half(s, wide)), odd), wide)


def _half_up(s: Scope, x: Value, multiplier: Value, shift: Value) -> Value:
    wide = s.b.zext(shift, s.kind("i64"))
    return shift_right(s, s.b.add(_product(s, x, multiplier), _half(s, wide)), wide)


def _divided_half_away(s: Scope, x: Value, shift: Value) -> Value:
    below = s.b.icmp_signed("<", x, s.number("i64", 0))
    correction = s.b.select(below, _below_half(s, shift), _half(s, shift))
    return shift_right(s, s.b.add(x, correction), shift)


def _half_away(s: Scope, x: Value, multiplier: Value, shift: Value) -> Value:
    wide = s.b.zext(shift, s.kind("i64"))
    return _divided_half_away(s, _product(s, x, multiplier), wide)


def _double(s: Scope, x: Value, multiplier: Value, shift: Value) -> Value:
    """32 bits. Left and right shift are the parts of the shift below and above 31."""
    b, zero, middle = s.b, s.number("i32", 0), s.number("i32", 31)
    above = b.sub(shift, middle)
    is_left = b.icmp_signed("<", above, zero)
    left = b.shl(x, b.select(is_left, b.sub(zero, above), zero))
    right = b.select(is_left, zero, above)
    product = b.add(_product(s, left, multiplier), s.number("i64", 1 << 30))
    # The high half fits in 32 bits but for the square of the smallest number.
    high = b.trunc(b.lshr(product, s.number("i64", 31)), s.kind("i32"))
    smallest = s.number("i32", -(1 << 31))
    overflow = b.and_(
        b.icmp_signed("==", left, smallest), b.icmp_signed("==", multiplier, smallest)
    )
    high = b.select(overflow, s.number("i32", (1 << 31) - 1), high)
    # The quotient rounded down, and one more where the rest is above a half (a tie: away from 0).
    one = s.number("i32", 1)
    mask = b.sub(b.shl(one, right), one)
    bound = b.sub(b.lshr(mask, one), b.ashr(high, middle))
    more = b.sext(b.icmp_signed(">", b.and_(high, mask), bound), s.kind("i32"))
    return b.sub(b.ashr(high, right), more)


def _double_wide(s: Scope, x: Value, multiplier: Value, shift: Value) -> Value:
    return s.b.sext(_double(s, x, multiplier, shift), s.kind("i64"))


_QUOTIENTS = {
    "half_even": _half_even,
    "half_up": _half_up,
    "half_away": _half_away,
    "double": _double_wide,
}


# --- casts ----------------------------------------------------------------------------------------


def cast(s: Scope, source: str, dtype: DType, x: Value) -> Value:
    """`numerics.cast`, as the value that a load of `dtype` gives."""
    if dtype is dtypes.bool_:
        zero = s.number(source, 0)
        differs = s.b.fcmp_unordered if source == "f32" else s.b.icmp_signed
        return s.b.zext(differs("!=", x, zero), s.kind("i32"))
    if dtype.is_float:
        real = x if source == "f32" else s.b.sitofp(x, s.kind("f32"))
        return _rounded_to(s, dtype, real)
    if source == "f32":
        return _truncated(s, dtype, x)
    if dtype is dtypes.i64:
        return s.b.sext(x, s.kind("i64"))
    if source == "i64":
        x = s.b.trunc(x, s.kind("i32"))
    if dtype is dtypes.i32:
        return x
    return widen(s.f, dtype.name, s.b.trunc(x, vector(STORAGE[dtype.name], s.lanes)))


def _rounded_to(s: Scope, dtype: DType, real: Value) -> Value:
    if dtype is dtypes.f16:
        return from_half(s.f, to_half(s.f, real, s.host), s.host)
    if dtype is dtypes.bf16:
        return from_bfloat(s.f, to_bfloat(s.f, real))
    return real


def _truncated(s: Scope, dtype: DType, x: Value) -> Value:
    """Toward zero; beyond the range its end, NaN becomes 0."""
    if dtype.itemsize >= 4:
        kind = s.kind(dtype.name)
        name = f"llvm.fptosi.sat.v{s.lanes}{dtype.name}.v{s.lanes}f32"
        return s.f.intrinsic(name, kind, [x])
    number = s.b.fcmp_ordered("ord", x, x)
    x = s.b.select(number, x, s.number("f32", 0.0))
    x = at_least(s, x, s.number("f32", dtype.low))
    x = at_most(s, x, s.number("f32", dtype.high))
    return s.b.fptosi(x, s.kind("i32"))


def _cast_row(source: str, dtype: DType) -> None:
    heavy = source == "i64" or dtype is dtypes.i64

    @row(f"cast.{source}.{dtype}", heavy=heavy)
    def emit(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
        return cast(s, source, dtype, x)


for _source in ("i32", "i64", "f32"):
    for _dtype in dtypes.ALL:
        if _dtype.name not in (_source, "f64"):
            _cast_row(_source, _dtype)


# --- look-ups -------------------------------------------------------------------------------------


def _encode_lookup(offset: int) -> Encoded:
    return "", [("i32", offset), ("i8", (offset + 128) % 256 - 128)]


@row("lookup.i32", "lookup.f32", encode=_encode_lookup, heavy=True)
def _lookup(s: Scope, form: str, immediates: Sequence[Value], index: Value) -> Value:
    """Indices are within the table, or the program is wrong; then reads stay inside anyway."""
    if s.lanes == tables.LANES and tables.shuffles(s.host, s.table_dtype):
        kind = vector(I8, s.lanes)
        place = s.b.add(s.b.trunc(index, kind), immediates[1])
        return widen(s.f, s.table_dtype, tables.shuffled(s.f, s.table, place))
    place = s.b.and_(s.b.add(index, immediates[0]), s.number("i32", 255))
    kind = STORAGE[s.table_dtype]
    found = ir.Constant(vector(kind, s.lanes), ir.Undefined)
    size = item_size(s.table_dtype)
    for lane in range(s.lanes):
        number = s.b.zext(s.b.extract_element(place, I32(lane)), I64)
        element = s.f.load(kind, s.table, s.f.mul(number, size))
        found = s.b.insert_element(found, element, I32(lane))
    return widen(s.f, s.table_dtype, found, s.host)


def _encode_interpolate(shift: int) -> Encoded:
    last, rest = (1 << (16 - shift)) - 1, (1 << shift) - 1
    numbers: Numbers = [("i32", shift), ("i32", last), ("i32", rest), ("i64", (1 << shift) >> 1)]
    return "", numbers


@row("interpolate.i32", encode=_encode_interpolate, heavy=True)
def _interpolate(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    """As `numerics.interpolate`; reads stay inside of the table."""
    b = s.b
    shift, last, rest, half = immediates
    index = b.and_(b.lshr(b.add(x, s.number("i32", 1 << 15)), shift), last)
    kind, size = STORAGE[s.table_dtype], item_size(s.table_dtype)
    ends = [ir.Constant(vector(kind, s.lanes), ir.Undefined)] * 2
    for lane in range(s.lanes):
        at = s.f.mul(b.zext(b.extract_element(index, I32(lane)), I64), size)
        for k in range(2):
            entry = s.f.load(kind, s.table, s.f.add(at, k * size))
            ends[k] = b.insert_element(ends[k], entry, I32(lane))
    base, following = (
        b.sext(widen(s.f, s.table_dtype, end, s.host), s.kind("i64")) for end in ends
    )
    offset = b.zext(b.and_(x, rest), s.kind("i64"))
    along = b.add(b.mul(b.sub(following, base), offset), half)
    return b.trunc(b.add(base, shift_right(s, along, b.zext(shift, s.kind("i64")))), s.kind("i32"))


# --- transcendental functions ---------------------------------------------------------------------


def _encode_floats(*immediates: Immediate) -> Encoded:
    return "", [("f32", float(i)) for i in immediates]


def _elementary_row(name: str) -> None:
    @row(f"{name}.f32", encode=_encode_floats, heavy=True)
    def emit(s: Scope, form: str, immediates: Sequence[Value], *operands: Value) -> Value:
        return elementary.emit(s.f, name, *operands, immediates=immediates)


for _name in (
    "exp", "log", "tanh", "erf", "sigmoid", "silu", "gelu", "softplus", "sin", "cos", "pow", "elu",
    "hard_swish", "hard_sigmoid",
):  # fmt: skip
    _elementary_row(_name)
