"""Layer norm and softmax of 16-bit tensors in fixed point, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from fixed_point_support import (
    Array,
    exact_layer_norm,
    function,
    in_integers,
    layer_norm_of,
    rows,
    steps_off,
)
from hypothesis import given
from hypothesis import strategies as st
from mapped_groups import ModuleBuilder
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

import npu_dialect as npu
from npu_dialect import dtypes, graph, pipeline
from npu_dialect.graph.interpret import run
from npu_dialect.graph.quant import QuantType, uniform
from npu_dialect.passes.fixed_point import wide_layer_norm
from npu_dialect.passes.fixed_point.steps import COARSEST

PASS = "graph-fixed-point"
LOW, HIGH = -(1 << 15), (1 << 15) - 1


def softmax_of(shape: tuple[int, ...], x: QuantType, y: QuantType) -> ModuleOp:
    return function(lambda _, v: graph.SoftmaxOp(v, len(shape) - 1), shape, x, y)


def spread_rows(rng: np.random.Generator, count: int) -> Array:
    """Rows around any middle with deviations from less than a step to the whole range."""
    middle = rng.uniform(LOW, HIGH, (40, 1))
    deviation = np.exp2(rng.uniform(-3, 15, (40, 1)))
    x = np.rint(rng.normal(middle, deviation, (40, count)))
    return np.clip(x, LOW, HIGH).astype(np.int16)


@given(
    st.integers(1, 900),
    st.floats(-6, 0),
    st.floats(-4, 0),
    st.sampled_from((0.0, 1e-12, 1e-5, 1e-3, 1.0)),
    st.sampled_from((dtypes.i8, dtypes.u8, dtypes.i16)),
    st.integers(0, 2**32 - 1),
)
def test_layer_norm_of_16_bits_is_off_by_no_more_than_its_bound(
    count: int, scale: float, out: float, epsilon: float, y: dtypes.DType, seed: int
):
    rng = np.random.default_rng(seed)
    quant = uniform(dtypes.i16, 10**scale)
    result = uniform(y, 10**out, 0 if y.itemsize > 1 else int(rng.integers(y.low, y.high + 1)))
    gain = rng.normal(1, rng.choice([0, 0.3, 2]), count).astype(np.float32)
    bias = rng.normal(0, rng.choice([0, 1]), count).astype(np.float32)
    stored = np.concatenate([rows(rng, count, quant, 20), spread_rows(rng, count)])
    module = layer_norm_of(stored.shape, quant, result, gain, bias, epsilon)
    pipeline.run(module, PASS)
    steps = [p.astype(np.float64) / result.scale for p in (gain, bias)]
    plan = wide_layer_norm.Plan(
        count, quant.scale, float(np.float32(epsilon)), steps[0], steps[1], result
    )
    assert in_integers(module) == (plan.error <= COARSEST)
    if in_integers(module):
        with np.errstate(invalid="ignore"):
            exact = exact_layer_norm(stored, quant, gain, bias, epsilon)
        exact = np.where(np.isnan(exact), bias, exact)  # rows of one value, without an epsilon
        assert steps_off(run(module, [stored])[0], exact, result) <= 0.5 + plan.error


@pytest.mark.parametrize("count", [2, 64, 192, 384, 768, 1024, 4096])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5])
def test_layer_norm_of_usual_widths_is_in_integers(count: int, epsilon: float):
    quant, result = uniform(dtypes.i16, 3e-4), uniform(dtypes.i16, 2e-4)
    module = layer_norm_of((2, count), quant, result, np.ones(count), np.zeros(count), epsilon)
    pipeline.run(module, PASS)
    assert in_integers(module)


def test_layer_norm_of_all_values_of_16_bits_beside_some_others():
    """Rows of two: every value beside its neighbours, those at the ends, and random ones."""
    x = np.arange(LOW, HIGH + 1)
    rng = np.random.default_rng(0)
    others = [np.clip(x + k, LOW, HIGH) for k in (-2, -1, 0, 1, 2, 100)]
    others += [np.full_like(x, LOW), np.full_like(x, HIGH), rng.integers(LOW, HIGH + 1, x.size)]
    pairs = np.concatenate([np.stack([x, y], -1) for y in others]).astype(np.int16)
    quant, result = uniform(dtypes.i16, 1e-4), uniform(dtypes.i16, 1e-4)
    gain, bias = np.array([1.5, -0.75]), np.array([0.25, 0.5])
    module = layer_norm_of(pairs.shape, quant, result, gain, bias, 1e-5)
    pipeline.run(module, PASS)
    exact = exact_layer_norm(pairs, quant, gain, bias, 1e-5)
    assert steps_off(run(module, [pairs])[0], exact, result) <= 0.52


def test_the_longest_rows_are_off_by_no_more_than_the_bound():
    count = wide_layer_norm.MOST_ELEMENTS
    quant, result = uniform(dtypes.i16, 2e-4), uniform(dtypes.i16, 2e-4)
    stored = spread_rows(np.random.default_rng(1), count)
    gain, bias = np.ones(count), np.zeros(count)
    module = layer_norm_of(stored.shape, quant, result, gain, bias, 1e-5)
    pipeline.run(module, PASS)
    assert in_integers(module)
    exact = exact_layer_norm(stored, quant, gain, bias, 1e-5)
    assert steps_off(run(module, [stored])[0], exact, result) <= 0.5 + COARSEST


def test_all_levels_agree_on_layer_norm_of_16_bits():
    quant, result = uniform(dtypes.i16, 2e-4), uniform(dtypes.i16, 2e-4)
    module = layer_norm_of((3, 5, 96), quant, result, np.ones(96), np.ones(96), 1e-5)
    x = spread_rows(np.random.default_rng(0), 96)[:15].reshape(3, 5, 96)
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(next(iter(npu.execute(module, x).values())))
    program = npu.assemble(module)
    assert not [row for row in program.placement if row.engine == "host"]
    for tier in ("plain", "compiled"):
        results.append(next(iter(npu.simulate(program, x, tier=tier).outputs.values())))
    for each in results[1:]:
        np.testing.assert_array_equal(each, results[0])


def test_all_levels_agree_on_softmax_by_two_tables():
    quant, result = uniform(dtypes.i16, 3e-3), uniform(dtypes.i16, 2.0**-15)
    module = softmax_of((12, 64), quant, result)
    x = spread_rows(np.random.default_rng(2), 64)[:12]
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(next(iter(npu.execute(module, x).values())))
    assert not [row for row in npu.assemble(module).placement if row.engine == "host"]
    for each in results[1:]:
        np.testing.assert_array_equal(each, results[0])


def test_what_is_tried_and_left_alone_leaves_nothing_behind():
    """A product with a tensor of constants that 32 bits are too few for, at level graph."""
    quant, result = uniform(dtypes.i16, 1e-4), uniform(dtypes.i16, 1e-4)

    def make(build: ModuleBuilder, value: SSAValue) -> graph.GraphOp:
        factors = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
        return graph.MulOp(value, build.constant(factors, None))

    module = function(make, (3, 4), quant, result)
    pipeline.run(module, "graph-fold-qdq")
    (entry,) = (op for op in module.walk() if isinstance(op, FuncOp))
    assert all(use.operation.parent is not None for use in entry.args[0].uses)
