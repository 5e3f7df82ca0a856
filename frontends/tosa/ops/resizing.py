"""RESIZE: rows and columns by number, and between two of them.

For output y, with scale n / d: v = y * d + offset, iy = floor(v / n), dy = v - iy * n; of integers
BILINEAR gives the sum of four neighbours times (n - dy) or dy and the same for x, in i32 or i48; of
floats times (1 - dy / n) or dy / n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import Array, dtype_of, is_quantized, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import reshape, transpose
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.elementwise import plain
from npu_dialect.frontends.tosa.registry import op

Ints = tuple[int, ...]


class Positions(NamedTuple):
    """Where the elements of an axis come from."""

    first: Array
    second: Array
    rest: Array
    """In units of 1 / unit beyond the first."""
    unit: int


def positions(size: int, unit: int, step: int, offset: int, border: int) -> Positions:
    """The positions of an axis of `size` elements."""
    last = (size - 1) * unit - offset + border
    if unit < 1 or step < 1 or last < 0 or last % step:
        raise Misfit(f"a scale of {unit} / {step} with the offset {offset} and border {border}")
    v = np.arange(last // step + 1) * step + offset
    i = v // unit
    first, second = np.clip(i, 0, size - 1), np.clip(i + 1, 0, size - 1)
    return Positions(first, second, v - i * unit, unit)


@op("resize")
def resize(
    b: Builder, input: SSAValue, scale: Ints, offset: Ints, border: Ints, *, mode: str
) -> SSAValue:
    """An image of another size."""
    height, width = shape_of(input)[1:3]
    ys = positions(height, scale[0], scale[1], offset[0], border[0])
    xs = positions(width, scale[2], scale[3], offset[1], border[1])
    if mode == "NEAREST_NEIGHBOR":
        rows = np.where(2 * ys.rest >= ys.unit, ys.second, ys.first)
        columns = np.where(2 * xs.rest >= xs.unit, xs.second, xs.first)
        return taken(b, taken(b, input, rows, 1), columns, 2)
    return _between(b, _between(b, _numbers(b, input), ys, 1), xs, 2)


def _numbers(b: Builder, x: SSAValue) -> SSAValue:
    """What is interpolated: floats, i32, or of 16 bits i48, which is held in i64."""
    if dtype_of(x) is dtypes.f32:
        return x
    if not is_quantized(x) or dtype_of(x) not in (dtypes.i8, dtypes.i16):
        raise NotExpressible(f"BILINEAR of {dtype_of(x)}")
    return b.recast(plain(b, x), dtypes.i64 if dtype_of(x) is dtypes.i16 else dtypes.i32)


def _between(b: Builder, x: SSAValue, at: Positions, axis: int) -> SSAValue:
    """Weighted by units of integers, or by parts of 1 of floats."""
    shape = [1] * 4
    shape[axis] = at.rest.size
    unit, kind = (at.unit, np.float32) if dtype_of(x) is dtypes.f32 else (1, dtype_of(x).numpy)
    near, far = ((n / unit).astype(kind).reshape(shape) for n in (at.unit - at.rest, at.rest))
    first = b.emit(graph.MulOp(taken(b, x, at.first, axis), b.constant(near)))
    second = b.emit(graph.MulOp(taken(b, x, at.second, axis), b.constant(far)))
    return b.emit(graph.AddOp(first, second))


def taken(b: Builder, x: SSAValue, index: Array, axis: int) -> SSAValue:
    """Elements of an axis by number."""
    if index.size == shape_of(x)[axis] and (index == np.arange(index.size)).all():
        return x
    order = [axis, *(k for k in range(len(shape_of(x))) if k != axis)]
    moved = transpose(b, x, order)
    size, *others = shape_of(moved)
    rows = reshape(b, moved, (size, int(np.prod(others))))
    found = b.emit(graph.GatherOp(rows, b.i32(index)))
    found = reshape(b, found, (index.size, *others))
    return transpose(b, found, np.argsort(order).tolist())
