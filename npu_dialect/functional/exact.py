"""Sums of integer products by float32 `Products`, where magnitudes prove them exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from npu_dialect.functional.products import Product, Products, Window
from npu_dialect.functional.weights import EXACT_F32
from npu_dialect.functional.windows import Array

PARTS = 4
"""Into so many parts of the channels a sum may be split."""
WHOLE_I32 = 1 << 31


def contraction(
    products: Products,
    window: Window,
    filters: Array,
    dtype: np.dtype[Any],
    bias: Array,
    depthwise: bool = False,
) -> Product | None:
    """bias + sum of (x - fill) * filters, as whole numbers below 2**31 in float32 or float64.

    The image's elements have the integer type `dtype`; `filters` are integers minus their zero
    point, [KH, KW, C, OC] or, `depthwise`, [KH, KW, C]; `bias` [channels] are integers. None where
    float32 is not proved exact, even in a few parts.

    A sum of some of the products is at most the sum of all that can be positive: of the positive
    filters times the greatest and the negative ones times the least element.
    """
    low, high = _range(dtype, window.fill)
    signed = filters.sum(axis=(0, 1), dtype=np.int64)
    sizes = np.abs(filters).sum(axis=(0, 1), dtype=np.int64)
    above, below = (sizes + signed) // 2, (sizes - signed) // 2
    reach = np.stack([above * high - below * low, below * high - above * low])
    if depthwise:
        start = bias - window.fill * signed
        exact = _most(reach[:, None], start) < EXACT_F32
        return products.depthwise(window, filters, start) if exact else None
    start = bias - window.fill * signed.sum(axis=0)
    if _most(reach, start) >= WHOLE_I32:
        return None
    for count in range(1, min(PARTS, filters.shape[2]) + 1):
        edges = [filters.shape[2] * n // count for n in range(count + 1)]
        parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        starts = [start, *[np.zeros_like(start)] * (count - 1)]
        if all(_most(reach[:, p], s) < EXACT_F32 for p, s in zip(parts, starts, strict=True)):
            return _in_parts(products, window, filters, parts, starts)
    return None


def _range(dtype: np.dtype[Any], fill: int) -> tuple[int, int]:
    """Least (not above 0) and greatest (not below 0) element of a padded image."""
    limits = np.iinfo(dtype)
    return min(int(limits.min), fill), max(int(limits.max), fill)


def _most(reach: Array, start: Array) -> int:
    """The greatest magnitude of a partial sum, with the start or without; `reach` [2, C, channels]
    is how far the products of each input channel go up and down.
    """
    return int((reach.sum(axis=1).max(axis=0) + np.abs(start)).max(initial=0))


def _in_parts(
    products: Products, window: Window, filters: Array, parts: list[slice], starts: list[Array]
) -> Product:
    """One product, or the float64 sum of products over parts of the channels."""
    if len(parts) == 1:
        return products.convolution(window, filters, starts[0])
    runs = [
        products.convolution(_narrowed(window, part), filters[:, :, part], start)
        for part, start in zip(parts, starts, strict=True)
    ]
    total = np.empty((window.positions, filters.shape[-1]), np.float64)

    def run(x: Array) -> Array:
        total.fill(0)
        for part, product in zip(parts, runs, strict=True):
            np.add(total, product(x[..., part]), out=total)
        return total

    return run


def _narrowed(window: Window, part: slice) -> Window:
    rows, columns, _ = window.image
    return Window(
        (rows, columns, part.stop - part.start),
        window.kernel,
        window.out_hw,
        window.strides,
        window.dilations,
        window.corner,
        window.fill,
    )
