"""Between real numbers and quantized storage, and from one quantization to another.

Scales, multipliers, shifts and zero points are numbers or arrays that broadcast against `x` (per
channel = one row along the last dimension).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npu_dialect.dtypes import DType, i32
from npu_dialect.numerics.arithmetic import Array, Operand, quiet

EXACT_F32 = 1 << 24
"""Integers up to this magnitude are exact in float32."""
BLOCK = 16384
"""Elements computed at a time, so that 64-bit intermediates stay in the cache."""

Division = Callable[[Array, Array, Array], Array]
"""Function of (int32 or int64 x, int64 multiplier, int64 shift): the rounded x * multiplier /
2**shift.
"""


@quiet
def quantize(x: Array, scale: Operand, zero_point: Operand, dtype: DType) -> Array:
    """saturate(rint(x / scale) + zero_point) as ONNX QuantizeLinear; the division is float32.

    `scale` is rounded to float32. A NaN quotient counts as 0 and gives the zero point.
    """
    steps = np.asarray(np.divide(x, np.asarray(scale, np.float32), dtype=np.float32))
    np.rint(steps, out=steps)
    unordered = np.isnan(steps)
    if unordered.any():
        steps[unordered] = 0
    return _shift_and_clamp(steps, zero_point, dtype.low, dtype.high).astype(dtype.numpy)


@quiet
def dequantize(x: Array, scale: Operand, zero_point: Operand = 0) -> Array:
    """f32(x - zero_point) * scale; the difference in int32, wrapping."""
    return _minus(x, zero_point).astype(np.float32) * np.asarray(scale, np.float32)


@quiet
def requantize_f32(
    x: Array,
    multiplier: Operand,
    zero_in: Operand = 0,
    zero_out: Operand = 0,
    low: int = i32.low,
    high: int = i32.high,
) -> Array:
    """clamp(rint(f32(x - zero_in) * multiplier) + zero_out, low, high) as int32.

    `x` holds integers; the difference wraps in int32 (int64 for int64 `x`), its conversion and the
    product with the finite float32 `multiplier` are rounded to nearest even. The sum with
    `zero_out` does not wrap.
    """
    real = np.asarray(_minus(x, zero_in).astype(np.float32) * np.asarray(multiplier, np.float32))
    np.rint(real, out=real)
    return _shift_and_clamp(real, zero_out, low, high)


def _minus(x: Array, zero: Operand) -> Array:
    """x - zero as int32, or as int64 where x is."""
    dtype = np.int64 if x.dtype == np.int64 else np.int32
    if isinstance(zero, int) and zero == 0:
        return x if x.dtype == dtype else x.astype(dtype)
    return np.subtract(x, np.asarray(zero, dtype), dtype=dtype, casting="unsafe")


def _shift_and_clamp(steps: Array, zero: Operand, low: int, high: int) -> Array:
    """min(max(steps + zero, low), high) as int32, for whole float32 `steps` (overwritten)."""
    greatest = abs(zero) if isinstance(zero, int) else int(np.abs(zero).max())
    if max(abs(low), abs(high)) + greatest > EXACT_F32:
        steps = steps.astype(np.float64)
    shift = steps.dtype.type(zero) if isinstance(zero, int) else np.asarray(zero, steps.dtype)
    np.maximum(steps, low - shift, out=steps)
    np.minimum(steps, high - shift, out=steps)
    np.add(steps, shift, out=steps)
    return steps.astype(np.int32)


def requantize_fixed(
    x: Array,
    multiplier: Operand,
    shift: Operand,
    rounding: str,
    zero_in: Operand = 0,
    zero_out: Operand = 0,
    low: int = i32.low,
    high: int = i32.high,
) -> Array:
    """clamp(round((x - zero_in) * multiplier / 2**shift) + zero_out, low, high) as int32.

    The difference wraps in int32 (int64 for int64 `x`); the product with the int32 `multiplier` is
    exact (64 or 96 bits); 0 <= shift <= 62. `rounding` says how the quotient becomes whole, with p
    the product:

    - `half_even`, `half_up` (toward +infinity), `half_away` (from zero): ties go that way;
      TFLite's single rounding is `half_up`, that is (p + 2**(shift - 1)) >> shift. So is its
      rescaling of int64 sums with a multiplier of 15 bits; docs/quantization-arithmetic.md says
      which of its builds does what.
    - `double`: TFLite's and gemmlowp's two roundings, for a Q31 multiplier. With
      left = max(31 - shift, 0) and right = max(shift - 31, 0): h = min((((x - zero_in) << left) *
      multiplier + 2**30) >> 31, 2**31 - 1), the saturating rounding doubling high half (the left
      shift wraps in int32), then h / 2**right with ties away from zero. Not for int64 `x`.

    Raises KeyError for another rounding.
    """
    divide = (ROUNDINGS_WIDE if x.dtype == np.int64 else ROUNDINGS)[rounding]
    factor, amount, zero = (np.asarray(p, np.int64) for p in (multiplier, shift, zero_out))

    def compute(x: Array) -> Array:
        result = divide(_minus(x, zero_in), factor, amount) + zero
        return np.minimum(np.maximum(result, low), high)

    if x.size <= BLOCK or any(np.ndim(p) > 1 for p in (factor, amount, zero_in, zero)):
        return compute(x).astype(np.int32)
    return _by_rows(compute, x)


def _by_rows(compute: Callable[[Array], Array], x: Array) -> Array:
    """`compute(x)` as int32, some rows (of the last dimension) at a time."""
    rows = x.reshape(-1, x.shape[-1])
    result = np.empty(rows.shape, np.int32)
    height = max(1, BLOCK // rows.shape[1])
    for row in range(0, len(rows), height):
        result[row : row + height] = compute(rows[row : row + height])
    return result.reshape(x.shape)


def _half_even(x: Array, multiplier: Array, shift: Array) -> Array:
    product = x * multiplier
    odd = (product >> shift) & np.minimum(shift, 1)
    return (product + _below_half(shift) + odd) >> shift


def _half_up(x: Array, multiplier: Array, shift: Array) -> Array:
    return (x * multiplier + _half(shift)) >> shift


def _half_away(x: Array, multiplier: Array, shift: Array) -> Array:
    return _divide_half_away(x * multiplier, shift)


def _double(x: Array, multiplier: Array, shift: Array) -> Array:
    left = (x.astype(np.int64) << np.maximum(31 - shift, 0)).astype(np.int32)
    high_half = np.minimum((left * multiplier + (1 << 30)) >> 31, i32.high)
    return _divide_half_away(high_half, np.maximum(shift - 31, 0))


def _divide_half_away(x: Array, shift: Array) -> Array:
    return (x + np.where(x < 0, _below_half(shift), _half(shift))) >> shift


def _half(shift: Array) -> Array:
    """2**(shift - 1), or 0 for shift 0."""
    return np.left_shift(np.int64(1), shift) >> 1


def _below_half(shift: Array) -> Array:
    """2**(shift - 1) - 1, or 0 for shift 0."""
    return (np.left_shift(np.int64(1), shift) - 1) >> 1


ROUNDINGS: dict[str, Division] = {
    "half_even": _half_even,
    "half_up": _half_up,
    "half_away": _half_away,
    "double": _double,
}
"""Rounding name -> function."""


def _wide_half_even(x: Array, multiplier: Array, shift: Array) -> Array:
    high, low = _wide_product(x, multiplier)
    odd = _shifted(high, low, shift) & np.minimum(shift, 1)
    return _shifted(high, low + _below_half(shift) + odd, shift)


def _wide_half_up(x: Array, multiplier: Array, shift: Array) -> Array:
    high, low = _wide_product(x, multiplier)
    return _shifted(high, low + _half(shift), shift)


def _wide_half_away(x: Array, multiplier: Array, shift: Array) -> Array:
    high, low = _wide_product(x, multiplier)
    return _shifted(high, low + np.where(high < 0, _below_half(shift), _half(shift)), shift)


def _wide_product(x: Array, multiplier: Array) -> tuple[Array, Array]:
    """(high, low) with high * 2**32 + low = x * multiplier and 0 <= low < 2**32, for int64 `x`."""
    low = (x & 0xFFFFFFFF) * multiplier
    return (x >> 32) * multiplier + (low >> 32), low & 0xFFFFFFFF


def _shifted(high: Array, low: Array, shift: Array) -> Array:
    """floor((high * 2**32 + low) / 2**shift), saturated far outside of 32 bits."""
    high = high + (low >> 32)
    above = high >> np.maximum(shift - 32, 0)
    less = np.minimum(shift, 32)
    near = (np.clip(high, i32.low, i32.high) << (32 - less)) + ((low & 0xFFFFFFFF) >> less)
    return np.where(shift >= 32, above, np.clip(near, -(1 << 62), 1 << 62))


ROUNDINGS_WIDE: dict[str, Division] = {
    "half_even": _wide_half_even,
    "half_up": _wide_half_up,
    "half_away": _wide_half_away,
}
"""Rounding name -> function, for int64 x."""


def interpolate(x: Array, table: Array, shift: int) -> Array:
    """The line between two entries of a table [2**(16 - shift) + 1], for 16-bit `x`, as int32.

    With i = (x + 2**15) >> shift and d = x mod 2**shift: table[i] + (((table[i + 1] - table[i]) * d
    + 2**(shift - 1)) >> shift), in 64 bits, then modulo 2**32. With shift 7 and a table of int16
    that is TFLite's look-up for int16, as long as neighbours differ by less than 2**15.
    """
    index = (x.astype(np.int64) + (1 << 15)) >> shift
    offset = x.astype(np.int64) & ((1 << shift) - 1)
    entries = table.astype(np.int64)
    base = entries[index]
    slope = entries[index + 1] - base
    return (base + ((slope * offset + ((1 << shift) >> 1)) >> shift)).astype(np.int32)


def lookup(x: Array, table: Array) -> Array:
    """table[x] for 8-bit `x`: the index is x for u8 and x + 128 for i8. `table` has 256 entries."""
    index: np.ndarray[Any, Any] = x if x.dtype == np.uint8 else x.view(np.uint8) ^ np.uint8(128)
    return np.take(table, index)
