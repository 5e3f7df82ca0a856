"""graph-equalize and graph-smooth: constants move between layers, and the function stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantizing_models import (
    computed,
    convolutions,
    decibels,
    expected,
    feed_forward,
    normal,
    prepared,
    saved,
)
from random_graphs import MAKERS, Graph

import npu_dialect as npu
from npu_dialect import dtypes, graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph import interpret
from npu_dialect.passes.graph_equalize import GraphEqualizePass
from npu_dialect.passes.quantizing.channels import families
from npu_dialect.passes.rewriting import constant

LINEAR = [m for m in MAKERS if m.__name__ in ("_conv", "_matmul")] * 3 + [
    m
    for m in MAKERS
    if m.__name__
    in ("_plain", "_pool", "_reshape", "_transpose", "_slice", "_pad", "_reduce", "_norm")
]
"""What grows random graphs with contractions one behind the other."""
IMAGES = normal(16, 1, 3, 12, 12, seed=9)
TOKENS = normal(16, 1, 8, 32, seed=9)


def weights(module: Any, kind: type[Any]) -> list[Any]:
    found = [op for op in module.walk() if isinstance(op, kind)]
    return [constant(op.operands[1]) for op in found]


# --- graph-equalize -------------------------------------------------------------------------------


@pytest.mark.parametrize("clamps", ["keep", "minimum"])
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_with_powers_of_two_no_bit_of_the_float_function_changes(
    clamps: str, clamp: bool, residual: bool
):
    source = convolutions(2.0, clamp, residual)
    plain = computed(prepared(source), IMAGES[:3])
    options = f'clamps="{clamps}" powers=true'
    found = computed(prepared(source, f"graph-equalize{{{options}}}"), IMAGES[:3])
    assert found.tobytes() == plain.tobytes()


@given(st.integers(0, 2**31))
def test_random_graphs_keep_their_bits(seed: int):
    grown = Graph(seed, "mobile4k", (dtypes.f32,), LINEAR)
    grown.makers = list(LINEAR)
    for _ in range(14):
        grown.grow()
    module = grown.finished()
    other = module.clone()
    GraphEqualizePass(clamps="minimum", powers=True).apply(npu.NpuContext(), other)
    other.verify()
    with np.errstate(all="ignore"):
        found, wanted = (interpret.run(m, grown.inputs) for m in (other, module))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_float_function_is_that_of_onnxruntime():
    source = convolutions(3.0)
    found = computed(prepared(source, "graph-equalize"), IMAGES[:3])
    np.testing.assert_allclose(found, expected(source, IMAGES[:3]), rtol=1e-4, atol=1e-5)


def test_channels_have_the_same_greatest_weight_on_both_sides():
    w1, w2, w3, *_ = weights(prepared(convolutions(3.0), "graph-equalize"), graph.Conv2DOp)
    by_channel = [np.abs(w1).max((0, 1, 2)), np.abs(w2).max((0, 1, 2)), np.abs(w3).max((0, 1, 3))]
    np.testing.assert_allclose(by_channel[0], by_channel[1], rtol=0.01)
    np.testing.assert_allclose(by_channel[1], by_channel[2], rtol=0.01)


def test_between_two_layers_the_greatest_weight_is_the_geometric_mean():
    source = convolutions(0.0, clamp=False, residual=False)
    before = weights(prepared(source), graph.Conv2DOp)
    after = weights(prepared(source, "graph-equalize"), graph.Conv2DOp)
    # conv3 and conv4 are one family with nothing else between them
    made, read = np.abs(before[2]).max((0, 1, 2)), np.abs(before[3]).max((0, 1, 3))
    ratio = np.abs(after[3]).max((0, 1, 3)) / np.abs(after[2]).max((0, 1, 2))
    assert (made / read).std() > 0.1
    np.testing.assert_allclose(ratio, 1, rtol=0.01)


def test_one_scale_for_all_weights_serves_channels_of_every_range(tmp_path: Path):
    source = convolutions(5.0)
    reference = expected(source, IMAGES)
    calibrate = f"graph-calibrate{{samples={saved(tmp_path, IMAGES)}}}"
    quantize = f'{calibrate},graph-quantize{{scheme="int8-per-tensor"}}'
    before = decibels(computed(prepared(source, quantize), IMAGES), reference)
    after = decibels(computed(prepared(source, f"graph-equalize,{quantize}"), IMAGES), reference)
    assert before < 15
    assert after > 30


def test_layers_around_a_clamp_are_left_alone_unless_something_else_is_said():
    source = convolutions(3.0, clamp=True, residual=False)
    before = weights(prepared(source), graph.Conv2DOp)
    after = weights(prepared(source, "graph-equalize"), graph.Conv2DOp)
    assert all(np.array_equal(before[k], after[k]) for k in (0, 1))
    assert not np.array_equal(before[3], after[3])


def test_a_clamp_that_becomes_a_relu_has_no_greatest_value():
    module = prepared(convolutions(0.0, clamp=True), 'graph-equalize{clamps="relu"}')
    assert not any(isinstance(op, graph.ClampOp | graph.MinOp) for op in module.walk())


def test_outputs_and_inputs_of_a_function_are_in_no_family():
    module = prepared(feed_forward())
    function = next(iter(module.ops))
    ends = {*function.args, function.body.block.last_op.operands[0]}
    assert not any(ends & set(family.tensors) for family in families(function))


def test_what_becomes_of_clamps_must_be_known():
    with pytest.raises(CompileError, match="clamps must be one of keep, minimum, relu"):
        prepared(convolutions(), 'graph-equalize{clamps="drop"}')


# --- graph-smooth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_smoothing_keeps_the_function(tmp_path: Path, alpha: float):
    source = feed_forward(40.0)
    spec = f"graph-smooth{{samples={saved(tmp_path, TOKENS)} alpha={alpha}}}"
    found = computed(prepared(source, spec), TOKENS[:3])
    np.testing.assert_allclose(found, expected(source, TOKENS[:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_gains_are_divided_by_what_the_paper_says(tmp_path: Path, alpha: float):
    source = feed_forward(40.0)
    plain = prepared(source)
    smooth = prepared(source, f"graph-smooth{{samples={saved(tmp_path, TOKENS)} alpha={alpha}}}")
    (gain,), (scaled,) = (weights(m, graph.LayerNormOp) for m in (plain, smooth))
    w = weights(plain, graph.MatmulOp)[0]
    centred = TOKENS - TOKENS.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    bias = next(constant(op.bias) for op in plain.walk() if isinstance(op, graph.LayerNormOp))
    seen = np.abs(unit * gain + bias).max((0, 1, 2))
    s = seen**alpha / np.abs(w).max(1) ** (1 - alpha)
    np.testing.assert_allclose(scaled, gain / s, rtol=1e-4)


def test_outliers_of_a_normalization_cost_less(tmp_path: Path):
    source = feed_forward(60.0)
    reference, samples = expected(source, TOKENS), saved(tmp_path, TOKENS)
    quantize = f"graph-calibrate{{samples={samples}}},graph-quantize"
    before = decibels(computed(prepared(source, quantize), TOKENS), reference)
    smooth = f"graph-smooth{{samples={samples}}},{quantize}"
    assert decibels(computed(prepared(source, smooth), TOKENS), reference) > before + 6


def test_smoothing_needs_samples():
    with pytest.raises(CompileError, match="must be given samples"):
        prepared(feed_forward(), "graph-smooth")


def test_alpha_is_a_share():
    with pytest.raises(CompileError, match="alpha must lie between 0 and 1"):
        prepared(feed_forward(), 'graph-smooth{samples="x.npz" alpha=1.5}')
