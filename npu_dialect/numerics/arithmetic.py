"""Integer and float32 arithmetic, comparisons and piecewise-linear activations.

Every function maps numpy arrays to a numpy array elementwise, with numpy broadcasting. Both
operands have the same type, except that a Python number takes the type of the array it meets.
Integers wrap around (two's complement). Floats are IEEE 754 single precision, rounded to nearest
even after every operation, subnormals kept; sign and payload of a NaN result are not defined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Operand = npt.NDArray[Any] | float | int

quiet = np.errstate(all="ignore")
"""Decorator: overflow, division by zero and invalid operations are results, not warnings."""


@quiet
def add(a: Operand, b: Operand) -> Array:
    """a + b."""
    return np.add(a, b)


@quiet
def sub(a: Operand, b: Operand) -> Array:
    """a - b."""
    return np.subtract(a, b)


@quiet
def mul(a: Operand, b: Operand) -> Array:
    """a * b."""
    return np.multiply(a, b)


@quiet
def div(a: Operand, b: Operand) -> Array:
    """a / b for floats; for integers `div_trunc`."""
    if _is_float(a) or _is_float(b):
        return np.divide(a, b)
    return div_trunc(a, b)


@quiet
def div_trunc(a: Operand, b: Operand) -> Array:
    """Integer quotient rounded toward zero; x / 0 = 0, and the smallest value / -1 is itself."""
    quotient = np.floor_divide(a, b)
    remainder = np.subtract(a, quotient * b)
    inexact_negative = (remainder != 0) & (np.less(a, 0) != np.less(b, 0)) & np.not_equal(b, 0)
    return np.add(quotient, inexact_negative, dtype=quotient.dtype)


@quiet
def maximum(a: Operand, b: Operand) -> Array:
    """The greater; a NaN in either operand gives NaN, and max(-0, +0) = +0."""
    return _settle_zeros(np.maximum(a, b), a, b, np.bitwise_and)


@quiet
def minimum(a: Operand, b: Operand) -> Array:
    """The smaller; a NaN in either operand gives NaN, and min(-0, +0) = -0."""
    return _settle_zeros(np.minimum(a, b), a, b, np.bitwise_or)


def _is_float(a: Operand) -> bool:
    return isinstance(a, float) if isinstance(a, (int, float)) else a.dtype.kind not in "iub"


def _settle_zeros(result: Array, a: Operand, b: Operand, choose: np.ufunc) -> Array:
    """Where zeros of both signs meet, numpy's choice depends on the host: combine the sign bits."""
    if result.dtype.kind in "iub" or (result.ndim == 0 and result != 0):
        return result
    bits = np.dtype(f"i{result.dtype.itemsize}")
    left, right = (np.asarray(v, result.dtype).view(bits) for v in (a, b))
    negative_zero = np.iinfo(bits).min
    if not ((left == negative_zero).any() or (right == negative_zero).any()):
        return result
    result = np.asarray(result)
    choose(left, right, out=result.view(bits), where=np.equal(a, b))
    return result


@quiet
def absolute(x: Array) -> Array:
    """|x|; the smallest integer maps to itself."""
    return np.absolute(x)


@quiet
def negative(x: Array) -> Array:
    """-x; the smallest integer maps to itself, and -(+0.0) is -0.0."""
    return np.negative(x)


def sign(x: Array) -> Array:
    """-1, 0 or 1; +0 for zeros of either sign, NaN for NaN."""
    return np.sign(x)


def bitwise_and(a: Operand, b: Operand) -> Array:
    """Bits set in both; logical and for bool."""
    return np.bitwise_and(a, b)


def bitwise_or(a: Operand, b: Operand) -> Array:
    """Bits set in either; logical or for bool."""
    return np.bitwise_or(a, b)


def bitwise_xor(a: Operand, b: Operand) -> Array:
    """Bits set in exactly one; logical exclusive or for bool."""
    return np.bitwise_xor(a, b)


def bitwise_not(x: Array) -> Array:
    """All bits inverted; logical not for bool."""
    return np.invert(x)


def shift_left(x: Operand, amount: Operand) -> Array:
    """x * 2**amount, wrapping; 0 where the amount is not in [0, width of x)."""
    return np.left_shift(x, amount)


def shift_right(x: Operand, amount: Operand) -> Array:
    """floor(x / 2**amount); only the sign is left where the amount is not in [0, width of x)."""
    return np.right_shift(x, amount)


@quiet
def sqrt(x: Array) -> Array:
    """Square root, rounded once; sqrt(-0) = -0, NaN below."""
    return np.sqrt(x)


@quiet
def rsqrt(x: Array) -> Array:
    """1 / sqrt(x), rounded after the root and after the division."""
    return np.divide(np.float32(1), np.sqrt(x))


@quiet
def reciprocal(x: Array) -> Array:
    """1 / x, rounded once."""
    return np.divide(np.float32(1), x)


def floor(x: Array) -> Array:
    """Greatest integer not above x."""
    return np.floor(x)


def ceil(x: Array) -> Array:
    """Smallest integer not below x."""
    return np.ceil(x)


def round_half_even(x: Array) -> Array:
    """Nearest integer; the even one of two equally near."""
    return np.rint(x)


def equal(a: Operand, b: Operand) -> Array:
    """a == b as bool; false for NaN."""
    return np.equal(a, b)


def not_equal(a: Operand, b: Operand) -> Array:
    """a != b as bool; true for NaN."""
    return np.not_equal(a, b)


def less(a: Operand, b: Operand) -> Array:
    """a < b as bool; false for NaN."""
    return np.less(a, b)


def less_equal(a: Operand, b: Operand) -> Array:
    """a <= b as bool; false for NaN."""
    return np.less_equal(a, b)


def greater(a: Operand, b: Operand) -> Array:
    """a > b as bool; false for NaN."""
    return np.greater(a, b)


def greater_equal(a: Operand, b: Operand) -> Array:
    """a >= b as bool; false for NaN."""
    return np.greater_equal(a, b)


def where(condition: Array, a: Operand, b: Operand) -> Array:
    """a where the condition holds (is not 0), else b."""
    return np.where(condition, a, b)


def relu(x: Array) -> Array:
    """maximum(x, 0): NaN stays NaN, -0 becomes +0."""
    if x.dtype.kind in "iu":
        return np.maximum(x, x.dtype.type(0))
    return np.maximum(x, x.dtype.type(0)) + x.dtype.type(0)


def clamp(x: Array, low: float, high: float) -> Array:
    """minimum(maximum(x, low), high), bounds in the type of x; NaN stays NaN."""
    return minimum(maximum(x, x.dtype.type(low)), x.dtype.type(high))


@quiet
def leaky_relu(x: Array, alpha: float) -> Array:
    """x, or alpha * x where x < 0; alpha is rounded to float32 first."""
    return np.where(np.less(x, 0), x * np.float32(alpha), x)


@quiet
def hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """min(max(alpha * x + beta, 0), 1) in double precision, rounded once.

    alpha and beta are rounded to float32 first.
    """
    wide = np.asarray(x, np.float64) * float(np.float32(alpha)) + float(np.float32(beta))
    return np.clip(wide, 0.0, 1.0).astype(np.float32) + np.float32(0)


@quiet
def hard_swish(x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6 in double precision, rounded once; NaN at -infinity."""
    wide = np.asarray(x, np.float64)
    return (wide * np.clip(wide + 3.0, 0.0, 6.0) / 6.0).astype(np.float32)
