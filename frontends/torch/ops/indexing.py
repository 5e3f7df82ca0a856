"""Selection by index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common, rows
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    Number,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.torch.registry import op


@op("embedding")
def embedding(
    b: Builder,
    weight: SSAValue,
    indices: SSAValue,
    padding_idx: int,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> SSAValue:
    """Rows of the weight."""
    return rows.gather(b, weight, indices, axis=0)


@op("index_select")
def index_select(b: Builder, self: SSAValue, dim: int, index: SSAValue) -> SSAValue:
    """Parts along one dimension."""
    return common.reshape(b, rows.gather(b, self, index, axis=dim), b.shape)


@op("gather")
def gather(b: Builder, self: SSAValue, dim: int, index: SSAValue, *, sparse_grad: bool) -> SSAValue:
    """Elements that an index names along one dimension."""
    return rows.gather_elements(b, self, index, axis=dim)


@op("scatter.src")
def scatter(b: Builder, self: SSAValue, dim: int, index: SSAValue, src: SSAValue) -> SSAValue:
    """Elements put where an index says."""
    return _scattered(b, self, dim, index, src, "set")


@op("scatter.value")
def scatter_value(b: Builder, self: SSAValue, dim: int, index: SSAValue, value: Number) -> SSAValue:
    """One value put where an index says."""
    src = common.broadcast(b, b.scalar(value, self), shape_of(index))
    return _scattered(b, self, dim, index, src, "set")


@op("scatter_reduce.two")
def scatter_reduce(
    b: Builder,
    self: SSAValue,
    dim: int,
    index: SSAValue,
    src: SSAValue,
    reduce: str,
    *,
    include_self: bool,
) -> SSAValue:
    """Elements combined with those where an index says."""
    kinds = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in kinds or not include_self:
        raise NotExpressible(f"scatter_reduce by {reduce}, include_self {include_self}")
    return _scattered(b, self, dim, index, src, kinds[reduce])


@op("scatter_add")
def scatter_add(b: Builder, self: SSAValue, dim: int, index: SSAValue, src: SSAValue) -> SSAValue:
    """Elements added where an index says."""
    return _scattered(b, self, dim, index, src, "add")


def _scattered(
    b: Builder, x: SSAValue, dim: int, index: SSAValue, src: SSAValue, kind: str
) -> SSAValue:
    if shape_of(src) != shape_of(index):
        src = common.window(b, src, [0] * len(shape_of(src)), shape_of(index))
    return rows.scatter_elements(b, x, index, src, dim, kind)


@op("index.Tensor")
def index(b: Builder, self: SSAValue, indices: Sequence[SSAValue | None]) -> SSAValue:
    """Indices of neighbouring dimensions, which become one dimension and one index."""
    given = [k for k, value in enumerate(indices) if value is not None]
    found = [value for value in indices if value is not None]
    if any(dtype_of(value) in (dtypes.bool_, dtypes.u8) for value in found):
        raise NotExpressible("a mask as an index: the size of the result depends on its values")
    if given != list(range(given[0], given[0] + len(given))):
        raise NotExpressible(f"indices of the dimensions {given}, which are not neighbours")
    shape = shape_of(self)
    first, last = given[0], given[-1] + 1
    flat = common.reshape(b, self, (*shape[:first], prod(shape[first:last]), *shape[last:]))
    taken = rows.gather(b, flat, _flat(b, found, shape[first:last]), axis=first)
    return common.reshape(b, taken, b.shape)


def _flat(b: Builder, indices: Sequence[SSAValue], sizes: Sequence[int]) -> SSAValue:
    """Tuples of indices as numbers of elements, in row-major order."""
    if len(indices) == 1:
        return indices[0]
    result: SSAValue | None = None
    for k, (value, size) in enumerate(zip(indices, sizes, strict=True)):
        value = rows.from_the_front(b, value, size)
        stride = prod(sizes[k + 1 :])
        value = value if stride == 1 else common.mul(b, value, b.scalar(stride, value))
        result = value if result is None else common.add(b, result, value)
    assert result is not None
    return result


@op("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    b: Builder,
    weight: SSAValue,
    indices: SSAValue,
    offsets: SSAValue,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: SSAValue | None,
    include_last_offset: bool,
    padding_idx: int,
) -> list[SSAValue | None]:
    """Sums, means or maxima of rows, in bags of known bounds."""
    bounds = list(b.ints(offsets, "the bounds of the bags"))
    bounds = bounds if include_last_offset else [*bounds, shape_of(indices)[0]]
    if per_sample_weights is not None or padding_idx >= 0:
        raise NotExpressible("an embedding bag with weights or padding")
    found = rows.gather(b, weight, indices, axis=0)
    operation = (graph.ReduceSumOp, graph.ReduceMeanOp, graph.ReduceMaxOp)[mode]
    width = shape_of(weight)[1]
    bags: list[SSAValue] = []
    for start, end in pairwise(bounds):
        if start == end:
            bags.append(b.constant(np.zeros((1, width), np.float32)))
        else:
            bags.append(b.emit(operation(common.along(b, found, 0, start, end - start), (0,))))
    return [common.concat(b, bags, 0), None, None, None]


@op("one_hot")
def one_hot(b: Builder, self: SSAValue, num_classes: int) -> SSAValue:
    """A comparison with 0, 1, ... along a new last dimension."""
    if num_classes < 0:
        raise NotExpressible("one_hot of a number of classes that depends on values")
    shape = shape_of(self)
    numbers = common.iota(b, num_classes, len(shape) + 1, len(shape))
    wide = common.reshape(b, common.cast(b, self, dtypes.i32), (*shape, 1))
    return b.emit(graph.EqOp(wide, numbers))


@op("index_put")
def index_put(
    b: Builder,
    self: SSAValue,
    indices: Sequence[SSAValue | None],
    values: SSAValue,
    accumulate: bool,
) -> SSAValue:
    """Rows put where indices of the first dimension say; a mask of the same shape selects."""
    where = indices[0]
    if len(indices) != 1 or where is None:
        raise NotExpressible("index_put by several indices")
    if dtype_of(where) is dtypes.bool_:
        if shape_of(where) != shape_of(self) or shape_of(values) not in ((), (1,)) or accumulate:
            raise NotExpressible("index_put by a mask of rows")
        return common.where(b, where, common.broadcast(b, values, shape_of(self)), self)
    shape, count = shape_of(self), prod(shape_of(where))
    where = rows.from_the_front(b, where, shape[0])
    inner = prod(shape[1:])
    values = common.broadcast(b, values, (*shape_of(where), *shape[1:]))
    updates = common.reshape(b, values, (count, inner))
    data = common.reshape(b, self, (shape[0], inner))
    flat = common.reshape(b, where, (count,))
    kind = "add" if accumulate else "set"
    made = b.emit(graph.ScatterOp(data, flat, updates, kind))
    return common.reshape(b, made, shape)
