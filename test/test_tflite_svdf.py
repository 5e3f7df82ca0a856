"""SVDF over random sizes and quantizations: the bits of TFLite's reference kernels, run by run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, constant, draw, model, reference_runs

from npu_dialect.frontends import tflite

seeds = st.integers(0, 2**32 - 1)
flags = st.booleans()
RUNS = 4


def inputs(
    rng: np.random.Generator, kind: str, rank: int, memory: int, has_bias: bool
) -> list[Tensor | None]:
    """x [2, 7], features [6, 7], times [6, memory], bias, state [2, 6 * memory]."""
    units = 6 // rank
    if kind == "int8":
        x: Tensor = Tensor((2, 7), "int8", 0.05, int(rng.integers(-128, 128)))
        features = constant(rng.integers(-127, 128, (6, 7)), "int8", scale=0.01)
        times = constant(rng.integers(-32767, 32768, (6, memory)), "int16", scale=2.0**-15)
        bias = constant(rng.integers(-(1 << 20), 1 << 20, units), "int32", scale=1e-5)
        state = Tensor((2, 6 * memory), "int16", float(np.float32(rng.uniform(0.0002, 0.001))))
    else:
        x = Tensor((2, 7), "float32")
        features = constant(rng.normal(size=(6, 7)), "float32")
        times = constant(rng.normal(size=(6, memory)), "float32")
        if kind == "hybrid":
            features = constant(rng.integers(-127, 128, (6, 7)), "int8", scale=0.01)
            times = constant(rng.integers(-127, 128, (6, memory)), "int8", scale=0.01)
        bias = constant(rng.normal(size=units), "float32")
        state = Tensor((2, 6 * memory), "float32")
    state.is_variable = True
    return [x, features, times, bias if has_bias else None, state]


def svdf(rng: np.random.Generator, kind: str, rank: int, memory: int, **fields: Any) -> bytes:
    y = Tensor((2, 6 // rank), "float32")
    if kind == "int8":
        y = Tensor((2, 6 // rank), "int8", 0.1, int(rng.integers(-128, 128)))
    tensors = inputs(rng, kind, rank, memory, fields.pop("has_bias", True))
    return model("SVDF", tensors, [y], "SVDFOptions", rank=rank, **fields)


def runs(source: bytes, steps: list[Array]) -> list[Array]:
    module, state = npu.load(tflite.load(source)), {}
    return [next(iter(npu.execute(module, [x], state=state).values())) for x in steps]


@given(seeds, st.sampled_from([1, 2, 3]), st.integers(2, 6), flags)
@settings(max_examples=30)
def test_of_integers(seed: int, rank: int, memory: int, has_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    source = svdf(rng, "int8", rank, memory, has_bias=has_bias, fusedActivationFunction=1)
    steps = [draw(rng, Tensor((2, 7), "int8")) for _ in range(RUNS)]
    for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
        np.testing.assert_array_equal(a, b)


@given(seeds, st.sampled_from(["float32", "hybrid"]), st.sampled_from([1, 3]), flags)
@settings(max_examples=30)
def test_of_floats(seed: int, kind: str, rank: int, asymmetric: bool) -> None:
    """Sums of floats are in another order in TFLite's vector code."""
    rng = np.random.default_rng(seed)
    source = svdf(rng, kind, rank, 5, asymmetricQuantizeInputs=asymmetric)
    steps = [draw(rng, Tensor((2, 7), "float32")) for _ in range(RUNS)]
    for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


def test_of_integers_is_on_the_accelerator() -> None:
    rng = np.random.default_rng(0)
    source = svdf(rng, "int8", 2, 4, fusedActivationFunction=1)
    steps = [draw(rng, Tensor((2, 7), "int8")) for _ in range(RUNS)]
    program = npu.compile(tflite.load(source), "edge256")
    assert all(row.engine != "host" for row in program.placement)
    state: dict[str, Any] | None = None
    for x, expected in zip(steps, reference_runs(source, steps), strict=True):
        run = npu.simulate(program, [x], state=state)
        np.testing.assert_array_equal(next(iter(run.outputs.values())), expected)
        state = dict(run.state)
