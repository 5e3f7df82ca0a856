"""Integers between elements of two dimensions: weighted sums in i32, rounded once.

Results whose places repeat (every second one, where an image is doubled) are computed together:

    x [.., n, ..]  ->  x[k] * 3 + x[k + 1] * 1,  x[k] * 1 + x[k + 1] * 3  ->  [.., n, 2, ..]

Of few phases, both dimensions are depthwise convolutions of 2 x 2. Of more, columns are weighed by
the vector unit, in 16 bits, and rows are depthwise convolutions. What does not repeat, or needs
wider weights, the vector unit does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.ops.common import (
    add,
    along,
    broadcast,
    concat,
    mul,
    reshape,
    window,
)
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.places import MOST_PHASES, Places, Run, same
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    as_result,
    is_quantized,
    plain,
    quant_of,
)
from npu_dialect.frontends.tflite.ops.windows import interleaved
from npu_dialect.graph.quant import uniform

MOST_WINDOWS = 16
"""Phases of both dimensions together that are computed one by one."""

HALF = uniform(dtypes.i16, 1.0)
"""The type of columns with weights of up to 7 bits."""


def interpolated(b: Builder, x: SSAValue, rows: Places, columns: Places) -> SSAValue:
    """Columns first, since there are fewer rows then; a dimension of 1 is repeated at the end."""
    bits, zero = rows.bits + columns.bits, quant_of(x).zero_point
    if not bits:
        found = as_result(b, between(b, between(b, x, 2, columns), 1, rows))
    elif _are_few(rows, columns) and _greatest(rows, columns) <= dtypes.u8.high:
        found = _by_windows(b, x, rows, columns, zero << bits, bits)
    else:
        found = between(b, x, 2, columns)
        if rows.repeats and rows.bits and _greatest(rows) <= dtypes.i8.high and is_quantized(found):
            found = _by_windows(b, found, rows, same(shape_of(found)[2]), zero << bits, bits)
        else:
            found = _rounded(b, _whole(b, between(b, found, 1, rows)), zero << bits, bits)
    return broadcast(b, found, b.shape)


def _rounded(b: Builder, sums: SSAValue, offset: int, bits: int) -> SSAValue:
    """Sums with an offset, so that they are of stored values, over 2**bits.

    Ties go away from the stored 0.
    """
    if offset:
        sums = add(b, sums, b.scalar(offset, sums))
    recipe, zero = graph.requant_fixed(1, bits, "half_away"), b.quant.zero_point
    if not zero:
        return b.emit(graph.RequantizeOp(sums, recipe, b.quant))
    stored = b.emit(graph.RequantizeOp(sums, recipe, I32))
    steps = b.emit(graph.SubOp(stored, b.scalar(zero, stored)))
    return b.emit(graph.RequantizeOp(steps, KEEP, b.quant))


# Integers by convolutions


def _are_few(rows: Places, columns: Places) -> bool:
    """Whether both dimensions repeat, with few phases together."""
    both = [p for p in (rows, columns) if p.size > 1]
    return all(p.repeats for p in both) and prod(p.phases()[0] for p in both) <= MOST_WINDOWS


def _greatest(*dimensions: Places) -> int:
    """The greatest weight; a result that is an element of x needs none."""
    runs = product(*(p.runs() for p in dimensions))
    return max(
        (prod(int(r.weights.max()) for r in each) for each in runs if any(r.is_pair for r in each)),
        default=0,
    )


def _by_windows(
    b: Builder, x: SSAValue, rows: Places, columns: Places, offset: int, bits: int
) -> SSAValue:
    """x, of 8 bits or of 16 with weights of columns already; `offset` in sums, over 2**bits."""
    x, rows = _extended(b, x, 1, rows)
    x, columns = _extended(b, x, 2, columns)

    def strip(top: Run) -> SSAValue:
        parts = [_window(b, x, top, left, offset, bits) for left in columns.runs()]
        return _put_together(b, parts, 2, columns.phases()[0])

    return _put_together(b, [strip(top) for top in rows.runs()], 1, rows.phases()[0])


def _put_together(b: Builder, parts: Sequence[SSAValue], axis: int, count: int) -> SSAValue:
    """The first `count` parts in turn, and the others behind them."""
    count = max(count, 1)
    return concat(b, [interleaved(b, parts[:count], axis), *parts[count:]], axis)


def _window(b: Builder, x: SSAValue, top: Run, left: Run, offset: int, bits: int) -> SSAValue:
    """The results of a run of rows and of columns."""
    n, _, _, channels = shape_of(x)
    sizes = [(run.count - 1) * run.step + len(run.weights) for run in (top, left)]
    part = window(b, x, (0, top.low, left.low, 0), (n, *sizes, channels))
    steps, weights = (top.step, left.step), np.outer(top.weights, left.weights)
    if weights.size == 1:
        kept = (n, top.count, left.count, channels)
        part = window(b, part, (0, 0, 0, 0), kept, (1, *steps, 1))
        if dtype_of(x).itemsize == 1:
            return as_result(b, part)
        whole = plain(b, part)
        return _rounded(b, mul(b, whole, b.scalar(int(weights[0, 0]), whole)), offset, bits)
    kind = dtypes.u8 if weights.max() > dtypes.i8.high else dtypes.i8
    taps = np.broadcast_to(weights[:, :, None, None], (*weights.shape, 1, channels))
    w = b.constant(taps.astype(kind.numpy), uniform(kind, 1.0))
    wide = np.int32 if dtype_of(x).itemsize == 1 else np.int64
    bias = b.constant(np.full(channels, offset, wide))
    sums = b.emit(graph.Conv2DOp(part, w, bias, steps, (0, 0, 0, 0), (1, 1), channels))
    return _rounded(b, sums, 0, bits)


# Integers by vectors


def between(b: Builder, x: SSAValue, axis: int, places: Places) -> SSAValue:
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
    is_narrow = is_quantized(first) and dtype_of(first).itemsize == 1 and bits < 8
    least = np.asarray(total - part, np.int32), np.asarray(part, np.int32)
    found = mul(b, _whole(b, first), b.constant(least[0]))
    if second is not None:
        found = add(b, found, mul(b, _whole(b, second), b.constant(least[1])))
    return b.emit(graph.RequantizeOp(found, KEEP, HALF)) if is_narrow else found


def _whole(b: Builder, x: SSAValue) -> SSAValue:
    return plain(b, x) if is_quantized(x) else x


def _by_indices(b: Builder, x: SSAValue, axis: int, places: Places) -> SSAValue:
    low, high = (np.clip(places.low + k, 0, places.size - 1) for k in (0, 1))
    first = taken(b, x, axis, low)
    if not places.bits:
        return first
    shape = [len(low) if k == axis else 1 for k in range(4)]
    second = taken(b, x, axis, high)
    return _weighed(b, first, second, places.part.reshape(shape), places.bits)


def taken(b: Builder, x: SSAValue, axis: int, places: Array) -> SSAValue:
    """The elements at known places of a dimension: rows of the dimensions behind it."""
    shape = shape_of(x)
    outer, size, inner = (int(np.prod(s)) for s in (shape[:axis], shape[axis], shape[axis + 1 :]))
    rows = reshape(b, x, (outer * size, inner))
    b.reserve(outer, len(places))
    index = (np.arange(outer).reshape(-1, 1) * size + places).reshape(-1).astype(np.int32)
    found = b.emit(graph.GatherOp(rows, b.constant(index)))
    return reshape(b, found, (*shape[:axis], len(places), *shape[axis + 1 :]))
