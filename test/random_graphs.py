"""Random graphs for whole compilations: branches, views, every kind of operation and type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from graph_samples import Array, Sample, numbers, quant, recipe, same
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, f32, i32, i64
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.graph.attributes import ROUNDINGS
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.elementwise import BinaryOp
from npu_dialect.passes.kernels import EMITTERS
from npu_dialect.target import VALUE_TYPES

LARGEST = 12000
"""Elements of a tensor at most."""

TYPES = (*[dtypes.f32] * 6, *[dtypes.i8] * 4, dtypes.u8, dtypes.u8, dtypes.i32, dtypes.i64,
         dtypes.bool_, dtypes.i16, dtypes.f16, dtypes.bf16)  # fmt: skip
WIDE = (*[dtypes.i16] * 4, *[dtypes.i8] * 2, dtypes.i32, dtypes.i64)
"""Quantized activations of 16 bits, and what they meet."""
PLAIN = [c for c in EMITTERS if c.__module__.endswith((".elementwise", ".unary"))]
REDUCTIONS = (graph.ReduceSumOp, graph.ReduceMeanOp, graph.ReduceMaxOp, graph.ReduceMinOp,
              graph.ReduceProdOp)  # fmt: skip
POOLS = (graph.MaxPool2DOp, graph.SumPool2DOp, graph.AvgPool2DOp)
INTEGER_TYPES = (dtypes.i32, dtypes.i64, dtypes.bool_, dtypes.i8, dtypes.u8, dtypes.i16)


Maker = Callable[["Graph", SSAValue], Operation | None]


class Graph(Sample):
    """A graph under construction; `kinds` are the storage types of what comes in."""

    def __init__(
        self,
        seed: int,
        target: str,
        kinds: Sequence[dtypes.DType] = TYPES,
        makers: Sequence[Maker] | None = None,
    ) -> None:
        super().__init__(seed, target)
        self.kinds = kinds
        self.tame = set(kinds) == {dtypes.f32}
        self.wide = tuple(kinds) == WIDE
        made = MAKERS if makers is None else makers
        chosen = self.rng.choice(len(made), self.below(len(made)) + 3).tolist()
        self.makers = [made[k] for k in chosen]
        self.pool: list[SSAValue] = []
        for _ in range(self.below(3) + 1):
            self.pool.append(self.argument(self.shape(), self.element()))

    # --- values

    def numbers(self, shape: tuple[int, ...], element: Attribute) -> Array:
        """Numbers of any kind; a graph of floats alone has none that overflow or are special."""
        if self.tame and dtypes.of(element) is dtypes.f32:
            return np.asarray(self.rng.normal(size=shape), np.float32)
        return np.asarray(numbers(self.rng, shape, element))

    def argument(self, shape: Sequence[int], element: Attribute | dtypes.DType) -> SSAValue:
        found = super().argument(shape, element)
        self.inputs[-1] = self.numbers(tuple(shape), found.type.element_type)  # type: ignore[attr-defined]
        return found

    # --- choices

    def below(self, n: int) -> int:
        return int(self.rng.integers(n))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def pick(self, options: Sequence[SSAValue]) -> SSAValue:
        return options[self.below(len(options))]

    def shape(self) -> tuple[int, ...]:
        if self.chance(0.2):  # an image
            return (1, self.below(16) + 4, self.below(16) + 4, self.below(24) + 1)
        rank = int(self.rng.choice([0, 1, 2, 3, 4, 4, 4, 5, 6]))
        sizes = [0, 1, 2, 3] if self.chance(0.03) else [1, 2, 3, 4, 5, 7, 9]
        return tuple(int(self.rng.choice(sizes)) for _ in range(rank))

    def element(self) -> Attribute:
        kind = self.kinds[self.below(len(self.kinds))]
        narrow = (dtypes.i8, dtypes.u8, dtypes.i16) if self.wide else (dtypes.i8, dtypes.u8)
        quantized = kind in narrow and self.chance(0.9 if self.wide else 0.6)
        return quant(self.rng, kind) if quantized else dtypes.element_type(kind)

    def some(self, x: SSAValue) -> SSAValue:
        """A value, argument or constant that broadcasts with `x`."""
        element, shape = x.type.element_type, shape_of(x)  # type: ignore[attr-defined]
        near = [v for v in self.pool if v.type == x.type]
        if self.chance(0.5):
            return self.pick(near)
        cut = shape[self.below(len(shape) + 1) :]
        partly = tuple(1 if self.chance(0.3) else d for d in cut)
        if self.chance(0.3):
            return self.argument(partly, element)
        return self.constant(self.numbers(partly, element), element)

    def random(self, shape: Sequence[int], element: Attribute) -> SSAValue:
        """Mostly a constant, sometimes an argument."""
        if self.chance(0.2):
            return self.argument(shape, element)
        return self.constant(self.numbers(tuple(shape), element), element)

    # --- growing

    def grow(self) -> None:
        """One more operation, where one of those that are drawn takes the operand drawn for it."""
        for _ in range(8):
            recent = self.pool[-1:] if self.chance(0.5) else self.pool[-6:]
            op = self._try(self.makers[self.below(len(self.makers))], self.pick(recent))
            if op is not None:
                self.pool.append(self.add(op))
                return

    def _try(self, make: Maker, x: SSAValue) -> Operation | None:
        try:
            op = make(self, x)
        except (ValueError, IndexError):  # not for this type or rank
            return None
        if op is not None and prod(shape_of(op.results[0])) > LARGEST:
            op.erase()
            return None
        return op

    def finished(self) -> ModuleOp:
        """The module; its results are what nothing uses, and a few values of any kind."""
        unused = [v for v in self.pool if v.first_use is None]
        results = [*unused[-6:], *(self.pick(self.pool) for _ in range(self.below(3)))]
        results = results or [self.pool[-1]]
        module = self.module(*results)
        (function,) = (op for op in module.ops if isinstance(op, FuncOp))
        for what, count in (("input", len(self.block.args)), ("output", len(results))):
            names = [StringAttr(f"{what}{i}") for i in range(count)]
            function.attributes[f"npu.{what}_names"] = ArrayAttr(names)
        return module


def _plain(s: Graph, x: SSAValue) -> Operation:
    cls = PLAIN[s.below(len(PLAIN))]
    if cls is graph.ClampOp:
        low, high = sorted(s.numbers((2,), dtypes.element_type(dtype_of(x))).tolist())
        return graph.ClampOp(x, low, high)
    if cls is graph.WhereOp:
        return graph.WhereOp(s.add(graph.GtOp(x, s.some(x))), x, s.some(x))
    if cls is graph.CastOp:
        return _cast(s, x)
    if cls in (graph.LeakyReluOp, graph.EluOp):
        return cls(x, float(s.rng.uniform(0, 2)))  # type: ignore[call-arg]
    if cls is graph.HardSigmoidOp:
        return graph.HardSigmoidOp(x, 0.2, 0.5)
    if issubclass(cls, BinaryOp):
        return cls(x, s.some(x))  # type: ignore[call-arg]
    return cls(x)  # type: ignore[call-arg]


def _cast(s: Graph, x: SSAValue) -> Operation:
    return graph.CastOp(x, s.kinds[s.below(len(s.kinds))])


def _quantize(s: Graph, x: SSAValue) -> Operation | None:
    if s.wide:
        return _requantize_wide(s, x)
    if quant_of(x) is not None:
        if s.chance(0.5):
            return graph.DequantizeOp(x)
        return graph.RequantizeOp(x, recipe(s.rng, shape_of(x)[-1]), quant(s.rng, dtypes.i8))
    if dtype_of(x) is dtypes.f32:
        storage = (dtypes.i8, dtypes.u8)[s.below(2)]
        return graph.QuantizeOp(x, quant(s.rng, storage))
    if dtype_of(x) is dtypes.i32:
        return graph.RequantizeOp(x, recipe(s.rng, shape_of(x)[-1]), quant(s.rng, dtypes.u8))
    return None


def _requantize_wide(s: Graph, x: SSAValue) -> Operation:
    """To 16 bits mostly; also of sums of 64 bits, and functions by lines."""
    result = quant(s.rng, (dtypes.i16, dtypes.i16, dtypes.i8)[s.below(3)])
    if dtype_of(x) is dtypes.i16 and s.chance(0.3):
        table = s.constant(numbers(s.rng, ((1 << (s.below(9) + 4)) + 1,), i32))
        return graph.RequantizeOp(s.add(graph.InterpolateOp(x, table, i32)), requant(s, x), result)
    return graph.RequantizeOp(x, requant(s, x), result)


def requant(s: Graph, x: SSAValue) -> graph.RequantAttr:
    """A recipe that rounds once, for small and for large numbers."""
    size = (shape_of(x) or (1,))[-1] if s.chance(0.5) else 1
    if s.chance(0.5):
        return graph.requant_f32(s.rng.uniform(-2, 2, size) * 2.0 ** -s.rng.integers(0, 32))
    rounding = ("half_even", "half_up", "half_away")[s.below(3)]
    shift = s.rng.integers(31, 63, size)
    return graph.requant_fixed(s.rng.integers(-(2**31), 2**31, size), shift, rounding)


def _rescale(s: Graph, x: SSAValue) -> Operation | None:
    """By numbers of run time: x itself where it is i32, else others that broadcast."""
    if quant_of(x) is None and dtype_of(x) is not dtypes.i32:
        return None
    shape = tuple(d if s.chance(0.5) else 1 for d in shape_of(x))
    factor = s.constant(numbers(s.rng, shape, i32)) if quant_of(x) or s.chance(0.5) else x
    target = i32 if s.chance(0.5) else quant(s.rng, dtypes.i8)
    rounding = ROUNDINGS[s.below(len(ROUNDINGS))]
    return graph.RescaleOp(x, factor, s.below(62), target, rounding)


def _lookup(s: Graph, x: SSAValue) -> Operation:
    element = dtypes.element_type(s.kinds[s.below(len(s.kinds))])
    return graph.LookupOp(x, s.constant(numbers(s.rng, (256,), element)), element)


# Movement


def _reshape(s: Graph, x: SSAValue) -> Operation:
    """Neighbours joined or apart, ones put in or taken out."""
    dims = list(shape_of(x))
    for _ in range(s.below(3) + 1):
        k = s.below(len(dims) + 1)
        if s.chance(0.3):
            dims.insert(k, 1)
        elif k < len(dims) and dims[k] % 2 == 0 and s.chance(0.5):
            dims[k : k + 1] = [2, dims[k] // 2]
        elif k + 1 < len(dims):
            dims[k : k + 2] = [dims[k] * dims[k + 1]]
    return graph.ReshapeOp(x, dims)


def _transpose(s: Graph, x: SSAValue) -> Operation:
    return graph.TransposeOp(x, s.rng.permutation(len(shape_of(x))).tolist())


def _concat(s: Graph, x: SSAValue) -> Operation:
    axis = s.below(len(shape_of(x)))
    near = [v for v in s.pool if _concats(v, x, axis)]
    return graph.ConcatOp([x, *(s.pick(near) for _ in range(s.below(3)))], axis)


def _concats(a: SSAValue, b: SSAValue, axis: int) -> bool:
    if a.type.element_type != b.type.element_type:  # type: ignore[attr-defined]
        return False
    ours, theirs = shape_of(a), shape_of(b)
    return ours[:axis] + ours[axis + 1 :] == theirs[:axis] + theirs[axis + 1 :]


def _slice(s: Graph, x: SSAValue) -> Operation:
    starts, sizes, strides = [], [], []
    for d in shape_of(x):
        start, step = s.below(d), int(s.rng.choice([1, 1, 2, 3, -1, -2]))
        room = (d - 1 - start if step > 0 else start) // abs(step)
        starts.append(start)
        strides.append(step)
        sizes.append(s.below(room + 1) + 1)
    return graph.SliceOp(x, starts, sizes, strides)


def _pad(s: Graph, x: SSAValue) -> Operation:
    low, high = ([s.below(3) for _ in shape_of(x)] for _ in range(2))
    value = s.numbers((), dtypes.element_type(dtype_of(x))).item()
    return graph.PadOp(x, low, high, value)


def _broadcast(s: Graph, x: SSAValue) -> Operation:
    dims = [s.below(4) + 1 if d == 1 else d for d in shape_of(x)]
    return graph.BroadcastToOp(x, [s.below(3) + 1 for _ in range(s.below(2))] + dims)


# Reductions


def _reduce(s: Graph, x: SSAValue) -> Operation:
    rank = len(shape_of(x))
    axes = [a for a in range(rank) if s.chance(0.5)] or [s.below(rank)]
    return REDUCTIONS[s.below(len(REDUCTIONS))](x, axes)


def _softmax(s: Graph, x: SSAValue) -> Operation:
    cls = graph.SoftmaxOp if s.chance(0.7) else graph.LogSoftmaxOp
    return cls(x, s.below(len(shape_of(x))))


def _norm(s: Graph, x: SSAValue) -> Operation:
    axis = s.below(len(shape_of(x)))
    if s.chance(0.5):
        inner = shape_of(x)[axis:]
        return graph.LayerNormOp(x, s.random(inner, f32), s.random(inner, f32), axis)
    channels = (shape_of(x)[axis],)
    scale, bias, mean = (s.random(channels, f32) for _ in range(3))
    variance = s.constant(s.rng.uniform(0.5, 2, channels).astype(np.float32))
    return graph.BatchNormOp(x, scale, bias, mean, variance, axis)


# Contractions and pooling


def _weights(s: Graph, x: SSAValue, shape: tuple[int, ...]) -> SSAValue:
    if quant_of(x) is None:
        element = x.type.element_type  # type: ignore[attr-defined]
        return s.random(shape, element)
    channels = shape[-1] if s.chance(0.5) else 0
    if s.wide and s.chance(0.4):
        kind = quant(s.rng, dtypes.i8, channels, len(shape) - 1)
        halves = s.rng.integers(-7, 8, shape) * int(s.rng.integers(1, 17))
        return s.constant(halves.astype(np.int8), kind)
    return s.random(shape, quant(s.rng, dtypes.i8, channels, len(shape) - 1))


def _bias(s: Graph, x: SSAValue, channels: int) -> SSAValue | None:
    if s.chance(0.4):
        return None
    sums = i64 if s.wide and dtype_of(x) is dtypes.i16 else i32
    return s.random((channels,), f32 if dtype_of(x).is_float else sums)


def _image(s: Graph, x: SSAValue) -> SSAValue:
    """The value as [N, H, W, C]."""
    dims = shape_of(x)
    if len(dims) == 4:
        return x
    dims = (1,) * (4 - len(dims)) + dims if len(dims) < 4 else (prod(dims[:-3]), *dims[-3:])
    return s.add(graph.ReshapeOp(x, dims))


def _conv(s: Graph, x: SSAValue) -> Operation:
    x = _image(s, x)
    _, height, width, channels = shape_of(x)
    groups = int(s.rng.choice([g for g in (1, 1, channels, 2, 3) if g and channels % g == 0]))
    out = groups * (s.below(3) + 1) if groups > 1 else s.below(9) + 1
    kh, kw = s.below(min(3, height)) + 1, s.below(min(3, width)) + 1
    w = _weights(s, x, (kh, kw, channels // groups, out))
    pads, strides, dilations = ([s.below(n) + k for _ in range(m)] for n, k, m in WINDOW)
    return graph.Conv2DOp(x, w, _bias(s, x, out), strides, pads, dilations, groups)


WINDOW = ((3, 0, 4), (3, 1, 2), (2, 1, 2))
"""Choices, least value and count of pads, strides and dilations."""


def _pool(s: Graph, x: SSAValue) -> Operation:
    x = _image(s, x)
    _, height, width, _ = shape_of(x)
    kernel = [s.below(min(3, height)) + 1, s.below(min(3, width)) + 1]
    pads = [s.below(k) for k in kernel * 2]
    cls = POOLS[s.below(len(POOLS))]
    return cls(x, kernel, [s.below(3) + 1, s.below(3) + 1], pads)


def _matmul(s: Graph, x: SSAValue) -> Operation:
    *batch, _, k = shape_of(x)
    n = s.below(12) + 1
    outer = [d if s.chance(0.7) else 1 for d in batch] if s.chance(0.4) else []
    w = _weights(s, x, (*outer, k, n))
    return graph.MatmulOp(x, w, _bias(s, x, n))


# Rows by indices


def _rows(s: Graph, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """The value as [rows, elements], and indices of rows, a few outside."""
    *outer, inner = shape_of(x)
    rows, count = s.add(graph.ReshapeOp(x, (prod(outer), inner))), s.below(20) + 1
    kind = (np.int32, np.int64)[s.below(2)]
    indices = s.rng.integers(-prod(outer) - 2, prod(outer) + 2, count).astype(kind)
    if s.chance(0.3):
        return rows, s.constant(indices)
    index = s.argument((count,), dtypes.BY_NUMPY[indices.dtype])
    s.inputs[-1] = indices
    return rows, index


def _gather(s: Graph, x: SSAValue) -> Operation:
    return graph.GatherOp(*_rows(s, x))


def _scatter(s: Graph, x: SSAValue) -> Operation:
    rows, index = _rows(s, x)
    element = rows.type.element_type  # type: ignore[attr-defined]
    updates = s.random((*shape_of(index), shape_of(rows)[1]), element)
    kind = SCATTERS[s.below(len(SCATTERS))] if dtype_of(x).name in VALUE_TYPES else "set"
    return graph.ScatterOp(rows, index, updates, kind)


MAKERS: tuple[Maker, ...] = (
    *[_plain] * 6, *[_quantize] * 3, _cast, _lookup, _rescale,
    _reshape, _reshape, _transpose, _transpose, _concat, _slice, _slice, _pad, _broadcast,
    _reduce, _reduce, _softmax, _norm, *[_conv] * 4, _pool, _pool, _matmul, _matmul,
    _gather, _scatter,
)  # fmt: skip


MOVING: tuple[Maker, ...] = (
    _reshape, _transpose, _transpose, _concat, _concat, _slice, _slice, _pad, _broadcast,
    _plain, _plain, _reduce, _conv, _pool, _matmul, _matmul,
)  # fmt: skip
"""Half of them move data."""


def random_graph(
    seed: int,
    target: str,
    size: int = 12,
    kinds: Sequence[dtypes.DType] = TYPES,
    makers: Sequence[Maker] | None = None,
) -> tuple[ModuleOp, list[Array]]:
    """A module before any pass, and inputs for it."""
    s = Graph(seed, target, kinds, makers)
    for _ in range(size):
        s.grow()
    return s.finished(), s.inputs


__all__ = ["INTEGER_TYPES", "MOVING", "TYPES", "WIDE", "Graph", "random_graph", "same"]
