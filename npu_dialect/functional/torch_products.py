"""Whole-number sums of products by torch, for speed alone: the sums are those of `products`.

oneDNN convolves without gathering windows; a call costs 40 us and more, so that small convolutions
and matrix products stay with numpy's BLAS. Depthwise sums multiply and add in one operation.

`torch._int_mm` is not used: on a CPU without dot products of bytes it takes 30 times as long as
float32 (1.2 against 38 billion products a second, torch 2.13, Zen 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from npu_dialect.functional.products import Product, Products, Window
from npu_dialect.functional.windows import Array

GREAT = 8_000_000
"""Number of products from which on a dense convolution is faster in torch."""


class TorchProducts(Products):
    """By torch where that is faster, else by numpy.

    `threads` is torch's number of threads, of the whole process; None leaves it. Of the dense
    convolutions those of at least `great` products that are neither pointwise nor strided go to
    torch; with 0 all do. Raises ArithmeticError where torch is not exact on this machine.
    """

    name = "torch"
    block = 1 << 17

    def __init__(self, threads: int | None = 1, great: int = GREAT) -> None:
        super().__init__()
        self._great = great
        if threads is not None:
            torch.set_num_threads(threads)
        check(self)

    def convolution(self, window: Window, filters: Array, bias: Array) -> Product:
        """See `Products`."""
        suits = window.kernel != (1, 1) and window.strides == (1, 1)
        if self._great and (not suits or window.positions * filters.size < self._great):
            return super().convolution(window, filters, bias)
        return self.direct(window, filters, bias)

    def direct(self, window: Window, filters: Array, bias: Array) -> Product:
        """`convolution` by oneDNN."""
        fill_image, image = self.image(window)
        pixels = _tensor(image).permute(2, 0, 1)[None]
        arranged = np.ascontiguousarray(filters.transpose(3, 2, 0, 1), np.float32)
        start = np.ascontiguousarray(bias, np.float32)
        convolve = _convolution(pixels, _tensor(arranged), _tensor(start), window)

        def run(x: Array) -> Array:
            fill_image(x)
            return convolve()[0].permute(1, 2, 0).reshape(window.positions, -1).numpy()

        return run

    def adder(
        self, out: Array, views: list[Array], factors: list[Array], start: Array
    ) -> Callable[[], None]:
        """See `Products`; one operation multiplies and adds."""
        total, offset = _tensor(out), _tensor(start)
        first, *rest = [(_tensor(v), _tensor(f)) for v, f in zip(views, factors, strict=True)]

        def add() -> None:
            torch.addcmul(offset, *first, out=total)
            for view, factor in rest:
                total.addcmul_(view, factor)

        return add


def _tensor(array: Array) -> torch.Tensor:
    """The same memory."""
    untyped: Any = torch
    return untyped.from_numpy(array)


def _convolution(
    pixels: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor, window: Window
) -> Callable[[], torch.Tensor]:
    """A convolution of what `pixels` [1, C, H, W] hold at the time; filters [OC, C, KH, KW] are in
    oneDNN's own layout where torch offers that.
    """
    none, strides, dilations = [0, 0], list(window.strides), list(window.dilations)
    mkldnn: Any = torch.ops.mkldnn
    try:
        packed = mkldnn._reorder_convolution_weight(
            filters, none, strides, dilations, 1, list(pixels.shape)
        )
        convolve = mkldnn._convolution_pointwise.default
    except (AttributeError, RuntimeError):
        return lambda: torch.conv2d(pixels, filters, bias, strides, none, dilations)
    return lambda: convolve(pixels, packed, bias, none, strides, dilations, 1, "none", (), "")


def check(products: TorchProducts) -> None:
    """Raises ArithmeticError unless convolutions at the limit of float32 are exact."""
    limit = (1 << 24) - 1
    for channels in (1, 8, 24, 64):
        window = Window((9, 11, channels), (3, 3), (9, 11), corner=(1, 1), fill=255)
        x = np.full(window.image, 255, np.uint8)
        x[::2, 1::3] = 0
        factor = limit // (255 * 9 * channels)
        for filters in (
            np.full((3, 3, channels, 64), factor),
            np.full((3, 3, channels), limit // (255 * 9)),
        ):
            depthwise = filters.ndim == 3
            bias = np.full(filters.shape[-1], limit - 255 * 9 * int(filters.flat[0]))
            if not depthwise:
                bias = np.full(filters.shape[-1], limit - 255 * 9 * channels * factor)
            make = products.depthwise if depthwise else products.direct
            if not np.array_equal(make(window, filters, bias)(x), _expected(x, filters, bias)):
                raise ArithmeticError(
                    "torch must add whole numbers below 2**24 exactly in float32, and does not "
                    f"on this machine (torch {torch.__version__}): use the plain products"
                )


def _expected(x: Array, filters: Array, bias: Array) -> Array:
    """The sums of `check`, by the definition."""
    padded = np.pad(x.astype(np.int64), ((1, 1), (1, 1), (0, 0)), constant_values=255)
    sums = np.zeros((*x.shape[:2], len(bias)), np.int64) + bias
    for row, column in np.ndindex(3, 3):
        part = padded[row : row + x.shape[0], column : column + x.shape[1]]
        factor = filters[row, column]
        sums += part * factor if filters.ndim == 3 else part @ factor
    return sums.reshape(math.prod(x.shape[:2]), len(bias))
