"""A kernel computes the bits that the graph operations' evaluate gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graph_samples import Array, Sample, numbers, operand, quant, recipe, same
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import i32
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import ROUNDINGS
from npu_dialect.graph.base import GraphOp, dtype_of, shape_of
from npu_dialect.kernel import Kernel
from npu_dialect.passes.kernels import EMITTERS, KernelError, build_kernel, micro_ops
from npu_dialect.target import load_target

SHAPE = (2, 3, 5)
UNARY = {
    cls: "f32" for cls in EMITTERS if issubclass(cls, graph.ReluOp.__mro__[1])
}  # the functions of one operand without parameters


def wide(s: Sample, value: SSAValue) -> bool:
    return dtype_of(value).name in ("f32", "i32", "i64") and not is_quant(value)


def is_quant(value: SSAValue) -> bool:
    return isinstance(value.type.element_type, graph.QuantType)  # type: ignore[attr-defined]


def is_float(value: SSAValue) -> bool:
    return dtype_of(value) is dtypes.f32


def make(cls: type[Operation], s: Sample, x: SSAValue) -> Operation | None:
    """An operation of the class on `x`, or None where it does not take such an `x`."""
    try:
        special = MAKERS.get(cls)
        if special is not None:
            return special(s, x)
        if cls in UNARY:
            return cls(x)  # type: ignore[call-arg]
        return cls(x, operand(s, x))  # type: ignore[call-arg]
    except ValueError:
        return None


def clamp(s: Sample, x: SSAValue) -> Operation:
    low, high = sorted(numbers(s.rng, (2,), dtypes.element_type(dtype_of(x))).tolist())
    return graph.ClampOp(x, low, high)


def where(s: Sample, x: SSAValue) -> Operation:
    condition = s.add(graph.GtOp(x, operand(s, x)))
    return graph.WhereOp(condition, x, operand(s, x))


def cast(s: Sample, x: SSAValue) -> Operation | None:
    if is_quant(x):
        return None
    names = [t for t in dtypes.ALL if t is not dtypes.f64]
    return graph.CastOp(x, names[int(s.rng.integers(len(names)))])


def quantize(s: Sample, x: SSAValue) -> Operation | None:
    if not is_float(x):
        return None
    storage = (dtypes.i8, dtypes.u8, dtypes.i16)[int(s.rng.integers(3))]
    channels = int(s.rng.choice([0, SHAPE[-1]]))
    return graph.QuantizeOp(x, quant(s.rng, storage, channels, len(SHAPE) - 1))


def requantize(s: Sample, x: SSAValue) -> Operation | None:
    if not is_quant(x) and dtype_of(x) is not dtypes.i32:
        return None
    target = i32 if s.rng.random() < 0.3 else quant(s.rng, dtypes.i8)
    return graph.RequantizeOp(x, recipe(s.rng, SHAPE[-1]), target)


def rescale(s: Sample, x: SSAValue) -> Operation | None:
    if not is_quant(x) and dtype_of(x) is not dtypes.i32:
        return None
    factor = s.constant(numbers(s.rng, SHAPE[-1:], i32))
    target = i32 if s.rng.random() < 0.3 else quant(s.rng, dtypes.i8)
    rounding = ROUNDINGS[int(s.rng.integers(4))]
    return graph.RescaleOp(x, factor, int(s.rng.integers(62)), target, rounding)


def lookup(s: Sample, x: SSAValue) -> Operation | None:
    if dtype_of(x).itemsize != 1:
        return None
    kinds = (dtypes.i8, dtypes.i32, dtypes.f32, dtypes.u8)
    element = dtypes.element_type(kinds[int(s.rng.integers(4))])
    table = s.constant(numbers(s.rng, (256,), element))
    return graph.LookupOp(x, table, element)


def interpolate(s: Sample, x: SSAValue) -> Operation | None:
    if dtype_of(x) is not dtypes.i16:
        return None
    element = dtypes.element_type(dtypes.i16)
    return graph.InterpolateOp(x, s.constant(numbers(s.rng, (513,), element)), element)


def leaky_relu(s: Sample, x: SSAValue) -> Operation:
    return graph.LeakyReluOp(x, float(s.rng.normal()))


MAKERS: dict[type[Operation], Callable[[Sample, SSAValue], Operation | None]] = {
    graph.ClampOp: clamp,
    graph.WhereOp: where,
    graph.CastOp: cast,
    graph.QuantizeOp: quantize,
    graph.DequantizeOp: lambda s, x: graph.DequantizeOp(x),
    graph.RequantizeOp: requantize,
    graph.RescaleOp: rescale,
    graph.LookupOp: lookup,
    graph.InterpolateOp: interpolate,
    graph.LeakyReluOp: leaky_relu,
    graph.EluOp: lambda s, x: graph.EluOp(x, float(s.rng.uniform(0.1, 2))),
    graph.HardSigmoidOp: lambda s, x: graph.HardSigmoidOp(x, float(s.rng.normal()), 0.5),
}

TABLES = (graph.LookupOp, graph.InterpolateOp)
"""A kernel has room for one table."""

STARTS = [
    dtypes.element_type(t)
    for t in (dtypes.f32, dtypes.i32, dtypes.i64, dtypes.bool_, dtypes.i8, dtypes.u8, dtypes.i16)
]


def start(s: Sample) -> SSAValue:
    """An argument of any type."""
    number = int(s.rng.integers(len(STARTS) + 4))
    if number < len(STARTS):
        return s.argument(SHAPE, STARTS[number])
    storage = (dtypes.i8, dtypes.u8, dtypes.i16, dtypes.i8)[number - len(STARTS)]
    channels = SHAPE[-1] if number % 2 else 0
    return s.argument(SHAPE, quant(s.rng, storage, channels, len(SHAPE) - 1))


def evaluate(s: Sample) -> dict[SSAValue, Array]:
    """Every value of the sample."""
    known: dict[SSAValue, Array] = dict(zip(s.block.args, s.inputs, strict=True))
    for op in s.block.ops:
        assert isinstance(op, GraphOp)
        results = op.evaluate(*(known[v] for v in op.operands))
        known.update(zip(op.results, results, strict=True))
    return known


def check(s: Sample, result: SSAValue, anchor: Operation | None = None) -> None:
    """The kernel of all operations of the sample gives the result of evaluating them."""
    known = evaluate(s)
    ops = [op for op in s.block.ops if not isinstance(op, graph.ConstantOp)]
    plan = build_kernel(ops, result, anchor)
    shape = shape_of(result)
    tensors = [np.broadcast_to(raw(known, v, anchor), shape) for v in plan.tensors]
    if not tensors:
        return
    found = plan.kernel.evaluate(tensors, plan.params, plan.table)
    assert same(np.ascontiguousarray(np.broadcast_to(found, shape)), known[result]), plan.kernel
    assert str(Kernel.parse(str(plan.kernel))) == str(plan.kernel)


def raw(known: dict[SSAValue, Array], value: SSAValue, anchor: Operation | None) -> Array:
    """The value; of the anchor, what it is before its bias."""
    if anchor is None or value is not anchor.results[0] or len(anchor.operands) < 3:
        return known[value]
    bare = type(anchor)(*anchor.operands[:2])  # type: ignore[call-arg]
    assert isinstance(bare, GraphOp)
    return bare.evaluate(*(known[v] for v in anchor.operands[:2]))[0]


@pytest.mark.parametrize("cls", EMITTERS, ids=lambda cls: cls.name)
def test_every_row_computes_what_its_operation_does(cls: type[Operation]):
    tried = 0
    for seed in range(200):
        s = Sample(seed)
        op = make(cls, s, start(s))
        if op is None:
            continue
        result = s.add(op)
        try:
            check(s, result)
            tried += 1
        except KernelError as reason:
            assert str(reason).startswith("there is no micro-operation cast."), reason
    assert tried >= 5


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_chains_of_elementwise_operations_compute_what_they_do_one_by_one(seed: int):
    s = Sample(seed)
    pool = [start(s), start(s)]
    classes = list(EMITTERS)
    looked_up = False
    for _ in range(12):
        cls = classes[int(s.rng.integers(len(classes)))]
        x = pool[int(s.rng.integers(max(0, len(pool) - 3), len(pool)))]
        if cls in TABLES and looked_up:
            continue
        op = make(cls, s, x)
        if op is not None:
            looked_up |= cls in TABLES
            pool.append(s.add(op))
    check(s, pool[-1])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_bias_is_added_first_to_what_the_anchor_gives(seed: int):
    s = Sample(seed)
    if seed % 2:
        x = s.argument((2, 3, 4), quant(s.rng, dtypes.i8))
        w = s.argument((4, 5), quant(s.rng, dtypes.i8, 5, 1))
        bias = s.constant(numbers(s.rng, (5,), i32))
    else:
        x, w = s.argument((2, 3, 4), dtypes.f32), s.argument((4, 5), dtypes.f32)
        bias = s.constant(s.rng.normal(size=5).astype(np.float32))
    anchor = graph.MatmulOp(x, w, bias)
    value = s.add(anchor)
    for cls in (graph.RequantizeOp, graph.ReluOp, graph.AddOp, graph.MulOp):
        op = make(cls, s, value)
        value = value if op is None else s.add(op)
    check(s, value, anchor)


def test_constants_are_immediates_rows_or_tensors():
    s = Sample(0)
    x = s.argument((2, 3), dtypes.f32)
    one = s.add(graph.MulOp(x, s.constant(np.full((2, 3), 2, np.float32))))
    row = s.add(graph.AddOp(one, s.constant(np.array([[1, 2, 3]], np.float32))))
    out = s.add(graph.SubOp(row, s.constant(np.array([[1], [2]], np.float32))))
    plan = build_kernel([op for op in s.block.ops if not isinstance(op, graph.ConstantOp)], out)
    assert plan.tensors == [x, out.op.operands[1]]  # type: ignore[attr-defined]
    assert plan.params is not None
    assert plan.params.view(np.float32).tolist() == [[1, 2, 3]]
    assert "const.f32 {value=2.0}" in str(plan.kernel)


def test_the_reason_is_said_where_there_is_no_kernel():
    s = Sample(0)
    x = s.argument((4,), graph.uniform(dtypes.i8, 0.5))
    op = graph.LookupOp(x, s.argument((256,), dtypes.i8), dtypes.element_type(dtypes.i8))
    s.add(op)
    with pytest.raises(KernelError, match="the table is not constant"):
        build_kernel([op], op.result)


def test_micro_operations_are_what_targets_list():
    s = Sample(0)
    op = graph.ReluOp(s.argument((4,), graph.uniform(dtypes.i8, 0.5)))
    assert micro_ops(op) == ("clamp.i32",)
    assert load_target("edge256").vector_can("clamp.i32")
