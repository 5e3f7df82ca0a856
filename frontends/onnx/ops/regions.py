"""Regions of images: RoiAlign, and convolutions whose taps have offsets of run time."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import Ints, Windows, check_kernel, windows
from npu_dialect.frontends.onnx.ops.sampling import (
    Image,
    clamped,
    floor,
    image_of,
    pixels,
    plus,
    total,
    weighted,
    within,
)
from npu_dialect.frontends.onnx.registry import op

Tap = tuple[SSAValue, SSAValue]
"""A whole position and its weight."""


def _weighted_pixels(
    b: Builder, image: Image, rows: Sequence[Tap], columns: Sequence[Tap]
) -> list[SSAValue]:
    """The pixels at each of the rows and columns, times their weights."""
    return [
        weighted(b, pixels(b, image, y, x), common.mul(b, p, q))
        for y, p in rows
        for x, q in columns
    ]


def _halves(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
    """The whole part of x, and the weights of that position and of the next."""
    first = floor(b, x)
    share = common.sub(b, x, first)
    return first, common.sub(b, b.scalar(1, share), share), share


# RoiAlign


@op("RoiAlign")
def roi_align_10(
    b: Builder,
    x: SSAValue,
    rois: SSAValue,
    batch_indices: SSAValue,
    *,
    mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
) -> SSAValue:
    """Without a choice of the coordinates."""
    return roi_align(
        b, x, rois, batch_indices, coordinate_transformation_mode="output_half_pixel", mode=mode,
        output_height=output_height, output_width=output_width, sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )  # fmt: skip


@op("RoiAlign", since=16)
def roi_align(
    b: Builder,
    x: SSAValue,
    rois: SSAValue,
    batch_indices: SSAValue,
    *,
    coordinate_transformation_mode: str,
    mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
) -> SSAValue:
    """Means of `sampling_ratio` squared samples in each of the parts of a region; or the greatest
    of their weighted pixels.
    """
    if mode not in ("avg", "max"):
        raise Misfit(f"the mode {mode}")
    if sampling_ratio < 1 or dtype_of(x) is not dtypes.f32:
        raise NotExpressible("RoiAlign by as many samples as a region has pixels")
    halved = coordinate_transformation_mode == "half_pixel"
    whole, count = image_of(b, x), shape_of(rois)[0]
    first = common.reshape(b, common.cast(b, batch_indices, dtypes.i32), (count, 1))
    first = common.mul(b, first, b.scalar(prod(whole.sizes), first))
    image = Image(whole.rows, first, *whole.sizes)
    corners = plus(b, common.scaled(b, rois, spatial_scale), -0.5 if halved else 0)
    sides = [common.along(b, corners, 1, k, 1) for k in range(4)]
    parts = (output_height, output_width)
    lines = [
        _samples(b, (sides[1 - k], sides[3 - k]), parts[k] * sampling_ratio, halved) for k in (0, 1)
    ]
    taps = [_within_image(b, v, n) for v, n in zip(lines, whole.sizes, strict=True)]
    rows = [_spread(b, tap, 2, shape_of(lines[1])[1]) for tap in taps[0]]
    columns = [_spread(b, tap, 1, shape_of(lines[0])[1]) for tap in taps[1]]
    pixels_of_all = _weighted_pixels(b, image, rows, columns)
    found = total(b, pixels_of_all) if mode == "avg" else _greatest(b, pixels_of_all)
    ratio, channels = sampling_ratio, shape_of(x)[1]
    found = common.reshape(b, found, (count * output_height, ratio, output_width, ratio, channels))
    reduction = graph.ReduceMeanOp if mode == "avg" else graph.ReduceMaxOp
    result = common.reduce(b, reduction, found, (1, 3), 0)
    return common.channels_first(b, common.reshape(b, result, (count, *parts, channels)))


def _greatest(b: Builder, parts: Sequence[SSAValue]) -> SSAValue:
    result = parts[0]
    for part in parts[1:]:
        result = b.emit(graph.MaxOp(result, part))
    return result


def _samples(b: Builder, ends: tuple[SSAValue, SSAValue], count: int, halved: bool) -> SSAValue:
    """`count` positions at equal distances between the ends [regions, 1] of a side."""
    extent = common.sub(b, ends[1], ends[0])
    if not halved:
        extent = b.emit(graph.MaxOp(extent, b.scalar(1, extent)))
    shares = ((np.arange(count) + 0.5) / count).astype(np.float32).reshape(1, count)
    return common.add(b, ends[0], common.mul(b, extent, b.constant(shares)))


def _within_image(b: Builder, x: SSAValue, size: int) -> list[Tap]:
    """The two pixels at a position; one beyond the image by more than a pixel weighs nothing."""
    inside = within(b, x, -1, size)
    first, low, high = _halves(b, clamped(b, x, 0, size - 1))
    second = clamped(b, plus(b, first, 1), 0, size - 1)
    return [(first, common.mul(b, low, inside)), (second, common.mul(b, high, inside))]


def _spread(b: Builder, tap: Tap, axis: int, count: int) -> Tap:
    """A tap of each line [regions, n] as that of all points of a grid [regions, points]."""
    regions, size = shape_of(tap[0])
    shape = (regions, size, 1) if axis == 2 else (regions, 1, size)
    full = (regions, size, count) if axis == 2 else (regions, count, size)

    def over(v: SSAValue) -> SSAValue:
        spread = common.broadcast(b, common.reshape(b, v, shape), full)
        return common.reshape(b, spread, (regions, size * count))

    return over(tap[0]), over(tap[1])


# DeformConv


@op("DeformConv")
def deform_conv(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    offset: SSAValue,
    bias: SSAValue | None = None,
    mask: SSAValue | None = None,
    *,
    dilations: Ints,
    group: int,
    kernel_shape: Ints,
    offset_group: int,
    pads: Ints,
    strides: Ints,
) -> SSAValue:
    """The pixels under the moved taps side by side, then a matrix product."""
    if len(shape_of(x)) != 4 or dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"{len(shape_of(x)) - 2} spatial dimensions of {dtype_of(x)}")
    (n, c, *size), out = shape_of(x), shape_of(w)[0]
    if offset_group < 1 or group < 1 or c % offset_group or c % group or out % group:
        raise Misfit(f"{c} channels in {group} and {offset_group} groups")
    found = windows(size, check_kernel(w, kernel_shape), strides, dilations, pads, "NOTSET")
    places = found.counts(size)
    taps, points = prod(found.kernel), prod(places)
    moves = common.reshape(b, offset, (n * offset_group, taps, 2, points))
    parts: list[SSAValue] = []
    for k in range(offset_group):
        own = common.along(b, x, 1, k * c // offset_group, c // offset_group)
        part = _moved_taps(b, own, _of_group(b, moves, n, k), found)
        if mask is not None:
            strength = common.reshape(b, mask, (n * offset_group, taps * points))
            part = weighted(b, part, _of_group(b, strength, n, k))
        parts.append(common.reshape(b, part, (n, taps, points, c // offset_group)))
    columns = common.concat(b, parts, 3)
    result = [_group_product(b, columns, w, k, group) for k in range(group)]
    y = common.concat(b, result, 1)
    y = y if bias is None else common.add(b, y, common.reshape(b, bias, (1, out)))
    return common.channels_first(b, common.reshape(b, y, (n, *places, out)))


def _of_group(b: Builder, x: SSAValue, batch: int, k: int) -> SSAValue:
    """The part of one group of x [batch * groups, ...]."""
    rows, *rest = shape_of(x)
    apart = common.reshape(b, x, (batch, rows // batch, prod(rest)))
    return common.reshape(b, common.along(b, apart, 1, k, 1), (batch, *rest))


def _moved_taps(b: Builder, x: SSAValue, moves: SSAValue, found: Windows) -> SSAValue:
    """The rows [N * taps * points, C] under taps that are moved by [N, taps, 2 (y, x), points]."""
    image = image_of(b, x)
    n, taps, _, points = shape_of(moves)
    b.reserve(taps, points)
    counts = found.counts(image.sizes)
    lines: list[list[Tap]] = []
    for k, extent in enumerate(image.sizes):
        tap = np.indices(found.kernel)[k].reshape(taps, 1) * found.dilations[k]
        place = np.indices(counts)[k].reshape(1, points) * found.strides[k]
        base = (tap + place - found.low[k]).astype(np.float32).reshape(1, taps * points)
        move = common.reshape(b, common.along(b, moves, 2, k, 1), (n, taps * points))
        lines.append(_with_zeros(b, common.add(b, move, b.constant(base)), extent))
    return total(b, _weighted_pixels(b, image, *lines))


def _with_zeros(b: Builder, x: SSAValue, size: int) -> list[Tap]:
    """The two pixels at a position, of which those outside weigh nothing."""
    first, low, high = _halves(b, x)
    pairs = ((first, low), (plus(b, first, 1), high))
    return [
        (clamped(b, at, 0, size - 1), common.mul(b, weight, within(b, at, 0, size - 1)))
        for at, weight in pairs
    ]


def _group_product(b: Builder, columns: SSAValue, w: SSAValue, k: int, group: int) -> SSAValue:
    """[N * points, channels out of a group] from columns [N, taps, points, C]."""
    n, taps, points, c = shape_of(columns)
    out, inner = shape_of(w)[0] // group, c // group
    own = common.transpose(b, common.along(b, columns, 3, k * inner, inner), (0, 2, 1, 3))
    weights = common.reshape(b, common.along(b, w, 0, k * out, out), (out, inner, taps))
    weights = common.reshape(b, common.transpose(b, weights, (2, 1, 0)), (taps * inner, out))
    return b.emit(graph.MatmulOp(common.reshape(b, own, (n * points, taps * inner)), weights))
