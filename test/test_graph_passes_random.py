"""Random networks, as importers write them: the graph passes keep what they compute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from graph_samples import Array, Sample, same
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph, provenance, universe
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.interpret import run
from npu_dialect.passes import verify_ssa_order

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
REWRITES = (
    "graph-canonicalize",
    "graph-fold-constants",
    "graph-channels-last",
    "graph-fuse-batch-norm",
    "graph-fold-qdq",
    "graph-decompose",
)


class Network(Sample):
    """Layers on [1, C, H, W]; with `quantized`, quantize and dequantize after each."""

    def __init__(self, seed: int, quantized: bool, target: str) -> None:
        super().__init__(seed, target)
        self.quantized = quantized
        x = self.argument((1, 3, 6, 6), f32)
        self.inputs[0] = self.rng.normal(size=(1, 3, 6, 6)).astype(np.float32)
        self.pool = [self.rounded(x, 0.05)]

    def rounded(self, x: SSAValue, scale: float = 0.0) -> SSAValue:
        if not self.quantized:
            return x
        kind = dtypes.i8 if self.rng.random() < 0.5 else dtypes.u8
        zero = int(self.rng.integers(kind.low + 100, kind.high - 100))
        step = scale or float(self.rng.uniform(0.02, 0.2))
        return self.again(x, graph.uniform(kind, step, zero))

    def again(self, x: SSAValue, quant: graph.QuantType) -> SSAValue:
        return self.add(graph.DequantizeOp(self.add(graph.QuantizeOp(x, quant))))

    def weights(self, shape: Sequence[int]) -> SSAValue:
        """[..., OC], quantized by channel in a quantized network."""
        if not self.quantized:
            return self.constant(self.rng.normal(0, 0.3, shape).astype(np.float32))
        scales = self.rng.uniform(0.002, 0.01, shape[-1])
        stored = self.rng.integers(-127, 128, shape).astype(np.int8)
        quant = graph.uniform(dtypes.i8, scales, 0, len(shape) - 1)
        return self.add(graph.DequantizeOp(self.constant(stored, quant)))

    def turned(self, x: SSAValue, order: Sequence[int]) -> SSAValue:
        return self.add(graph.TransposeOp(x, order))

    def layer(self) -> None:
        kinds = (
            self.convolution, self.convolution, self.activation, self.addition, self.pooling,
            self.joined, self.window, self.scaled,
        )  # fmt: skip
        x = self.pool[int(self.rng.integers(max(0, len(self.pool) - 2), len(self.pool)))]
        kind = kinds[int(self.rng.integers(len(kinds)))]
        self.pool.append(self.rounded(kind(x)))

    def convolution(self, x: SSAValue) -> SSAValue:
        channels, size = shape_of(x)[1], int(self.rng.choice([1, 3]))
        groups = channels if self.rng.random() < 0.3 else 1
        out = channels if groups > 1 else int(self.rng.integers(1, 6))
        w = self.weights((size, size, channels // groups, out))
        bias = None if self.quantized else self.weights((out,))
        pads = [size // 2] * 4
        conv = graph.Conv2DOp(self.turned(x, LAST), w, bias, pads=pads, groups=groups)
        return self.turned(self.add(conv), FIRST)

    def activation(self, x: SSAValue) -> SSAValue:
        makers = (
            graph.ReluOp,
            graph.SigmoidOp,
            graph.HardSwishOp,
            graph.TanhOp,
            graph.AbsOp,
            lambda v: graph.ClampOp(v, 0, 6),
            lambda v: graph.LeakyReluOp(v, 0.1),
        )
        return self.add(makers[int(self.rng.integers(len(makers)))](x))

    def addition(self, x: SSAValue) -> SSAValue:
        others = [v for v in self.pool if shape_of(v) == shape_of(x)]
        other = others[int(self.rng.integers(len(others)))]
        cls = (graph.AddOp, graph.SubOp, graph.MulOp)[int(self.rng.integers(3))]
        return self.add(cls(x, other))

    def pooling(self, x: SSAValue) -> SSAValue:
        if min(shape_of(x)[2:]) < 2:
            return self.activation(x)
        cls = graph.MaxPool2DOp if self.rng.random() < 0.5 else graph.AvgPool2DOp
        pads = [int(self.rng.random() < 0.3)] * 4
        return self.turned(self.add(cls(self.turned(x, LAST), (2, 2), (2, 2), pads)), FIRST)

    def joined(self, x: SSAValue) -> SSAValue:
        others = [v for v in self.pool if shape_of(v)[2:] == shape_of(x)[2:]]
        other = others[int(self.rng.integers(len(others)))]
        return self.add(graph.ConcatOp([x, other], 1))

    def window(self, x: SSAValue) -> SSAValue:
        if self.rng.random() < 0.5:
            return self.add(graph.PadOp(x, [0, 0, 1, 0], [0, 1, 0, 1]))
        sizes = [1, *(max(1, d - 1) for d in shape_of(x)[1:])]
        return self.add(graph.SliceOp(x, [0, 0, 0, 0], sizes))

    def scaled(self, x: SSAValue) -> SSAValue:
        shape = (shape_of(x)[1], 1, 1)
        factor = self.constant(self.rng.uniform(0.5, 2, shape).astype(np.float32))
        return self.add(graph.MulOp(x, factor))

    def head(self) -> SSAValue:
        """A flattening matrix product and a softmax, or the last layer as it is."""
        x = self.pool[-1]
        if self.rng.random() < 0.5:
            return x
        size = int(np.prod(shape_of(x)))
        flat = self.add(graph.ReshapeOp(x, (1, size)))
        found = self.rounded(self.add(graph.MatmulOp(flat, self.weights((size, 4)))))
        return self.add(graph.SoftmaxOp(found, 1)) if self.rng.random() < 0.3 else found


def network(
    seed: int, quantized: bool, target: str, layers: int = 6
) -> tuple[ModuleOp, list[Array]]:
    made = Network(seed, quantized, target)
    for _ in range(layers):
        made.layer()
    return made.module(made.head()), made.inputs


def apply(module: ModuleOp, *names: str) -> None:
    for name in names:
        universe.pass_class(name)().apply(Context(), module)
        module.verify()
        verify_ssa_order.check(module)
        provenance.check(module)


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans(), st.sampled_from(["edge256", "mobile4k"]))
def test_placing_and_grouping_change_no_bit(seed: int, quantized: bool, target: str):
    module, inputs = network(seed, quantized, target)
    apply(module, "graph-fold-qdq")
    expected = run(module, inputs)
    apply(module, "graph-place", "graph-group")
    assert all(map(same, run(module, inputs), expected))


@pytest.mark.parametrize("name", REWRITES)
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_every_rewrite_keeps_the_function_of_a_float_network(name: str, seed: int):
    module, inputs = network(seed, False, "mobile4k")
    expected = run(module, inputs)
    apply(module, name)
    for found, wanted in zip(run(module, inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_integers_round_as_the_quantized_network_does(seed: int):
    module, inputs = network(seed, True, "edge256", layers=3)
    expected = run(module, inputs)
    apply(module, *[step.spec for step in universe.PIPELINES["graph"]])
    for found, wanted in zip(run(module, inputs), expected, strict=True):
        off = np.abs(found - wanted)
        assert np.mean(off > 1e-6) <= 0.1
        assert off.max() <= 0.41  # two steps of the coarsest quantization


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans(), st.sampled_from(["edge256", "mobile4k"]))
def test_the_whole_pipeline_leaves_only_groups_views_and_constants(
    seed: int, quantized: bool, target: str
):
    module, _ = network(seed, quantized, target)
    apply(module, *[step.spec for step in universe.PIPELINES["graph"]])
    (function,) = module.ops
    kinds = {op.name for op in function.regions[0].block.ops}
    assert kinds <= {"graph.group", "graph.reshape", "graph.constant", "func.return"}


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_quantized_network_without_softmax_needs_no_host(seed: int):
    module, _ = network(seed, True, "edge256")
    apply(module, *[step.spec for step in universe.PIPELINES["graph"]])
    names = {op.name for op in module.walk()}
    kinds = {op.kind.data for op in module.walk() if isinstance(op, graph.GroupOp)}
    assert "host" not in kinds or "graph.softmax" in names, module


def test_passes_give_the_same_text_every_time():
    texts: list[str] = []
    for _ in range(2):
        module, _ = network(5, True, "edge256")
        apply(module, *[step.spec for step in universe.PIPELINES["graph"]])
        texts.append(str(module))
    assert texts[0] == texts[1]
