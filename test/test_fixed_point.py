"""Softmax and layer norm in fixed point, against the same functions in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fixed_point_support import (
    Array,
    Make,
    exact_layer_norm,
    function,
    in_integers,
    layer_norm_of,
    real,
    rows,
    steps_off,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder
from xdsl.dialects.builtin import ModuleOp, i1, i32
from xdsl.ir import SSAValue

import npu_dialect as npu
from npu_dialect import dtypes, graph, pipeline
from npu_dialect.diagnostics import Code, collect
from npu_dialect.graph.base import dtype_of
from npu_dialect.graph.interpret import run
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.fixed_point import (
    inverse_root,
    layer_norm,
    reciprocal,
    softmax,
    wide_softmax,
)
from npu_dialect.passes.fixed_point.steps import COARSEST, Steps
from npu_dialect.provenance import name_location

BYTES = (dtypes.i8, dtypes.u8)
PASS = "graph-fixed-point"


# --- softmax --------------------------------------------------------------------------------------


def exact_softmax(x: Array, quant: QuantType) -> Array:
    numbers = real(x, quant)
    e = np.exp(numbers - numbers.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_of(shape: tuple[int, ...], x: QuantType, y: QuantType, **kwargs: Any) -> ModuleOp:
    make: Make = lambda _, v: graph.SoftmaxOp(v, len(shape) - 1)  # noqa: E731
    return function(make, shape, x, y, **kwargs)


def check_softmax(x: Array, quant: QuantType, result: QuantType) -> None:
    plan = softmax.best_plan(x.shape[-1], quant, result)
    module = softmax_of(x.shape, quant, result)
    pipeline.run(module, PASS)
    assert in_integers(module) == (plan is not None)
    if plan is not None:
        off = steps_off(run(module, [x])[0], exact_softmax(x, quant), result)
        assert off <= 0.5 + plan.error <= 0.5 + COARSEST


@given(
    st.integers(1, 600),
    st.floats(1e-4, 1.0),
    st.floats(1e-6, 0.02),
    st.sampled_from(BYTES),
    st.sampled_from((*BYTES, dtypes.i16)),
    st.integers(0, 2**32 - 1),
)
def test_softmax_is_off_by_no_more_than_its_bound(
    count: int, scale: float, out: float, x: dtypes.DType, y: dtypes.DType, seed: int
):
    rng = np.random.default_rng(seed)
    quant = uniform(x, scale, int(rng.integers(x.low, x.high + 1)))
    result = uniform(y, out, int(rng.integers(y.low, y.high + 1)))
    check_softmax(rows(rng, count, quant), quant, result)


@pytest.mark.parametrize("scale", [0.004, 0.013, 0.04, 0.1])
def test_softmax_of_rows_that_are_equal_but_for_one_element_is_within_its_bound(scale: float):
    quant, result = uniform(dtypes.u8, scale, 128), uniform(dtypes.u8, 2.0**-8, 0)
    one, others = (v.reshape(-1, 1) for v in np.mgrid[0:256:5, 0:256:5])
    check_softmax(np.hstack([one, np.repeat(others, 196, axis=1)]).astype(np.uint8), quant, result)


def test_softmax_of_197_scores_in_a_range_of_3_needs_a_table_of_16_bits_only():
    plan = softmax.best_plan(197, uniform(dtypes.u8, 0.013, 128), uniform(dtypes.u8, 2.0**-8, 0))
    assert plan is not None
    assert plan.table.dtype == np.uint16
    assert not plan.from_greatest


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 200),
    st.floats(-6, -1).map(lambda e: 10.0**e),
    st.sampled_from([(dtypes.i16, 2.0**-15), (dtypes.i8, 2.0**-7), (dtypes.u8, 2.0**-8)]),
    st.sampled_from((dtypes.i16, dtypes.u16)),
    st.integers(0, 2**32 - 1),
)
def test_softmax_of_16_bits_is_off_by_no_more_than_its_bound(
    count: int, scale: float, y: tuple[dtypes.DType, float], x: dtypes.DType, seed: int
):
    rng = np.random.default_rng(seed)
    quant = uniform(x, scale, int(rng.integers(x.low, x.high + 1)))
    result = uniform(y[0], y[1], y[0].low if y[0].itemsize == 1 else 0)
    values = rows(rng, count, quant)
    spread = np.rint(rng.normal(0, rng.uniform(1, 9e3, (30, 1)), (30, count)) + quant.low)
    values[:30] = np.clip(spread + 30000, quant.low, quant.high).astype(values.dtype)
    plan = wide_softmax.best_plan(count, quant.scale, result)
    module = softmax_of(values.shape, quant, result)
    pipeline.run(module, PASS)
    assert in_integers(module) == (plan is not None)
    if plan is not None:
        off = steps_off(run(module, [values])[0], exact_softmax(values, quant), result)
        assert off <= 0.5 + plan.error


def test_softmax_of_16_bits_is_for_rows_of_attention():
    """64 scores of a range of 16, probabilities of 16 bits."""
    result = uniform(dtypes.i16, 2.0**-15, 0)
    assert wide_softmax.Lines(64, 16 / 2**16, result).error <= 1 / 4
    assert wide_softmax.Lines(197, 16 / 2**16, result).error < 1
    assert wide_softmax.Lines(1000, 16 / 2**16, uniform(dtypes.u8, 2.0**-8, 0)).error <= 1 / 4


@pytest.mark.parametrize("scale", [1e-3, 3e-3, 1e-2, 3e-2])
def test_softmax_of_16_bits_is_exact_for_scores_of_any_range(scale: float):
    """The product of two tables has what lines between 4,097 entries lack."""
    result = uniform(dtypes.i16, 2.0**-15, 0)
    assert wide_softmax.Lines(64, scale, result).error > 1
    assert wide_softmax.Products(64, scale, result).error <= 1 / 4


@pytest.mark.parametrize("scale", [0.004, 0.03, 0.3])
def test_softmax_of_every_pair_of_bytes(scale: float):
    pairs = np.stack(np.meshgrid(*[np.arange(256)] * 2), -1).reshape(-1, 2).astype(np.uint8)
    check_softmax(pairs, uniform(dtypes.u8, scale, 100), uniform(dtypes.u8, 1 / 256, 0))


def test_softmax_of_a_wide_row_of_nearly_equal_values_stays_in_floats():
    """The errors of 4,096 entries add up to more than a quarter of a step, at worst."""
    module = softmax_of((1, 4096), uniform(dtypes.u8, 0.4, 0), uniform(dtypes.u8, 1 / 256, 0))
    pipeline.run(module, PASS)
    assert not in_integers(module)


# --- layer norm -----------------------------------------------------------------------------------


@given(
    st.integers(1, 700),
    st.floats(-6, 1),
    st.floats(-3, 0),
    st.sampled_from((1e-12, 1e-5, 1e-3)),
    st.sampled_from(BYTES),
    st.sampled_from((*BYTES, dtypes.i16)),
    st.integers(0, 2**32 - 1),
)
def test_layer_norm_is_off_by_no_more_than_its_bound(
    count: int,
    scale: float,
    out: float,
    epsilon: float,
    x: dtypes.DType,
    y: dtypes.DType,
    seed: int,
):
    rng = np.random.default_rng(seed)
    quant = uniform(x, 10**scale, int(rng.integers(x.low, x.high + 1)))
    result = uniform(y, 10**out, int(rng.integers(y.low, y.high + 1)))
    gain = rng.normal(1, rng.choice([0, 0.3, 2]), count).astype(np.float32)
    bias = rng.normal(0, rng.choice([0, 1]), count).astype(np.float32)
    stored = rows(rng, count, quant)
    module = layer_norm_of(stored.shape, quant, result, gain, bias, epsilon)
    pipeline.run(module, PASS)
    steps = [p.astype(np.float64) / result.scale for p in (gain, bias)]
    plan = layer_norm.best_plan(count, quant, epsilon, steps[0], steps[1], result)
    assert in_integers(module) == (plan is not None)
    if plan is not None:
        exact = exact_layer_norm(stored, quant, gain, bias, epsilon)
        assert steps_off(run(module, [stored])[0], exact, result) <= 0.5 + plan.error
        assert plan.error <= COARSEST


@pytest.mark.parametrize("count", [64, 192, 384, 768, 1024, 4096])
def test_layer_norm_of_usual_widths_is_in_integers(count: int):
    quant, result = uniform(dtypes.u8, 0.05, 120), uniform(dtypes.u8, 0.03, 128)
    module = layer_norm_of((2, count), quant, result, np.ones(count), np.zeros(count), 1e-5)
    pipeline.run(module, PASS)
    assert in_integers(module)


def test_layer_norm_of_every_pair_of_bytes():
    quant, result = uniform(dtypes.u8, 0.002, 100), uniform(dtypes.i8, 0.02, 5)
    pairs = np.stack(np.meshgrid(*[np.arange(256)] * 2), -1).reshape(-1, 2).astype(np.uint8)
    gain, bias = np.array([1.5, -0.75]), np.array([0.25, 0.5])
    module = layer_norm_of(pairs.shape, quant, result, gain, bias, 1e-5)
    pipeline.run(module, PASS)
    exact = exact_layer_norm(pairs, quant, gain, bias, 1e-5)
    assert steps_off(run(module, [pairs])[0], exact, result) <= 0.52


# --- means of products, factors by channel --------------------------------------------------------


@given(st.integers(1, 500), st.floats(1e-4, 1.0), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_mean_of_products_is_rounded_once(count: int, scale: float, square: bool, seed: int):
    rng = np.random.default_rng(seed)
    quant = uniform(dtypes.u8, scale, int(rng.integers(256)))
    x = rows(rng, count, quant)
    other = x if square else x[::-1].copy()
    exact = (real(x, quant) * real(other, quant)).mean(-1, keepdims=True)
    result = uniform(dtypes.u8, float(np.abs(exact).max() / 200 + 1e-9), 40)
    build = ModuleBuilder("edge256", *[(x.shape, quant)] * (1 if square else 2))
    a = graph.DequantizeOp(build.args[0])
    b = a if square else graph.DequantizeOp(build.args[1])
    product = graph.MulOp(a, b)
    mean = graph.ReduceMeanOp(product, [1])
    q = graph.QuantizeOp(mean, result)
    for op in dict.fromkeys((a, b, product, mean, q)):
        op.location = name_location("mean")
        build.block.add_op(op)
    module = build.module(q.result)
    pipeline.run(module, PASS)
    assert in_integers(module)
    found = run(module, [x] if square else [x, other])[0]
    assert steps_off(found, exact, result) <= 0.5 + 1e-4  # f32 of a sum, times f32


@given(
    st.floats(1e-4, 1.0),
    st.integers(0, 2),
    st.sampled_from(BYTES),
    st.integers(0, 2**32 - 1),
)
def test_a_batch_norm_is_rounded_once(scale: float, axis: int, x: dtypes.DType, seed: int):
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    quant = uniform(x, scale, int(rng.integers(x.low, x.high + 1)))
    stored = rng.integers(x.low, x.high + 1, shape).astype(x.numpy)
    gain, bias, mean = (rng.normal(size=shape[axis]).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.01, 3, shape[axis]).astype(np.float32)
    along = [1] * 3
    along[axis] = -1
    factor, m, b = (
        v.astype(np.float64).reshape(along)
        for v in (gain / np.sqrt(variance.astype(np.float64) + float(np.float32(1e-3))), mean, bias)
    )
    exact = (real(stored, quant) - m) * factor + b
    result = uniform(dtypes.u8, float(np.ptp(exact) / 300), 128)

    def make(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
        parts = [build.constant(p, None) for p in (gain, bias, mean, variance)]
        return graph.BatchNormOp(value, *parts, axis=axis, epsilon=1e-3)

    module = function(make, shape, quant, result)
    pipeline.run(module, PASS)
    assert in_integers(module)
    assert steps_off(run(module, [stored])[0], exact, result) <= 0.5 + 1e-3


def test_a_choice_between_constants_is_quantized_before_it_is_made():
    """The mask of an attention, or a one-hot code: no float tensor is left."""
    build = ModuleBuilder("edge256", ((2, 3), i1))
    a, b = (build.constant(np.asarray(v, np.float32)) for v in (1.0, 0.0))
    chosen = graph.WhereOp(build.args[0], a, b, location=name_location("where"))
    quant = uniform(dtypes.u8, 1 / 255, 7)
    q = graph.QuantizeOp(chosen, quant, location=name_location("quantize"))
    build.block.add_ops([chosen, q])
    module = build.module(q.result)
    condition = np.array([[True, False, True], [False, False, True]])
    expected = run(module, [condition])[0]
    pipeline.run(module, "graph-fold-qdq,graph-fold-constants")
    (choice,) = (op for op in module.walk() if isinstance(op, graph.WhereOp))
    assert dtype_of(choice.a) is dtypes.u8
    np.testing.assert_array_equal(run(module, [condition])[0], expected)


# --- chains ---------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, True, True]])
SLOPES = np.array([0.25, -0.5, 3.0], np.float32)

CHAINS: dict[str, tuple[Any, Any]] = {
    "sum of three": (
        lambda g, a, b, c: g(graph.AddOp, g(graph.AddOp, a, b), c),
        lambda a, b, c: a + b + c,
    ),
    "mean of three": (
        lambda g, a, b, c: g(
            graph.DivOp, g(graph.AddOp, g(graph.AddOp, a, b), c), g(np.array(3, np.float32))
        ),
        lambda a, b, c: (a + b + c) / 3,
    ),
    "greatest": (lambda g, a, b, c: g(graph.MaxOp, a, b), lambda a, b, c: np.maximum(a, b)),
    "smallest of a difference": (
        lambda g, a, b, c: g(graph.MinOp, g(graph.SubOp, a, b), c),
        lambda a, b, c: np.minimum(a - b, c),
    ),
    "slopes by channel": (
        lambda g, a, b, c: g(
            graph.WhereOp,
            g(graph.LtOp, a, g(np.array(0, np.float32))),
            g(graph.MulOp, a, g(SLOPES)),
            a,
        ),
        lambda a, b, c: np.where(a < 0, a * SLOPES, a),
    ),
    "a choice": (
        lambda g, a, b, c: g(graph.WhereOp, g(MASK), g(graph.NegOp, a), b),
        lambda a, b, c: np.where(MASK, -a, b),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
@settings(max_examples=20)
@given(st.tuples(*[st.floats(1e-3, 1.0)] * 4), st.integers(0, 2**32 - 1))
def test_a_chain_is_rounded_once(name: str, scales: tuple[float, ...], seed: int):
    rng = np.random.default_rng(seed)
    make, exact = CHAINS[name]
    kinds = [uniform(dtypes.u8, s, int(rng.integers(256))) for s in scales]
    *quants, result = kinds
    stored = [rng.integers(0, 256, (2, 3)).astype(np.uint8) for _ in quants]
    build = ModuleBuilder("edge256", *[((2, 3), q) for q in quants])

    def emit(what: Any, *operands: SSAValue) -> SSAValue:
        if isinstance(what, np.ndarray):
            return build.constant(what)
        op = what(*operands)
        op.location = name_location("chain")
        build.block.add_op(op)
        return op.results[0]

    reals = [emit(graph.DequantizeOp, v) for v in build.args]
    made = make(emit, *reals)
    module = build.module(emit(lambda v: graph.QuantizeOp(v, result), made))
    pipeline.run(module, PASS)
    expected = exact(*(real(x, q) for x, q in zip(stored, quants, strict=True)))
    assert in_integers(module)
    assert steps_off(run(module, stored)[0], expected, result) <= 0.5 + 1e-3


# --- what they are made of ------------------------------------------------------------------------


def of_integers(make: Callable[[Steps, SSAValue], SSAValue], x: Array) -> Array:
    build = ModuleBuilder("edge256", (x.shape, i32))
    steps = Steps(name_location("steps"))
    result = make(steps, build.args[0])
    build.block.add_ops(steps.ops)
    return run(build.module(result), [x.astype(np.int32)])[0]


@pytest.mark.parametrize(("least", "wide"), [(1, 2**17), (100, 2**17), (2**13, 2**17), (2**29, 3)])
def test_the_reciprocal_is_as_exact_as_it_says(least: int, wide: int):
    greatest = min(least * wide, 2**31 - 1)
    x = np.unique(np.rint(np.geomspace(least, greatest, 100_000)))
    factor = 3.7
    shifts: list[int] = []

    def make(steps: Steps, value: SSAValue) -> SSAValue:
        found = reciprocal.reciprocal(steps, value, least, greatest, factor)
        assert found is not None
        shifts.append(found.shift)
        return found.value

    off = of_integers(make, x) / 2.0 ** shifts[0] * x / factor - 1
    assert np.abs(off).max() <= reciprocal.error(least, greatest) <= 2**-10


def test_the_inverse_root_is_as_exact_as_it_says_from_1_to_the_greatest():
    x = np.unique([*range(1, 70_000), *np.rint(np.geomspace(1, 2**31 - 1, 200_000)).tolist()])

    def make(steps: Steps, value: SSAValue) -> SSAValue:
        found = inverse_root.inverse_root(steps, value)
        return steps.product(found.root, found.power, 15)

    off = of_integers(make, x) / 2.0 ** (inverse_root.BITS - 15) * np.sqrt(x) - 1
    assert np.abs(off).max() <= inverse_root.ERROR + 2.0**-14  # the product of 15 bits and more


# --- where ----------------------------------------------------------------------------------------

X, Y = uniform(dtypes.u8, 0.05, 120), uniform(dtypes.u8, 1 / 256, 0)


@pytest.mark.parametrize("count", [10, 200])
def test_all_levels_agree(count: int):
    module = softmax_of((6, count), X, Y)
    x = rows(np.random.default_rng(0), count, X, 6)
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(next(iter(npu.execute(module, x).values())))
    for tier in ("plain", "compiled"):
        found = npu.simulate(npu.assemble(module), x, tier=tier).outputs
        results.append(next(iter(found.values())))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_all_levels_agree_on_layer_norm():
    shape = (3, 5, 400)
    module = layer_norm_of(shape, X, uniform(dtypes.i8, 0.02, 3), np.ones(400), np.ones(400), 1e-5)
    x = rows(np.random.default_rng(0), 400, X, 15).reshape(shape)
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(next(iter(npu.execute(module, x).values())))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("by", [np.float32(7.3), np.linspace(0.2, 3, 9, dtype=np.float32)])
def test_factors_behind_a_matrix_product_go_with_its_scale(divide: bool, by: Array):
    """Against the sums in int64 and the factors in float64."""
    left, right, result = (uniform(dtypes.i8, s, z) for s, z in ((0.02, 3), (0.05, -7), (0.4, 11)))
    build = ModuleBuilder("edge256", ((5, 6, 8), left), ((5, 8, 9), right))
    reals = [graph.DequantizeOp(v, location=name_location("dequantize")) for v in build.args]
    build.block.add_ops(reals)
    left_real, right_real = (r.result for r in reals)
    product = graph.MatmulOp(left_real, right_real, location=name_location("product"))
    build.block.add_op(product)
    kind = graph.DivOp if divide else graph.MulOp
    scaled = kind(product.result, build.constant(np.asarray(by)), location=name_location("factor"))
    stored = graph.QuantizeOp(scaled.result, result, location=name_location("quantize"))
    build.block.add_ops([scaled, stored])
    module = build.module(stored.result)
    pipeline.run(module, f"graph-fold-qdq,{PASS}")
    assert in_integers(module)
    rng = np.random.default_rng(1)
    x, y = (rng.integers(-128, 128, s).astype(np.int8) for s in ((5, 6, 8), (5, 8, 9)))
    factor = 1 / by.astype(np.float64) if divide else by.astype(np.float64)
    exact = real(x, left) @ real(y, right) * factor
    assert steps_off(run(module, [x, y])[0], exact, result) <= 0.5 + 1e-4


def slopes(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
    """PRelu with a slope by channel."""
    zero, by = build.constant(np.array(0, np.float32)), build.constant(SLOPES)
    ops = [graph.LtOp(value, zero), graph.MulOp(value, by)]
    for op in ops:
        op.location = name_location("slopes")
        build.block.add_op(op)
    return graph.WhereOp(ops[0], ops[1], value)


def squares(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
    square = graph.MulOp(value, value, location=name_location("square"))
    build.block.add_op(square)
    return graph.ReduceMeanOp(square, [2])


def batch_norm(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
    numbers = ([1, -2, 3], [0, 1, 2], [0.5] * 3, [1] * 3)
    parts = [build.constant(np.array(v, np.float32)) for v in numbers]
    return graph.BatchNormOp(value, *parts, axis=2)


@pytest.mark.parametrize("make", [slopes, squares, batch_norm])
def test_all_levels_agree_on_the_others(make: Make):
    module = function(make, (4, 50, 3), X, uniform(dtypes.u8, 0.1, 99))
    x = np.random.default_rng(0).integers(0, 256, (4, 50, 3)).astype(np.uint8)
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(next(iter(npu.execute(module, x).values())))
    assert not any(row.engine == "host" for row in npu.assemble(module).placement)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_a_layer_norm_is_six_instructions_of_the_vector_unit():
    """Two sums, squares, the deviation, the mean by it, and the elements; not one for each step."""
    result = uniform(dtypes.i8, 0.02, 3)
    module = layer_norm_of((8, 64), X, result, np.full(64, 1.5), np.ones(64), 1e-5)
    npu.lower(module, until="graph")
    assert sum(isinstance(op, graph.GroupOp) for op in module.walk()) == 6


def test_a_target_with_floats_keeps_them():
    module = softmax_of((6, 10), X, Y, target="mobile4k")
    pipeline.run(module, PASS)
    assert not in_integers(module)


def test_exact_keeps_the_host():
    module = npu.load(softmax_of((6, 10), X, Y), "edge256", exact=True)
    npu.lower(module)
    engines = {row.op: row.engine for row in npu.assemble(module).placement}
    assert engines["graph.softmax"] == "host"


def test_the_overrides_file_keeps_one_on_the_host(tmp_path: Any):
    pins = tmp_path / "pins.toml"
    pins.write_text('["function"]\nengine = "host"\n')
    module = npu.load(softmax_of((6, 10), X, Y), "edge256", overrides=pins)
    npu.lower(module)
    assert any(row.engine == "host" for row in npu.assemble(module).placement)


def test_placement_and_a_remark_say_how_far_off_it_may_be():
    with collect() as records:
        program = npu.compile(softmax_of((6, 10), X, Y), "edge256")
    assert all(row.engine == "vpu" for row in program.placement)
    reasons = {row.reason for row in program.placement}
    assert any(r.endswith("; softmax in fixed point, at most one step off") for r in reasons)
    assert any(r.code == Code.APPROXIMATION and "--exact" in r.remedy for r in records)
