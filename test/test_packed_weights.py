"""Weights of 4 bits from the graph to the simulator: the same bits, fewer bytes of dram."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wide_sums import Y, check_everywhere, recipe_of
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp

import npu_dialect as npu
from npu_dialect import dtypes, graph, provenance
from npu_dialect.bound import of_metadata
from npu_dialect.codecs import CODECS
from npu_dialect.graph.quant import QuantType
from npu_dialect.npu.copies import DmaExpandOp

Array = npt.NDArray[Any]
AT = provenance.name_location("fc1")


def product(weights: Array, x: QuantType, rows: int) -> ModuleOp:
    """A matrix product with constant weights [K, N] and its requantization to 16 bits."""
    depth, channels = weights.shape
    quant = graph.uniform(dtypes.i8, np.full(channels, 0.01), 0, 1)
    w = graph.ConstantOp(weights, TensorType(quant, weights.shape), location=AT)
    main = FuncOp("main", ([TensorType(x, [rows, depth])], []))
    block = main.body.block
    sums = graph.MatmulOp(block.args[0], w, location=AT)
    recipe = recipe_of("f32", channels, depth * 2.0**14)
    result = graph.RequantizeOp(sums, recipe, Y, location=AT)
    block.add_ops([w, sums, result, ReturnOp(result)])
    main.update_function_type()
    main.attributes["npu.input_names"] = ArrayAttr([StringAttr("x")])
    main.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    return ModuleOp([main])


def product_in_numpy(x: Array, zero: int, w: Array) -> Array:
    """What `product` computes, by sums of 64 bits: [rows, N] int16."""
    depth, channels = w.shape
    sums = (x.astype(np.int64) - zero) @ w.astype(np.int64)
    factors = recipe_of("f32", channels, depth * 2.0**14).data.multiplier
    real = sums.astype(np.float32) * factors
    return np.clip(np.rint(real), -(2**15), 2**15 - 1).astype(np.int16)


def weights_of(codec: str, depth: int, channels: int, rng: np.random.Generator) -> Array:
    """Weights [K, N] that fit the codec and none of fewer bytes."""
    group = CODECS[codec].group
    if codec == "s2x4":
        values = rng.integers(-128, 128, (depth // 4, 4, channels))
        order = np.argsort(rng.random(values.shape), axis=1)
        np.put_along_axis(values, order[:, :2], 0, axis=1)
        return values.reshape(depth, channels).astype(np.int8)
    values = rng.integers(-7, 8, (depth, channels))
    if group:
        values *= rng.integers(1, 17, (depth // group, channels)).repeat(group, axis=0)
        values[:group] = 16  # so that 4 bits alone are not enough
        values[1, 0] = 112
    return values.astype(np.int8)


def constant_bytes(program: npu.Program) -> int:
    return max(c.array.nbytes for c in program.constants)


@settings(deadline=None, max_examples=12)
@given(
    codec=st.sampled_from(list(CODECS)),
    blocks=st.integers(1, 5),
    channels=st.integers(1, 70),
    rows=st.integers(1, 9),
    wide=st.booleans(),
    target=st.sampled_from(["edge256", "edge512", "headset2k"]),
    seed=st.integers(0, 1 << 30),
)
def test_products_with_packed_weights_are_exact_at_all_levels(
    codec: str, blocks: int, channels: int, rows: int, wide: bool, target: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    depth = blocks * max(CODECS[codec].elements, 32)
    w = weights_of(codec, depth, channels, rng)
    storage = dtypes.i16 if wide else dtypes.i8
    zero = int(rng.integers(-5, 6))
    x = rng.integers(storage.low, storage.high + 1, (rows, depth)).astype(storage.numpy)
    y = product_in_numpy(x, zero, w)
    program = check_everywhere(product(w, graph.uniform(storage, 0.1, zero), rows), x, y, target)
    assert program.placement[0].engine == "mxu"
    assert constant_bytes(program) <= max(w.size, channels * 12)


@pytest.mark.parametrize(("codec", "size"), [("i4", 2**17), ("i4x32", 2**17 + 2**13)])
def test_packed_weights_take_half_a_byte_and_their_multipliers(codec: str, size: int) -> None:
    w = weights_of(codec, 512, 512, np.random.default_rng(1))
    program = npu.compile(product(w, graph.uniform(dtypes.i8, 0.1), 1), "edge256")
    assert constant_bytes(program) == size
    assert any(i.op == DmaExpandOp.name for i in program.instructions)


def test_two_of_four_weights_take_five_bytes_for_eight() -> None:
    w = weights_of("s2x4", 512, 512, np.random.default_rng(1))
    program = npu.compile(product(w, graph.uniform(dtypes.i8, 0.1), 1), "headset2k")
    assert constant_bytes(program) == w.size * 5 // 8
    bound = of_metadata(program.metadata)
    assert bound is not None and bound.dram_bytes == w.size * 5 // 8 + 512 + 2 * 512


def test_a_layer_bound_by_its_weights_takes_about_half_the_time() -> None:
    rng = np.random.default_rng(1)
    x = np.zeros((1, 1024), np.int8)
    cycles: list[int] = []
    for w in (rng.integers(-128, 128, (1024, 1024)), rng.integers(-8, 8, (1024, 1024))):
        module = product(w.astype(np.int8), graph.uniform(dtypes.i8, 0.1), 1)
        cycles.append(npu.simulate(npu.compile(module, "edge256"), x).cycles)
    assert 0.5 <= cycles[1] / cycles[0] < 0.53


@pytest.mark.parametrize("target", ["mobile4k", "systolic32_ws"])
def test_a_machine_that_cannot_expand_keeps_weights_of_8_bits(target: str) -> None:
    w = weights_of("i4", 64, 64, np.random.default_rng(1))
    program = npu.compile(product(w, graph.uniform(dtypes.i8, 0.1), 1), target)
    assert constant_bytes(program) == w.size
    assert all(i.op != DmaExpandOp.name for i in program.instructions)


def test_the_bound_counts_packed_bytes() -> None:
    """Weights of half a byte, 512 inputs and 512 results of 16 bits; multipliers by channel."""
    w = weights_of("i4", 512, 512, np.random.default_rng(1))
    program = npu.compile(product(w, graph.uniform(dtypes.i8, 0.1), 1), "edge256")
    bound = of_metadata(program.metadata)
    assert bound is not None and bound.dram_bytes == w.size // 2 + 512 + 2 * 512
