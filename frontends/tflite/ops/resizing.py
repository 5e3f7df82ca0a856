"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

An integer result lies between two elements of each dimension: with weights of 10 bits, of which
those that none needs are left out, it is a sum of products in i32, rounded once at the end. Results
whose places repeat (every second one, where an image is doubled) are computed together:

    x [.., n, ..]  ->  x[k] * 3 + x[k + 1] * 1,  x[k] * 1 + x[k + 1] * 3  ->  [.., n, 2, ..]

Where weights have 8 bits, both dimensions at once are depthwise convolutions of 2 x 2.

(`ResizeBilinear` of reference/resize_bilinear.h.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import (
    add,
    along,
    broadcast,
    cast,
    concat,
    mul,
    reshape,
    window,
)
from npu_dialect.frontends.onnx.ops.resize import repeat
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    as_result,
    is_quantized,
    plain,
    quant_of,
)
from npu_dialect.frontends.tflite.ops.windows import interleaved
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import uniform

FINE = 10
"""Bits of a weight."""

MOST_BITS = 8
"""Bits of a weight of u8 with which float32, in which TFLite computes it, is exact."""

MOST_PHASES = 64
"""So many different places of results are computed one by one; others by indices."""


@dataclass(frozen=True)
class Run:
    """`count` results of the same weights: of the elements from `low` on, each `step` further."""

    low: int
    count: int
    step: int
    weights: Array


@dataclass(frozen=True)
class Places:
    """Where the elements of a result lie: `part` / 2**bits of the way from `low` to the next one.

    What lies before the first element, or after the last one, is that element.
    """

    size: int
    low: Array
    part: Array
    bits: int

    @property
    def is_same(self) -> bool:
        """Whether each result is the element of its number."""
        return not self.part.any() and np.array_equal(self.low, np.arange(self.size))

    def reduced(self) -> Places:
        """Without the bits that no part has."""
        if self.size == 1:
            return Places(1, self.low * 0, self.part * 0, 0)
        common = reduce(gcd, (int(p) for p in self.part), 1 << self.bits)
        bits = self.bits - common.bit_length() + 1
        return Places(self.size, self.low, self.part // common, bits)

    def weights(self) -> Array:
        """Of the element before, and of the one behind: [results, 2]."""
        return np.stack([(1 << self.bits) - self.part, self.part], axis=1)

    def runs(self) -> list[Run]:
        """One for each phase, and then the results that are left over."""
        f, step = self.phases() if self.size > 1 else (0, 0)
        if not f:
            return [Run(0, 1, 1, np.ones(1, np.int64))]
        count = len(self.low)
        many = count // f
        weights = self.weights()
        return [
            Run(
                int(self.low[k]), many if k < f else 1, step if k < f else 1,
                weights[k][: 1 + (weights[k][1] > 0)],
            )
            for k in [*range(f), *range(many * f, count)]
        ]  # fmt: skip

    def phases(self) -> tuple[int, int]:
        """After how many results they repeat, so many elements on; (0, 0) where they do not."""
        count = len(self.low)
        for f in range(1, min(count // 2, MOST_PHASES) + 1):
            steps = self.low[f:] - self.low[:-f]
            if (
                steps[0] > 0
                and (steps == steps[0]).all()
                and (self.part[f:] == self.part[:-f]).all()
            ):
                return f, int(steps[0])
        return 0, 0


def _checked(x: SSAValue, shape: Sequence[int]) -> None:
    if len(shape_of(x)) != 4 or len(shape) != 4 or 0 in (*shape_of(x), *shape):
        raise Misfit(f"a resize of {list(shape_of(x))} to {list(shape)}")


@op("RESIZE_BILINEAR", options="ResizeBilinearOptions")
def resize_bilinear(
    b: Builder, x: SSAValue, size: SSAValue, *, align_corners: bool, half_pixel_centers: bool
) -> SSAValue:
    """Between the four pixels of x around each of the result."""
    del size
    _checked(x, b.shape)
    if align_corners and half_pixel_centers:
        raise NotExpressible("aligned corners and half pixel centers at once")
    pairs = [(shape_of(x)[k], b.shape[k]) for k in (1, 2)]
    if not is_quantized(x):
        return _by_products(b, x, [_real(*p, align_corners, half_pixel_centers) for p in pairs])
    if dtype_of(x) is dtypes.i8:
        places = [_fixed(*p, align_corners, half_pixel_centers) for p in pairs]
    elif dtype_of(x) is dtypes.u8:
        places = [_exact(*p, align_corners, half_pixel_centers) for p in pairs]
    else:
        raise NotExpressible(f"an interpolation of {dtype_of(x)}")
    return _interpolated(b, x, places[0].reduced(), places[1].reduced())


# Places


def _fixed(old: int, new: int, corners: bool, centers: bool) -> Places:
    """Places in fixed point, of i8."""
    aligned = corners and new > 1
    above, below = (old - 1, new - 1) if aligned else (old, new)
    scale = ((1 << FINE) * above + below // 2) // below
    at = np.arange(new) * scale
    if centers:
        at = at + scale // 2 - (1 << (FINE - 1))
    if (at >> FINE).max() >= old:
        raise NotExpressible(f"{new} pixels of {old}, where TFLite's rounded scale leads outside")
    return Places(old, at >> FINE, at & ((1 << FINE) - 1), FINE)


def _real(old: int, new: int, corners: bool, centers: bool) -> Array:
    """Coordinates in float32."""
    aligned = corners and new > 1
    scale = np.float32(old - 1 if aligned else old) / np.float32(new - 1 if aligned else new)
    k = np.arange(new).astype(np.float32)
    return (k + np.float32(0.5)) * scale - np.float32(0.5) if centers else k * scale


def _exact(old: int, new: int, corners: bool, centers: bool) -> Places:
    """Coordinates as places, if 8 bits are enough for them: float32 is exact then."""
    at = _real(old, new, corners, centers).astype(np.float64) * (1 << MOST_BITS)
    whole = np.floor(at).astype(np.int64)
    if (whole != at).any() and old > 1:
        raise NotExpressible(f"an interpolation of u8 from {old} to {new}, which is no power of 2")
    return Places(old, whole >> MOST_BITS, whole & ((1 << MOST_BITS) - 1), MOST_BITS)


# Integers


def _interpolated(b: Builder, x: SSAValue, rows: Places, columns: Places) -> SSAValue:
    """Columns first, since there are fewer rows then; a dimension of 1 is repeated at the end."""
    bits = rows.bits + columns.bits
    if bits and _fit_windows(x, rows, columns):
        return broadcast(b, _by_windows(b, x, rows, columns), b.shape)
    found = _between(b, x, 2, columns)
    found = _between(b, found, 1, rows)
    if bits:
        found = cast(b, found, dtypes.i32)
        zero = quant_of(x).zero_point
        found = add(b, found, b.scalar(zero << bits, found)) if zero else found
        found = _rounded(b, found, bits)
    return broadcast(b, as_result(b, found), b.shape)


def _rounded(b: Builder, sums: SSAValue, bits: int) -> SSAValue:
    """Sums of stored values over 2**bits; ties go away from the stored 0."""
    recipe, zero = graph.requant_fixed(1, bits, "half_away"), b.quant.zero_point
    if not zero:
        return b.emit(graph.RequantizeOp(sums, recipe, b.quant))
    stored = b.emit(graph.RequantizeOp(sums, recipe, I32))
    steps = b.emit(graph.SubOp(stored, b.scalar(zero, stored)))
    return b.emit(graph.RequantizeOp(steps, KEEP, b.quant))


# Integers by convolutions


def _fit_windows(x: SSAValue, rows: Places, columns: Places) -> bool:
    """Whether products of weights fit weights of 8 bits, and places repeat."""
    greatest = max(
        int(v * w) for v in rows.weights().reshape(-1) for w in columns.weights().reshape(-1)
    )
    repeated = [p.size == 1 or p.phases()[0] > 0 for p in (rows, columns)]
    return greatest <= dtype_of(x).high and all(repeated)


def _by_windows(b: Builder, x: SSAValue, rows: Places, columns: Places) -> SSAValue:
    x, rows = _extended(b, x, 1, rows)
    x, columns = _extended(b, x, 2, columns)

    def strip(top: Run) -> SSAValue:
        parts = [_window(b, x, top, left, rows.bits + columns.bits) for left in columns.runs()]
        return _put_together(b, parts, 2, columns.phases()[0])

    return _put_together(b, [strip(top) for top in rows.runs()], 1, rows.phases()[0])


def _put_together(b: Builder, parts: Sequence[SSAValue], axis: int, count: int) -> SSAValue:
    """The first `count` parts in turn, and the others behind them."""
    count = max(count, 1)
    return concat(b, [interleaved(b, parts[:count], axis), *parts[count:]], axis)


def _window(b: Builder, x: SSAValue, top: Run, left: Run, bits: int) -> SSAValue:
    """The results of a run of rows and of columns."""
    n, _, _, channels = shape_of(x)
    sizes = [(run.count - 1) * run.step + len(run.weights) for run in (top, left)]
    part = window(b, x, (0, top.low, left.low, 0), (n, *sizes, channels))
    steps = top.step, left.step
    weights = np.outer(top.weights, left.weights)
    if weights.size == 1:
        kept = (n, top.count, left.count, channels)
        return as_result(b, window(b, part, (0, 0, 0, 0), kept, (1, *steps, 1)))
    whole = np.broadcast_to(weights[:, :, None, None], (*weights.shape, 1, channels))
    w = b.constant(whole.astype(dtype_of(x).numpy), uniform(dtype_of(x), 1.0))
    bias = b.constant(np.full(channels, quant_of(x).zero_point << bits, np.int32))
    sums = graph.Conv2DOp(part, w, bias, steps, (0, 0, 0, 0), (1, 1), channels)
    return _rounded(b, b.emit(sums), bits)


# Integers by vectors


def _between(b: Builder, x: SSAValue, axis: int, places: Places) -> SSAValue:
    """What lies between the elements of one dimension, times 2**bits where there are any."""
    if places.is_same or places.size == 1:
        return x
    f, step = places.phases()
    count = len(places.low)
    if not f and count <= MOST_PHASES:
        f, step = count, 0
    if not f:
        return _by_indices(b, x, axis, places)
    x, places = _extended(b, x, axis, places)
    many = count // f
    apart = [_phase(b, x, axis, places, k, many, step) for k in range(f)]
    rest = [_phase(b, x, axis, places, k, 1, step) for k in range(many * f, count)]
    return concat(b, [interleaved(b, apart, axis), *rest], axis)


def _extended(b: Builder, x: SSAValue, axis: int, places: Places) -> tuple[SSAValue, Places]:
    """With the first and the last element as often as places lie beside them."""
    high = places.low + (places.part > 0)
    before = max(0, -int(places.low.min()))
    after = max(0, int(high.max()) - places.size + 1)
    if not before and not after:
        return x, places
    first, last = along(b, x, axis, 0, 1), along(b, x, axis, places.size - 1, 1)
    x = concat(b, [*[first] * before, x, *[last] * after], axis)
    size = before + places.size + after
    return x, Places(size, places.low + before, places.part, places.bits)


def _phase(
    b: Builder, x: SSAValue, axis: int, places: Places, k: int, count: int, step: int
) -> SSAValue:
    """`count` results of the same parts, the first of which is number `k`."""
    low, part = int(places.low[k]), int(places.part[k])
    stride = max(step, 1)
    first = along(b, x, axis, low, count, stride)
    if not places.bits:
        return first
    second = along(b, x, axis, low + 1, count, stride) if part else None
    return _weighed(b, first, second, part, places.bits)


def _weighed(
    b: Builder, first: SSAValue, second: SSAValue | None, part: Array | int, bits: int
) -> SSAValue:
    """first * (2**bits - part) + second * part, in 16 bits where they are enough."""
    total = 1 << bits
    is_first = is_quantized(first)
    least = np.asarray(total - part, np.int32), np.asarray(part, np.int32)
    found = mul(b, _whole(b, first), b.constant(least[0]))
    if second is not None:
        found = add(b, found, mul(b, _whole(b, second), b.constant(least[1])))
    return cast(b, found, dtypes.i16) if is_first and bits < 8 else found


def _whole(b: Builder, x: SSAValue) -> SSAValue:
    return plain(b, x) if is_quantized(x) else cast(b, x, dtypes.i32)


def _by_indices(b: Builder, x: SSAValue, axis: int, places: Places) -> SSAValue:
    low, high = (np.clip(places.low + k, 0, places.size - 1) for k in (0, 1))
    first = _taken(b, x, axis, low)
    if not places.bits:
        return first
    shape = [len(low) if k == axis else 1 for k in range(4)]
    second = _taken(b, x, axis, high)
    return _weighed(b, first, second, places.part.reshape(shape), places.bits)


def _taken(b: Builder, x: SSAValue, axis: int, places: Array) -> SSAValue:
    """The elements at known places of a dimension: rows of the dimensions behind it."""
    shape = shape_of(x)
    outer, size, inner = (int(np.prod(s)) for s in (shape[:axis], shape[axis], shape[axis + 1 :]))
    rows = reshape(b, x, (outer * size, inner))
    index = (np.arange(outer).reshape(-1, 1) * size + places).reshape(-1).astype(np.int32)
    found = b.emit(graph.GatherOp(rows, b.constant(index)))
    return reshape(b, found, (*shape[:axis], len(places), *shape[axis + 1 :]))


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


def _product(b: Builder, x: SSAValue, at: Array) -> SSAValue:
    """A matrix of weights times [.., elements, rest]."""
    size, count = shape_of(x)[1], len(at)
    low, high = (np.clip(f(at).astype(np.int64), 0, size - 1) for f in (np.floor, np.ceil))
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
    _checked(x, b.shape)
    for axis in (1, 2):
        old, new = shape_of(x)[axis], b.shape[axis]
        x = _chosen(b, x, axis, _nearest(old, new, align_corners, half_pixel_centers))
    return as_result(b, x)


def _chosen(b: Builder, x: SSAValue, axis: int, places: Array) -> SSAValue:
    """The elements at known places of a dimension; repeated, where each is as often."""
    size, count = shape_of(x)[axis], len(places)
    if np.array_equal(places, np.arange(size).repeat(count // size)):
        return repeat(b, x, [count // size if k == axis else 1 for k in range(4)])
    return _between(b, x, axis, Places(size, places, np.zeros_like(places), 0))


def _nearest(old: int, new: int, corners: bool, centers: bool) -> Array:
    """The places in `old` of each of `new` (`GetNearestNeighbor`), computed in float32."""
    aligned = corners and new > 1
    scale = np.float32(old - 1 if aligned else old) / np.float32(new - 1 if aligned else new)
    places = (np.arange(new).astype(np.float32) + np.float32(0.5 if centers else 0)) * scale
    whole = np.floor(places + np.float32(0.5)) if corners else np.floor(places)
    return np.clip(whole, 0, old - 1).astype(np.int64)
