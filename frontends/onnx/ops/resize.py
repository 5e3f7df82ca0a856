"""Resize and Upsample, one dimension after the other.

An element of the result is a weighted sum of elements of `x` near its coordinate there. Along one
dimension the weights are a matrix. It is computed by operations of `graph` from the scale, so that
it is a constant where that is one, and work of the machine where not. Nearest neighbours are
repetitions or rows by index, in any type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from npu_dialect.frontends.onnx.ops.selection import gather
from npu_dialect.frontends.onnx.registry import op
from npu_dialect.frontends.onnx.widen import plain


@dataclass(frozen=True)
class Method:
    """How elements are chosen: ONNX's attributes."""

    mode: str
    nearest: str = "floor"
    coordinates: str = "asymmetric"
    antialias: bool = False
    cubic: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0

    @property
    def crops(self) -> bool:
        """Whether a region of `x` is resized, rather than all of it."""
        return self.coordinates == "tf_crop_and_resize"


@dataclass(frozen=True)
class Axis:
    """One dimension: `size` elements become `count`; `scale` and the ends of `roi` are 0-d."""

    axis: int
    size: int
    count: int
    scale: SSAValue
    roi: tuple[SSAValue, SSAValue] | None = None


@op("Resize", since=11, storage=True)
def resize(
    b: Builder,
    x: SSAValue,
    roi: SSAValue | None = None,
    scales: SSAValue | None = None,
    sizes: SSAValue | None = None,
    *,
    mode: str,
    nearest_mode: str,
    coordinate_transformation_mode: str,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
    keep_aspect_ratio_policy: str = "stretch",
) -> SSAValue:
    """By scales or to sizes, in all modes. Values beside an infinity may become NaN."""
    rank = len(shape_of(x))
    places = [common.normalize_axis(a, rank) for a in (range(rank) if axes is None else axes)]
    method = Method(
        mode, nearest_mode, coordinate_transformation_mode, bool(antialias), cubic_coeff_a,
        bool(exclude_outside), extrapolation_value,
    )  # fmt: skip
    if scales is not None and shape_of(scales) != (0,):
        along = _by_scales(b, x, scales, places)
    elif sizes is not None:
        along = _by_sizes(b, x, b.ints(sizes, "sizes"), places, keep_aspect_ratio_policy)
    else:
        raise Misfit("a Resize without scales or sizes")
    if method.crops:
        along = _with_roi(b, along, roi)
    return _resized(b, x, along, method)


@op("Resize", "Upsample", since=9, storage=True)
def resize_10(b: Builder, x: SSAValue, scales: SSAValue, *, mode: str) -> SSAValue:
    """Scales as an input; the coordinates are asymmetric, rounded down."""
    method = Method("linear" if mode == "bilinear" else mode)
    return _resized(b, x, _by_scales(b, x, scales, range(len(shape_of(x)))), method)


@op("Upsample", storage=True)
def upsample_7(b: Builder, x: SSAValue, *, mode: str, scales: Sequence[float]) -> SSAValue:
    """Scales as an attribute."""
    return resize_10(b, x, b.constant(np.array(scales, np.float32)), mode=mode)


# Sizes and scales


def _by_scales(b: Builder, x: SSAValue, scales: SSAValue, places: Sequence[int]) -> list[Axis]:
    """Sizes are rounded down; for scales of run time they are those that the model declares."""
    shape, known = shape_of(x), b.array(scales)
    if shape_of(scales) != (len(places),):
        raise Misfit(f"scales of shape {list(shape_of(scales))} for {len(places)} dimensions")
    if known is None:
        counts = [_declared(b, len(shape))[k] for k in places]
    else:
        products = [np.float32(shape[k]) * s for k, s in zip(places, known, strict=True)]
        counts = [int(np.floor(product)) for product in products]
    each = [_element(b, scales, k) for k in range(len(places))]
    return [Axis(k, shape[k], n, s) for k, n, s in zip(places, counts, each, strict=True)]


def _element(b: Builder, x: SSAValue, k: int) -> SSAValue:
    return common.reshape(b, common.along(b, x, 0, k, 1), ())


def _declared(b: Builder, rank: int) -> tuple[int, ...]:
    declared = b.declared.get(b.outputs[0])
    if declared is None or declared.get_num_dims() != rank:
        raise NotExpressible("scales are computed at run time, and the result has no stated shape")
    return declared.get_shape()


def _by_sizes(
    b: Builder, x: SSAValue, sizes: Sequence[int], places: Sequence[int], policy: str
) -> list[Axis]:
    """Each dimension by its own scale, or all by the least or the greatest of them."""
    shape = shape_of(x)
    if len(sizes) != len(places) or min(sizes, default=0) < 0:
        raise Misfit(f"sizes {list(sizes)} for {len(places)} dimensions of {list(shape)}")
    scales = [n / max(shape[k], 1) for n, k in zip(sizes, places, strict=True)]
    if policy != "stretch":
        if policy not in ("not_larger", "not_smaller"):
            raise Misfit(f"keep_aspect_ratio_policy {policy}")
        scales = [min(scales) if policy == "not_larger" else max(scales)] * len(places)
        sizes = [int(scale * shape[k] + 0.5) for k, scale in zip(places, scales, strict=True)]
    each = [b.constant(np.array(scale, np.float32)) for scale in scales]
    return [Axis(k, shape[k], n, s) for k, n, s in zip(places, sizes, each, strict=True)]


def _with_roi(b: Builder, along: Sequence[Axis], roi: SSAValue | None) -> list[Axis]:
    """The part of each dimension that is resized: `roi` has all starts, then all ends."""
    count = len(along)
    if roi is None or shape_of(roi) != (2 * count,):
        raise Misfit(f"tf_crop_and_resize without a region of {2 * count} numbers")
    roi = common.cast(b, roi, dtypes.f32)
    ends = [(_element(b, roi, k), _element(b, roi, count + k)) for k in range(count)]
    return [replace(axis, roi=pair) for axis, pair in zip(along, ends, strict=True)]


def _is_same(b: Builder, axis: Axis) -> bool:
    """Whether the dimension stays as it is; one of 1 stays so at any scale."""
    given = [b.array(v) for v in (axis.scale, *(axis.roi or ()))]
    plain = [1, 0, 1][: len(given)]
    whole = all(v is not None and v == p for v, p in zip(given, plain, strict=True))
    return axis.size == axis.count and (axis.size == 1 or whole)


# Elements


def _resized(b: Builder, x: SSAValue, along: Sequence[Axis], method: Method) -> SSAValue:
    if method.mode not in ("nearest", "linear", "cubic"):
        raise Misfit(f"Resize by {method.mode}")
    if any(axis.size == 0 or axis.count == 0 for axis in along):
        raise NotExpressible("Resize of nothing")
    along = [axis for axis in along if not _is_same(b, axis)]
    b.reserve(*shape_of(x), *[-(-axis.count // axis.size) for axis in along], itemsize=1)
    if not along:
        return x
    if method.mode == "nearest":
        y = _nearest(b, x, along, method)
    else:
        y = _real(b, x)
        for axis in along:
            y = _weighted(b, y, axis, method)
    return _extrapolated(b, y, along, method) if method.crops else y


def _real(b: Builder, x: SSAValue) -> SSAValue:
    number = plain(b, x)
    if number is None or not dtype_of(number).is_float:
        raise NotExpressible(f"an interpolation between values of type {dtype_of(x)}")
    return number


def _coordinate(b: Builder, axis: Axis, method: Method) -> SSAValue:
    """Where each element of the result lies among those of `x`."""
    size, scale = axis.size, axis.scale
    k = b.constant(np.arange(axis.count, dtype=np.float32))
    width = common.scaled(b, scale, size)
    kind = method.coordinates
    if kind == "asymmetric":
        return common.div(b, k, scale)
    if kind == "align_corners":
        return _unless_single(b, width, _between(b, k, size - 1, width), 0.0)
    if kind == "tf_crop_and_resize":
        return _cropped(b, axis, k, width)
    middle = common.div(b, common.add(b, k, b.scalar(0.5, k)), scale)
    middle = common.sub(b, middle, b.scalar(0.5, k))
    if kind == "half_pixel":
        return middle
    if kind == "pytorch_half_pixel":
        return _unless_single(b, width, middle, -0.5)
    if kind == "half_pixel_symmetric":
        stretch = common.div(b, b.scalar(axis.count, k), width)
        rest = common.sub(b, b.scalar(1, k), stretch)
        return common.add(b, common.scaled(b, rest, size / 2), middle)
    raise Misfit(f"the coordinates {kind}")


def _between(b: Builder, k: SSAValue, last: float, width: SSAValue) -> SSAValue:
    """k * last / (width - 1)"""
    return common.div(b, common.scaled(b, k, last), common.sub(b, width, b.scalar(1, width)))


def _unless_single(b: Builder, width: SSAValue, x: SSAValue, single: float) -> SSAValue:
    """`x`, or a number where the result has a width of 1."""
    is_single = b.emit(graph.EqOp(width, b.scalar(1, width)))
    return common.where(b, is_single, b.scalar(single, x), x)


def _cropped(b: Builder, axis: Axis, k: SSAValue, width: SSAValue) -> SSAValue:
    """From the start of the region to its end, or its middle if the result has a width of 1."""
    assert axis.roi is not None
    first, last = (common.scaled(b, end, axis.size - 1) for end in axis.roi)
    length = common.sub(b, last, first)
    spread = common.mul(b, _between(b, k, 1, width), length)
    is_single = b.emit(graph.EqOp(width, b.scalar(1, width)))
    spread = common.where(b, is_single, common.scaled(b, length, 0.5), spread)
    return common.add(b, spread, first)


def _extrapolated(b: Builder, y: SSAValue, along: Sequence[Axis], method: Method) -> SSAValue:
    """A fixed value where a coordinate is outside of `x`."""
    value = b.scalar(method.extrapolation, y)
    for axis in along:
        at = _coordinate(b, axis, method)
        low = b.emit(graph.LtOp(at, b.scalar(0, at)))
        high = b.emit(graph.GtOp(at, b.scalar(axis.size - 1, at)))
        outside = b.emit(graph.OrOp(low, high))
        shape = [axis.count if k == axis.axis else 1 for k in range(len(shape_of(y)))]
        y = common.where(b, common.reshape(b, outside, shape), value, y)
    return y


# Nearest neighbours


def _nearest(b: Builder, x: SSAValue, along: Sequence[Axis], method: Method) -> SSAValue:
    """Repetitions along all dimensions at once, then rows by index along the others."""
    factors, others = [1] * len(shape_of(x)), list[tuple[Axis, SSAValue]]()
    for axis in along:
        index = _nearest_index(b, _coordinate(b, axis, method), axis, method)
        known, factor = b.array(index), axis.count // axis.size
        repeated = np.arange(axis.size).repeat(factor)
        if known is not None and np.array_equal(known, repeated):
            factors[axis.axis] = factor
        else:
            others.append((axis, index))
    x = repeat(b, x, factors)
    for axis, index in others:
        x = gather(b, x, index, axis=axis.axis)
    return x


def _nearest_index(b: Builder, at: SSAValue, axis: Axis, method: Method) -> SSAValue:
    """The element next to a coordinate, i32; at a tie the one that ONNX's `nearest_mode` says."""
    half = b.scalar(0.5, at)
    if method.nearest == "round_prefer_floor":
        at = b.emit(graph.CeilOp(common.sub(b, at, half)))
    elif method.nearest == "round_prefer_ceil":
        at = b.emit(graph.FloorOp(common.add(b, at, half)))
    elif method.nearest in ("floor", "ceil"):
        at = b.emit((graph.FloorOp if method.nearest == "floor" else graph.CeilOp)(at))
    else:
        raise Misfit(f"nearest_mode {method.nearest}")
    return common.cast(b, b.emit(graph.ClampOp(at, 0, axis.size - 1)), dtypes.i32)


def repeat(b: Builder, x: SSAValue, factors: Sequence[int]) -> SSAValue:
    """Each element `factors[k]` times along dimension k."""
    shape = shape_of(x)
    if all(f == 1 for f in factors):
        return x
    x = common.reshape(b, x, [d for n in shape for d in (n, 1)])
    pairs = [d for n, f in zip(shape, factors, strict=True) for d in (n, f)]
    full = [n * f for n, f in zip(shape, factors, strict=True)]
    return common.reshape(b, common.broadcast(b, x, pairs), full)


# Weighted sums


def _weighted(b: Builder, x: SSAValue, axis: Axis, method: Method) -> SSAValue:
    """A product with the matrix of weights along one dimension."""
    if axis.size == 1:
        shape = [axis.count if k == axis.axis else n for k, n in enumerate(shape_of(x))]
        return common.broadcast(b, x, shape)
    rank = len(shape_of(x))
    order = [k for k in range(rank) if k != axis.axis] + [axis.axis]
    rows = common.transpose(b, x, order)
    shape = (*shape_of(rows)[:-1], axis.count)
    rows = common.reshape(b, rows, (prod(shape[:-1]), axis.size))
    weights = common.transpose(b, _weights(b, axis, method), (1, 0))
    y = common.reshape(b, b.emit(graph.MatmulOp(rows, weights)), shape)
    return common.transpose(b, y, [int(k) for k in np.argsort(order)])


def _weights(b: Builder, axis: Axis, method: Method) -> SSAValue:
    """The weight of each element of `x` (columns) in each of the result (rows).

    Elements before the first and after the last are counted to these, or left out.
    """
    outside = 0 if method.exclude_outside else _reach(axis, method)
    size, count = axis.size + 2 * outside, axis.count
    b.reserve(size, count)
    places = b.constant(np.arange(-outside, axis.size + outside, dtype=np.float32))
    at = common.reshape(b, _coordinate(b, axis, method), (count, 1))
    distance = common.sub(b, common.reshape(b, places, (1, size)), at)
    if method.antialias:
        narrow = b.emit(graph.MinOp(axis.scale, b.scalar(1, axis.scale)))
        distance = common.mul(b, distance, narrow)
    curve = _linear if method.mode == "linear" else partial(_cubic, a=method.cubic)
    weights = curve(b, b.emit(graph.AbsOp(distance)))
    if method.antialias or method.exclude_outside:
        weights = common.div(b, weights, b.emit(graph.ReduceSumOp(weights, (1,))))
    return _clamped(b, weights, outside) if outside else weights


def _reach(axis: Axis, method: Method) -> int:
    """At least as many elements as a coordinate and what it weighs may lie outside of `x`."""
    taps = 1 if method.mode == "linear" else 2
    if method.crops:
        return axis.size + taps
    return 1 + (taps * -(-axis.size // axis.count) if method.antialias else taps)


def _clamped(b: Builder, weights: SSAValue, outside: int) -> SSAValue:
    """The weights outside of `x` added to those of its first and last element."""
    inner = shape_of(weights)[1] - 2 * (outside + 1)

    def total(start: int) -> SSAValue:
        part = common.along(b, weights, 1, start, outside + 1)
        return b.emit(graph.ReduceSumOp(part, (1,)))

    middle = [common.along(b, weights, 1, outside + 1, inner)] if inner else []
    return common.concat(b, [total(0), *middle, total(outside + 1 + inner)], 1)


def _linear(b: Builder, d: SSAValue) -> SSAValue:
    """max(1 - d, 0)"""
    return b.emit(graph.ReluOp(common.sub(b, b.scalar(1, d), d)))


def _cubic(b: Builder, d: SSAValue, a: float) -> SSAValue:
    """Keys' curve: ((a+2) d - (a+3)) d^2 + 1 up to 1, a (((d - 5) d + 8) d - 4) up to 2."""
    near = common.sub(b, common.scaled(b, d, a + 2), b.scalar(a + 3, d))
    near = common.mul(b, common.mul(b, near, d), d)
    near = common.add(b, near, b.scalar(1, d))
    far = common.mul(b, common.sub(b, d, b.scalar(5, d)), d)
    far = common.mul(b, common.add(b, far, b.scalar(8, d)), d)
    far = common.scaled(b, common.sub(b, far, b.scalar(4, d)), a)
    far = common.where(b, b.emit(graph.LtOp(d, b.scalar(2, d))), far, b.scalar(0, d))
    return common.where(b, b.emit(graph.LeOp(d, b.scalar(1, d))), near, far)
