"""Operations of many dimensions become ones of few, with the same bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graph_samples import Sample, same
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import GraphOp, shape_of
from npu_dialect.graph.interpret import run
from npu_dialect.passes.graph_decompose import GraphDecomposePass
from npu_dialect.passes.ranks import LOWER

LIMIT = 5
Make = Callable[[Sample, SSAValue], Operation]


def some(s: Sample, x: SSAValue) -> list[int]:
    """Axes, at least one."""
    axes = [k for k in range(len(shape_of(x))) if s.rng.random() < 0.5]
    return axes or [int(s.rng.integers(len(shape_of(x))))]


def partial(s: Sample, x: SSAValue) -> SSAValue:
    """An argument that broadcasts to x."""
    shape = [int(s.rng.choice([1, d])) for d in shape_of(x)]
    return s.argument(shape[int(s.rng.integers(len(shape))) :], dtypes.f32)


def axis(s: Sample, x: SSAValue) -> int:
    return int(s.rng.integers(len(shape_of(x))))


def transpose(s: Sample, x: SSAValue) -> Operation:
    return graph.TransposeOp(x, [int(k) for k in s.rng.permutation(len(shape_of(x)))])


def slice_(s: Sample, x: SSAValue) -> Operation:
    shape = shape_of(x)
    starts = [int(s.rng.integers(d)) for d in shape]
    strides = [int(s.rng.choice([1, 2, -1])) for _ in shape]
    sizes = [
        start // -step + 1 if step < 0 else -(-(d - start) // step)
        for start, step, d in zip(starts, strides, shape, strict=True)
    ]
    return graph.SliceOp(x, starts, sizes, strides)


def pad(s: Sample, x: SSAValue) -> Operation:
    low, high = (s.rng.integers(0, 2, len(shape_of(x))).tolist() for _ in range(2))
    return graph.PadOp(x, low, high, 1.5)


def layer_norm(s: Sample, x: SSAValue) -> Operation:
    first = axis(s, x)
    scale, bias = (s.argument(shape_of(x)[first:], dtypes.f32) for _ in range(2))
    return graph.LayerNormOp(x, scale, bias, axis=first)


MAKE: dict[str, Make] = {
    "relu": lambda s, x: graph.ReluOp(x),
    "add": lambda s, x: graph.AddOp(x, partial(s, x)),
    "where": lambda s, x: graph.WhereOp(
        s.add(graph.GtOp(x, s.constant(np.array(0, np.float32)))), x, partial(s, x)
    ),
    "reduce_sum": lambda s, x: graph.ReduceSumOp(x, some(s, x)),
    "reduce_mean": lambda s, x: graph.ReduceMeanOp(x, some(s, x)),
    "reduce_max": lambda s, x: graph.ReduceMaxOp(x, some(s, x)),
    "softmax": lambda s, x: graph.SoftmaxOp(x, axis=axis(s, x)),
    "log_softmax": lambda s, x: graph.LogSoftmaxOp(x, axis=axis(s, x)),
    "layer_norm": layer_norm,
    "concat": lambda s, x: graph.ConcatOp([x, s.argument(shape_of(x), dtypes.f32)], axis(s, x)),
    "transpose": transpose,
    "slice": slice_,
    "pad": pad,
    "broadcast_to": lambda s, x: graph.BroadcastToOp(partial(s, x), shape_of(x)),
}


@pytest.mark.parametrize("name", MAKE)
@given(seed=st.integers(0, 2**32 - 1), shape=st.lists(st.integers(1, 3), min_size=6, max_size=8))
@settings(max_examples=25)
def test_many_dimensions_become_few_with_the_same_bits(
    name: str, seed: int, shape: list[int]
) -> None:
    s = Sample(seed)
    x = s.argument(shape, dtypes.f32)
    module = s.module(s.add(MAKE[name](s, x)))
    expected = run(module, s.inputs)
    GraphDecomposePass().apply(Context(), module)
    module.verify()
    for op in module.walk():
        if isinstance(op, GraphOp) and not isinstance(op, graph.ReshapeOp | graph.ConstantOp):
            ranks = [sum(d != 1 for d in shape_of(v)) for v in (*op.operands, *op.results)]
            assert max(ranks) <= LIMIT or alternates(op)
    for found, wanted in zip(run(module, s.inputs), expected, strict=True):
        assert same(found, wanted)


@pytest.mark.parametrize(("kind", "entries"), [(graph.LookupOp, 256), (graph.InterpolateOp, 513)])
def test_tables_keep_their_dimension(
    kind: type[graph.LookupOp | graph.InterpolateOp], entries: int
) -> None:
    s = Sample(0)
    x = s.argument((1, 4, 4, 5, 3, 5, 3, 3), dtypes.i8 if entries == 256 else dtypes.i16)
    table = s.argument((entries,), dtypes.i16)
    module = s.module(s.add(kind(x, table, dtypes.element_type(dtypes.i16))))
    (expected,) = run(module, s.inputs)
    GraphDecomposePass().apply(Context(), module)
    module.verify()
    (op,) = (op for op in module.walk() if isinstance(op, kind))
    assert shape_of(op.operands[1]) == (entries,)
    assert same(run(module, s.inputs)[0], expected)


def alternates(op: Operation) -> bool:
    """A reduction of every other of many dimensions, of which no two neighbours are alike."""
    return isinstance(op, graph.ReduceSumOp | graph.ReduceMeanOp | graph.ReduceMaxOp)


def test_the_common_operations_are_covered() -> None:
    covered = {f"graph.{name}" for name in MAKE}
    moves = {cls.name for cls in LOWER if cls not in (graph.ReduceMinOp, graph.ReduceProdOp)}
    elementwise = {name for name in moves if name not in covered}
    assert covered <= moves
    assert all(LOWER[cls].__name__ == "elementwise" for cls in LOWER if cls.name in elementwise)
