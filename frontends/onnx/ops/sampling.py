"""Pixels between pixels: values of an image at positions that are computed at run time.

An image N C H W becomes rows [N * H * W, C]; a position becomes the numbers of the rows around it,
and the result is the sum of these rows, weighted. Positions are f32, [N, points].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from npu_dialect.frontends.onnx.registry import MICROSOFT, op

CUBIC = -0.75
"""The coefficient of the cubic that ONNX states for GridSample."""


@dataclass(frozen=True)
class Image:
    """The rows of an image, and the first row of each point's image [N, 1] (i32)."""

    rows: SSAValue
    first: SSAValue
    height: int
    width: int

    @property
    def sizes(self) -> tuple[int, int]:
        return self.height, self.width


def image_of(b: Builder, x: SSAValue) -> Image:
    """An image N C H W whose points are given by image."""
    if len(shape_of(x)) != 4:
        raise NotExpressible(f"{len(shape_of(x)) - 2} spatial dimensions")
    n, c, h, w = shape_of(x)
    if n * h * w > dtypes.i32.high:
        raise NotExpressible(f"indices of {n * h * w} rows")
    rows = common.reshape(b, common.channels_last(b, x), (n * h * w, c))
    first = common.iota(b, n, 2, 0)
    return Image(rows, common.mul(b, first, b.scalar(h * w, first)), h, w)


def floor(b: Builder, x: SSAValue) -> SSAValue:
    """The whole number at or below x."""
    return b.emit(graph.FloorOp(x))


def plus(b: Builder, x: SSAValue, number: float) -> SSAValue:
    """`x` plus a number."""
    return x if number == 0 else common.add(b, x, b.scalar(number, x))


def clamped(b: Builder, x: SSAValue, low: float, high: float) -> SSAValue:
    """min(max(x, low), high)"""
    return b.emit(graph.ClampOp(x, low, high))


def within(b: Builder, x: SSAValue, low: float, high: float) -> SSAValue:
    """1 where low <= x <= high, else 0."""
    above, below = b.emit(graph.GeOp(x, b.scalar(low, x))), b.emit(graph.LeOp(x, b.scalar(high, x)))
    return common.cast(b, b.emit(graph.AndOp(above, below)), dtypes.f32)


def pixels(b: Builder, image: Image, y: SSAValue, x: SSAValue) -> SSAValue:
    """The rows [points of all images, C] at whole positions inside of the image."""
    row, column = (common.cast(b, v, dtypes.i32) for v in (y, x))
    index = common.mul(b, row, b.scalar(image.width, row))
    index = common.add(b, common.add(b, index, column), image.first)
    count = shape_of(index)[0] * shape_of(index)[1]
    return b.emit(graph.GatherOp(image.rows, common.reshape(b, index, (count,))))


def weighted(b: Builder, rows: SSAValue, weight: SSAValue) -> SSAValue:
    """Rows, each times its weight."""
    return common.mul(b, rows, common.reshape(b, weight, (shape_of(rows)[0], 1)))


def total(b: Builder, parts: Sequence[SSAValue]) -> SSAValue:
    """The sum of at least one part, from left to right."""
    result = parts[0]
    for part in parts[1:]:
        result = common.add(b, result, part)
    return result


# GridSample


@dataclass(frozen=True)
class Edge:
    """What is beyond the pixels of an image: `padding`, and where the image ends."""

    padding: str
    aligned: bool

    def limits(self, size: int) -> tuple[float, float]:
        """The first and last position along a dimension."""
        return (0.0, size - 1.0) if self.aligned else (-0.5, size - 0.5)

    def moved(self, b: Builder, x: SSAValue, size: int) -> SSAValue:
        """Positions brought into the image, where the padding does that."""
        if self.padding == "border":
            return clamped(b, x, 0, size - 1)
        return self._reflected(b, x, size) if self.padding == "reflection" else x

    def _reflected(self, b: Builder, x: SSAValue, size: int) -> SSAValue:
        """At the limits, as often as it takes: a period has the image and its reflection."""
        low, high = self.limits(size)
        extent = high - low
        if not extent:
            return common.scaled(b, x, 0.0)
        from_low = plus(b, x, -low)
        periods = floor(b, common.scaled(b, from_low, 0.5 / extent))
        rest = common.sub(b, from_low, common.scaled(b, periods, 2 * extent))
        back = common.sub(b, b.scalar(2 * extent, rest), rest)
        return plus(b, b.emit(graph.MinOp(rest, back)), low)

    def tap(self, b: Builder, x: SSAValue, size: int) -> tuple[SSAValue, SSAValue | None]:
        """A whole position as that of a pixel, and 0 or 1 where it may have none."""
        inside = within(b, x, 0, size - 1) if self.padding == "zeros" else None
        at = self.moved(b, x, size)
        at = b.emit(graph.RoundOp(at)) if self.padding == "reflection" else at
        return clamped(b, at, 0, size - 1), inside


Tap = tuple[SSAValue, SSAValue | None]
"""A whole position and its weight, None for 1."""


def _nearest(b: Builder, x: SSAValue) -> list[Tap]:
    return [(b.emit(graph.RoundOp(x)), None)]


def _linear(b: Builder, x: SSAValue) -> list[Tap]:
    first = floor(b, x)
    share = common.sub(b, x, first)
    return [(first, common.sub(b, b.scalar(1, share), share)), (plus(b, first, 1), share)]


def _cubic(b: Builder, x: SSAValue) -> list[Tap]:
    first = floor(b, x)
    share = common.sub(b, x, first)
    other = common.sub(b, b.scalar(1, share), share)
    weights = [
        _outer_cubic(b, plus(b, share, 1)), _inner_cubic(b, share),
        _inner_cubic(b, other), _outer_cubic(b, plus(b, other, 1)),
    ]  # fmt: skip
    return [(plus(b, first, k - 1), weight) for k, weight in enumerate(weights)]


def _inner_cubic(b: Builder, d: SSAValue) -> SSAValue:
    """((a + 2) d - (a + 3)) d d + 1 for a distance of at most 1."""
    slope = plus(b, common.scaled(b, d, CUBIC + 2), -(CUBIC + 3))
    return plus(b, common.mul(b, common.mul(b, slope, d), d), 1)


def _outer_cubic(b: Builder, d: SSAValue) -> SSAValue:
    """((a d - 5 a) d + 8 a) d - 4 a for a distance of 1 to 2."""
    slope = plus(b, common.scaled(b, d, CUBIC), -5 * CUBIC)
    slope = plus(b, common.mul(b, slope, d), 8 * CUBIC)
    return plus(b, common.mul(b, slope, d), -4 * CUBIC)


MODES: dict[str, Callable[[Builder, SSAValue], list[Tap]]] = {
    "nearest": _nearest,
    "bilinear": _linear,
    "linear": _linear,
    "bicubic": _cubic,
    "cubic": _cubic,
}


@op("GridSample")
def grid_sample(
    b: Builder, x: SSAValue, grid: SSAValue, *, align_corners: int, mode: str, padding_mode: str
) -> SSAValue:
    """Positions x, y from -1 to 1, for each pixel of the result."""
    if dtype_of(x) is not dtypes.f32 or dtype_of(grid) is not dtypes.f32:
        raise NotExpressible(f"samples of {dtype_of(x)} by {dtype_of(grid)}")
    if mode not in MODES or padding_mode not in ("zeros", "border", "reflection"):
        raise Misfit(f"the mode {mode}, the padding {padding_mode}")
    image, edge = image_of(b, x), Edge(padding_mode, bool(align_corners))
    n, height, width, pair = shape_of(grid)
    if n != shape_of(x)[0] or pair != 2:
        raise Misfit(f"a grid of shape {list(shape_of(grid))} for {list(shape_of(x))}")
    points = common.reshape(b, grid, (n, height * width, 2))
    taps: list[list[Tap]] = []
    for k, size in ((1, image.height), (0, image.width)):
        place = common.reshape(b, common.along(b, points, 2, k, 1), (n, height * width))
        at = _unnormalized(b, place, size, edge)
        at = edge.moved(b, at, size) if mode in ("bilinear", "linear") else at
        taps.append([_padded(b, tap, size, edge) for tap in MODES[mode](b, at)])
    parts: list[SSAValue] = []
    for y, y_weight in taps[0]:
        for at, x_weight in taps[1]:
            found = pixels(b, image, y, at)
            weight = _product(b, y_weight, x_weight)
            parts.append(found if weight is None else weighted(b, found, weight))
    result = common.reshape(b, total(b, parts), (n, height, width, shape_of(x)[1]))
    return common.channels_first(b, result)


@op("GridSample", domain=MICROSOFT)
def grid_sample_1(
    b: Builder,
    x: SSAValue,
    grid: SSAValue,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> SSAValue:
    """As in ONNX, which had it later."""
    return grid_sample(
        b, x, grid, align_corners=align_corners, mode=mode, padding_mode=padding_mode
    )


def _unnormalized(b: Builder, x: SSAValue, size: int, edge: Edge) -> SSAValue:
    """Positions in pixels; -1 and 1 are the limits of the image."""
    above = plus(b, x, 1)
    if edge.aligned:
        return common.scaled(b, above, (size - 1) / 2)
    return common.scaled(b, plus(b, common.scaled(b, above, size), -1), 0.5)


def _padded(b: Builder, tap: Tap, size: int, edge: Edge) -> Tap:
    at, inside = edge.tap(b, tap[0], size)
    return at, _product(b, tap[1], inside)


def _product(b: Builder, x: SSAValue | None, y: SSAValue | None) -> SSAValue | None:
    if x is None or y is None:
        return y if x is None else x
    return common.mul(b, x, y)
