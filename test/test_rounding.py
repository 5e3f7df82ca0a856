"""graph-correct-bias and graph-round-weights, against brute force, numpy and onnxruntime."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
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

from npu_dialect import dtypes, graph, pipeline
from npu_dialect.codecs import CODECS
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph import interpret
from npu_dialect.graph.base import quant_of
from npu_dialect.passes.graph_correct_bias import shift
from npu_dialect.passes.graph_round_weights import by_group, from_groups, patches
from npu_dialect.passes.quantizing import calibration, replay, rounding, samples
from npu_dialect.passes.quantizing.schemes import SCHEMES, Scheme
from npu_dialect.passes.rewriting import constant

Array = np.ndarray[Any, Any]

LINEAR = [m for m in MAKERS if m.__name__ in ("_conv", "_matmul", "_pool", "_norm", "_slice")]
IMAGES = normal(24, 1, 3, 12, 12, seed=9)
OTHERS = normal(24, 1, 3, 12, 12, seed=10)


# --- rounding -------------------------------------------------------------------------------------


def problem(seed: int, size: int = 5, channels: int = 3) -> tuple[Array, Array, Array]:
    """Weights, the products of correlated inputs, and scales."""
    r = np.random.default_rng(seed)
    x = r.normal(size=(40, size)) @ r.normal(size=(size, size)) + r.normal(size=(40, 1))
    scales = r.uniform(0.1, 0.6, (1, 1, channels))
    return (
        r.normal(size=(1, size, channels)),
        rounding.damped(x.T[None] @ x[None] / 40, 0.01),
        scales,
    )


def errors_of(stored: Array, weights: Array, gram: Array, scales: Array) -> Array:
    """[channels], by a loop over samples of the definition."""
    off = (stored * scales - weights)[0]
    return np.array([off[:, n] @ gram[0] @ off[:, n] for n in range(off.shape[1])])


@given(st.integers(0, 2**31), st.integers(1, 70), st.integers(1, 4))
def test_rounding_is_no_worse_than_to_the_nearest_and_no_single_change_helps(
    seed: int, size: int, channels: int
):
    weights, gram, scales = problem(seed, size, channels)
    found = rounding.round_to_grid(weights, gram, scales, -8, 7, sweeps=100)
    best = errors_of(found, weights, gram, scales)
    nearest = np.clip(np.rint(weights / scales), -8, 7)
    assert (best <= errors_of(nearest, weights, gram, scales) * (1 + 1e-9)).all()
    for k, step in product(range(size), (-1, 1)):
        moved = found.copy()
        moved[0, k] = np.clip(moved[0, k] + step, -8, 7)
        assert (errors_of(moved, weights, gram, scales) >= best * (1 - 1e-9)).all()


def test_rounding_is_mostly_the_best_of_all_choices():
    least, got = [], []
    for seed in range(40):
        weights, gram, scales = problem(seed, 4, 1)
        middle = np.rint(weights / scales)
        steps = np.array(list(product((-1, 0, 1), repeat=4)))[:, :, None]
        tried = [errors_of(np.clip(middle + s, -8, 7), weights, gram, scales)[0] for s in steps]
        least.append(min(tried))
        found = rounding.round_to_grid(weights, gram, scales, -8, 7, sweeps=20)
        got.append(errors_of(found, weights, gram, scales)[0])
    best = np.isclose(got, least, rtol=1e-9) | (np.array(got) < least)
    assert best.mean() > 0.7
    assert np.sum(got) < 1.1 * np.sum(least)


def test_weights_that_were_pruned_stay_zero():
    weights, gram, scales = problem(3, 70, 4)
    weights[:, ::2] = 0
    found = rounding.round_to_grid(weights, gram, scales, -8, 7, sweeps=20)
    assert not found[:, ::2].any()
    assert found[:, 1::2].any()


def test_weights_that_stay_are_refitted_by_least_squares():
    weights, gram, _ = problem(3, 40, 3)
    kept = np.random.default_rng(0).random(weights.shape) < 0.5
    found = rounding.refit(weights, gram, kept, sweeps=3000)
    for n in range(3):
        some = kept[0, :, n]
        sums = gram[0][some] @ weights[0, :, n]
        wanted = np.linalg.solve(gram[0][np.ix_(some, some)], sums)
        np.testing.assert_allclose(found[0, some, n], wanted, atol=1e-6)
        assert not found[0, ~some, n].any()


def test_groups_are_rounded_each_for_itself():
    parts = [problem(seed, 9, 1) for seed in range(3)]
    weights, gram, scales = (np.concatenate(p) for p in zip(*parts, strict=True))
    together = rounding.round_to_grid(weights, gram, scales, -8, 7, 20)
    apart = [rounding.round_to_grid(*part, -8, 7, 20) for part in parts]
    assert (together == np.concatenate(apart)).all()


# --- what a layer sums ----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("dilation", [1, 2])
def test_patches_times_weights_are_the_convolution(groups: int, dilation: int):
    x, w = normal(1, 9, 7, 8), normal(3, 2, 8 // groups, 16)
    op = conv(x, w, groups, dilation)
    places = np.array([0, 3, 11])
    sums = patches(op, x, places) @ by_group(op, w)
    wanted = op.evaluate(x, w)[0].reshape(-1, 16)[places]
    np.testing.assert_allclose(sums.transpose(1, 0, 2).reshape(3, 16), wanted, atol=1e-4)
    assert (from_groups(by_group(op, w), w.shape) == w).all()


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_contractions_of_a_replay_are_those_of_the_graph(groups: int):
    x, w, b = normal(1, 9, 7, 8), normal(3, 2, 8 // groups, 8), normal(8)
    op = conv(x, w, groups, 1)
    wanted = op.evaluate(x, w)[0] + b
    np.testing.assert_allclose(replay.contraction(op, x, w, b), wanted, atol=1e-4)


def conv(x: Array, w: Array, groups: int, dilation: int) -> graph.Conv2DOp:
    return graph.Conv2DOp(
        graph.ConstantOp(x),
        graph.ConstantOp(w),
        strides=(2, 1),
        pads=(1, 0, 2, 1),
        dilations=(dilation, 1),
        groups=groups,
    )


# --- biases ---------------------------------------------------------------------------------------


def test_a_shift_that_all_samples_have_is_the_difference_of_the_means():
    wanted = [normal(1, 4, 3, seed=k) for k in range(5)]
    found = [x - np.array([1.0, -2.0, 0.5], np.float32) for x in wanted]
    np.testing.assert_allclose(shift(wanted, found), [1, -2, 0.5], atol=1e-6)


def test_a_shift_that_is_chance_is_left_alone():
    zeros = [np.zeros((1, 200), np.float32)] * 8
    chance = [normal(1, 200, seed=k) for k in range(8)]
    assert np.abs(shift(zeros, chance)).mean() < 0.5 * np.abs(np.mean(chance, axis=0)).mean()


def test_corrected_channels_have_the_means_of_the_float_model(tmp_path: Path):
    source = convolutions(seed=5)
    reference, samples = expected(source, IMAGES), saved(tmp_path, IMAGES)
    calibrate = f'graph-calibrate{{samples={samples} method="percentile" percent=99.0}}'
    correct = f'graph-correct-bias{{samples={samples} scheme="int4"}}'
    quantize = 'graph-quantize{scheme="int4"}'
    off = [
        np.abs((computed(prepared(source, spec), IMAGES) - reference).mean(axis=0)).mean()
        for spec in (f"{calibrate},{quantize}", f"{calibrate},{correct},{quantize}")
    ]
    assert off[1] < 0.4 * off[0]


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [convolutions, feed_forward])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_rounded_for_their_sums_weights_are_better_on_other_samples(
    tmp_path: Path, make: Any, scheme: str
):
    source = make()
    images = make is convolutions
    seen, other = (
        (IMAGES, OTHERS) if images else (normal(24, 1, 8, 32), normal(9, 1, 8, 32, seed=1))
    )
    samples = saved(tmp_path, seen)
    calibrate = f"graph-calibrate{{samples={samples}}}"
    rounded = f'graph-round-weights{{samples={samples} scheme="{scheme}"}}'
    quantize = f'graph-quantize{{scheme="{scheme}"}}'
    reference = expected(source, other)
    before, after = (
        decibels(computed(prepared(source, spec), other), reference)
        for spec in (f"{calibrate},{quantize}", f"{calibrate},{rounded},{quantize}")
    )
    assert after > before


def test_rounded_weights_are_what_is_stored(tmp_path: Path):
    samples = saved(tmp_path, IMAGES)
    round_weights = f'graph-round-weights{{samples={samples} scheme="int4"}}'
    spec = f"graph-calibrate{{samples={samples}}},{round_weights}"
    rounded = prepared(convolutions(), spec)
    stored = prepared(convolutions(), f'{spec},graph-quantize{{scheme="int4"}}')
    for a, b in zip(layers(rounded), layers(stored), strict=True):
        held = b.operands[1].owner.operands[0]
        real, integers, quant = constant(a.operands[1]), constant(held), quant_of(held)
        assert real is not None and integers is not None and quant is not None
        packs = real.shape[-2] % 2 == 0 and real.shape[-2] > 1
        assert (quant.low, quant.high) == ((-8, 7) if packs else (-128, 127))
        scales = quant.along(real.ndim)[0]
        np.testing.assert_allclose(integers * scales, real, rtol=1e-6)


def layers(module: Any) -> list[Any]:
    return [op for op in module.walk() if isinstance(op, graph.Conv2DOp | graph.MatmulOp)]


# --- grids of 4 bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [16, 32, 64, 128])
@pytest.mark.parametrize("shape", [(3, 3, 128, 5), (256, 7)])
def test_weights_by_groups_are_stored_by_the_codec_of_the_group(group: int, shape: tuple[int, ...]):
    array = normal(*shape) * np.exp2(normal(*shape[:-1], 1, seed=1))
    grid = SCHEMES[f"int4-g{group}"].grid(array, len(shape) - 1, len(shape) - 2)
    scales = grid.quant.along(len(shape))[0].astype(np.float64)
    stored = np.rint(grid.nearest(array) / scales)
    np.testing.assert_allclose(stored * scales, grid.nearest(array), rtol=1e-6)
    rows = np.moveaxis(stored.astype(np.int8), -1, 0)
    assert (rows == np.moveaxis(stored, -1, 0)).all()
    assert CODECS[f"i4x{group}"].fits(np.ascontiguousarray(rows))


@pytest.mark.parametrize("group", [16, 64])
def test_scales_by_group_have_less_error_than_by_channel(group: int):
    array = normal(128, 24) * np.exp2(2 * normal(128, 1, seed=1))
    errors = [
        np.square(SCHEMES[name].grid(array, 1, 0).nearest(array) - array).sum()
        for name in ("int4", f"int4-g{group}")
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_the_scale_of_few_bits_has_the_least_squared_error_of_those_tried(bits: int):
    array = normal(500, 3).astype(np.float64) ** 3
    high = 2 ** (bits - 1) - 1
    found = Scheme(weight_bits=bits).grid(array, 1, 0).quant.scales
    for n in range(3):
        column, most = array[:, n], np.abs(array[:, n]).max() / high
        tried = most * (np.linspace(1, 0.4, 49) if bits < 8 else np.ones(1))
        stored = np.clip(np.rint(column / tried[:, None]), -high - 1, high)
        errors = np.square(stored * tried[:, None] - column).sum(axis=1)
        assert found[n] == pytest.approx(tried[int(np.argmin(errors))], rel=1e-6)


@pytest.mark.parametrize(("shape", "why"), [((5, 3), "odd"), ((100, 3), "no whole group")])
def test_weights_that_no_codec_stores_keep_8_bits(shape: tuple[int, int], why: str):
    grid = SCHEMES["int4-g32"].grid(normal(*shape), 1, 0)
    assert (grid.low, grid.high) == (-128, 127), why


# --- graphs of any kind ---------------------------------------------------------------------------

SAMPLED = (
    'graph-prune{{samples="{0}" structure="2:4"}},graph-smooth{{samples="{0}" everywhere=true}}',
    'graph-calibrate{{samples="{0}"}},graph-correct-bias{{samples="{0}"}}',
    'graph-round-weights{{samples="{0}" scheme="int4-g16"}},graph-quantize{{scheme="int4-g16"}}',
)


@settings(max_examples=12)
@given(st.integers(0, 2**31))
def test_random_graphs_go_through_all_passes(seed: int):
    grown = Graph(seed, "mobile4k", (dtypes.f32,), LINEAR)
    grown.makers = list(LINEAR)
    for _ in range(10):
        grown.grow()
    module = grown.finished()
    names = calibration.argument_names(interpret.find(module))
    given = [dict(zip(names, grown.inputs, strict=True))] * 2
    with samples.held(given) as name, np.errstate(all="ignore"):
        for spec in SAMPLED:
            pipeline.run(module, spec.format(name))
    module.verify()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["graph-correct-bias", "graph-round-weights"])
def test_a_function_without_ranges_is_refused(tmp_path: Path, name: str):
    with pytest.raises(CompileError, match="must have ranges"):
        prepared(convolutions(), f"{name}{{samples={saved(tmp_path, IMAGES)}}}")


@pytest.mark.parametrize("name", ["graph-correct-bias", "graph-round-weights"])
def test_an_unknown_scheme_is_refused(name: str):
    with pytest.raises(CompileError, match="scheme must be one of int8"):
        prepared(convolutions(), f'{name}{{samples="x.npz" scheme="int5"}}')


@pytest.mark.parametrize("option", ["places=0", "damping=0.0"])
def test_options_of_rounding_are_above_zero(option: str):
    with pytest.raises(CompileError, match="must be above 0"):
        prepared(convolutions(), f'graph-round-weights{{samples="x.npz" {option}}}')
