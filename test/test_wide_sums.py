"""Convolutions of 16-bit activations: sums of 64 bits, at all levels and in both tiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph_contraction import slow_conv
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp

import npu_dialect as npu
from npu_dialect import dtypes, graph, numerics, provenance
from npu_dialect.graph.attributes import RequantAttr, requant_f32, requant_fixed
from npu_dialect.target import target_text

Array = npt.NDArray[Any]
X = graph.uniform(dtypes.i16, 0.001)
Y = graph.uniform(dtypes.i16, 0.002)
AT = provenance.name_location("conv1")


def convolution(
    size: int, weights: Array, bias: Array, recipe: RequantAttr, groups: int = 1, pad: int = 0
) -> ModuleOp:
    """A program of one convolution and its requantization; x is [1, size, size, C]."""
    channels = weights.shape[3]
    quant = graph.uniform(dtypes.i8, np.full(channels, 0.01), 0, 3)
    x = TensorType(X, [1, size, size, weights.shape[2] * groups])
    w = graph.ConstantOp(weights, TensorType(quant, weights.shape), location=AT)
    b = graph.ConstantOp(bias.astype(np.int64), location=AT)
    main = FuncOp("main", ([x], []))
    block = main.body.block
    conv = graph.Conv2DOp(block.args[0], w, b, pads=[pad] * 4, groups=groups, location=AT)
    result = graph.RequantizeOp(conv, recipe, Y, location=AT)
    block.add_ops([w, b, conv, result, ReturnOp(result)])
    main.update_function_type()
    main.attributes["npu.input_names"] = ArrayAttr([StringAttr("x")])
    main.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    return ModuleOp([main])


def expected(x: Array, w: Array, bias: Array, recipe: RequantAttr, groups: int, pad: int) -> Array:
    """The sums in Python integers; their rescaling is tested beside `numerics`."""
    sums = slow_conv(x.astype(np.int64), w.astype(np.int64), (1, 1), [pad] * 4, (1, 1), groups)
    sums += bias
    found = recipe.data
    ends: Any = (0, 0, -(2**15), 2**15 - 1)
    if found.kind == "f32":
        return numerics.requantize_f32(sums, found.multiplier, *ends)
    return numerics.requantize_fixed(sums, found.multiplier, found.shift, found.rounding, *ends)


def check_everywhere(module: ModuleOp, x: Any, y: Array, target: str) -> npu.Program:
    """The result at every level and of the program in both tiers."""
    module = npu.load(module, target=target)
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        np.testing.assert_array_equal(npu.execute(module, x)["y"], y, err_msg=level)
    program = npu.assemble(module)
    for tier in ("plain", "compiled"):
        found = npu.simulate(program, x, tier=tier).outputs["y"]
        np.testing.assert_array_equal(found, y, err_msg=tier)
    return program


RECIPES = ("f32", "half_even", "half_up", "half_away")


def recipe_of(name: str, channels: int, most: float) -> RequantAttr:
    """A rescaling of sums up to `most` to about 16 bits, by channel."""
    factors = np.linspace(0.5, 1.0, channels) * 2**15 / most
    if name == "f32":
        return requant_f32(factors)
    shift = 15 + int(np.ceil(np.log2(most))) - 1
    return requant_fixed(np.rint(factors * 2.0**shift / 2).astype(np.int64), shift, name)


@settings(deadline=None, max_examples=12)
@given(st.data())
def test_sums_beyond_32_bits_are_the_same_at_all_levels(data: st.DataObject) -> None:
    draw = data.draw
    kernel, depth, channels = (draw(st.integers(1, 3)), draw(st.integers(1, 300)), 5)
    depthwise = draw(st.booleans())
    target = draw(st.sampled_from(["edge256", "edge512", "headset2k"]))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    if depthwise:
        depth, channels, groups = 1, 6, 6
    else:
        groups = 1
    w = rng.choice(np.array([-128, 127, 5], np.int8), (kernel, kernel, depth, channels))
    x = rng.choice(np.array([-32768, 32767, 77], np.int16), (1, 5, 5, depth * groups))
    bias = rng.integers(-(2**36), 2**36, channels)
    pad = draw(st.integers(0, kernel - 1))
    recipe = recipe_of(draw(st.sampled_from(RECIPES)), channels, 2.0**37)
    module = convolution(5, w, bias, recipe, groups, pad)
    y = expected(x, w, bias, recipe, groups, pad)
    program = check_everywhere(module, x, y, target)
    assert {row.engine for row in program.placement} == {"mxu"}


def test_a_long_sum_is_cut_and_its_parts_stay_in_the_accumulators_as_64_bits() -> None:
    rng = np.random.default_rng(5)
    w = rng.choice(np.array([-128, 127], np.int8), (3, 3, 512, 40))
    x = rng.choice(np.array([-32768, 32767], np.int16), (1, 5, 5, 512))
    bias = np.arange(40) * 2**30
    recipe = recipe_of("f32", 40, 2.0**36)
    y = expected(x, w, bias, recipe, 1, 1)
    program = check_everywhere(convolution(5, w, bias, recipe, 1, 1), x, y, "edge256")
    assert any("i64" in str(i) and "acc" in str(i) for i in program.instructions)


def test_sums_that_fit_32_bits_are_computed_in_32_bits() -> None:
    w = np.full((1, 1, 500, 3), 127, np.int8)
    bias = np.array([0, 5, 2**31 - 1 - 32768 * 127 * 500])
    recipe = recipe_of("half_up", 3, 2.0**31)
    x = np.full((1, 2, 2, 500), -32768, np.int16)
    module = npu.load(convolution(2, w, bias, recipe), target="edge256")
    npu.lower(module, until="graph")
    assert 'sums = "i32"' in str(module)
    y = expected(x, w, bias, recipe, 1, 0)
    check_everywhere(convolution(2, w, bias, recipe), x, y, "edge256")


def test_a_bias_of_one_more_needs_64_bits() -> None:
    w = np.full((1, 1, 500, 3), 127, np.int8)
    bias = np.array([0, 5, 2**31 - 32768 * 127 * 500])
    module = npu.load(convolution(2, w, bias, recipe_of("half_up", 3, 2.0**31)), target="edge256")
    npu.lower(module, until="graph")
    assert 'sums = "i32"' not in str(module)


@pytest.mark.parametrize(
    ("target", "bias", "reason"),
    [
        ("systolic32_ws", 0, "The array must multiply activations and weights of these types"),
        ("edge256", 2**39, "The array's accumulators must hold the sums; found sums of up to"),
    ],
)
def test_sums_that_the_array_cannot_hold_are_left_to_the_host(
    target: str, bias: int, reason: str
) -> None:
    w = np.full((1, 1, 600, 3), 127, np.int8)
    recipe = recipe_of("half_up", 3, 2.0**31)
    program = npu.compile(convolution(2, w, np.full(3, bias), recipe), target)
    row = program.placement[0]
    assert row.engine == "host" and reason in row.reason


def test_an_array_without_wide_accumulators_leaves_wide_sums_to_the_host(tmp_path: Any) -> None:
    text = target_text("edge256").replace('acc_types = ["i32", "i40"]', 'acc_types = ["i32"]')
    path = tmp_path / "narrow.toml"
    path.write_text(text)
    w = np.full((1, 1, 600, 3), 127, np.int8)
    recipe = recipe_of("half_up", 3, 2.0**31)
    program = npu.compile(convolution(2, w, np.zeros(3), recipe), str(path))
    row = program.placement[0]
    assert row.engine == "host" and row.reason.endswith("found i64, and edge256 has i32")
