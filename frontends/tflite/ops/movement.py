"""Operators that move elements: shapes, slices, concatenation, padding. Stored values stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import (
    along,
    broadcast,
    concat,
    normalize_axis,
    pad,
    reshape,
    transpose,
    window,
)
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import (
    activated,
    as_result,
    is_quantized,
    quant_of,
    retyped,
)
from npu_dialect.frontends.tflite.ops.tables import away, stored_values, tabled
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.frontends.tflite.shapes import is_free


@op("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape_(b: Builder, x: SSAValue, shape: SSAValue | None = None) -> SSAValue:
    """The shape is that of the result, which the model states."""
    del shape
    return as_result(b, reshape(b, x, b.shape))


@op("TRANSPOSE")
def transpose_(b: Builder, x: SSAValue, permutation: SSAValue) -> SSAValue:
    """Result dimension k is dimension permutation[k]."""
    found = b.ints(permutation, "a permutation")
    rank = len(shape_of(x))
    return as_result(b, transpose(b, x, [normalize_axis(axis, rank) for axis in found]))


@op("CONCATENATION", options="ConcatenationOptions")
def concatenation(
    b: Builder, *parts: SSAValue, axis: int, fused_activation_function: str
) -> SSAValue:
    """One after the other; quantized parts of another scale are rescaled."""
    if not parts:
        raise Misfit("no parts")
    axis = normalize_axis(axis, len(shape_of(parts[0])))
    same = [as_part(b, part) for part in parts]
    return activated(b, concat(b, same, axis), fused_activation_function)


def as_part(b: Builder, x: SSAValue) -> SSAValue:
    """A part of a concatenation, in the type of the result; of 16 bits with any scale."""
    if not is_quantized(x) or element_of(x) == b.quant:
        return x
    if dtype_of(x) is dtypes.i16:
        return retyped(b, x, b.quant)
    quant = quant_of(x)
    if (quant.scales[0], quant.zero_point) == (b.quant.scales[0], b.quant.zero_point):
        return retyped(b, x, b.quant)
    if dtype_of(x) is not dtypes.u8:
        raise NotExpressible("parts of different scales, which TFLite has for u8 only")
    scale = quant.scales[0] * (np.float32(1) / b.quant.scales[0])
    offset = np.float32(-quant.zero_point) * scale
    steps = away(stored_values(quant).astype(np.float32) * scale + offset)
    return tabled(b, x, steps + b.quant.zero_point)


@op("PACK", options="PackOptions")
def pack(b: Builder, *parts: SSAValue, axis: int) -> SSAValue:
    """The parts along a new dimension."""
    if not parts:
        raise Misfit("no parts")
    shape = shape_of(parts[0])
    axis = normalize_axis(axis, len(shape) + 1)
    apart = [reshape(b, as_part(b, p), (*shape[:axis], 1, *shape[axis:])) for p in parts]
    return concat(b, apart, axis)


@op("UNPACK", options="UnpackOptions")
def unpack(b: Builder, x: SSAValue, *, axis: int) -> list[SSAValue]:
    """The parts along a dimension, without it."""
    shape = shape_of(x)
    axis = normalize_axis(axis, len(shape))
    kept = (*shape[:axis], *shape[axis + 1 :])
    return [_typed(b, k, reshape(b, along(b, x, axis, k, 1), kept)) for k in range(shape[axis])]


def _typed(b: Builder, k: int, x: SSAValue) -> SSAValue:
    """Stored values in the type of result `k`."""
    if k >= len(b.results):
        raise Misfit(f"{len(b.results)} results")
    quant = b.results[k].quant
    return x if quant is None else retyped(b, x, quant)


@op("SPLIT")
def split(b: Builder, axis: SSAValue, x: SSAValue) -> list[SSAValue]:
    """Equal parts, as many as there are results."""
    (place,) = b.ints(axis, "an axis")
    return _parts(b, x, place)


@op("SPLIT_V")
def split_v(b: Builder, x: SSAValue, sizes: SSAValue, axis: SSAValue) -> list[SSAValue]:
    """Parts of the sizes of the results."""
    del sizes
    (place,) = b.ints(axis, "an axis")
    return _parts(b, x, place)


def _parts(b: Builder, x: SSAValue, axis: int) -> list[SSAValue]:
    axis = normalize_axis(axis, len(shape_of(x)))
    found: list[SSAValue] = []
    start = 0
    for k, result in enumerate(b.results):
        size = result.shape[axis] if axis < len(result.shape) else 0
        if start + size > shape_of(x)[axis]:
            raise Misfit(f"parts of more than {shape_of(x)[axis]}")
        found.append(_typed(b, k, along(b, x, axis, start, size)))
        start += size
    return found


@op("SLICE")
def slice_(b: Builder, x: SSAValue, begin: SSAValue, size: SSAValue) -> SSAValue:
    """A part that starts at `begin`, of the result's shape."""
    del size
    starts = b.ints(begin, "the start of a slice")
    _check_inside(x, starts, b.shape)
    return as_result(b, window(b, x, starts, b.shape))


def _check_inside(x: SSAValue, starts: Sequence[int], sizes: Sequence[int]) -> None:
    shape = shape_of(x)
    if not len(starts) == len(sizes) == len(shape) or any(
        s < 0 or s + n > d for s, n, d in zip(starts, sizes, shape, strict=True)
    ):
        raise Misfit(f"a slice of {list(sizes)} at {list(starts)} of {list(shape)}")


@op("STRIDED_SLICE", options="StridedSliceOptions")
def strided_slice(
    b: Builder,
    x: SSAValue,
    begin: SSAValue,
    end: SSAValue,
    strides: SSAValue,
    *,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
    offset: bool,
) -> SSAValue:
    """x[begin:end:stride, ...] as in numpy, with bits for what is left out."""
    bounds = [b.ints(v, "the bounds of a slice") for v in (begin, end, strides)]
    shape = shape_of(x)
    if len({*map(len, bounds)}) != 1 or 0 in bounds[2]:
        raise Misfit(f"bounds {[list(v) for v in bounds]} of {list(shape)}")
    starts, sizes, steps = [0] * len(shape), list(shape), [1] * len(shape)
    for k, axis in _places(len(bounds[0]), len(shape), ellipsis_mask, new_axis_mask):
        first, last, step = (v[k] for v in bounds)
        last = first + last if offset else last
        if shrink_axis_mask >> k & 1:
            part = slice(first, None if first == -1 else first + 1, 1)
        else:
            low, high = begin_mask >> k & 1, end_mask >> k & 1
            part = slice(None if low else first, None if high else last, step)
        found = part.indices(shape[axis])
        starts[axis], sizes[axis], steps[axis] = found[0], len(range(*found)), found[2]
    part = window(b, x, starts, sizes, steps)
    if is_free(b.results[0]):
        sizes = _kept(sizes, len(bounds[0]), ellipsis_mask, new_axis_mask, shrink_axis_mask)
        return as_result(b, reshape(b, part, sizes))
    return as_result(b, reshape(b, part, b.shape))


def _kept(sizes: Sequence[int], count: int, ellipses: int, new: int, gone: int) -> list[int]:
    """The sizes of a slice with the dimensions that its bounds add, and without those they drop."""
    rest, found = list(sizes), list[int]()
    skipped = len(sizes) - sum(not (ellipses | new) >> k & 1 for k in range(count))
    for k in range(count):
        if ellipses >> k & 1:
            found += rest[:skipped]
            del rest[:skipped]
        elif new >> k & 1:
            found.append(1)
        else:
            size = rest.pop(0)
            found += [] if gone >> k & 1 else [size]
    return [*found, *rest]


def _places(count: int, rank: int, ellipses: int, new: int) -> list[tuple[int, int]]:
    """Which bounds are those of which dimension; of those without any all is kept."""
    given = [k for k in range(count) if ellipses >> k & 1 or not new >> k & 1]
    skipped = rank - sum(not ellipses >> k & 1 for k in given)
    found: list[tuple[int, int]] = []
    axis = 0
    for k in given:
        if ellipses >> k & 1:
            axis += skipped
            continue
        found.append((k, axis))
        axis += 1
    if axis > rank or skipped < 0:
        raise Misfit(f"{count} bounds of {rank} dimensions")
    return found


@op("PAD", "PADV2")
def pad_(b: Builder, x: SSAValue, amounts: SSAValue, value: SSAValue | None = None) -> SSAValue:
    """Elements before and after each dimension: a constant, or the number 0."""
    found = b.known(amounts, "an amount of padding")
    if found.shape != (len(shape_of(x)), 2) or (found < 0).any():
        raise Misfit(f"padding {found.tolist()} of {list(shape_of(x))}")
    x = as_result(b, x)
    filler = b.quant.zero_point if is_quantized(x) else 0
    if value is not None:
        filler = b.known(value, "the value of padding").reshape(-1)[0].item()
    low, high = ([int(n) for n in column] for column in found.T)
    return pad(b, x, low, high, filler)


@op("TILE")
def tile(b: Builder, x: SSAValue, multiples: SSAValue) -> SSAValue:
    """x, repeated along each dimension."""
    times = b.ints(multiples, "a number of repetitions")
    if len(times) != len(shape_of(x)) or min(times, default=1) < 1:
        raise Misfit(f"{list(times)} repetitions of {list(shape_of(x))}")
    for axis, count in enumerate(times):
        x = concat(b, [x] * count, axis) if count > 1 else x
    return as_result(b, x)


@op("BROADCAST_TO")
def broadcast_to(b: Builder, x: SSAValue, shape: SSAValue) -> SSAValue:
    """x, repeated to the shape of the result."""
    del shape
    return as_result(b, broadcast(b, x, b.shape))
