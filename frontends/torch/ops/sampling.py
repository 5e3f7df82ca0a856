"""Samples of an image at places of run time: gathers of pixels, weighted by the distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import Builder, SSAValue, shape_of
from npu_dialect.frontends.torch.registry import op

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2
"""torch's numbers of modes."""

CUBIC = -0.75
"""torch's coefficient of Keys' kernel (1981)."""


@dataclass(frozen=True)
class Axis:
    """One dimension of the image: how places become pixels."""

    b: Builder
    size: int
    padding: int
    aligned: bool

    def number(self, value: float, like: SSAValue) -> SSAValue:
        return self.b.scalar(value, like)

    def place(self, g: SSAValue) -> SSAValue:
        """From -1 ... 1 to pixels."""
        b = self.b
        up = common.add(b, g, self.number(1, g))
        if self.aligned:
            return common.scaled(b, up, (self.size - 1) / 2)
        return common.sub(b, common.scaled(b, up, self.size / 2), self.number(0.5, g))

    def inside(self, x: SSAValue) -> SSAValue:
        """A place within the image, as the padding has it; with zeros, as it is."""
        if self.padding == ZEROS:
            return x
        x = self._reflected(x) if self.padding == REFLECTION else x
        return self.b.emit(graph.ClampOp(x, 0.0, float(self.size - 1)))

    def _reflected(self, x: SSAValue) -> SSAValue:
        """Back and forth between the edges: the centres of the outer pixels, or their borders."""
        b, low = self.b, 0.0 if self.aligned else -0.5
        span = self.size - 1.0 - 2 * low
        if span == 0:
            return common.scaled(b, x, 0)
        distance = b.emit(graph.AbsOp(common.sub(b, x, self.number(low, x))))
        turns = b.emit(graph.FloorOp(common.scaled(b, distance, 1 / span)))
        rest = common.sub(b, distance, common.scaled(b, turns, span))
        half = common.scaled(b, turns, 0.5)
        even = b.emit(graph.EqOp(b.emit(graph.FloorOp(half)), half))
        back = common.sub(b, self.number(span, x), rest)
        return common.add(b, common.where(b, even, rest, back), self.number(low, x))

    def pixel(self, x: SSAValue) -> tuple[SSAValue, SSAValue | None]:
        """The number of the pixel (i32) at a whole place, and whether there is one."""
        b = self.b
        near = b.emit(graph.ClampOp(x, 0.0, float(self.size - 1)))
        index = common.cast(b, near, dtypes.i32)
        return index, b.emit(graph.EqOp(near, x)) if self.padding == ZEROS else None


@dataclass(frozen=True)
class Image:
    """An image N C H W, as rows of pixels."""

    b: Builder
    pixels: SSAValue
    shape: tuple[int, ...]
    y: Axis
    x: Axis

    def at(self, y: SSAValue, x: SSAValue) -> SSAValue:
        """The pixels [N, Ho, Wo, C] at whole places [N, Ho, Wo, 1]; 0 where there are none."""
        b, (n, c, h, w) = self.b, self.shape
        (row, has_row), (column, has_column) = self.y.pixel(y), self.x.pixel(x)
        index = common.add(b, common.mul(b, row, b.scalar(w, row)), column)
        if n > 1:
            index = common.add(b, index, b.constant(_firsts(n, h * w)))
        places = common.reshape(b, index, (int(np.prod(shape_of(index))),))
        found = b.emit(graph.GatherOp(self.pixels, places))
        found = common.reshape(b, found, (*shape_of(index)[:-1], c))
        if has_row is None or has_column is None:
            return found
        exists = b.emit(graph.AndOp(has_row, has_column))
        return common.where(b, exists, found, b.scalar(0, found))


def _firsts(n: int, pixels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return (np.arange(n, dtype=np.int32) * pixels).reshape(n, 1, 1, 1)


@op("grid_sampler_2d", "grid_sampler")
def grid_sampler(
    b: Builder,
    input: SSAValue,
    grid: SSAValue,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> SSAValue:
    """The image at the places of the grid."""
    if len(shape_of(input)) != 4:
        raise common.NotExpressible("samples of a volume")
    n, c, h, w = shape_of(input)
    rows.check_countable(n * h * w)
    pixels = common.reshape(b, common.transpose(b, input, (0, 2, 3, 1)), (n * h * w, c))
    axes = [Axis(b, size, padding_mode, align_corners) for size in (h, w)]
    image = Image(b, pixels, (n, c, h, w), *axes)
    y, x = (axis.place(common.along(b, grid, 3, 1 - k, 1)) for k, axis in enumerate(axes))
    sample = (_bilinear, _nearest, _bicubic)[interpolation_mode]
    return common.transpose(b, sample(b, image, y, x), (0, 3, 1, 2))


def _nearest(b: Builder, image: Image, y: SSAValue, x: SSAValue) -> SSAValue:
    y, x = (b.emit(graph.RoundOp(axis.inside(v))) for axis, v in ((image.y, y), (image.x, x)))
    return image.at(y, x)


def _bilinear(b: Builder, image: Image, y: SSAValue, x: SSAValue) -> SSAValue:
    """Four neighbours."""
    y, x = image.y.inside(y), image.x.inside(x)
    return _weighted(b, image, _two(b, y), _two(b, x), is_inside=True)


Taps = list[tuple[SSAValue, SSAValue]]
"""Whole places, and their weights."""


def _two(b: Builder, x: SSAValue) -> Taps:
    low = b.emit(graph.FloorOp(x))
    part, one = common.sub(b, x, low), b.scalar(1, x)
    return [(low, common.sub(b, one, part)), (common.add(b, low, one), part)]


def _bicubic(b: Builder, image: Image, y: SSAValue, x: SSAValue) -> SSAValue:
    """Sixteen neighbours, each within the image by itself."""
    return _weighted(b, image, _four(b, y), _four(b, x), is_inside=False)


def _four(b: Builder, x: SSAValue) -> Taps:
    low = b.emit(graph.FloorOp(x))
    part = common.sub(b, x, low)
    taps: Taps = []
    for k in range(-1, 3):
        d = b.emit(graph.AbsOp(common.sub(b, part, b.scalar(k, part))))
        a = CUBIC
        curve = (1, 0, -(a + 3), a + 2) if k in (0, 1) else (-4 * a, 8 * a, -5 * a, a)
        weight = b.scalar(curve[-1], d)
        for c in curve[-2::-1]:
            weight = common.add(b, common.mul(b, weight, d), b.scalar(c, d))
        taps.append((common.add(b, low, b.scalar(k, low)), weight))
    return taps


def _weighted(b: Builder, image: Image, ys: Taps, xs: Taps, *, is_inside: bool) -> SSAValue:
    total: SSAValue | None = None
    for y, v in ys:
        for x, u in xs:
            places = (y, x) if is_inside else (image.y.inside(y), image.x.inside(x))
            part = common.mul(b, image.at(*places), common.mul(b, v, u))
            total = part if total is None else common.add(b, total, part)
    assert total is not None
    return total
