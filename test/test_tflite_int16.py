"""16-bit tensors of TFLite over random quantizations: the bits of TFLite's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, draw, model, reference

from npu_dialect.frontends import tflite

ALL = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
"""Every value of 16 bits."""

seeds = st.integers(0, 2**32 - 1)
small = st.floats(0.0001, 0.01).map(lambda s: float(np.float32(s)))
powers = st.integers(-15, -6).map(lambda e: 2.0**e)
scales = st.one_of(small, powers)


def wide(shape: tuple[int, ...], scale: float) -> Tensor:
    return Tensor(shape, "int16", scale)


def compare(source: bytes, inputs: list[Array], target: str = "edge256") -> None:
    """At level graph as imported, and after the passes of that level."""
    expected = reference(source, inputs)
    module = npu.load(tflite.load(source), target=target)
    for until in (None, "graph"):
        if until:
            npu.lower(module, until=until)
        found = list(npu.execute(module, inputs).values())
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def compare_program(source: bytes, inputs: list[Array], target: str, on_host: str = "") -> None:
    """At every level; every placement is on the accelerator but for the rules `on_host`."""
    expected = reference(source, inputs)
    module = npu.load(tflite.load(source), target=target)
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        for a, b in zip(npu.execute(module, inputs).values(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    placement = npu.assemble(module).placement
    assert {p.rule for p in placement if p.engine == "host"} == set(on_host.split())


@given(seeds, scales, st.integers(1, 300), st.sampled_from([1.0, 0.5, 2.0]))
@settings(max_examples=40)
def test_softmax(seed: int, scale: float, width: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = wide((4, width), scale), wide((4, width), 2.0**-15)
    compare(model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=beta), [draw(rng, x)])


@pytest.mark.parametrize("target", ["edge256", "headset2k", "ethos_u55_256"])
def test_softmax_is_integers_on_the_accelerator(target: str) -> None:
    x, y = wide((8, 65), 0.0007), wide((8, 65), 2.0**-15)
    source = model("SOFTMAX", [x], [y], "SoftmaxOptions", beta=1.0)
    compare_program(source, [draw(np.random.default_rng(1), x)], target)
