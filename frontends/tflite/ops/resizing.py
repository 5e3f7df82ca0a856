"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

An integer result lies between two elements of each dimension: with weights of 10 bits, of which
those that none needs are left out (`ResizeBilinear` of reference/resize_bilinear.h).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import add, broadcast, cast, mul, reshape, sub
from npu_dialect.frontends.onnx.ops.resize import repeat
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.interpolation import between, interpolated, taken
from npu_dialect.frontends.tflite.ops.places import Places, exact, fixed, real
from npu_dialect.frontends.tflite.ops.quantization import away
from npu_dialect.frontends.tflite.ops.rescaling import (
    KEEP,
    as_result,
    is_quantized,
    stored_numbers,
)
from npu_dialect.frontends.tflite.registry import op


def _checked(b: Builder, x: SSAValue, shape: Sequence[int]) -> None:
    if len(shape_of(x)) != 4 or len(shape) != 4 or 0 in (*shape_of(x), *shape):
        raise Misfit(f"a resize of {list(shape_of(x))} to {list(shape)}")
    b.reserve(max(shape_of(x)[1:3]))
    b.reserve(max(shape[1:3]))


@op("RESIZE_BILINEAR", options="ResizeBilinearOptions")
def resize_bilinear(
    b: Builder, x: SSAValue, size: SSAValue, *, align_corners: bool, half_pixel_centers: bool
) -> SSAValue:
    """Between the four pixels of x around each of the result."""
    del size
    _checked(b, x, b.shape)
    if align_corners and half_pixel_centers:
        raise NotExpressible("aligned corners and half pixel centers at once")
    pairs = [(shape_of(x)[k], b.shape[k]) for k in (1, 2)]
    if is_quantized(x) and dtype_of(x) is dtypes.i8:
        rows, columns = (fixed(*p, align_corners, half_pixel_centers) for p in pairs)
        return interpolated(b, x, rows.reduced(), columns.reduced())
    at = [real(*p, align_corners, half_pixel_centers) for p in pairs]
    if not is_quantized(x):
        return _by_products(b, x, at)
    if dtype_of(x) is not dtypes.u8:
        raise NotExpressible(f"an interpolation of {dtype_of(x)}")
    found = [exact(old, places) for (old, _), places in zip(pairs, at, strict=True)]
    if shape_of(x)[1:3] == (1, 1):
        return broadcast(b, as_result(b, x), b.shape)
    if found[0] is None or found[1] is None:
        return _by_corners(b, x, at)
    return interpolated(b, x, found[0].reduced(), found[1].reduced())


# Floats


def _by_products(b: Builder, x: SSAValue, places: Sequence[Array]) -> SSAValue:
    """Products with matrices of weights: of columns, then of rows."""
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"an interpolation of {dtype_of(x)}")
    n, height, width, channels = shape_of(x)
    x = reshape(b, x, (n * height, width, channels))
    x = _product(b, x, places[1])
    x = _product(b, reshape(b, x, (n, height, len(places[1]) * channels)), places[0])
    return reshape(b, x, b.shape)


def _by_corners(b: Builder, x: SSAValue, at: Sequence[Array]) -> SSAValue:
    """Stored values of u8 in float32, in the order of the kernel, where weights are rounded."""
    numbers = cast(b, stored_numbers(b, x), dtypes.f32)
    total: SSAValue | None = None
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = numbers
        weights: list[SSAValue] = []
        for axis, which in ((1, down), (2, right)):
            places, weight = _side(shape_of(x)[axis], at[axis - 1], which)
            part = taken(b, part, axis, places)
            shape = [len(weight) if k == axis else 1 for k in range(4)]
            weights.append(b.constant(weight.reshape(shape)))
        part = mul(b, mul(b, part, weights[0]), weights[1])
        total = part if total is None else add(b, total, part)
    assert total is not None
    whole = cast(b, away(b, total), dtypes.i32)
    steps = sub(b, whole, b.scalar(b.quant.zero_point, whole))
    return b.emit(graph.RequantizeOp(steps, KEEP, b.quant))


def _side(size: int, at: Array, is_upper: int) -> tuple[Array, Array]:
    """The elements below coordinates, or above them, and their weights, in float32."""
    low = np.maximum(np.floor(at).astype(np.int64), 0)
    part = at - low.astype(np.float32)
    if is_upper:
        return np.minimum(np.ceil(at).astype(np.int64), size - 1), part
    return np.minimum(low, size - 1), np.float32(1) - part


def _product(b: Builder, x: SSAValue, at: Array) -> SSAValue:
    """A matrix of weights times [.., elements, rest]."""
    size, count = shape_of(x)[1], len(at)
    low, high = (np.clip(f(at).astype(np.int64), 0, size - 1) for f in (np.floor, np.ceil))
    b.reserve(count, size)
    weights = np.zeros((count, size), np.float32)
    part = (at - low.astype(np.float32)).astype(np.float32)
    np.add.at(weights, (np.arange(count), low), np.float32(1) - part)
    np.add.at(weights, (np.arange(count), high), part)
    if size == count and np.array_equal(weights, np.eye(size)):
        return x
    return b.emit(graph.MatmulOp(b.constant(weights), x))


# The nearest pixel


@op("RESIZE_NEAREST_NEIGHBOR", options="ResizeNearestNeighborOptions")
def resize_nearest_neighbor(
    b: Builder, x: SSAValue, size: SSAValue, *, align_corners: bool, half_pixel_centers: bool
) -> SSAValue:
    """The nearest pixel of x for each of the result."""
    del size
    _checked(b, x, b.shape)
    for axis in (1, 2):
        old, new = shape_of(x)[axis], b.shape[axis]
        x = _chosen(b, x, axis, _nearest(old, new, align_corners, half_pixel_centers))
    return as_result(b, x)


def _chosen(b: Builder, x: SSAValue, axis: int, places: Array) -> SSAValue:
    """The elements at known places of a dimension; repeated, where each is as often."""
    size, count = shape_of(x)[axis], len(places)
    if np.array_equal(places, np.arange(size).repeat(count // size)):
        return repeat(b, x, [count // size if k == axis else 1 for k in range(4)])
    return between(b, x, axis, Places(size, places, np.zeros_like(places), 0))


def _nearest(old: int, new: int, corners: bool, centers: bool) -> Array:
    """The places in `old` of each of `new` (`GetNearestNeighbor`), computed in float32."""
    aligned = corners and new > 1
    scale = np.float32(old - 1 if aligned else old) / np.float32(new - 1 if aligned else new)
    places = (np.arange(new).astype(np.float32) + np.float32(0.5 if centers else 0)) * scale
    whole = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    return np.clip(whole, 0, old - 1).astype(np.int64)
