"""Conversion between storage types."""

from __future__ import annotations

import numpy as np

from npu_dialect.dtypes import DType, bf16, bool_, f16, f32, f64
from npu_dialect.numerics.arithmetic import Array, quiet


@quiet
def cast(x: Array, dtype: DType) -> Array:
    """`x` as `dtype`, elementwise.

    Integer to integer keeps the low bits. Float to integer truncates toward zero and saturates; NaN
    becomes 0. To bool: whether it differs from zero. To a narrower float: to nearest even, beyond
    the range to infinity; integers and f64 reach f16 and bf16 through f32 (they are rounded twice).
    """
    if x.dtype == dtype.numpy:
        return x
    if dtype is bool_:
        return np.not_equal(x, x.dtype.type(0))
    if dtype.is_int:
        return x.astype(dtype.numpy) if x.dtype.kind in "iub" else _truncate(x, dtype)
    return _to_float(x, dtype)


def _to_float(x: Array, dtype: DType) -> Array:
    if dtype in (f16, bf16):
        x = x.astype(f32.numpy)
    return x.astype(dtype.numpy)


def _truncate(x: Array, dtype: DType) -> Array:
    """Doubles hold every bound except the highest 64-bit one, which is set afterwards."""
    highest = float(dtype.high) if dtype.itemsize < 8 else float(2**63 - 1024)
    wide = np.array(x, f64.numpy)
    beyond = wide > highest
    np.minimum(np.maximum(wide, float(dtype.low)), highest, out=wide)
    wide[np.isnan(wide)] = 0
    result = wide.astype(dtype.numpy)
    if dtype.itemsize == 8:
        result[beyond] = dtype.high
    return result
