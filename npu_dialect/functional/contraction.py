"""Convolutions and matrix products.

Integer operands give int32, or int64 with `wide`: the sum of (x - x_zero) * (w - w_zero) modulo
2**32 or 2**64; padding contributes 0. It is computed by BLAS in a floating type wherever the
operands' magnitudes prove that every partial sum is a whole number which that type holds exactly,
whatever the order; else in integers.

Float operands give float32: from +0.0 (or `acc`), the products are added in ascending (kernel row,
kernel column, input channel) order, products and sums each rounded. Padding takes part as x = +0.0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npu_dialect.functional.sequential import RUN, WORK, add_products
from npu_dialect.functional.weights import Weights, as_weights, exact_dtype, magnitude, wrap
from npu_dialect.functional.windows import (
    Array,
    Pads,
    Pair,
    output_size,
    pad,
    sliding,
    taps,
    window_extent,
)
from npu_dialect.numerics.arithmetic import quiet

COLUMNS = 1 << 19
"""Elements of the windows gathered at a time (2 MiB in float32)."""


@quiet
def conv2d(
    x: Array,
    w: Array | Weights,
    strides: Pair = (1, 1),
    dilations: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    groups: int = 1,
    x_zero: int = 0,
    w_zero: Array | int = 0,
    out_hw: Pair | None = None,
    acc: Array | None = None,
    wide: bool = False,
) -> Array:
    """Convolution of x [N, H, W, C] with w [KH, KW, C / groups, OC]: [N, OH, OW, OC].

    `acc` is the start value (not changed); `wide` sums of integers are int64. Raises ValueError
    where shapes do not fit.
    """
    weights = as_weights(w, w_zero)
    _check_filter(x, weights.shape, groups)
    if groups > 1 and weights.shape[2] == 1:
        x = x if weights.shape[3] == groups else np.repeat(x, weights.shape[3] // groups, axis=3)
        return _depthwise(x, weights, strides, dilations, pads, x_zero, out_hw, acc, wide)
    kernel = (weights.shape[0], weights.shape[1])
    out_hw = out_hw or output_size((x.shape[1], x.shape[2]), kernel, strides, dilations, pads)
    dtype = _common_dtype(x, x_zero, weights, 3, wide)
    extent = window_extent(kernel, strides, dilations, out_hw)
    image = pad(x, dtype, x_zero, (pads[0], pads[1]), extent, planar=weights.is_float)
    _center(image, x_zero)
    result = _start(acc, (x.shape[0], *out_hw, weights.shape[3]), sum_dtype(weights, wide))
    if not result.size or not math.prod(weights.shape):
        return result
    views = sliding(image, kernel, strides, dilations, out_hw)
    matrix = weights.converted(dtype).reshape(-1, weights.shape[3])
    contract = _add_windows_float if weights.is_float else _add_windows_int
    for x_group, w_group, out_group in _by_group(views, matrix, result, groups):
        contract(x_group, w_group, out_group)
    return result


@quiet
def depthwise_conv2d(
    x: Array,
    w: Array | Weights,
    strides: Pair = (1, 1),
    dilations: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    x_zero: int = 0,
    w_zero: Array | int = 0,
    out_hw: Pair | None = None,
    acc: Array | None = None,
    wide: bool = False,
) -> Array:
    """Convolution of each channel of x [N, H, W, C] with its own filter: [N, OH, OW, C].

    w is [KH, KW, C]; `acc` is the start value (not changed); `wide` sums of integers are int64.
    """
    weights = as_weights(w, w_zero)
    if len(weights.shape) != 3 or x.ndim != 4 or weights.shape[2] != x.shape[3]:
        raise ValueError(
            f"x [N, H, W, C] and w [KH, KW, C] must agree, found {x.shape} and {weights.shape}"
        )
    return _depthwise(x, weights, strides, dilations, pads, x_zero, out_hw, acc, wide)


@quiet
def matmul(
    a: Array,
    b: Array | Weights,
    x_zero: int = 0,
    w_zero: Array | int = 0,
    acc: Array | None = None,
    wide: bool = False,
) -> Array:
    """a [..., M, K] times b [..., K, N]: [..., M, N]; leading dimensions broadcast.

    `x_zero` is the zero point of a, `w_zero` that of b; `acc` is the start value (not changed);
    `wide` sums of integers are int64. Raises ValueError where shapes do not fit.
    """
    weights = as_weights(b, w_zero)
    if a.ndim < 2 or len(weights.shape) < 2 or a.shape[-1] != weights.shape[-2]:
        raise ValueError(
            f"a [..., M, K] and b [..., K, N] must agree, found {a.shape} and {weights.shape}"
        )
    dtype = _common_dtype(a, x_zero, weights, 1, wide)
    left = a.astype(dtype)
    _center(left, x_zero)
    right = weights.converted(dtype)
    batch = np.broadcast_shapes(a.shape[:-2], weights.shape[:-2])
    result = _start(acc, (*batch, a.shape[-2], weights.shape[-1]), sum_dtype(weights, wide))
    if weights.is_float:
        _add_matrix_products(left, right, result)
    else:
        _accumulate(np.matmul(left, right), result)
    return result


def _check_filter(x: Array, w: tuple[int, ...], groups: int) -> None:
    fits = x.ndim == 4 and len(w) == 4 and x.shape[3] == w[2] * groups and w[3] % groups == 0
    if not fits:
        raise ValueError(
            f"x [N, H, W, C] and w [KH, KW, C / groups, OC] must agree and groups divide OC, "
            f"found {x.shape}, {w} and {groups} groups"
        )


def sum_dtype(weights: Weights, wide: bool) -> np.dtype[Any]:
    """The type of sums of products with `weights`."""
    return np.dtype(np.float32 if weights.is_float else np.int64 if wide else np.int32)


def _common_dtype(
    x: Array, x_zero: int, weights: Weights, summed: int, wide: bool
) -> np.dtype[Any]:
    """The type to compute in, for sums over `summed` axes of the weights before the last.

    Raises ValueError where one operand is float and the other is not.
    """
    if weights.is_float != (x.dtype.kind not in "iub"):
        raise ValueError(
            f"operands must both be float or both integer, found {x.dtype} and {weights.dtype}"
        )
    if weights.is_float:
        return np.dtype(np.float32)
    greatest = magnitude(x, x_zero)
    rough = exact_dtype(greatest * weights.rough_bound(summed))
    if rough == np.float32:
        return rough
    found = exact_dtype(greatest * weights.bound(summed))
    return sum_dtype(weights, wide) if found.kind == "i" else found


def _center(image: Array, zero: int) -> None:
    if zero:
        np.subtract(image, image.dtype.type(zero), out=image)


def _start(acc: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A fresh array of sums: zeros, or `acc`. Raises ValueError for an `acc` of another shape."""
    if acc is None:
        return np.zeros(shape, dtype)
    if acc.shape != shape:
        raise ValueError(f"acc must have the shape of the result {shape}, found {acc.shape}")
    return np.array(acc, dtype, order="C")


def _accumulate(products: Array, out: Array) -> None:
    """out += whole `products`, modulo 2**32 or 2**64, as `out` is."""
    whole = np.empty(products.shape, out.dtype)
    wrap(products, whole)
    np.add(out, whole, out=out)


def _by_group(
    views: Array, matrix: Array, result: Array, groups: int
) -> list[tuple[Array, Array, Array]]:
    """(windows, weight matrix, output) per group of channels."""
    if groups == 1:
        return [(views, matrix, result)]
    channels, outputs = views.shape[5] // groups, matrix.shape[1] // groups
    return [
        (
            views[..., g * channels : (g + 1) * channels],
            matrix[:, g * outputs : (g + 1) * outputs],
            result[..., g * outputs : (g + 1) * outputs],
        )
        for g in range(groups)
    ]


def _row_blocks(views: Array, limit: int) -> list[tuple[slice, slice]]:
    """(images, output rows) such that the windows of each have about `limit` elements at most."""
    n, rows, *rest = views.shape
    per_row = math.prod(rest)
    if n * rows * per_row <= limit:
        return [(slice(0, n), slice(0, rows))]
    if rows * per_row <= limit:
        step = limit // (rows * per_row)
        return [(slice(i, i + step), slice(0, rows)) for i in range(0, n, step)]
    step = max(1, limit // per_row)
    return [(slice(i, i + 1), slice(r, r + step)) for i in range(n) for r in range(0, rows, step)]


def _add_windows_int(views: Array, matrix: Array, out: Array) -> None:
    for images, rows in _row_blocks(views, COLUMNS):
        block = out[images, rows]
        columns = views[images, rows].reshape(-1, len(matrix))
        _accumulate((columns @ matrix).reshape(block.shape), block)


def _add_windows_float(views: Array, matrix: Array, out: Array) -> None:
    """The longer of (positions, output channels) becomes the last axis."""
    limit = max(RUN, WORK // max(matrix.shape[1], 1)) * len(matrix)
    for images, rows in _row_blocks(views, limit):
        block = out[images, rows]
        columns = views[images, rows].transpose(3, 4, 5, 0, 1, 2).reshape(len(matrix), 1, -1)
        weights = matrix[:, None, :]
        flat = block.reshape(1, -1, matrix.shape[1])
        if columns.shape[2] < matrix.shape[1]:
            add_products(columns, weights, flat)
        else:
            sums = np.ascontiguousarray(flat.transpose(0, 2, 1))
            add_products(weights, columns, sums)
            flat = sums.transpose(0, 2, 1)
        block[...] = flat.reshape(block.shape)


def _add_matrix_products(left: Array, right: Array, out: Array) -> None:
    """out [..., M, N] += left [..., M, K] @ right [..., K, N], in float32 and in order."""
    batch, (m, n) = out.shape[:-2], out.shape[-2:]
    count, k = math.prod(batch), left.shape[-1]
    rows = np.broadcast_to(left, (*batch, m, k)).reshape(count, m, k).transpose(2, 0, 1)
    columns = np.broadcast_to(right, (*batch, k, n)).reshape(count, k, n).transpose(1, 0, 2)
    flat = out.reshape(count, m, n)
    if n >= m:
        add_products(rows, columns, flat)
        return
    sums = np.ascontiguousarray(flat.transpose(0, 2, 1))
    add_products(columns, np.ascontiguousarray(rows), sums)
    flat[...] = sums.transpose(0, 2, 1)


def _depthwise(
    x: Array,
    weights: Weights,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
    x_zero: int,
    out_hw: Pair | None,
    acc: Array | None,
    wide: bool,
) -> Array:
    kernel = (weights.shape[0], weights.shape[1])
    out_hw = out_hw or output_size((x.shape[1], x.shape[2]), kernel, strides, dilations, pads)
    dtype = sum_dtype(weights, wide)
    extent = window_extent(kernel, strides, dilations, out_hw)
    image = pad(x, dtype, x_zero, (pads[0], pads[1]), extent)
    _center(image, x_zero)
    result = _start(acc, (x.shape[0], *out_hw, x.shape[3]), dtype)
    if not x.shape[3]:
        return result
    factors = weights.converted(dtype).reshape(-1, x.shape[3])
    _add_taps(taps(image, kernel, strides, dilations, out_hw), factors, result)
    return result


def _add_taps(views: list[Array], factors: Array, out: Array) -> None:
    """out += views[i] * factors[i] in order, some output rows at a time, each as one run."""
    n, rows, columns, channels = out.shape
    step = max(1, WORK // max(n * columns * channels, 1))
    wide = np.tile(factors, (1, columns)).reshape(-1, columns, channels)
    for row in range(0, rows, step):
        block = out[:, row : row + step]
        products = np.empty_like(block)
        for view, factor in zip(views, wide, strict=True):
            np.multiply(view[:, row : row + step], factor, out=products)
            np.add(block, products, out=block)
