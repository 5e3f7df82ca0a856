"""The micro-operations of kernels as code: one row each, beside `npu_dialect.kernel.MICRO_OPS`.

A row turns a step's immediates into a variant and words (`encode`), and a variant, vectors of those
words and operands into code (`emit`). The variant says what the code depends on and how the words
are read; whatever else can be computed beforehand is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_dialect.kernel import Immediate
from npu_dialect.runtime.compiled.builder import Function, Value, vector
from npu_dialect.runtime.compiled.elements import VALUES, bits_of, float_of
from npu_dialect.runtime.compiled.host import Host
from npu_dialect.runtime.compiled.records import float_word

Encoded = tuple[str, list[tuple[str, int | float]]]
"""The form of a step's code, and its numbers with their types."""


@dataclass(frozen=True)
class Scope:
    """Where code is added, and for how many lanes."""

    f: Function
    host: Host
    lanes: int
    table: Value = None
    """Address of the kernel's table."""
    table_dtype: str = ""

    @property
    def b(self) -> Any:
        """llvmlite's builder."""
        return self.f.b

    def number(self, kind: str, value: float) -> Value:
        """A constant in every lane."""
        return self.f.constant(VALUES[kind], value, self.lanes)

    def kind(self, name: str) -> Any:
        """The vector type of a value type."""
        return vector(VALUES[name], self.lanes)


def _no_numbers() -> Encoded:
    return "", []


Emit = Callable[..., Value]
"""emit(scope, form, immediates, *operands)."""


@dataclass(frozen=True)
class Row:
    """A micro-operation. `heavy` ones are not unrolled."""

    emit: Emit
    encode: Callable[..., Encoded] = _no_numbers
    heavy: bool = False


ROWS: dict[str, Row] = {}
"""By name of the micro-operation."""


def word(kind: str, value: float) -> int:
    """A number as a word of a record."""
    if kind == "f32":
        return float_word(value)
    if kind == "f64":
        return struct.unpack("<q", struct.pack("<d", value))[0]
    return int(value)


def row(
    *names: str, encode: Callable[..., Encoded] = _no_numbers, heavy: bool = False
) -> Callable[[Emit], Emit]:
    """Decorator: the code of these micro-operations."""

    def register(emit: Emit) -> Emit:
        ROWS.update(dict.fromkeys(names, Row(emit, encode, heavy)))
        return emit

    return register


# --- integers -------------------------------------------------------------------------------------


def _instruction(name: str) -> Emit:
    def emit(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
        return getattr(s.b, name)(a, b)

    return emit


def _smallest_or_greatest(comparison: str) -> Emit:
    def emit(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
        return s.b.select(s.b.icmp_signed(comparison, a, b), a, b)

    return emit


def _typed(kind: str) -> Callable[..., Encoded]:
    """All immediates are of one type."""

    def encode(*immediates: Immediate) -> Encoded:
        return "", [(kind, _typed_number(kind, i)) for i in immediates]

    return encode


def _typed_number(kind: str, value: Immediate) -> int | float:
    return float(value) if kind == "f32" else int(value)


def _integer_rows(kind: str) -> None:
    names = {"add": "add", "sub": "sub", "mul": "mul", "and": "and_", "or": "or_", "xor": "xor"}
    for name, instruction in names.items():
        row(f"{name}.{kind}", heavy=(name, kind) == ("mul", "i64"))(_instruction(instruction))
    row(f"max.{kind}")(_smallest_or_greatest(">"))
    row(f"min.{kind}")(_smallest_or_greatest("<"))

    def negative(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
        return s.b.sub(s.number(kind, 0), x)

    def absolute(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
        below = s.b.icmp_signed("<", x, s.number(kind, 0))
        return s.b.select(below, s.b.sub(s.number(kind, 0), x), x)

    def clamp(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
        low, high = immediates
        x = s.b.select(s.b.icmp_signed(">", x, low), x, low)
        return s.b.select(s.b.icmp_signed("<", x, high), x, high)

    row(f"neg.{kind}")(negative)
    row(f"abs.{kind}")(absolute)
    row(f"clamp.{kind}", encode=_typed(kind))(clamp)


def _constant(s: Scope, form: str, immediates: Sequence[Value]) -> Value:
    return immediates[0]


for _kind in ("i32", "i64"):
    _integer_rows(_kind)
for _kind in ("i32", "i64", "f32"):
    row(f"const.{_kind}", encode=_typed(_kind))(_constant)


def _divisor(s: Scope, kind: str, a: Value, b: Value) -> tuple[Value, Callable[[Value], Value]]:
    """(a divisor that is neither 0 nor -1, what makes the quotient by `b` of the one by it)."""
    zero, one = s.number(kind, 0), s.number(kind, 1)
    by_zero = s.b.icmp_signed("==", b, zero)
    by_minus = s.b.icmp_signed("==", b, s.number(kind, -1))
    safe = s.b.select(s.b.or_(by_zero, by_minus), one, b)

    def settle(quotient: Value) -> Value:
        quotient = s.b.select(by_minus, s.b.sub(zero, a), quotient)
        return s.b.select(by_zero, zero, quotient)

    return safe, settle


@row("div.i32", heavy=True)
def _div_i32(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
    """In doubles: a quotient that is not whole is at least 2**-31 away from it, its error less."""
    safe, settle = _divisor(s, "i32", a, b)
    wide = s.kind("f64")
    quotient = s.b.fdiv(s.b.sitofp(a, wide), s.b.sitofp(safe, wide))
    return settle(s.b.fptosi(quotient, s.kind("i32")))


@row("div.i64", heavy=True)
def _div_i64(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
    safe, settle = _divisor(s, "i64", a, b)
    return settle(s.b.sdiv(a, safe))


@row("not.bool")
def _not(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.b.zext(s.b.icmp_signed("==", x, s.number("i32", 0)), s.kind("i32"))


# --- comparisons and choices ----------------------------------------------------------------------


def _comparison(kind: str, sign: str) -> Emit:
    def emit(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
        if kind != "f32":
            found = s.b.icmp_signed(sign, a, b)
        elif sign == "!=":
            found = s.b.fcmp_unordered(sign, a, b)
        else:
            found = s.b.fcmp_ordered(sign, a, b)
        return s.b.zext(found, s.kind("i32"))

    return emit


def _select(
    s: Scope, form: str, immediates: Sequence[Value], choice: Value, a: Value, b: Value
) -> Value:
    return s.b.select(s.b.icmp_signed("!=", choice, s.number("i32", 0)), a, b)


_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
for _kind in ("i32", "i64", "f32"):
    row(f"select.{_kind}")(_select)
    for _name in _SIGNS:
        row(f"{_name}.{_kind}")(_comparison(_kind, _SIGNS[_name]))


# --- floats ---------------------------------------------------------------------------------------


def _is_nan(s: Scope, x: Value) -> Value:
    return s.b.fcmp_unordered("uno", x, x)


def _extreme(s: Scope, a: Value, b: Value, comparison: str, join: str) -> Value:
    """One of a and b; of two equal ones the bits are joined, which matters for zeros only."""
    found = s.b.select(s.b.fcmp_ordered(comparison, a, b), a, b)
    joined = float_of(s.f, getattr(s.b, join)(bits_of(s.f, a), bits_of(s.f, b)))
    found = s.b.select(s.b.fcmp_ordered("==", a, b), joined, found)
    return s.b.select(_is_nan(s, a), a, found)


def at_least(s: Scope, x: Value, low: Value) -> Value:
    """The greater; of zeros, and where x is NaN, x. One instruction of most processors."""
    return s.b.select(s.b.fcmp_ordered(">", low, x), low, x)


def at_most(s: Scope, x: Value, high: Value) -> Value:
    """The smaller; of zeros, and where x is NaN, x."""
    return s.b.select(s.b.fcmp_ordered("<", high, x), high, x)


@row("max.f32")
def _maximum(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
    return _extreme(s, a, b, ">", "and_")


@row("min.f32")
def _minimum(s: Scope, form: str, immediates: Sequence[Value], a: Value, b: Value) -> Value:
    return _extreme(s, a, b, "<", "or_")


@row("relu.f32")
def _relu(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    zero = s.number("f32", 0.0)
    return s.b.fadd(at_least(s, x, zero), zero)


def _encode_clamp(low: Immediate, high: Immediate) -> Encoded:
    """ "zero" where low is +0 and "ordinary" where no bound is a zero or NaN need less code."""
    bounds = np.float32(low), np.float32(high)
    numbers: list[tuple[str, int | float]] = [("f32", float(b)) for b in bounds]
    odd_low = math.isnan(bounds[0]) or (bounds[0] == 0 and math.copysign(1, bounds[0]) < 0)
    if odd_low or math.isnan(bounds[1]) or bounds[1] == 0:
        return "general", numbers
    return ("zero" if bounds[0] == 0 else "ordinary"), numbers


@row("clamp.f32", encode=_encode_clamp)
def _clamp(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    low, high = immediates
    if form == "general":
        return _extreme(s, _extreme(s, x, low, ">", "and_"), high, "<", "or_")
    x = at_least(s, x, low)
    if form == "zero":
        x = s.b.fadd(x, s.number("f32", 0.0))
    return at_most(s, x, high)


for _name in ("add", "sub", "mul", "div"):
    row(f"{_name}.f32")(_instruction(f"f{_name}"))


@row("neg.f32")
def _neg(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.b.fneg(x)


@row("abs.f32")
def _abs(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.f.elementwise("fabs", x)


@row("sqrt.f32")
def _sqrt(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.f.elementwise("sqrt", x)


@row("rsqrt.f32")
def _rsqrt(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.b.fdiv(s.number("f32", 1.0), s.f.elementwise("sqrt", x))


@row("reciprocal.f32")
def _reciprocal(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    return s.b.fdiv(s.number("f32", 1.0), x)


@row("sign.f32")
def _sign(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    zero = s.number("f32", 0.0)
    result = s.b.select(s.b.fcmp_ordered("<", x, zero), s.number("f32", -1.0), zero)
    result = s.b.select(s.b.fcmp_ordered(">", x, zero), s.number("f32", 1.0), result)
    return s.b.select(_is_nan(s, x), x, result)


@row("leaky_relu.f32", encode=_typed("f32"))
def _leaky_relu(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
    below = s.b.fcmp_ordered("<", x, s.number("f32", 0.0))
    return s.b.select(below, s.b.fmul(x, immediates[0]), x)


def _rounding(name: str) -> Emit:
    def emit(s: Scope, form: str, immediates: Sequence[Value], x: Value) -> Value:
        if "sse2" in s.host.instructions and "sse4.1" not in s.host.instructions:
            return _rounded_by_hand(s, name, x)
        return s.f.elementwise(name, x)

    return emit


def _rounded_by_hand(s: Scope, name: str, x: Value) -> Value:
    """Where LLVM would call a library: below 2**23, adding and subtracting that rounds to nearest.
    Zeros keep the sign of x.
    """
    great = s.number("f32", 2.0**23)
    shift = s.f.elementwise("copysign", great, x)
    result = s.b.fsub(s.b.fadd(x, shift), shift)
    one, zero = s.number("f32", 1.0), s.number("f32", 0.0)
    if name == "floor":
        result = s.b.fsub(result, s.b.select(s.b.fcmp_ordered(">", result, x), one, zero))
    elif name == "ceil":
        result = s.b.fadd(result, s.b.select(s.b.fcmp_ordered("<", result, x), one, zero))
    result = s.f.elementwise("copysign", result, x)
    small = s.b.fcmp_ordered("<", s.f.elementwise("fabs", x), great)
    return s.b.select(small, result, x)


for _name, _function in {"floor": "floor", "ceil": "ceil", "round": "roundeven"}.items():
    row(f"{_name}.f32")(_rounding(_function))
