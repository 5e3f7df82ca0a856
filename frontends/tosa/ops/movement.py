"""Operations that move elements."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit
from npu_dialect.frontends.onnx.ops.common import broadcast, transpose
from npu_dialect.frontends.onnx.ops.common import concat as joined
from npu_dialect.frontends.onnx.ops.common import reshape as reshaped
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.rescaling import whole
from npu_dialect.frontends.tosa.registry import op

Ints = tuple[int, ...]


@op("identity")
def identity(b: Builder, input1: SSAValue) -> SSAValue:
    """The same."""
    del b
    return input1


@op("reshape")
def reshape(b: Builder, input1: SSAValue, shape: Ints) -> SSAValue:
    """The same elements; a size of -1 is what is left."""
    if shape.count(-1) == 1:
        rest = prod(n for n in shape if n != -1)
        if not rest or prod(shape_of(input1)) % rest:
            raise Misfit(f"{list(shape_of(input1))} as {list(shape)}")
        shape = tuple(prod(shape_of(input1)) // rest if n == -1 else n for n in shape)
    return reshaped(b, input1, shape)


@op("transpose")
def transposed(b: Builder, input1: SSAValue, *, perms: Ints) -> SSAValue:
    """Dimensions in another order."""
    return transpose(b, input1, perms)


@op("concat")
def concat(b: Builder, *input1: SSAValue, axis: int) -> SSAValue:
    """One after the other."""
    return joined(b, list(input1), axis)


@op("slice")
def sliced(b: Builder, input1: SSAValue, start: Ints, size: Ints) -> SSAValue:
    """A part; a size of -1 is all that is left."""
    sizes = [n - a if s == -1 else s for n, a, s in zip(shape_of(input1), start, size, strict=True)]
    return b.emit(graph.SliceOp(input1, start, sizes))


@op("reverse")
def reverse(b: Builder, input1: SSAValue, *, axis: int) -> SSAValue:
    """In the opposite order along an axis."""
    shape = shape_of(input1)
    starts = [n - 1 if k == axis else 0 for k, n in enumerate(shape)]
    strides = [-1 if k == axis else 1 for k in range(len(shape))]
    return b.emit(graph.SliceOp(input1, starts, shape, strides))


@op("pad")
def pad(b: Builder, input1: SSAValue, padding: Ints, pad_const: SSAValue) -> SSAValue:
    """A border of one value."""
    value = b.number(pad_const, "pad_const")
    return b.emit(graph.PadOp(input1, padding[::2], padding[1::2], value))


@op("tile")
def tile(b: Builder, input1: SSAValue, multiples: Ints) -> SSAValue:
    """Repetitions of the whole along each dimension."""
    x, shape = input1, shape_of(input1)
    if len(multiples) != len(shape):
        raise Misfit(f"{list(multiples)} repetitions of {list(shape)}")
    for axis, times in enumerate(multiples):
        now = list(shape_of(x))
        if times == 1:
            continue
        wide = (prod(now[:axis]), 1, prod(now[axis:]))
        x = broadcast(b, reshaped(b, x, wide), (wide[0], times, wide[2]))
        x = reshaped(b, x, (*now[:axis], now[axis] * times, *now[axis + 1 :]))
    return x


@op("gather")
def gather(b: Builder, values: SSAValue, indices: SSAValue) -> SSAValue:
    """Rows [N, K, C] by indices [N, W]: rows of one table, each batch with an offset of its own."""
    (n, rows, width), (batch, count) = shape_of(values), shape_of(indices)
    if batch != n:
        raise Misfit(f"{n} tables and {batch} rows of indices")
    found = b.emit(
        graph.GatherOp(reshaped(b, values, (n * rows, width)), _places(b, indices, n, rows))
    )  # fmt: skip
    return reshaped(b, found, (n, count, width))


def _places(b: Builder, indices: SSAValue, n: int, rows: int) -> SSAValue:
    """Indices into N tables as those into one."""
    numbers = whole(b, indices)
    if n > 1:
        offsets = b.constant((np.arange(n) * rows).reshape(n, 1).astype(dtype_of(numbers).numpy))
        numbers = b.emit(graph.AddOp(numbers, offsets))
    return reshaped(b, numbers, (prod(shape_of(indices)),))


@op("scatter")
def scatter(b: Builder, values_in: SSAValue, indices: SSAValue, input: SSAValue) -> SSAValue:
    """Rows [N, K, C] with rows of the input [N, W, C] at indices [N, W]."""
    (n, rows, width), count = shape_of(values_in), shape_of(indices)[1]
    data = reshaped(b, values_in, (n * rows, width))
    updates: Any = reshaped(b, input, (n * count, width))
    found = b.emit(graph.ScatterOp(data, _places(b, indices, n, rows), updates))
    return reshaped(b, found, (n, rows, width))
