"""Transcendental functions of float32, with the same bits on every host.

Each is computed in double precision from +, -, *, /, comparisons and operations on the bits alone,
and rounded once to float32: the result is the correctly rounded one or, seldom (when the true value
lies within 1e-5 units of the middle between two floats), its neighbour. No mathematical library is
used, whose results differ from host to host. numpy's basic operations are exact IEEE operations
whatever the length and strides, and never contracted, so a value depends on its argument alone.

Special values are as in C's Annex F. x * sigmoid(x) and the like are NaN at -infinity. Constants
and their derivation: `coefficients`. Methods: argument reduction to an interval around zero in the
manner of Cody and Waite ("Software Manual for the Elementary Functions", 1980), for sines of great
arguments of Payne and Hanek ("Radian reduction for trigonometric functions", 1983), then a
polynomial.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from npu_dialect.numerics import coefficients as c
from npu_dialect.numerics.arithmetic import Array, Operand, quiet

P = ParamSpec("P")

BLOCK = 4096
"""Elements computed at a time, so that intermediate doubles stay in the cache."""

_ROUND = 1.5 * 2.0**52
"""Adding it rounds a double below 2**51 to a whole number, held by the low bits of the sum."""
_SQRT_HALF_BITS = np.int64(0x3FE6A09E667F3BCD)
_EXPONENT_MASK = np.int64(-1 << 52)
_GREAT_ANGLE = 1.6e6
"""Below it, multiples of pi / 2 are counted in less than 2**20."""


DEFINITIONS: dict[str, Callable[..., Array]] = {}
"""The functions of doubles below, by name. The compiled tier calls them on symbols to derive its
code: what they do to an argument is in `runtime.compiled.tracing`, or it fails there.
"""


def _in_blocks(function: Callable[P, Array]) -> Callable[P, Array]:
    """Decorator: a function of doubles becomes one of float32 operands that broadcast together."""
    DEFINITIONS[function.__name__.strip("_")] = function

    @functools.wraps(function)
    @quiet
    def apply(*operands: P.args, **parameters: P.kwargs) -> Array:
        arrays: list[Array] = [np.asarray(x, np.float32) for x in operands]
        if len(arrays) > 1:
            arrays = list(np.broadcast_arrays(*arrays))
        flat = [np.ascontiguousarray(x).reshape(-1) for x in arrays]
        result = np.empty(flat[0].size, np.float32)
        for start in range(0, result.size, BLOCK):
            block = slice(start, start + BLOCK)
            wide: Any = [x[block].astype(np.float64) for x in flat]
            result[block] = function(*wide, **parameters)
        return result.reshape(arrays[0].shape)

    return apply


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """Sum of coefficients[i] * x**i, by Horner's rule."""
    result = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient
        result *= x
    result += coefficients[0]
    return result


def _powers_of_two(rounded: Array) -> Array:
    """2**k for the whole number k that `rounded` = k + _ROUND holds in its low bits."""
    bits = rounded.view(np.int64) + 1023
    bits <<= 52
    return bits.view(np.float64)


def _exp_parts(x: Array) -> tuple[Array, Array]:
    """(s, p) with exp(x) = s + s * p for |x| <= 600: s = 2**k, p = exp(r) - 1, |r| <= ln(2) / 2."""
    k = x * c.LOG2_E
    k += _ROUND
    scale = _powers_of_two(k)
    k -= _ROUND
    r = x - k * c.LN2[0]
    k *= c.LN2[1]
    r -= k
    p = _polynomial(r, c.EXPM1)
    p *= r
    p *= r
    p += r
    return scale, p


def _exp(x: Array) -> Array:
    """exp(x) for |x| <= 600."""
    scale, p = _exp_parts(x)
    p += 1.0
    p *= scale
    return p


def _expm1(x: Array) -> Array:
    """exp(x) - 1 for |x| <= 600, accurate near 0."""
    scale, p = _exp_parts(x)
    p *= scale
    scale -= 1.0
    p += scale
    return p


def _atanh_log(s: Array) -> Array:
    """2 atanh(s) = log((1 + s) / (1 - s)) for |s| <= 1/3."""
    result = _polynomial(s * s, c.ATANH)
    result *= s
    return result


def _log(x: Array) -> Array:
    """log(x), from x = 2**e * m with m in [sqrt(1/2), sqrt(2)) and s = (m - 1) / (m + 1)."""
    bits = x.view(np.int64)
    exponent = (bits - _SQRT_HALF_BITS) & _EXPONENT_MASK
    m = (bits - exponent).view(np.float64)
    exponent >>= 52
    result = _atanh_log((m - 1.0) / (m + 1.0))
    e = exponent.astype(np.float64)
    result += e * c.LN2[1]
    result += e * c.LN2[0]
    ordinary = (x > 0.0) & (x < np.inf)
    return result if ordinary.all() else np.where(ordinary, result, _log_special(x))


def _log_special(x: Array) -> Array:
    """log of 0, negative numbers, +infinity and NaN."""
    return np.where(x < 0.0, np.nan, np.where(x == 0.0, -np.inf, x))


def _log1p(u: Array) -> Array:
    """log(1 + u) for 0 <= u <= 1, accurate near 0."""
    return _atanh_log(u / (u + 2.0))


def _nan_at_minus_infinity(x: Array, result: Array) -> Array:
    lowest = x == -np.inf
    if lowest.any():
        result[lowest] = np.nan
    return result


@_in_blocks
def exp(x: Array, /) -> Array:
    """e**x."""
    return _exp(np.clip(x, -200.0, 200.0))


@_in_blocks
def log(x: Array, /) -> Array:
    """Natural logarithm; -infinity at zeros, NaN below."""
    return _log(x)


@_in_blocks
def tanh(x: Array, /) -> Array:
    """Hyperbolic tangent: e / (e + 2) with e = exp(2x) - 1."""
    e = _expm1(np.clip(x, -20.0, 20.0) * 2.0)
    return np.copysign(e / (e + 2.0), x)


@_in_blocks
def sigmoid(x: Array, /) -> Array:
    """1 / (1 + exp(-x))."""
    return 1.0 / _logistic_denominator(x)


@_in_blocks
def silu(x: Array, /) -> Array:
    """x / (1 + exp(-x))."""
    return _nan_at_minus_infinity(x, x / _logistic_denominator(x))


def _logistic_denominator(x: Array) -> Array:
    result = _exp(np.clip(-x, -600.0, 600.0))
    result += 1.0
    return result


@_in_blocks
def softplus(x: Array, /) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return np.maximum(x, 0.0) + _log1p(_exp(np.maximum(-np.abs(x), -600.0)))


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x, or alpha * (exp(x) - 1) where x < 0; alpha is rounded to float32 first."""
    return _elu(x, alpha)


@_in_blocks
def _elu(x: Array, alpha: Operand, /) -> Array:
    return np.where(x < 0.0, alpha * _expm1(np.clip(x, -600.0, 0.0)), x)


@_in_blocks
def erf(x: Array, /) -> Array:
    """Error function: x times a polynomial in x**2 for |x| <= 4, where it is 1 in float32."""
    x = np.clip(x, -4.0, 4.0)
    u = x * x
    u *= 0.125
    u -= 1.0
    return _polynomial(u, c.ERF) * x


@_in_blocks
def gelu(x: Array, /) -> Array:
    """x * (1 + erf(x / sqrt(2))) / 2, with the tail of the normal distribution below 0."""
    magnitude = np.abs(x)
    t = 4.0 / (magnitude + 4.0)
    tail = _polynomial(t, c.NORMAL_TAIL)
    tail *= t
    tail *= _exp(np.maximum(magnitude * magnitude * -0.5, -600.0))
    return _nan_at_minus_infinity(x, x * np.where(x < 0.0, tail, 1.0 - tail))


@_in_blocks
def sin(x: Array, /) -> Array:
    """Sine of radians, accurate for every finite argument; NaN at the infinities."""
    return np.where(x == 0.0, x, _sine(x, 0))


@_in_blocks
def cos(x: Array, /) -> Array:
    """Cosine of radians, accurate for every finite argument; NaN at the infinities."""
    return _sine(x, 1)


def _sine(x: Array, quarter_turns: int) -> Array:
    """sin(x + quarter_turns * pi / 2)."""
    quadrant, r = _reduce_angle(x)
    quadrant += quarter_turns
    square = r * r
    sine = _polynomial(square, c.SIN)
    sine *= square
    sine *= r
    sine += r
    cosine = _polynomial(square, c.COS)
    cosine *= square
    cosine += 1.0
    result = np.where(quadrant & 1, cosine, sine)
    return np.negative(result, out=result, where=(quadrant & 2) != 0)


def _reduce_angle(x: Array) -> tuple[Array, Array]:
    """(k mod 4, r) with x = k * pi / 2 + r and |r| <= pi / 4 (just beyond at most)."""
    k = x * c.TWO_OVER_PI
    k += _ROUND
    quadrant = k.view(np.int64) & 3
    k -= _ROUND
    r = x - k * c.HALF_PI[0]
    r -= k * c.HALF_PI[1]
    r -= k * c.HALF_PI[2]
    great = ~(np.abs(x) <= _GREAT_ANGLE)
    if great.any():
        quadrant[great], r[great] = _reduce_great_angle(x[great])
    return quadrant, r


def _turn_table() -> tuple[Array, Array]:
    """2**e / (2 pi) modulo 1 for e = -3, -2, ..., 104: its first 64 bits, and the next 32."""
    fractions = [(c.INVERSE_TURN >> (256 - 96 - e)) % (1 << 96) for e in range(-3, 105)]
    high = np.array([f >> 32 for f in fractions], np.uint64)
    return high, np.array([f % (1 << 32) for f in fractions], np.uint64)


_TURNS_HIGH, _TURNS_LOW = _turn_table()


def _look_up(table: Array, index: Any) -> Array:
    """table[index]. Only an array can be an index; a symbol chooses, as numpy's arrays do."""
    return table[index] if isinstance(index, np.ndarray) else index.choose(table)


def _reduce_great_angle(x: Array) -> tuple[Array, Array]:
    """As `_reduce_angle` for float32 values from 2**20: x / (2 pi) modulo 1, in integers."""
    finite, negative = np.isfinite(x), x < 0.0
    bits = np.where(finite, np.abs(x), 2.0**20).view(np.int64)
    row = (bits >> 52) - (1023 + 20)
    mantissa = (((bits & ~_EXPONENT_MASK) | (1 << 52)) >> 29).astype(np.uint64)
    low = mantissa * _look_up(_TURNS_LOW, row)
    high = mantissa * _look_up(_TURNS_HIGH, row)
    turns = (high + (low >> 32)).view(np.int64)
    quadrant = (turns + (1 << 61)) >> 62
    rest = (turns - (quadrant << 62)).astype(np.float64)
    r = (rest + (low & 0xFFFFFFFF).astype(np.float64) * 2.0**-32) * c.TURN
    r[~finite] = np.nan
    return np.where(negative, -quadrant, quadrant) & 3, np.where(negative, -r, r)


@_in_blocks
def power(x: Array, y: Array, /) -> Array:
    """x**y as C's pow: exp(y * log|x|), negative for odd powers of x < 0, NaN for fractional ones.

    x**0 = 1**y = 1, NaN included; (-1)**(+-infinity) = 1.
    """
    magnitude = np.abs(x)
    result = _exp(np.clip(y * _log(magnitude), -200.0, 200.0))
    one = (y == 0.0) | (x == 1.0) | ((magnitude == 1.0) & np.isinf(y))
    result[one] = 1.0
    below = np.signbit(x) & ~one
    return _power_of_negative(x, y, result, below) if below.any() else result


def _power_of_negative(x: Array, y: Array, result: Array, below: Array) -> Array:
    whole = np.rint(y) == y
    odd = whole & (np.rint(y * 0.5) * 2.0 != y)
    np.negative(result, out=result, where=below & odd)
    result[below & ~whole & (x < 0.0) & (x > -np.inf)] = np.nan
    return result
