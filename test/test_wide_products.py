"""Products of two 16-bit activations: at all levels, and twice the time of 8-bit weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_wide_sums import Y, check_everywhere, recipe_of
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp

import npu_dialect as npu
from npu_dialect import cost, dtypes, graph, numerics, provenance
from npu_dialect.cost import ArrayWork
from npu_dialect.target import load_target

AT = provenance.name_location("scores")


def product(a_zero: int, b_zero: int, shape: tuple[int, int, int, int]) -> ModuleOp:
    """A program of a [batch, M, K] times b [batch, K, N], rescaled to 16 bits."""
    batch, m, k, n = shape
    kinds = [
        TensorType(graph.uniform(dtypes.i16, 0.1, zero), dims)
        for zero, dims in ((a_zero, [batch, m, k]), (b_zero, [batch, k, n]))
    ]
    main = FuncOp("main", (kinds, []))
    block = main.body.block
    sums = graph.MatmulOp(block.args[0], block.args[1], location=AT)
    result = graph.RequantizeOp(sums, recipe_of("f32", 1, k * 2.0**29), Y, location=AT)
    block.add_ops([sums, result, ReturnOp(result)])
    main.update_function_type()
    main.attributes["npu.input_names"] = ArrayAttr([StringAttr("a"), StringAttr("b")])
    main.attributes["npu.output_names"] = ArrayAttr([StringAttr("y")])
    return ModuleOp([main])


@settings(deadline=None, max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 200), st.integers(1, 20)),
    zeros=st.tuples(st.sampled_from([0, -32768, 5]), st.sampled_from([0, 32767, -3])),
    target=st.sampled_from(["edge256", "edge512", "headset2k"]),
    seed=st.integers(0, 1 << 30),
)
def test_products_of_activations_are_exact_at_all_levels(
    shape: tuple[int, int, int, int], zeros: tuple[int, int], target: str, seed: int
) -> None:
    batch, m, k, n = shape
    rng = np.random.default_rng(seed)
    extremes = np.array([-32768, 32767, 77, -1], np.int16)
    a, b = rng.choice(extremes, (batch, m, k)), rng.choice(extremes, (batch, k, n))
    sums = (a.astype(np.int64) - zeros[0]) @ (b.astype(np.int64) - zeros[1])
    multiplier = recipe_of("f32", 1, k * 2.0**29).data.multiplier
    y: Any = numerics.requantize_f32(sums, multiplier, 0, 0, -(2**15), 2**15 - 1)
    program = check_everywhere(product(*zeros, shape), [a, b], y, target)
    assert {row.engine for row in program.placement} == {"mxu"}


@pytest.mark.parametrize("depthwise", [False, True])
def test_weights_of_16_bits_take_two_passes(depthwise: bool) -> None:
    target = load_target("edge256")
    cycles: list[int] = []
    for passes in (1, 2):
        work = ArrayWork(
            dtype="i16", positions=64, taps=1, in_channels=64, out_channels=64, input_bytes=0,
            weight_bytes=0, output_bytes=0, depthwise=depthwise, passes=passes,
        )  # fmt: skip
        cycles.append(cost.mac_cycles(target, work)[1])
    assert cycles[1] == 2 * cycles[0]
    assert [cost.weight_passes(t) for t in ("i8", "u8", "i16", "u16", "f16", "f32")] == [
        1, 1, 2, 2, 1, 1,
    ]  # fmt: skip


def test_too_long_a_sum_of_such_products_is_left_to_the_host() -> None:
    """2**30 times 600 does not fit 40 bits."""
    program = npu.compile(product(0, 0, (1, 1, 600, 1)), "edge256")
    reason = program.placement[0].reason
    assert program.placement[0].engine == "host" and "must hold the sums" in reason
