"""Pooling over windows of channels-last images. Parameters are as in `windows`."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu_dialect.functional.ordering import bound, decode, encode
from npu_dialect.functional.windows import Array, Pads, Pair, output_size, pad, taps, window_extent
from npu_dialect.numerics.arithmetic import quiet

NO_PADS = (0, 0, 0, 0)


def max_pool2d(
    x: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    dilations: Pair = (1, 1),
    pads: Pads = NO_PADS,
    out_hw: Pair | None = None,
) -> Array:
    """Greatest value per window of x [N, H, W, C], same type: [N, OH, OW, C].

    Padding counts as -infinity, or the smallest integer. A NaN gives NaN; +0 exceeds -0.
    """
    keys = encode(x, "max")
    lowest = encode(np.asarray(bound(x.dtype, "max")), "max").item()
    views = _views(keys, keys.dtype, lowest, kernel, strides, dilations, pads, out_hw)
    result = views[0].copy()
    for view in views[1:]:
        np.maximum(result, view, out=result)
    return decode(result, x.dtype)


def sum_pool2d(
    x: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    dilations: Pair = (1, 1),
    pads: Pads = NO_PADS,
    x_zero: int = 0,
    out_hw: Pair | None = None,
) -> Array:
    """Sum of x - x_zero per window of integers, int32, wrapping. Padding contributes 0."""
    views = _views(x, np.dtype(np.int32), x_zero, kernel, strides, dilations, pads, out_hw)
    result = _sum(views)
    if x_zero:
        result -= np.int32(x_zero * len(views))
    return result


@quiet
def avg_pool2d(
    x: Array,
    kernel: Pair,
    strides: Pair = (1, 1),
    dilations: Pair = (1, 1),
    pads: Pads = NO_PADS,
    count_include_pad: bool = False,
    out_hw: Pair | None = None,
) -> Array:
    """Mean per window, float32: from +0.0, values are added in row-major order, then divided.

    The divisor is the number of positions of the window, without `count_include_pad` only of
    those within `x` (0 / 0 = NaN).
    """
    hw = (x.shape[1], x.shape[2])
    out_hw = out_hw or output_size(hw, kernel, strides, dilations, pads)
    result = _sum(_views(x, np.dtype(np.float32), 0.0, kernel, strides, dilations, pads, out_hw))
    if count_include_pad:
        count: Any = np.float32(kernel[0] * kernel[1])
    else:
        rows, columns = (
            _count_inside(hw[i], kernel[i], strides[i], dilations[i], pads[i], out_hw[i])
            for i in (0, 1)
        )
        count = (rows[:, None] * columns)[:, :, None]
    return np.divide(result, count, out=result)


def _views(
    x: Array,
    dtype: np.dtype[Any],
    fill: float,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
    out_hw: Pair | None,
) -> list[Array]:
    out_hw = out_hw or output_size((x.shape[1], x.shape[2]), kernel, strides, dilations, pads)
    extent = window_extent(kernel, strides, dilations, out_hw)
    image = pad(x, dtype, fill, (pads[0], pads[1]), extent)
    return taps(image, kernel, strides, dilations, out_hw)


def _sum(views: list[Array]) -> Array:
    """From zero, in order."""
    result = np.zeros(views[0].shape, views[0].dtype)
    for view in views:
        np.add(result, view, out=result)
    return result


def _count_inside(
    size: int, kernel: int, stride: int, dilation: int, pad_low: int, out: int
) -> Array:
    """Per output position along one axis, how many kernel positions fall within the input."""
    positions = np.arange(out)[:, None] * stride + np.arange(kernel) * dilation - pad_low
    return ((positions >= 0) & (positions < size)).sum(axis=1).astype(np.float32)
