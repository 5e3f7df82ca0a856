"""Sliding windows over channels-last images, padded explicitly.

A pair is (rows, columns). `pads` is (top, left, bottom, right), each >= 0. Where `out_hw` gives the
output's rows and columns, bottom and right follow from it: missing rows are padding, surplus rows
are not read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


def output_size(hw: Pair, kernel: Pair, strides: Pair, dilations: Pair, pads: Pads) -> Pair:
    """Rows and columns of the output. Raises ValueError for a negative pad or where none fits."""
    if min(pads) < 0:
        raise ValueError(f"pads must not be negative, found {pads}")
    rows = (hw[0] + pads[0] + pads[2] - span(kernel[0], dilations[0])) // strides[0] + 1
    columns = (hw[1] + pads[1] + pads[3] - span(kernel[1], dilations[1])) // strides[1] + 1
    if rows < 1 or columns < 1:
        raise ValueError(
            f"a window of {kernel} (dilations {dilations}) exceeds {hw} padded by {pads}"
        )
    return rows, columns


def span(kernel: int, dilation: int) -> int:
    """Extent of a dilated kernel along one axis."""
    return (kernel - 1) * dilation + 1


def pad(
    x: Array, dtype: npt.DTypeLike, fill: float, corner: Pair, extent: Pair, planar: bool = False
) -> Array:
    """`x` [N, H, W, C] as `dtype` in a fresh image of `extent`, its first pixel at `corner`.

    What `x` does not cover is `fill`. `planar` stores channels-first behind the same axes.
    """
    (top, left), (rows, columns) = corner, extent
    n, height, width, channels = x.shape
    if planar:
        image = np.empty((n, channels, rows, columns), dtype).transpose(0, 2, 3, 1)
    else:
        image = np.empty((n, rows, columns, channels), dtype)
    bottom, right = min(top + height, rows), min(left + width, columns)
    if (top, left, bottom, right) != (0, 0, rows, columns):
        image[...] = fill
    image[:, top:bottom, left:right] = x[:, : max(bottom - top, 0), : max(right - left, 0)]
    return image


def window_extent(kernel: Pair, strides: Pair, dilations: Pair, out_hw: Pair) -> Pair:
    """Rows and columns that the windows of an output of `out_hw` reach over."""
    rows = (out_hw[0] - 1) * strides[0] + span(kernel[0], dilations[0])
    return rows, (out_hw[1] - 1) * strides[1] + span(kernel[1], dilations[1])


def sliding(image: Array, kernel: Pair, strides: Pair, dilations: Pair, out_hw: Pair) -> Array:
    """View [N, OH, OW, KH, KW, C] of a padded image."""
    n, _, _, channels = image.shape
    along_n, along_h, along_w, along_c = image.strides
    return np.lib.stride_tricks.as_strided(
        image,
        (n, *out_hw, *kernel, channels),
        (
            along_n,
            along_h * strides[0],
            along_w * strides[1],
            along_h * dilations[0],
            along_w * dilations[1],
            along_c,
        ),
    )


def taps(image: Array, kernel: Pair, strides: Pair, dilations: Pair, out_hw: Pair) -> list[Array]:
    """Per kernel position in row-major order, the view [N, OH, OW, C] of the pixels it meets.

    Strided columns are gathered beforehand, so that each view runs over contiguous pixels.
    """
    rows = (out_hw[0] - 1) * strides[0] + 1
    phases = [image[:, :, phase :: strides[1]] for phase in range(strides[1])]
    if strides[1] > 1:
        phases = [np.ascontiguousarray(phase) for phase in phases]
    views: list[Array] = []
    for row in range(0, kernel[0] * dilations[0], dilations[0]):
        for column in range(0, kernel[1] * dilations[1], dilations[1]):
            first, phase = divmod(column, strides[1])
            view = phases[phase][:, row : row + rows : strides[0], first : first + out_hw[1]]
            views.append(view)
    return views
