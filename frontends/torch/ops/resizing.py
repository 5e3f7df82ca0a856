"""Images of another size: along each axis repeats, places, or a product with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from npu_dialect import graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import Builder, SSAValue, Windows, shape_of
from npu_dialect.frontends.torch.registry import op, register

Matrix = NDArray[np.float32]
Places = NDArray[np.int64]
Scale = float | None
Ints = Sequence[int]


def along_axis(b: Builder, x: SSAValue, axis: int, matrix: Matrix) -> SSAValue:
    """The product of [out, size] with the elements along one axis."""
    rank = len(shape_of(x))
    if rank == 1:
        row = common.reshape(b, x, (1, *shape_of(x)))
        return common.squeeze(b, along_axis(b, row, 1, matrix), [0])
    if axis == rank - 1:
        return b.emit(graph.MatmulOp(x, b.constant(np.ascontiguousarray(matrix.T))))
    order = [k for k in range(rank) if k != axis] + [axis]
    last = common.transpose(b, x, order)
    made = b.emit(graph.MatmulOp(last, b.constant(np.ascontiguousarray(matrix.T))))
    return common.transpose(b, made, [int(k) for k in np.argsort(order)])


def _ratio(size: int, out: int, scale: Scale, align: bool) -> float:
    if align:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1 / scale if scale else size / out


def nearest(size: int, out: int, scale: Scale) -> Places:
    """The element at or before each position, which is rounded as in f32."""
    at = np.arange(out, dtype=np.float32) * np.float32(_ratio(size, out, scale, False))
    return np.minimum(np.floor(at).astype(np.int64), size - 1)


def nearest_exact(size: int, out: int, scale: Scale) -> Places:
    """The element at the middle of each position, which is rounded as in f32."""
    ratio = float(np.float32(_ratio(size, out, scale, False)))
    corner = ((np.arange(out) + 0.5) * ratio - 0.5).astype(np.float32)
    return np.minimum(np.floor(corner + np.float32(0.5)).astype(np.int64), size - 1)


def _positions(size: int, out: int, scale: Scale, align: bool) -> NDArray[np.float64]:
    ratio, steps = _ratio(size, out, scale, align), np.arange(out)
    at = steps * ratio if align else (steps + 0.5) * ratio - 0.5
    return at.astype(np.float64)


def linear(size: int, out: int, scale: Scale, align: bool) -> Matrix:
    """Between two neighbours; torch ignores a scale by which the size stays."""
    if size == out:
        return np.eye(size, dtype=np.float32)
    at = np.maximum(_positions(size, out, scale, align), 0)
    low = np.minimum(np.floor(at).astype(int), size - 1)
    part = (at - low)[:, None]
    eye = np.eye(size)
    return (eye[low] * (1 - part) + eye[np.minimum(low + 1, size - 1)] * part).astype(np.float32)


def cubic(size: int, out: int, scale: Scale, align: bool, a: float = -0.75) -> Matrix:
    """Among four neighbours (Keys, 1981, with torch's coefficient)."""
    at = _positions(size, out, scale, align)
    low = np.floor(at).astype(int)
    matrix = np.zeros((out, size))
    for tap in range(-1, 3):
        d = np.abs(at - (low + tap))
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        places = np.clip(low + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(out), places), np.where(d <= 1, near, far))
    return matrix.astype(np.float32)


Weights = Callable[[int, int, Scale, bool], Matrix]
Choice = Callable[[int, int, Scale], Places]


def _weighted(
    b: Builder, x: SSAValue, weights: Weights, scales: Sequence[Scale], align: bool
) -> SSAValue:
    """From the last axis on, by matrices of weights: an infinity may make its neighbours NaN."""
    for k in reversed(range(len(scales))):
        size, out = shape_of(x)[2 + k], b.shape[2 + k]
        matrix = weights(size, out, scales[k], align)
        if not np.array_equal(matrix, np.eye(size)):
            x = along_axis(b, x, 2 + k, matrix)
    return x


def _chosen(b: Builder, x: SSAValue, choice: Choice, scales: Sequence[Scale]) -> SSAValue:
    """From the last axis on, elements by their places; whole repeats of them are a broadcast.

    Some of torch's kernels (small images, channels last) ignore a scale by which the size stays or
    doubles; here all sizes follow the scale, as in torch's decomposition.
    """
    for k in reversed(range(len(scales))):
        size, out = shape_of(x)[2 + k], b.shape[2 + k]
        places = choice(size, out, scales[k])
        if np.array_equal(places, np.arange(size).repeat(out // size)):
            x = _repeat(b, x, 2 + k, out // size) if out > size else x
        else:
            x = _taken(b, x, 2 + k, places)
    return x


def _taken(b: Builder, x: SSAValue, axis: int, places: Places) -> SSAValue:
    """Elements along one axis, as rows of a matrix."""
    order = [axis, *(k for k in range(len(shape_of(x))) if k != axis)]
    found = rows.gather(b, common.transpose(b, x, order), b.constant(places), axis=0)
    return common.transpose(b, found, [int(k) for k in np.argsort(order)])


def _repeat(b: Builder, x: SSAValue, axis: int, factor: int) -> SSAValue:
    before, size, after = shape_of(x)[:axis], shape_of(x)[axis], shape_of(x)[axis + 1 :]
    apart = common.reshape(b, x, (*before, size, 1, *after))
    wide = common.broadcast(b, apart, (*before, size, factor, *after))
    return common.reshape(b, wide, (*before, size * factor, *after))


def _register_nearest(name: str, choice: Choice) -> None:
    def by_factors(
        b: Builder, input: SSAValue, output_size: object, scale_factors: Sequence[float] | None
    ) -> SSAValue:
        scales = scale_factors or [None] * (len(b.shape) - 2)
        return _chosen(b, input, choice, scales)

    def image(
        b: Builder, self: SSAValue, output_size: object, scales_h: Scale, scales_w: Scale
    ) -> SSAValue:
        return _chosen(b, self, choice, (scales_h, scales_w))

    def sequence(b: Builder, self: SSAValue, output_size: object, scales: Scale) -> SSAValue:
        return _chosen(b, self, choice, (scales,))

    register(by_factors, f"{name}2d.vec", f"{name}1d.vec")
    register(image, f"{name}2d")
    register(sequence, f"{name}1d")


def _register_smooth(name: str, weights: Weights) -> None:
    def by_factors(
        b: Builder,
        input: SSAValue,
        output_size: object,
        align_corners: bool,
        scale_factors: Sequence[float] | None,
    ) -> SSAValue:
        scales = scale_factors or [None] * (len(b.shape) - 2)
        return _weighted(b, input, weights, scales, align_corners)

    def image(
        b: Builder,
        self: SSAValue,
        output_size: object,
        align_corners: bool,
        scales_h: Scale,
        scales_w: Scale,
    ) -> SSAValue:
        return _weighted(b, self, weights, (scales_h, scales_w), align_corners)

    register(by_factors, f"{name}.vec")
    if name != "upsample_linear1d":
        register(image, name)


_register_nearest("upsample_nearest", nearest)
_register_nearest("_upsample_nearest_exact", nearest_exact)
_register_smooth("upsample_bilinear2d", linear)
_register_smooth("upsample_bicubic2d", cubic)
_register_smooth("upsample_linear1d", linear)


@op("pixel_shuffle")
def pixel_shuffle(b: Builder, self: SSAValue, upscale_factor: int) -> SSAValue:
    """Channels into blocks of pixels."""
    *outer, c, h, w = shape_of(self)
    s, rank = upscale_factor, len(outer)
    x = common.reshape(b, self, (*outer, c // (s * s), s, s, h, w))
    order = (*range(rank), rank, rank + 3, rank + 1, rank + 4, rank + 2)
    return common.reshape(b, common.transpose(b, x, order), b.shape)


@op("pixel_unshuffle")
def pixel_unshuffle(b: Builder, self: SSAValue, downscale_factor: int) -> SSAValue:
    """Blocks of pixels into channels."""
    *outer, c, h, w = shape_of(self)
    s, rank = downscale_factor, len(outer)
    x = common.reshape(b, self, (*outer, c, h // s, s, w // s, s))
    order = (*range(rank), rank, rank + 2, rank + 4, rank + 1, rank + 3)
    return common.reshape(b, common.transpose(b, x, order), b.shape)


@op("im2col")
def im2col(
    b: Builder, self: SSAValue, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> SSAValue:
    """The elements of each window as a column: N, C * taps, windows."""
    x = self if len(shape_of(self)) == 4 else common.reshape(b, self, (1, *shape_of(self)))
    found = common.windows(
        shape_of(x)[2:], kernel_size, stride, dilation, (*padding,) * 2, "NOTSET"
    )
    counts = found.counts(shape_of(x)[2:])
    (n, c), pads = shape_of(x)[:2], (0, 0, *found.low)
    x = common.pad(b, x, pads, pads)
    taps: list[SSAValue] = []
    for tap in np.ndindex(*found.kernel):
        first = (0, 0, *(t * d for t, d in zip(tap, found.dilations, strict=True)))
        part = common.window(b, x, first, (n, c, *counts), (1, 1, *found.strides))
        taps.append(common.reshape(b, part, (n, c, 1, prod(counts))))
    return common.reshape(b, common.concat(b, taps, 2), b.shape)


@op("col2im")
def col2im(
    b: Builder,
    self: SSAValue,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints,
    padding: Ints,
    stride: Ints,
) -> SSAValue:
    """The sum of all windows, each element where its window had it."""
    columns, taps = shape_of(self)[-2:], prod(kernel_size)
    n, c = b.shape[0] if len(b.shape) == 4 else 1, b.shape[-3]
    found = common.windows(output_size, kernel_size, stride, dilation, (*padding,) * 2, "NOTSET")
    counts = found.counts(output_size)
    x = common.reshape(b, self, (n, c, taps, columns[1]))
    total: SSAValue | None = None
    for k, tap in enumerate(np.ndindex(*found.kernel)):
        part = common.reshape(b, common.along(b, x, 2, k, 1), (n, c, *counts))
        for axis in (0, 1):
            part = _placed(b, part, axis, tap[axis] * found.dilations[axis], found, output_size)
        total = part if total is None else common.add(b, total, part)
    assert total is not None
    return common.reshape(b, total, b.shape)


def _placed(b: Builder, x: SSAValue, axis: int, first: int, found: Windows, size: Ints) -> SSAValue:
    """Zeros between and around the elements of one tap, along one spatial dimension."""
    stride, low = found.strides[axis], found.low[axis]
    before, count, after = shape_of(x)[: 2 + axis], shape_of(x)[2 + axis], shape_of(x)[3 + axis :]
    flat = common.reshape(b, x, (prod(before) * count, 1, prod(after)))
    wide = common.pad(b, flat, (0, 0, 0), (0, stride - 1, 0))
    wide = common.reshape(b, wide, (prod(before), count * stride, prod(after)))
    start = first - low
    wide = common.pad(b, wide, (0, start, 0), (0, size[axis] - start - count * stride, 0))
    return common.reshape(b, wide, (*before, size[axis], *after))
