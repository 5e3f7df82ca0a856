"""Short forms of the graph ops that importers of several topics emit."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.builder import (
    Array,
    Builder,
    dtype_of,
    element_of,
    shape_of,
)
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.graph.quant import QuantType

__all__ = [
    "Array",
    "Builder",
    "Misfit",
    "NotExpressible",
    "SSAValue",
    "dtype_of",
    "element_of",
    "shape_of",
]


def normalize_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise Misfit(f"axis {axis} of a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once, ascending."""
    found = tuple(sorted(normalize_axis(axis, rank) for axis in axes))
    if len(set(found)) != len(found):
        raise Misfit(f"the axes {list(axes)} of a tensor of rank {rank}")
    return found


def reshape(b: Builder, x: SSAValue, shape: Sequence[int]) -> SSAValue:
    """`x` with another shape of as many elements."""
    shape = tuple(shape)
    if shape == shape_of(x):
        return x
    if prod(shape) != prod(shape_of(x)) or any(size < 0 for size in shape):
        raise Misfit(f"a reshape from {list(shape_of(x))} to {list(shape)}")
    weight = _stored_weight(b, x)
    if weight is not None and _keeps_scales(weight, shape):
        return _dequantized(b, x, _reshape(b, weight, shape))
    return _reshape(b, x, shape)


def transpose(b: Builder, x: SSAValue, permutation: Sequence[int]) -> SSAValue:
    """`x` with result dimension `k` its dimension `permutation[k]`.

    A quantized weight is transposed as it is stored, before its `dequantize`.
    """
    if list(permutation) == list(range(len(permutation))):
        return x
    weight = _stored_weight(b, x)
    if weight is not None:
        return _dequantized(b, x, b.emit(graph.TransposeOp(weight, tuple(permutation))))
    return b.emit(graph.TransposeOp(x, tuple(permutation)))


def _reshape(b: Builder, x: SSAValue, shape: Sequence[int]) -> SSAValue:
    return b.emit(graph.ReshapeOp(x, tuple(shape)))


def _stored_weight(b: Builder, x: SSAValue) -> SSAValue | None:
    """The constant behind a `dequantize`."""
    if isinstance(x.owner, graph.DequantizeOp) and b.array(x.owner.operands[0]) is not None:
        return x.owner.operands[0]
    return None


def _keeps_scales(weight: SSAValue, shape: Sequence[int]) -> bool:
    """True if the dimension that has the scales is the last one, before and after."""
    element, before = element_of(weight), shape_of(weight)
    axis = element.axis if isinstance(element, QuantType) else None
    return axis is None or (axis == len(before) - 1 and before[-1:] == tuple(shape[-1:]))


def _dequantized(b: Builder, x: SSAValue, weight: SSAValue) -> SSAValue:
    """The `dequantize` of `x` on another form of its weight."""
    assert isinstance(x.owner, Operation)
    here = b.location
    b.location = x.owner.location
    result = b.emit(graph.DequantizeOp(weight))
    b.location = here
    return result


def channels_last(b: Builder, x: SSAValue) -> SSAValue:
    """N C ... -> N ... C."""
    rank = len(shape_of(x))
    return transpose(b, x, (0, *range(2, rank), 1))


def channels_first(b: Builder, x: SSAValue) -> SSAValue:
    """N ... C -> N C ..."""
    rank = len(shape_of(x))
    return transpose(b, x, (0, rank - 1, *range(1, rank - 1)))


def as_image(b: Builder, x: SSAValue) -> SSAValue:
    """N C L or N C H W -> N H W C; a sequence becomes an image of one row."""
    rank = len(shape_of(x))
    if rank not in (3, 4):
        raise NotExpressible(f"{rank - 2} spatial dimensions")
    x = channels_last(b, x)
    n, *spatial, c = shape_of(x)
    return reshape(b, x, (n, 1, *spatial, c)) if rank == 3 else x


def from_image(b: Builder, x: SSAValue, rank: int) -> SSAValue:
    """The inverse of `as_image` for a tensor of `rank` dimensions."""
    if rank == 3:
        n, _, w, c = shape_of(x)
        x = reshape(b, x, (n, w, c))
    return channels_first(b, x)


def broadcast(b: Builder, x: SSAValue, shape: Sequence[int]) -> SSAValue:
    """`x` repeated to `shape` by the rules of numpy."""
    if tuple(shape) == shape_of(x):
        return x
    try:
        fits = np.broadcast_shapes(shape_of(x), tuple(shape)) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise Misfit(f"a broadcast from {list(shape_of(x))} to {list(shape)}")
    return b.emit(graph.BroadcastToOp(x, tuple(shape)))


def window(
    b: Builder,
    x: SSAValue,
    starts: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int] | None = None,
) -> SSAValue:
    """A strided part of `x`; `starts` count from the front, strides may be negative."""
    strides = tuple(strides) if strides is not None else (1,) * len(starts)
    if tuple(sizes) == shape_of(x) and all(stride == 1 for stride in strides):
        return x
    return b.emit(graph.SliceOp(x, tuple(starts), tuple(sizes), strides))


def along(b: Builder, x: SSAValue, axis: int, start: int, size: int, stride: int = 1) -> SSAValue:
    """The elements start, start + stride, ... (`size` of them) along one axis."""
    shape = list(shape_of(x))
    starts, strides = [0] * len(shape), [1] * len(shape)
    starts[axis], strides[axis], shape[axis] = start, stride, size
    return window(b, x, starts, shape, strides)


def concat(b: Builder, parts: Sequence[SSAValue], axis: int) -> SSAValue:
    """The parts one after the other along `axis`; those of no elements are left out."""
    parts = [part for part in parts if shape_of(part)[axis]] or parts[:1]
    return parts[0] if len(parts) == 1 else b.emit(graph.ConcatOp(list(parts), axis))


def pad(
    b: Builder, x: SSAValue, low: Sequence[int], high: Sequence[int], value: float = 0
) -> SSAValue:
    """`x` with elements of `value` added, or (where negative) its own removed, at each end."""
    shape = shape_of(x)
    starts = [max(-p, 0) for p in low]
    sizes = [size - start - max(-q, 0) for size, start, q in zip(shape, starts, high, strict=True)]
    if any(size < 0 for size in sizes):
        raise Misfit(f"padding {list(low)}, {list(high)} of {list(shape)}")
    x = window(b, x, starts, sizes)
    low, high = [max(p, 0) for p in low], [max(p, 0) for p in high]
    if not any(low) and not any(high):
        return x
    return b.emit(graph.PadOp(x, tuple(low), tuple(high), value))


def cast(b: Builder, x: SSAValue, dtype: DType) -> SSAValue:
    """`x` in another plain type."""
    if dtype_of(x) == dtype:
        return x
    return b.emit(graph.CastOp(x, dtype))


def add(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.emit(graph.AddOp(x, y))


def sub(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.emit(graph.SubOp(x, y))


def mul(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.emit(graph.MulOp(x, y))


def div(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.emit(graph.DivOp(x, y))


def scaled(b: Builder, x: SSAValue, factor: float) -> SSAValue:
    """`x` times a number."""
    return x if factor == 1.0 else mul(b, x, b.scalar(factor, x))


def where(b: Builder, condition: SSAValue, x: SSAValue, y: SSAValue) -> SSAValue:
    return b.emit(graph.WhereOp(condition, x, y))


def iota(b: Builder, size: int, rank: int, axis: int, dtype: DType = dtypes.i32) -> SSAValue:
    """0, 1, ... size-1 along `axis`, 1 element along the others."""
    shape = [1] * rank
    shape[axis] = size
    return b.constant(np.arange(size, dtype=dtype.numpy).reshape(shape))


def reduce(b: Builder, op: type[Any], x: SSAValue, axes: Sequence[int], keepdims: int) -> SSAValue:
    """A reduction op over `axes` (from the front); of nothing, its neutral element."""
    shape = shape_of(x)
    if 0 in (shape[axis] for axis in axes):
        kept = [1 if k in axes else size for k, size in enumerate(shape)]
        result = broadcast(b, _neutral(b, op, x), kept)
    else:
        result = b.emit(op(x, tuple(axes))) if axes else x
    return result if keepdims else squeeze(b, result, axes)


def _neutral(b: Builder, op: type[Any], x: SSAValue) -> SSAValue:
    dtype = dtype_of(x)
    low, high = (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)
    values = {
        graph.ReduceSumOp: 0,
        graph.ReduceProdOp: 1,
        graph.ReduceMaxOp: low,
        graph.ReduceMinOp: high,
    }
    return b.scalar(values.get(op, np.nan), x)


def squeeze(b: Builder, x: SSAValue, axes: Sequence[int]) -> SSAValue:
    """`x` without the dimensions `axes`, which have size 1."""
    return reshape(b, x, [size for k, size in enumerate(shape_of(x)) if k not in axes])
