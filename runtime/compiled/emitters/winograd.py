"""Lowering of the convolutions that Winograd's algorithm does faster."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from npu_dialect.machine import Array
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.runtime.compiled.emitters.finish import lower_finish
from npu_dialect.runtime.compiled.emitters.windows import (
    Window,
    image_record_of,
    layout,
    output_of,
    round_up,
)
from npu_dialect.runtime.compiled.images import SLACK
from npu_dialect.runtime.compiled.packing import I16, Runs, limits, pack
from npu_dialect.runtime.compiled.products import Tile
from npu_dialect.runtime.compiled.records import Call, Code, Data, Here
from npu_dialect.runtime.compiled.translate import Context
from npu_dialect.runtime.compiled.winograd import POINTS, SPEC, WINOGRAD, fits, transformed

IMAGE_BYTES = 192 << 10
"""Bytes of a strip's image."""
POINT_BYTES = 256 << 10
"""Bytes of the transformed input of a block."""
TILES = 24
"""Tiles that a block should have, so that weights are read seldom."""
CHANNELS = 16
"""Fewer channels than this, in or out, do not pay for the transforms."""
WASTE = 1.5
"""Outputs that are computed, in whole tiles, over those that are wanted: more does not pay."""


def suits(window: Window, values: Values, known: Array) -> bool:
    """Whether the algorithm is exact for a convolution of i16, and pays."""
    plain = window.kernel == (3, 3) and window.strides == window.dilations == (1, 1)
    if not plain or values["accumulate"] or min(window.channels, known.shape[3]) < CHANNELS:
        return False
    rows, columns = window.positions
    down, across = -(-rows // 2), -(-columns // 2)
    if 4 * down * across > WASTE * rows * columns:
        return False
    if across * POINTS * _point_pitch(window) > POINT_BYTES:
        return False
    low, high = limits(window.input.dtype)
    greatest = max(abs(low - values["x_zero"]), abs(high - values["x_zero"]))
    return fits(known.astype(np.int32) - values["w_zero"], greatest)


def _point_pitch(window: Window) -> int:
    """Bytes of the channels of a tile at one point, whole vectors of any host."""
    return round_up(2 * window.channels)


def lower(window: Window, values: Values, context: Context, known: Array) -> Call:
    """The call of a convolution that `suits`."""
    rows, columns = window.positions
    down, across = -(-rows // 2), -(-columns // 2)
    tile = Tile.of(context.host, 2)
    width = tile.vectors * context.host.lanes
    channels = known.shape[3]
    padded = -(-channels // context.host.lanes) * context.host.lanes
    even = replace(window, positions=(2 * down, 2 * across))
    pixel = 2 * window.channels
    pitch = even.extent[1] * pixel
    point_pitch = _point_pitch(window)
    fitting = max(1, POINT_BYTES // (across * POINTS * point_pitch))
    block = min(down, fitting, max(1, round(TILES / across)))
    strip = min(down, max(1, (IMAGE_BYTES // pitch - 2) // 2) // block * block or block)
    tiles = block * across
    offsets_at = round_up(16 * tiles * padded) + 64
    points_at = round_up(offsets_at + 8 * tiles)
    products_at = points_at + round_up(POINTS * tiles * point_pitch)
    image_at = products_at + round_up(4 * POINTS * tiles * width)
    finish, tail = lower_finish(
        values,
        kernel_of(context.kernels, values) if "kernel" in values else None,
        "i32",
        output_of(values),
        rows=rows,
        columns=columns,
        channels=channels,
        sums_stride=4 * padded,
        context=context,
    )
    image = ("image", window.input.dtype.name, I16.name, layout(window.input))
    words = WINOGRAD.pack(
        [*tail, *image_record_of(window, values, I16, even.extent[1], pitch)],
        tile_rows=down,
        tile_columns=across,
        rows=rows,
        columns=columns,
        strip=strip,
        block=block,
        image=Code(image),
        image_record=Here(WINOGRAD.size + len(tail)),
        pitch=pitch,
        pixel=pixel,
        channels=window.channels,
        groups=-(-window.channels // 2),
        point_pitch=point_pitch,
        weights=Data(_packed(known, values, context, width)),
        zeros=Data(context.shared.setdefault(("zeros", width), np.zeros(width, np.int32))),
        padded=padded,
        finish=Code(finish),
        scratch_sums=0,
        scratch_offsets=offsets_at,
        scratch_points=points_at,
        scratch_products=products_at,
        scratch_image=image_at,
    )
    return Call(SPEC, words, image_at + (2 * strip + 2) * pitch + SLACK)


def _packed(known: Array, values: Values, context: Context, width: int) -> Array:
    """The transformed weights: per panel, the panels of all points."""
    key = ("winograd", known.tobytes(), known.dtype.char, known.shape, values["w_zero"])
    found = context.shared.get(key)
    if found is None:
        points = transformed(known.astype(np.int32) - values["w_zero"])
        channels, outputs = points.shape[1:]
        lanes = context.host.lanes
        parts = [
            pack(points[p, :, n : n + width], Runs(1, channels), I16, lanes, width, 0).data
            for n in range(0, outputs, width)
            for p in range(POINTS)
        ]
        found = context.shared[key] = np.concatenate(parts)
    return cast(Array, found)
