"""Selection by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from npu_dialect.frontends.torch.ops.distance import norm_over
from npu_dialect.frontends.torch.ops.elementwise import floor_divided
from npu_dialect.frontends.torch.ops.reduction import running_sums
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


@op("embedding_renorm")
def embedding_renorm(
    b: Builder, self: SSAValue, indices: SSAValue, max_norm: float, norm_type: float
) -> SSAValue:
    """The rows that are indexed, made shorter where their norm is greater."""
    length = norm_over(b, self, norm_type, (1,), keepdim=True)
    factor = common.div(
        b, b.scalar(max_norm, length), common.add(b, length, b.scalar(1e-7, length))
    )
    is_long = b.emit(graph.GtOp(length, b.scalar(max_norm, length)))
    zeros = b.constant(np.zeros(shape_of(length), np.int32))
    index = common.reshape(b, indices, (prod(shape_of(indices)),))
    ones = b.constant(np.ones((shape_of(index)[0], 1), np.int32))
    marked = b.emit(graph.ScatterOp(zeros, index, ones, "set"))
    chosen = b.emit(graph.AndOp(is_long, common.truth(b, marked)))
    return common.mul(b, self, common.where(b, chosen, factor, b.scalar(1, factor)))


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
    if reduce == "mean":
        return _mean_of_scattered(b, self, dim, index, src, include_self)
    kind = {"sum": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    x = self if include_self else _neutral_at(b, self, dim, index, kind)
    return _scattered(b, x, dim, index, src, kind)


def _neutral_at(b: Builder, x: SSAValue, dim: int, index: SSAValue, kind: str) -> SSAValue:
    """x, with what changes nothing where an index says."""
    dtype = dtype_of(x)
    low, high = (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)
    neutral = {"add": 0, "mul": 1, "max": low, "min": high}[kind]
    return scatter_value(b, x, dim, index, neutral)


def _mean_of_scattered(
    b: Builder, x: SSAValue, dim: int, index: SSAValue, src: SSAValue, include_self: bool
) -> SSAValue:
    x = x if include_self else _neutral_at(b, x, dim, index, "add")
    total = _scattered(b, x, dim, index, src, "add")
    first = b.constant(np.full(shape_of(x), int(include_self), dtype_of(x).numpy))
    ones = common.broadcast(b, b.scalar(1, x), shape_of(index))
    count = _scattered(b, first, dim, index, ones, "add")
    count = b.emit(graph.MaxOp(count, b.scalar(1, count)))
    if dtype_of(x).is_float:
        return common.div(b, total, count)
    return floor_divided(b, total, count)


@op("scatter_add")
def scatter_add(b: Builder, self: SSAValue, dim: int, index: SSAValue, src: SSAValue) -> SSAValue:
    """Elements added where an index says."""
    return _scattered(b, self, dim, index, src, "add")


@op("scatter.reduce")
def scatter_by(
    b: Builder, self: SSAValue, dim: int, index: SSAValue, src: SSAValue, *, reduce: str
) -> SSAValue:
    """Elements added to, or multiplied with, those where an index says."""
    return _scattered(b, self, dim, index, src, {"add": "add", "multiply": "mul"}[reduce])


@op("scatter.value_reduce")
def scatter_value_by(
    b: Builder, self: SSAValue, dim: int, index: SSAValue, value: Number, *, reduce: str
) -> SSAValue:
    """The same with one value."""
    src = common.broadcast(b, b.scalar(value, self), shape_of(index))
    return _scattered(b, self, dim, index, src, {"add": "add", "multiply": "mul"}[reduce])


def _scattered(
    b: Builder, x: SSAValue, dim: int, index: SSAValue, src: SSAValue, kind: str
) -> SSAValue:
    if shape_of(src) != shape_of(index):
        src = common.window(b, src, [0] * len(shape_of(src)), shape_of(index))
    return rows.scatter_elements(b, x, index, src, dim, kind)


@op("index.Tensor")
def index(b: Builder, self: SSAValue, indices: Sequence[SSAValue | None]) -> SSAValue:
    """Elements at tuples of indices, which broadcast; other dimensions are taken whole."""
    places = Places.of(b, shape_of(self), indices)
    found = b.emit(graph.GatherOp(places.as_rows(b, self), places.rows(b)))
    return places.as_result(b, found)


@dataclass(frozen=True)
class Places:
    """The dimensions that are indexed, as rows of a matrix; the other ones are its columns.

    numpy's rule: the shape of the indices takes the place of their dimensions if these are
    neighbours, else it comes first.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    indices: tuple[SSAValue, ...]

    @classmethod
    def of(cls, b: Builder, shape: tuple[int, ...], indices: Sequence[SSAValue | None]) -> Places:
        """With known masks as the indices of their elements."""
        axes: list[int] = []
        found: list[SSAValue] = []
        axis = 0
        for value in indices:
            if value is None:
                axis += 1
                continue
            parts = _of_mask(b, value) if dtype_of(value) in (dtypes.bool_, dtypes.u8) else [value]
            axes += range(axis, axis + len(parts))
            found += parts
            axis += len(parts)
        rows.check_countable(prod(shape[k] for k in axes))
        return cls(shape, tuple(axes), tuple(found))

    @property
    def counted(self) -> tuple[int, ...]:
        """The shape of the indices."""
        return np.broadcast_shapes(*(shape_of(v) for v in self.indices))

    @property
    def others(self) -> tuple[int, ...]:
        """The dimensions that are taken whole."""
        return tuple(k for k in range(len(self.shape)) if k not in self.axes)

    @property
    def first(self) -> int:
        """Where the shape of the indices is in the result."""
        neighbours = range(self.axes[0], self.axes[0] + len(self.axes))
        return self.axes[0] if self.axes == tuple(neighbours) else 0

    def rows(self, b: Builder) -> SSAValue:
        """The numbers of the rows, one for each tuple of indices (i32)."""
        sizes = [self.shape[k] for k in self.axes]
        total: SSAValue | None = None
        for k, (value, size) in enumerate(zip(self.indices, sizes, strict=True)):
            number = rows.from_the_front(b, value, size)
            stride = prod(sizes[k + 1 :])
            number = number if stride == 1 else common.mul(b, number, b.scalar(stride, number))
            total = number if total is None else common.add(b, total, number)
        assert total is not None
        return common.reshape(b, common.broadcast(b, total, self.counted), (prod(self.counted),))

    def as_rows(self, b: Builder, x: SSAValue) -> SSAValue:
        """[rows, columns] of the tensor."""
        turned = common.transpose(b, x, (*self.axes, *self.others))
        sizes = [prod(self.shape[k] for k in part) for part in (self.axes, self.others)]
        return common.reshape(b, turned, sizes)

    def from_rows(self, b: Builder, x: SSAValue) -> SSAValue:
        """The inverse."""
        order = (*self.axes, *self.others)
        apart = common.reshape(b, x, [self.shape[k] for k in order])
        return common.transpose(b, apart, [int(k) for k in np.argsort(order)])

    @property
    def _order(self) -> list[int]:
        """From dimensions of the result to those of indices, then columns."""
        count, first = len(self.counted), self.first
        rest = list(range(count, count + len(self.others)))
        return [*rest[:first], *range(count), *rest[first:]]

    def as_result(self, b: Builder, x: SSAValue) -> SSAValue:
        """Rows that were gathered, in the order of the dimensions of the result."""
        apart = common.reshape(b, x, (*self.counted, *(self.shape[k] for k in self.others)))
        return common.transpose(b, apart, self._order)

    def updates(self, b: Builder, values: SSAValue) -> SSAValue:
        """Values that broadcast to the result, as rows."""
        back = [int(k) for k in np.argsort(self._order)]
        whole = (*self.counted, *(self.shape[k] for k in self.others))
        wide = common.broadcast(b, values, [whole[k] for k in self._order])
        columns = prod(self.shape[k] for k in self.others)
        return common.reshape(b, common.transpose(b, wide, back), (prod(self.counted), columns))


def _of_mask(b: Builder, mask: SSAValue) -> list[SSAValue]:
    array = b.array(mask)
    if array is None:
        raise NotExpressible("a mask as an index: the size of the result depends on its values")
    return [b.constant(k.astype(np.int64)) for k in np.nonzero(array)]


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
    """Sums, means or maxima of rows, in bags."""
    found = rows.gather(b, weight, indices, axis=0)
    is_plain = per_sample_weights is None and padding_idx < 0
    if is_plain and b.array(offsets) is not None:
        bounds = list(b.ints(offsets, "the bounds of the bags"))
        bounds = bounds if include_last_offset else [*bounds, shape_of(indices)[0]]
        return [_bags(b, found, bounds, mode), None, None, None]
    member = _members(b, indices, offsets, include_last_offset, padding_idx)
    return [_bags_of_members(b, found, member, per_sample_weights, mode), None, None, None]


def _bags(b: Builder, found: SSAValue, bounds: Sequence[int], mode: int) -> SSAValue:
    """By known bounds."""
    operation = (graph.ReduceSumOp, graph.ReduceMeanOp, graph.ReduceMaxOp)[mode]
    bags: list[SSAValue] = []
    for start, end in pairwise(bounds):
        if start == end:
            bags.append(b.constant(np.zeros((1, shape_of(found)[1]), np.float32)))
        else:
            bags.append(b.emit(operation(common.along(b, found, 0, start, end - start), (0,))))
    return common.concat(b, bags, 0)


def _members(
    b: Builder, indices: SSAValue, offsets: SSAValue, include_last: bool, padding: int
) -> SSAValue:
    """Whether each index counts in each bag: [bags, indices]."""
    count = shape_of(indices)[0]
    bounds = common.cast(b, offsets, dtypes.i32)
    if not include_last:
        bounds = common.concat(b, [bounds, b.constant(np.array([count], np.int32))], 0)
    bags = shape_of(bounds)[0] - 1
    first, end = (common.reshape(b, common.along(b, bounds, 0, k, bags), (bags, 1)) for k in (0, 1))
    place = common.iota(b, count, 2, 1)
    member = b.emit(graph.AndOp(b.emit(graph.GeOp(place, first)), b.emit(graph.LtOp(place, end))))
    if padding >= 0:
        counts = b.emit(graph.NeOp(indices, b.scalar(padding, indices)))
        member = b.emit(graph.AndOp(member, common.reshape(b, counts, (1, count))))
    return member


def _bags_of_members(
    b: Builder, found: SSAValue, member: SSAValue, weights: SSAValue | None, mode: int
) -> SSAValue:
    """By bounds of run time; a bag of nothing is 0."""
    count, width = shape_of(found)
    size = common.reduce(b, graph.ReduceSumOp, common.cast(b, member, dtypes.f32), (1,), 1)
    if mode == 2:
        chosen = common.reshape(b, member, (*shape_of(member), 1))
        rest = b.scalar(-np.inf, found)
        values = common.where(b, chosen, common.reshape(b, found, (1, count, width)), rest)
        most = common.reduce(b, graph.ReduceMaxOp, values, (1,), 0)
        return common.where(b, common.truth(b, size), most, b.scalar(0, most))
    if weights is not None:
        found = common.mul(b, found, common.reshape(b, weights, (count, 1)))
    total = _summed(b, found, member)
    if mode == 0:
        return total
    return common.div(b, total, b.emit(graph.MaxOp(size, b.scalar(1, size))))


def _summed(b: Builder, found: SSAValue, member: SSAValue) -> SSAValue:
    """The sums of the rows of each bag, where a row is in one bag or in none."""
    bags, count = shape_of(member)
    zeros = b.constant(np.zeros((bags, shape_of(found)[1]), np.float32))
    if not bags or not count:
        return zeros
    number = common.where(b, member, common.iota(b, bags, 2, 0), b.constant(np.array(-1, np.int32)))
    bag = common.reduce(b, graph.ReduceMaxOp, number, (0,), 0)
    none = b.scalar(0, bag)
    is_in = common.reshape(b, b.emit(graph.GeOp(bag, none)), (count, 1))
    rows_of_bags = common.where(b, is_in, found, b.scalar(0, found))
    bag = b.emit(graph.MaxOp(bag, none))
    return b.emit(graph.ScatterOp(zeros, bag, rows_of_bags, "add"))


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
    """Values put at (or added to) tuples of indices; a mask of run time selects."""
    values = common.cast(b, values, b.dtype)
    found = [v for v in indices if v is not None]
    if len(found) == 1 and dtype_of(found[0]) is dtypes.bool_ and b.array(found[0]) is None:
        return _put_by_mask(b, self, list(indices).index(found[0]), found[0], values, accumulate)
    places = Places.of(b, shape_of(self), indices)
    kind = "add" if accumulate else "set"
    updates = places.updates(b, values)
    made = graph.ScatterOp(places.as_rows(b, self), places.rows(b), updates, kind)
    return places.from_rows(b, b.emit(made))


def _put_by_mask(
    b: Builder, x: SSAValue, axis: int, mask: SSAValue, values: SSAValue, accumulate: bool
) -> SSAValue:
    """The same value at each element of the mask, or one after the other."""
    shape, rank = shape_of(x), len(shape_of(mask))
    inner = shape[axis + rank :]
    if len(shape_of(values)) > len(inner) and shape_of(values)[-len(inner) - 1] != 1:
        if axis:
            raise NotExpressible("index_put of several values by a mask of inner dimensions")
        values = common.broadcast(b, values, (*shape_of(values)[:1], *inner))
        values = in_order_of_mask(b, mask, values, len(inner))
    elif len(shape_of(values)) > len(inner):
        ones = [1] * (rank - 1)
        cut = len(shape_of(values)) - len(inner)
        values = common.reshape(
            b, values, (*shape_of(values)[:cut], *ones, *shape_of(values)[cut:])
        )
    wide = common.broadcast(b, values, shape)
    wide = common.add(b, x, wide) if accumulate else wide
    chosen = common.reshape(b, mask, (*shape_of(mask), *[1] * len(inner)))
    return common.where(b, chosen, wide, x)


@op("masked_scatter")
def masked_scatter(b: Builder, self: SSAValue, mask: SSAValue, source: SSAValue) -> SSAValue:
    """Values of the source, one after the other, where the mask holds."""
    x = common.broadcast(b, self, b.shape)
    mask = common.broadcast(b, mask, b.shape)
    return common.where(b, mask, in_order_of_mask(b, mask, common.cast(b, source, b.dtype)), x)


def in_order_of_mask(b: Builder, mask: SSAValue, values: SSAValue, inner: int = 0) -> SSAValue:
    """A value (or a part with `inner` dimensions) at each element of the mask: of as many as hold
    before it.
    """
    count, part = prod(shape_of(mask)), shape_of(values)[len(shape_of(values)) - inner :]
    flat = common.cast(b, common.reshape(b, mask, (count,)), dtypes.i32)
    place = running_sums(b, flat, 0)
    place = b.emit(graph.MaxOp(common.sub(b, place, b.scalar(1, place)), b.scalar(0, place)))
    data = common.reshape(b, values, (prod(shape_of(values)) // prod(part), prod(part)))
    found = b.emit(graph.GatherOp(data, place))
    return common.reshape(b, found, (*shape_of(mask), *part))
