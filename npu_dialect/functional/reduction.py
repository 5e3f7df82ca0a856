"""Reductions over whole axes, which stay as axes of length 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npu_dialect.functional.ordering import bound, decode, encode
from npu_dialect.functional.sequential import fold
from npu_dialect.functional.windows import Array
from npu_dialect.numerics.arithmetic import div_trunc, quiet

MANY = 256
"""From so many outputs on, a float reduction works on all of them at once, term after term."""


@quiet
def reduce(kind: str, x: Array, axes: Sequence[int], x_zero: int = 0) -> Array:
    """`kind` ("sum", "mean", "max", "min" or "prod") of `x` over `axes`, kept with length 1.

    Float sums and products are float32, from +0.0 or 1.0 in row-major order of the reduced axes,
    rounded after each operation; a mean is the sum divided by the count. A NaN gives NaN; +0
    exceeds -0. Integers of up to 32 bits give int32, wrapping, of x - x_zero (i64 gives i64); a
    mean truncates. Maximum and minimum keep the type, and `x_zero` does not matter; of no values
    they are the least and the greatest value of the type. Raises KeyError for another kind.
    """
    reduced = tuple(sorted(axis % x.ndim for axis in axes))
    shape = tuple(1 if axis in reduced else size for axis, size in enumerate(x.shape))
    kept = tuple(axis for axis in range(x.ndim) if axis not in reduced)
    count = math.prod(x.shape[axis] for axis in reduced)
    rows = math.prod(x.shape[axis] for axis in kept)
    terms = x.transpose(kept + reduced).reshape(rows, count)
    return _KINDS[kind](terms, x_zero).reshape(shape)


def _is_float(x: Array) -> bool:
    return x.dtype.kind not in "iub"


def _sum(terms: Array, zero: int) -> Array:
    if _is_float(terms):
        return _in_order(np.add, terms, 0.0)
    return _whole(terms, zero).sum(axis=1, dtype=_wide(terms))


def _prod(terms: Array, zero: int) -> Array:
    if _is_float(terms):
        return _in_order(np.multiply, terms, 1.0)
    return _whole(terms, zero).prod(axis=1, dtype=_wide(terms))


def _mean(terms: Array, zero: int) -> Array:
    total = _sum(terms, zero)
    count = total.dtype.type(terms.shape[1])
    return np.divide(total, count) if _is_float(terms) else div_trunc(total, count)


def _max(terms: Array, zero: int) -> Array:
    return _greatest(np.maximum, terms, "max")


def _min(terms: Array, zero: int) -> Array:
    return _greatest(np.minimum, terms, "min")


def _greatest(function: np.ufunc, terms: Array, kind: str) -> Array:
    if not terms.shape[1]:
        return np.full(len(terms), bound(terms.dtype, kind), terms.dtype)
    return decode(function.reduce(encode(terms, kind), axis=1), terms.dtype)


def _wide(terms: Array) -> np.dtype[Any]:
    return np.dtype(np.int64 if terms.dtype == np.int64 else np.int32)


def _whole(terms: Array, zero: int) -> Array:
    wide = terms.astype(_wide(terms))
    return wide - wide.dtype.type(zero) if zero else wide


def _in_order(operation: np.ufunc, terms: Array, start: float) -> Array:
    """((start . terms[:, 0]) . terms[:, 1]) ...: [P, R] to [P] in float32."""
    if len(terms) < MANY:
        return fold(operation, terms.astype(np.float32), start)
    result = np.full(len(terms), start, np.float32)
    for row in np.ascontiguousarray(terms.T, np.float32):
        operation(result, row, out=result)
    return result


_KINDS: dict[str, Callable[[Array, int], Array]] = {
    "sum": _sum,
    "mean": _mean,
    "max": _max,
    "min": _min,
    "prod": _prod,
}
