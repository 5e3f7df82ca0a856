"""A bias that fills 32 bits: quantizers make such for channels whose weights are nearly zero."""

from __future__ import annotations

import numpy as np
import pytest
from mapped_groups import ModuleBuilder, integers
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import dtypes, graph
from npu_dialect.graph.interpret import run
from npu_dialect.graph.quant import uniform
from npu_dialect.passes.graph_fold_qdq import GraphFoldQdqPass
from npu_dialect.provenance import name_location
from npu_dialect.universe import NpuContext

X, OUT = uniform(dtypes.u8, 0.02, 0), uniform(dtypes.u8, 0.03, 0)
NEARLY_ALL = 2**31 - 60_000


def module(bias: int) -> ModuleOp:
    """A 3x3 convolution with two channels; the second has the tiny scale and the given bias."""
    rng = np.random.default_rng(0)
    w = uniform(dtypes.i8, [0.01, 1e-12], [0, 0], axis=3)
    sums = uniform(dtypes.i32, (w.scales * np.float32(0.02)).tolist(), [0, 0], axis=0)
    build = ModuleBuilder("edge256", ((1, 6, 6, 4), X))
    weights = build.constant(integers(rng, 3, 3, 4, 2), w)
    stored = build.constant(np.array([100, bias], np.int32), sums)
    x, filters, bias_real = (graph.DequantizeOp(v) for v in (build.args[0], weights, stored))
    conv = graph.Conv2DOp(x, filters, bias_real)
    result = graph.QuantizeOp(conv.result, OUT)
    for op in (x, filters, bias_real, conv, result):
        op.location = name_location("conv")
        build.block.add_op(op)
    return build.module(result.result)


def folded(bias: int) -> ModuleOp:
    found = module(bias)
    GraphFoldQdqPass().apply(NpuContext(), found)
    return found


def is_integer(found: ModuleOp) -> bool:
    return not any(isinstance(op, graph.DequantizeOp) for op in found.walk())


def test_a_bias_that_nearly_fills_32_bits_does_not_keep_a_convolution_in_floats():
    assert is_integer(folded(NEARLY_ALL))


@pytest.mark.parametrize("bias", [NEARLY_ALL, -NEARLY_ALL, 1000])
def test_the_integer_convolution_gives_what_the_floats_give(bias: int):
    x = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 4), np.uint8)
    found, expected = run(folded(bias), [x])[0], run(module(bias), [x])[0]
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
