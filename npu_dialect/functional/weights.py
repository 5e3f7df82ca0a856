"""The constant operand of a contraction, converted once for many calls."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from npu_dialect.functional.windows import Array

EXACT_F32 = 1 << 24
EXACT_F64 = 1 << 53


class Weights:
    """An operand [..., K, N] with its zero point.

    For a convolution it is [KH, KW, IC, OC], for a depthwise one [KH, KW, C].
    Conversions are made when first asked for, and kept. The array must not be changed afterwards.
    """

    def __init__(self, array: Array, zero: Array | int = 0) -> None:
        self.array = array
        self.zero = zero
        self._converted: dict[np.dtype[Any], Array] = {}
        self._bounds: dict[int, float] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        """The storage type."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @cached_property
    def is_float(self) -> bool:
        return self.array.dtype.kind not in "iub"

    def converted(self, dtype: np.dtype[Any]) -> Array:
        """The array minus its zero point as C-contiguous `dtype`; to integers it wraps."""
        found = self._converted.get(dtype)
        if found is None:
            found = self._converted[dtype] = self._convert(dtype)
        return found

    def _convert(self, dtype: np.dtype[Any]) -> Array:
        """Narrow storage is exact in every type; from wide storage, subtract before converting."""
        if self.is_float or self.array.dtype.itemsize <= 2:
            result = np.array(self.array, dtype, order="C")
            return result if self._has_no_zero else np.subtract(result, self.zero, dtype=dtype)
        wide = np.subtract(self.array, self.zero, dtype=np.int64)
        if self.array.dtype.itemsize == 8 and dtype != np.int64:
            wide = wide.astype(np.int32)
        return np.ascontiguousarray(wide, dtype)

    @property
    def _has_no_zero(self) -> bool:
        return isinstance(self.zero, int) and self.zero == 0

    @cached_property
    def _magnitude(self) -> int:
        zeros = np.asarray(self.zero)
        return max(magnitude(self.array, int(zero)) for zero in (zeros.min(), zeros.max()))

    def rough_bound(self, summed: int) -> int:
        """At least `bound`, from the greatest magnitude."""
        return self._magnitude * math.prod(self.shape[-1 - summed : -1])

    def bound(self, summed: int) -> float:
        """Greatest sum of magnitudes over the `summed` axes before the last one."""
        found = self._bounds.get(summed)
        if found is None:
            exact = self.rough_bound(summed) < EXACT_F32
            values = np.abs(self.converted(_F32 if exact else _F64))
            sums = values.sum(axis=tuple(range(-1 - summed, -1)))
            found = self._bounds[summed] = float(sums.max(initial=0.0))
        return found


def prepare_weights(w: Array, w_zero: Array | int = 0) -> Weights:
    """`w` for repeated use as the second operand of conv2d, depthwise_conv2d or matmul.

    `w_zero` is a whole number, or an array of them that broadcasts against `w`.
    """
    return Weights(w, w_zero)


def as_weights(w: Array | Weights, w_zero: Array | int) -> Weights:
    """`w` itself when prepared; its own zero point then counts, and `w_zero` must be 0."""
    if not isinstance(w, Weights):
        return Weights(w, w_zero)
    if not isinstance(w_zero, int) or w_zero != 0:
        raise ValueError(f"prepared weights carry their zero point, found another one: {w_zero}")
    return w


def magnitude(x: Array, zero: int) -> int:
    """A bound of |x| and |x - zero|: from the type up to 16 bits, else from the values."""
    if x.dtype.kind == "b":
        low, high = 0, 1
    elif x.dtype.itemsize <= 2:
        low, high = _RANGES[x.dtype]
    else:
        low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
    return max(abs(low), abs(high), abs(low - zero), abs(high - zero))


def exact_dtype(bound: float) -> np.dtype[Any]:
    """The fastest type that computes sums of products of total magnitude <= `bound` exactly.

    int32 is exact modulo 2**32 whatever the bound.
    """
    if bound < EXACT_F32:
        return _F32
    return _F64 if bound < EXACT_F64 else _I32


def wrap(products: Array, out: Array) -> None:
    """Write whole numbers to `out`, modulo 2**32 or 2**64, as its type is."""
    if products.dtype == np.float64:
        products = products.astype(np.int64)
    out[...] = products


_RANGES = {
    np.dtype(name): (int(np.iinfo(name).min), int(np.iinfo(name).max))
    for name in ("int8", "uint8", "int16", "uint16")
}
_F32 = np.dtype(np.float32)
_F64 = np.dtype(np.float64)
_I32 = np.dtype(np.int32)
