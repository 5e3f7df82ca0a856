"""Integer contractions whose zero points or scales are computed at run time.

The array multiplies the integers as they are, and sums of one factor correct the result:

    sum (x - p) (w - q) = sum x w - q sum x - p sum w + p q sum 1

The sums of a convolution are convolutions with ones, since a window at the edge has fewer terms.
"""

from __future__ import annotations

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import is_quantized
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import Windows, conv_image
from npu_dialect.frontends.onnx.ops.quantization import quantized
from npu_dialect.frontends.onnx.widen import plain
from npu_dialect.graph.quant import uniform

Factor = tuple[SSAValue, SSAValue | None]
"""Integers, and their zero point."""


def product(b: Builder, x: Factor, y: Factor) -> SSAValue:
    """The i32 sums of a matrix product; zero points may differ by row of x, by column of y."""
    if min(len(shape_of(x[0])), len(shape_of(y[0]))) < 2:
        raise NotExpressible("a product with a vector, with zero points of run time")
    (left, p), (right, q) = (_bare(b, *x), _bare(b, *y))
    p, rank = as_rows(b, p), len(shape_of(left))
    sums = b.emit(graph.MatmulOp(left, right))
    rows = b.emit(graph.ReduceSumOp(_number(b, left), (rank - 1,)))
    columns = b.emit(graph.ReduceSumOp(_number(b, right), (len(shape_of(right)) - 2,)))
    count = b.scalar(shape_of(left)[-1], sums)
    return _corrected(b, sums, (p, q), (rows, columns, count))


def as_rows(b: Builder, x: SSAValue) -> SSAValue:
    """One value per row, where there are several."""
    return common.reshape(b, x, (*shape_of(x), 1)) if len(shape_of(x)) == 1 else x


def convolution(b: Builder, x: Factor, w: Factor, found: Windows, group: int) -> SSAValue:
    """The i32 sums of a convolution, N H W C; the zero point of w may differ by channel."""
    (data, p), (weights, q) = (_bare(b, *x), _bare(b, *w))
    ones, unit = _ones(b, data), _ones(b, weights)
    pairs = ((data, weights), (data, unit), (ones, weights), (ones, unit))
    sums, *others = [conv_image(b, v, u, None, found, group) for v, u in pairs]
    return _corrected(b, sums, (p, q), (others[0], others[1], others[2]))


def _corrected(
    b: Builder,
    sums: SSAValue,
    zeros: tuple[SSAValue, SSAValue],
    others: tuple[SSAValue, SSAValue, SSAValue],
) -> SSAValue:
    """The sums of products without what the zero points p, q add; `others` are sum x, w and 1."""
    (p, q), (x, w, one) = zeros, others
    sums = common.sub(b, sums, common.mul(b, x, q))
    sums = common.sub(b, sums, common.mul(b, w, p))
    return common.add(b, sums, common.mul(b, common.mul(b, one, p), q))


def _bare(b: Builder, x: SSAValue, zero: SSAValue | None) -> tuple[SSAValue, SSAValue]:
    """The integers as they are, for the array; the zero point in i32."""
    if is_quantized(x):
        raise NotExpressible("integers that have a zero point already")
    if zero is None:
        zero = b.constant(np.array(0, np.int32))
    elif shape_of(zero) == (1,):
        zero = common.reshape(b, zero, ())
    return quantized(b, x, uniform(dtype_of(x), 1.0, 0)), _number(b, zero)


def _number(b: Builder, x: SSAValue) -> SSAValue:
    number = plain(b, x)
    assert number is not None
    return common.cast(b, number, dtypes.i32)


def _ones(b: Builder, x: SSAValue) -> SSAValue:
    b.reserve(*shape_of(x), itemsize=1)
    return b.constant(np.ones(shape_of(x), np.int8), uniform(dtypes.i8, 1.0, 0))


def rescaled(
    b: Builder, sums: SSAValue, scales: tuple[SSAValue, SSAValue, SSAValue], zero: SSAValue
) -> SSAValue:
    """round(sums * (x_scale * w_scale / y_scale)) + zero, in f32, saturated to the type of zero."""
    x, w, y = (_scale(b, scale) for scale in scales)
    factor = common.div(b, common.mul(b, x, w), y)
    steps = b.emit(graph.RoundOp(common.mul(b, common.cast(b, sums, dtypes.f32), factor)))
    kind = dtype_of(zero)
    if np.prod(shape_of(zero)) != 1:
        raise NotExpressible("several zero points of a result")
    offset = common.reshape(b, common.cast(b, _number(b, zero), dtypes.f32), ())
    y = b.emit(graph.ClampOp(common.add(b, steps, offset), kind.low, kind.high))
    return common.cast(b, common.cast(b, y, dtypes.i32), kind)


def _scale(b: Builder, scale: SSAValue) -> SSAValue:
    scale = common.cast(b, scale, dtypes.f32)
    return common.reshape(b, scale, ()) if np.prod(shape_of(scale)) == 1 else scale
