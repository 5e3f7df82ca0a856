"""Operations that move elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from xdsl.dialects.builtin import TensorType, i1, i32
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.tosa_export.emitter import Emitter, Refused, element_of, offset
from npu_dialect.tosa_export.ops.rescaling import whole
from npu_dialect.tosa_export.registry import rule

MOST_DIMENSIONS = 6
"""Of a tensor of TOSA, at its level 8K."""


@rule(graph.ReshapeOp)
def reshape(e: Emitter, op: graph.ReshapeOp) -> SSAValue:
    """The same; one of more dimensions than TOSA has is held as it was, for what reads it."""
    x, shape = e.value(op.x), shape_of(op.result)
    return x if len(shape) > MOST_DIMENSIONS else e.reshape(x, shape)


@rule(graph.TransposeOp)
def transpose(e: Emitter, op: graph.TransposeOp) -> SSAValue:
    """The same."""
    return e.transpose(e.value(op.x), values(op.permutation))


@rule(graph.ConcatOp)
def concat(e: Emitter, op: graph.ConcatOp) -> SSAValue:
    """The same."""
    found = [e.value(v) for v in op.inputs]
    if len(found) == 1:
        return found[0]
    type = TensorType(element_of(found[0]), shape_of(op.result))
    return e.op("concat", found, type, axis=op.axis.value.data)


@rule(graph.SliceOp)
def slice_(e: Emitter, op: graph.SliceOp) -> SSAValue:
    """A part; strides below 0 reverse it, others take the first of each step."""
    x = e.value(op.x)
    starts, sizes, strides = values(op.starts), values(op.sizes), values(op.strides)
    lasts = [a + (n - 1) * s for a, n, s in zip(starts, sizes, strides, strict=True)]
    first = [min(a, b) for a, b in zip(starts, lasts, strict=True)]
    x = e.slice(x, first, [abs(b - a) + 1 for a, b in zip(starts, lasts, strict=True)])
    for axis, stride in enumerate(strides):
        if stride < 0 and sizes[axis] > 1:
            x = e.same("reverse", x, axis=axis)
    for axis, stride in enumerate(strides):
        if abs(stride) > 1 and sizes[axis] > 1:
            x = _every(e, x, axis, abs(stride), sizes[axis])
    return x


def _every(e: Emitter, x: SSAValue, axis: int, step: int, size: int) -> SSAValue:
    """Elements 0, step, 2 * step, ... of an axis that ends with the last of them: the first of each
    `step`, and the last one.
    """
    shape = list(shape_of(x))
    if len(shape) > MOST_DIMENSIONS - 1:
        raise Refused(f"a slice with strides of more than {MOST_DIMENSIONS - 1} dimensions")
    before, after = shape[:axis], shape[axis + 1 :]
    whole = (size - 1) * step
    body = e.slice(x, (0,) * len(shape), [*before, whole, *after])
    body = e.reshape(body, [*before, size - 1, step, *after])
    body = e.slice(body, (0,) * (len(shape) + 1), [*before, size - 1, 1, *after])
    starts = [whole if k == axis else 0 for k in range(len(shape))]
    parts = e.reshape(body, [*before, size - 1, *after]), e.slice(x, starts, [*before, 1, *after])
    return e.op("concat", parts, TensorType(element_of(x), [*before, size, *after]), axis=axis)


def padded(e: Emitter, x: SSAValue, border: Sequence[tuple[int, int]], value: float) -> SSAValue:
    """x with a border of TOSA's stored value.

    A list of sizes has no more elements than a tensor has dimensions, two for each of them.
    Dimensions without a border are one between those that have any; where there are still too many,
    one is padded after the other.
    """
    if not any(a or b for a, b in border):
        return x
    sizes = tuple(a + n + b for n, (a, b) in zip(shape_of(x), border, strict=True))
    runs = _runs([bool(a or b) for a, b in border])
    padding = [border[run[0]] if len(run) == 1 else (0, 0) for run in runs]
    if 2 * len(border) <= MOST_DIMENSIONS:
        runs, padding = [[k] for k in range(len(border))], list(border)
    elif 2 * len(runs) > MOST_DIMENSIONS:
        axis = next(k for k, ends in enumerate(border) if any(ends))
        first = [ends if k == axis else (0, 0) for k, ends in enumerate(border)]
        rest = [(0, 0) if k == axis else ends for k, ends in enumerate(border)]
        return padded(e, padded(e, x, first, value), rest, value)
    shape = [prod(shape_of(x)[k] for k in run) for run in runs]
    whole = [a + n + b for n, (a, b) in zip(shape, padding, strict=True)]
    pads = e.shape([n for pair in padding for n in pair])
    operands = (e.reshape(x, shape), pads, e.fill(value, element_of(x)))
    return e.reshape(e.op("pad", operands, TensorType(element_of(x), whole)), sizes)


def _runs(alone: Sequence[bool]) -> list[list[int]]:
    """Dimensions one by one, or adjacent ones together if they are not `alone`."""
    found: list[list[int]] = []
    for k, is_alone in enumerate(alone):
        if found and not is_alone and not alone[k - 1]:
            found[-1].append(k)
        else:
            found.append([k])
    return found


@rule(graph.PadOp)
def pad(e: Emitter, op: graph.PadOp) -> SSAValue:
    """The same."""
    border = list(zip(values(op.low), values(op.high), strict=True))
    value = op.value.value.data - offset(dtype_of(op.x))
    return padded(e, e.value(op.x), border, value)


def broadcast(e: Emitter, x: SSAValue, shape: Sequence[int]) -> SSAValue:
    """x repeated to a shape, as in numpy."""
    x = e.reshape(x, (1,) * (len(shape) - len(shape_of(x))) + shape_of(x))
    times = [n // m if m else 1 for n, m in zip(shape, shape_of(x), strict=True)]
    if all(n == 1 for n in times):
        return x
    return e.op("tile", (x, e.shape(times)), TensorType(element_of(x), list(shape)))


@rule(graph.BroadcastToOp)
def broadcast_to(e: Emitter, op: graph.BroadcastToOp) -> SSAValue:
    """Repetitions; of more dimensions than TOSA has with those together that are not repeated."""
    shape, old = shape_of(op.result), shape_of(op.x)
    if len(shape) <= MOST_DIMENSIONS:
        return broadcast(e, e.value(op.x), shape)
    old = (1,) * (len(shape) - len(old)) + old
    runs = _runs([n != m for n, m in zip(shape, old, strict=True)])
    if len(runs) > MOST_DIMENSIONS:
        raise Refused(f"repetitions along {list(old)} to {list(shape)}")
    x = e.reshape(e.value(op.x), [prod(old[k] for k in run) for run in runs])
    return broadcast(e, x, [prod(shape[k] for k in run) for run in runs])


def rows(e: Emitter, table: SSAValue, indices: SSAValue) -> SSAValue:
    """Rows of a table [K, C] by i32 indices [W] that lie in it: [W, C]."""
    (count,), (height, width) = shape_of(indices), shape_of(table)
    operands = e.reshape(table, (1, height, width)), e.reshape(indices, (1, count))
    found = e.op("gather", operands, TensorType(element_of(table), (1, count, width)))
    return e.reshape(found, (count, width))


@rule(graph.GatherOp)
def gather(e: Emitter, op: graph.GatherOp) -> SSAValue:
    """Rows; an index from the end or outside is brought inside first, as graph says."""
    height = shape_of(op.x)[0]
    indices, (low, high) = whole(e, op.indices), e.ranges.of(op.indices)
    if low < -height or high >= height:
        least = e.spread("maximum", indices, e.like(-height, indices))
        indices = e.spread("minimum", least, e.like(height - 1, indices))
    if low < 0:
        is_back = e.spread("greater", e.like(0, indices), indices, element=i1)
        back = e.spread("add", indices, e.like(height, indices))
        indices = e.spread("select", is_back, back, indices)
    return rows(e, e.value(op.x), indices)


@rule(graph.ScatterOp)
def scatter(e: Emitter, op: graph.ScatterOp) -> SSAValue:
    """Rows written at constant places, each at most once."""
    owner = op.indices.owner
    if op.kind.data != "set" or not isinstance(owner, graph.ConstantOp):
        raise Refused(f"rows that are written (kind {op.kind.data}) at places of run time")
    found, (height, width) = owner.array, shape_of(op.x)
    if len(set(found.tolist())) < found.size or (found < 0).any() or (found >= height).any():
        raise Refused("places that are written twice, or outside")
    indices = e.const(found.reshape(1, -1).astype(np.int32), i32)
    x, updates = e.value(op.x), e.value(op.updates)
    count = prod(found.shape)
    operands = (
        e.reshape(x, (1, height, width)), indices, e.reshape(updates, (1, count, width))
    )  # fmt: skip
    result = e.op("scatter", operands, TensorType(element_of(x), (1, height, width)))
    return e.reshape(result, (height, width))
