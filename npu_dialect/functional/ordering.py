"""Floats as integers of the same order, so that a maximum does not depend on order or host.

Among floats, numpy's choice between zeros of both signs does. As an integer, -0 is below +0, and a
NaN is beyond every number on the side that is asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_dialect.functional.windows import Array


def encode(x: Array, kind: str) -> Array:
    """Integers ordered as the values of `x`; NaN is the greatest ("max") or smallest ("min")."""
    if x.dtype.kind in "iub":
        return x
    signed = np.dtype(f"i{x.dtype.itemsize}")
    nan = x.dtype.type(np.nan)
    bits = np.where(
        np.isnan(x), np.copysign(nan, x.dtype.type(1 if kind == "max" else -1)), x
    ).view(signed)
    return _flip(bits)


def decode(keys: Array, dtype: np.dtype[Any]) -> Array:
    """The values of `dtype` that `encode` turned into `keys`."""
    return keys if dtype.kind in "iub" else _flip(keys).view(dtype)


def bound(dtype: np.dtype[Any], kind: str) -> Any:
    """The maximum ("max") or minimum ("min") of no values: what every value is beyond."""
    if dtype.kind == "b":
        return np.bool_(kind == "min")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min if kind == "max" else limits.max
    return dtype.type(-np.inf if kind == "max" else np.inf)


def _flip(bits: Array) -> Array:
    """Invert all but the sign of negative numbers: its own inverse."""
    width = bits.dtype.itemsize * 8
    return bits ^ ((bits >> (width - 1)) & bits.dtype.type(2 ** (width - 1) - 1))
