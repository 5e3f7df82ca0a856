"""Whole-number sums of products in float32, made ready once and computed many times.

Every sum here is exact: `exact.py` proves beforehand that the partial sums are whole numbers below
2**24, in whatever order they are added. So how they are computed is free, and a machine carries the
`Products` to use: this module's, by numpy, or those of `torch_products`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npu_dialect.functional.windows import Array, Pair, sliding, window_extent

Product = Callable[[Array], Array]
"""From an image [H, W, C] of stored integers to float32 sums [positions, channels], which the
caller may change and which are valid until the next product.
"""

COLUMNS = 1 << 19
"""Elements of the windows gathered at a time (2 MiB)."""
KEPT = 1 << 15
"""Elements up to which the windows gathered have memory of their own for each shape."""


@dataclass(frozen=True)
class Window:
    """How the windows of a convolution lie over an image. A pair is (rows, columns)."""

    image: tuple[int, int, int]
    """Rows, columns and channels of the image."""
    kernel: Pair
    out_hw: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    corner: Pair = (0, 0)
    """Rows above and columns to the left of the image."""
    fill: int = 0
    """The value of what windows meet outside of the image."""

    @property
    def positions(self) -> int:
        return self.out_hw[0] * self.out_hw[1]

    @cached_property
    def extent(self) -> Pair:
        """Rows and columns that the windows reach over."""
        return window_extent(self.kernel, self.strides, self.dilations, self.out_hw)

    @cached_property
    def is_pointwise(self) -> bool:
        """Whether each window is one pixel of the image, in order."""
        plain = self.kernel == self.strides == (1, 1) and self.corner == (0, 0)
        return plain and self.out_hw == self.image[:2]


class Products:
    """By numpy: convolutions as matrix products, depthwise ones tap by tap.

    It has work arrays, so one belongs to one machine.
    """

    name = "numpy"
    block = 1 << 14
    """Outputs of a depthwise convolution computed at a time: they stay in a second-level cache."""

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        self._images: dict[tuple[object, ...], Array] = {}
        self._kept: dict[tuple[int, ...], Array] = {}

    def convolution(self, window: Window, filters: Array, bias: Array) -> Product:
        """The sums of an image's windows with `filters` [KH, KW, C, OC], plus `bias` [OC]."""
        matrix = np.concatenate([filters.reshape(-1, len(bias)), bias[None]]).astype(np.float32)
        if window.is_pointwise:
            return self._pointwise(window, matrix)
        fill_image, image = self.image(window)
        windows = sliding(
            image[None], window.kernel, window.strides, window.dilations, window.out_hw
        )[0]
        sums = self.work("sums", (*window.out_hw, len(bias)))
        step = max(1, COLUMNS // (len(matrix) * window.out_hw[1]))
        blocks: list[tuple[Array, Array, Callable[[], None], Array, Array]] = []
        for row in range(0, window.out_hw[0], step):
            part = windows[row : row + step]
            columns, target, complete = self._columns(len(part), window.out_hw[1], len(matrix) - 1)
            out = sums[row : row + step].reshape(len(columns), len(bias))
            blocks.append((target.reshape(part.shape), part, complete, columns, out))
        result = sums.reshape(-1, len(bias))

        def run(x: Array) -> Array:
            fill_image(x)
            for target, part, complete, columns, out in blocks:
                np.copyto(target, part)
                complete()
                np.matmul(columns, matrix, out=out)
            return result

        return run

    def _pointwise(self, window: Window, matrix: Array) -> Product:
        columns, target, complete = self._columns(*window.image)
        sums = self.work("sums", (window.positions, matrix.shape[1]))

        def run(x: Array) -> Array:
            np.copyto(target, x)
            complete()
            return np.matmul(columns, matrix, out=sums)

        return run

    def _columns(
        self, rows: int, columns: int, length: int
    ) -> tuple[Array, Array, Callable[[], None]]:
        """The left operand of a product with the bias below the weights: [positions, length + 1];
        its part [rows, columns, length]; and what sets the rest to one, after that is written.

        Small ones are kept for each shape, and their ones with them.
        """
        shape = (rows, columns, length + 1)
        if math.prod(shape) <= KEPT:
            kept = self._kept.get(shape)
            if kept is None:
                kept = self._kept[shape] = np.ones(shape, np.float32)
            return kept.reshape(-1, length + 1), kept[..., :-1], _nothing
        whole = self.work("columns", shape)
        flat = whole.reshape(-1, length + 1)
        ones = flat[:, -1]
        return flat, whole[..., :-1], lambda: ones.fill(1)

    def depthwise(self, window: Window, filters: Array, bias: Array) -> Product:
        """The sums of each channel's windows with its own filter of `filters` [KH, KW, C], plus
        `bias` [C].
        """
        rows, columns = window.out_hw
        fill_image, views = self._taps(window)
        sums = self.work("sums", (rows, columns, len(bias)))
        wide = np.tile(filters.reshape(-1, 1, len(bias)), (1, columns, 1)).astype(np.float32)
        start = np.tile(bias, (columns, 1)).astype(np.float32)
        step = max(1, self.block // max(1, columns * len(bias)))
        adders: list[Callable[[], None]] = []
        for row in range(0, rows, step):
            parts = [view[row : row + step] for view in views]
            adders.append(self.adder(sums[row : row + step], parts, list(wide), start))
        result = sums.reshape(-1, len(bias))

        def run(x: Array) -> Array:
            fill_image(x)
            for add in adders:
                add()
            return result

        return run

    def adder(
        self, out: Array, views: list[Array], factors: list[Array], start: Array
    ) -> Callable[[], None]:
        """What sets `out` to `start` plus the sum of views times factors; all broadcast to it."""
        product = self.work("product", out.shape)
        pairs = list(zip(views[1:], factors[1:], strict=True))

        def add() -> None:
            np.multiply(views[0], factors[0], out=out)
            np.add(out, start, out=out)
            for view, factor in pairs:
                np.multiply(view, factor, out=product)
                np.add(out, product, out=out)

        return add

    def _taps(self, window: Window) -> tuple[Callable[[Array], None], list[Array]]:
        """What writes an image into the padded one, and per kernel position the view [OH, OW, C] of
        the pixels that it then meets. Strided columns are apart, so that each view runs over
        contiguous pixels.
        """
        stride, (down, across) = window.strides[1], window.dilations
        parts = [self.image(window, phase) for phase in range(stride)]
        writers = [writer for writer, _ in parts]

        def fill_image(x: Array) -> None:
            for writer in writers:
                writer(x)

        reach = (window.out_hw[0] - 1) * window.strides[0] + 1
        views: list[Array] = []
        for row, column in itertools.product(*map(range, window.kernel)):
            first, phase = divmod(column * across, stride)
            _, part = parts[phase]
            rows = part[row * down : row * down + reach : window.strides[0]]
            views.append(rows[:, first : first + window.out_hw[1]])
        return fill_image, views

    def image(
        self, window: Window, phase: int | None = None
    ) -> tuple[Callable[[Array], None], Array]:
        """What writes an image into a padded one in float32, and that. It is shared by all windows
        that pad in the same way. With `phase` it has only every so many columns as the window's
        stride says, from that one on.
        """
        (top, left), (rows, columns), (height, width, channels) = (
            window.corner, window.extent, window.image,
        )  # fmt: skip
        start, step = (0, 1) if phase is None else (phase, window.strides[1])
        key = (window.corner, window.extent, window.image, window.fill, start, step)
        image = self._images.get(key)
        if image is None:
            shape = (rows, len(range(start, columns, step)), channels)
            image = self._images[key] = np.full(shape, window.fill, np.float32)
        before = -(-max(left - start, 0) // step)
        first = start - left + before * step
        target = image[top : top + height, before:][:, : len(range(first, width, step))]
        source = (slice(0, target.shape[0]), slice(first, width, step))
        if target.shape == window.image:
            return lambda x: np.copyto(target, x), image
        if not target.size:
            return _ignore, image
        return lambda x: np.copyto(target, x[source][:, : target.shape[1]]), image

    def work(self, name: str, shape: tuple[int, ...]) -> Array:
        """A float32 array over the work memory of that name."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.float32)
        return buffer[:size].reshape(shape)


def _nothing() -> None:
    """There is nothing to complete."""


def _ignore(x: Array) -> None:
    """No window meets the image."""
