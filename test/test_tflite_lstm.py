"""LSTM cells with all that they may have: the bits of TFLite's reference kernels, run by run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.ir import Block

import npu_dialect as npu

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_models import Array, Tensor, constant, draw, model, packed, reference_runs, schema

from npu_dialect.frontends import tflite
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.lstm_norms import inverse_root

seeds = st.integers(0, 2**32 - 1)
flags = st.booleans()
BATCH, STEPS, INPUTS, CELLS = 2, 3, 5, 6
RUNS = 3


def weight(rng: np.random.Generator, kind: str, *shape: int) -> Tensor:
    if kind == "float32":
        return constant(rng.normal(0, 0.4, shape), "float32")
    values = rng.integers(-127, 128, shape)
    return constant(values, "int8", scale=float(rng.uniform(0.002, 0.01)))


def per_cell(rng: np.random.Generator, kind: str) -> Tensor:
    """Weights of a peephole."""
    if kind != "int8":
        return weight(rng, kind.replace("hybrid", "int8"), CELLS)
    values = rng.integers(-32767, 32768, CELLS)
    return constant(values, "int16", scale=float(rng.uniform(2e-5, 6e-5)))


def bias(rng: np.random.Generator, kind: str, count: int) -> Tensor:
    if kind == "int8":
        return constant(rng.integers(-20000, 20000, count), "int32", scale=1e-5)
    return constant(rng.normal(0, 0.5, count), "float32")


def factors(rng: np.random.Generator, kind: str) -> Tensor:
    """Those of layer normalization."""
    if kind != "int8":
        return constant(rng.normal(1, 0.3, CELLS), "float32")
    return constant(rng.integers(-32767, 32768, CELLS), "int16", scale=2.0**-14)


def lstm(
    rng: np.random.Generator,
    kind: str,
    coupled: bool = False,
    peepholes: bool = False,
    projects: bool = False,
    norms: bool = False,
    **fields: Any,
) -> bytes:
    """A cell with x [2, 3, 5] and 6 elements, projected to 4."""
    outputs, stored = 4 if projects else CELLS, "float32" if kind == "float32" else "int8"
    gates = range(1 if coupled else 0, 4)
    w, r, b, p, n = ([None] * 4 for _ in range(5))
    tensors: list[list[Tensor | None]] = [w, r, b, p, n]  # pyright: ignore[reportAssignmentType]
    for k in gates:
        tensors[0][k] = weight(rng, stored, CELLS, INPUTS)
        tensors[1][k] = weight(rng, stored, CELLS, outputs)
        tensors[2][k] = bias(rng, kind, CELLS)
        tensors[4][k] = factors(rng, kind) if norms else None
    for k in (0, 1, 2) if peepholes else ():
        tensors[3][k] = per_cell(rng, kind) if k or not coupled else None
    projection = [weight(rng, stored, outputs, CELLS), bias(rng, kind, outputs)]
    zero = int(rng.integers(-20, 20))
    element: dict[str, Any] = {"dtype": "float32"}
    if kind == "int8":
        element = {"dtype": "int8", "scale": 1 / 128, "zero": zero}
    x = Tensor((BATCH, STEPS, INPUTS), element["dtype"], 0.05 if kind == "int8" else None, 7)
    h = Tensor((BATCH, outputs), is_variable=True, **element)
    c = Tensor((BATCH, CELLS), "int16" if kind == "int8" else "float32", is_variable=True)
    c.scale = 2.0**-11 if kind == "int8" else None
    hidden_zero = int(rng.integers(-20, 20)) if projects else zero
    spread = 2.0 ** rng.integers(-12, -9, 4) if norms else [2.0**-12] * 4
    inner = [Tensor((), "int16", float(s)) for s in spread]
    inner.append(Tensor((), "int8", 1 / 128, hidden_zero))
    shape: tuple[int, ...] = (BATCH, STEPS, outputs)
    code, options = "UNIDIRECTIONAL_SEQUENCE_LSTM", "UnidirectionalSequenceLSTMOptions"
    if fields.pop("is_step", False):
        code, options, x.shape, shape = "LSTM", "LSTMOptions", (BATCH, INPUTS), (BATCH, outputs)
    if fields.get("timeMajor"):
        x.shape, shape = (STEPS, BATCH, INPUTS), (STEPS, BATCH, outputs)
    inputs = [
        x, *tensors[0], *tensors[1], *tensors[3][:3], *tensors[2],
        *(projection if projects else [None, None]), h, c, *(tensors[4] if norms else []),
    ]  # fmt: skip
    return model(
        code, inputs, [Tensor(shape, **element)], options,
        intermediates=inner if kind == "int8" else [], fusedActivationFunction=4, **fields,
    )  # fmt: skip


def runs(source: bytes, steps: list[Array]) -> list[Array]:
    module, state = npu.load(tflite.load(source)), {}
    return [next(iter(npu.execute(module, [x], state=state).values())) for x in steps]


def drawn(rng: np.random.Generator, dtype: str, time_major: bool = False) -> list[Array]:
    shape = (STEPS, BATCH, INPUTS) if time_major else (BATCH, STEPS, INPUTS)
    return [draw(rng, Tensor(shape, dtype)) for _ in range(RUNS)]


@given(seeds, st.tuples(flags, flags, flags, flags), flags, st.sampled_from([0.0, 1.5]))
@settings(max_examples=24)
def test_of_integers(
    seed: int, has: tuple[bool, bool, bool, bool], time_major: bool, clip: float
) -> None:
    """Coupled gates, peepholes, a projection and layer normalization."""
    rng = np.random.default_rng(seed)
    source = lstm(rng, "int8", *has, timeMajor=time_major, cellClip=clip, projClip=clip / 3)
    steps = drawn(rng, "int8", time_major)
    for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
        np.testing.assert_array_equal(a, b)


@given(seeds, st.sampled_from(["float32", "hybrid"]), flags, flags, flags, flags, flags)
@settings(max_examples=16)
def test_of_floats(
    seed: int, kind: str, coupled: bool, peepholes: bool, projects: bool, norms: bool, offset: bool
) -> None:
    """Exponentials are our own: a last bit may differ, and with it a quantized value."""
    rng = np.random.default_rng(seed)
    source = lstm(
        rng, kind, coupled, peepholes, projects, norms, asymmetricQuantizeInputs=offset,
        cellClip=2.0,
    )  # fmt: skip
    steps = drawn(rng, "float32")
    for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6 if kind == "float32" else 1e-3)


@pytest.mark.parametrize(("target", "norms"), [("edge256", False), ("headset2k", True)])
def test_of_integers_is_on_the_accelerator(target: str, norms: bool) -> None:
    """With layer normalization on machines whose vector unit has 64 bits."""
    rng = np.random.default_rng(0)
    source = lstm(rng, "int8", coupled=True, peepholes=True, projects=True, norms=norms)
    steps = drawn(rng, "int8")
    program = npu.compile(tflite.load(source), target)
    assert all(row.engine != "host" for row in program.placement)
    state: dict[str, Any] | None = None
    for x, expected in zip(steps, reference_runs(source, steps), strict=True):
        run = npu.simulate(program, [x], state=state)
        np.testing.assert_array_equal(next(iter(run.outputs.values())), expected)
        state = dict(run.state)


def test_integers_are_normalized_on_the_host_where_there_are_no_64_bits() -> None:
    rng = np.random.default_rng(0)
    program = npu.compile(tflite.load(lstm(rng, "int8", norms=True)), "edge256")
    reasons = {row.reason for row in program.placement if row.engine == "host"}
    assert reasons
    assert all("i64" in reason for reason in reasons), reasons


def test_a_cell_of_integers_without_the_quantization_of_what_is_projected_is_refused() -> None:
    rng = np.random.default_rng(0)
    source = lstm(rng, "int8")
    found = schema().ModelT.InitFromPackedBuf(source, 0)
    found.subgraphs[0].operators[0].intermediates = None
    with pytest.raises(npu.CompileError, match="without the quantization of what is projected"):
        tflite.load(packed(found))


@given(seeds, st.tuples(flags, flags, flags, flags))
@settings(max_examples=12)
def test_one_step_of_integers(seed: int, has: tuple[bool, bool, bool, bool]) -> None:
    rng = np.random.default_rng(seed)
    source = lstm(rng, "int8", *has, is_step=True)
    steps = [draw(rng, Tensor((BATCH, INPUTS), "int8")) for _ in range(RUNS)]
    for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
        np.testing.assert_array_equal(a, b)


def root_by_newton(v: int) -> tuple[int, int]:
    """The multiplier and the right shift of 1 / sqrt(v), in Python's integers."""

    def high(x: int, y: int) -> int:
        return (x * y + (1 << 30)) >> 31

    if v <= 1:
        return (1 << 31) - 1, 0
    shift = 11
    while v >= 1 << 29:
        v, shift = v // 4, shift + 1
    pairs = (31 - v.bit_length()) // 2 - 1
    v, shift = v << (2 * pairs), shift - pairs
    half, x = ((v >> 1) + 1) >> 1, 1 << 28
    for _ in range(5):
        cube = min(high(high(x, x), x) << 6, (1 << 31) - 1)
        x = min((high((1 << 28) + (1 << 27), x) - high(half, cube)) << 3, (1 << 31) - 1)
    return high(x, 1518500250) << max(-shift, 0), max(shift, 0)


def test_inverse_roots_of_all_magnitudes() -> None:
    builder = Builder(Block())
    values = np.unique((2.0 ** np.linspace(0, 30.99, 4000)).astype(np.int32))
    values = np.union1d(values, np.arange(1, 300, dtype=np.int32))
    found = inverse_root(builder, builder.constant(values))
    multiplier, power = (builder.known(v, "a constant").tolist() for v in found)
    expected = [root_by_newton(v) for v in values.tolist()]
    assert multiplier == [m for m, _ in expected]
    assert power == [1 << (12 - shift) for _, shift in expected]


# RNN


def rnn(
    rng: np.random.Generator, kind: str, code: str, shape: tuple[int, ...], **fields: Any
) -> bytes:
    inputs = [
        Tensor(shape, "float32"), weight(rng, kind, CELLS, INPUTS), weight(rng, kind, CELLS, CELLS),
        bias(rng, "float32", CELLS), Tensor((BATCH, CELLS), "float32", is_variable=True),
    ]  # fmt: skip
    options = "RNNOptions" if code == "RNN" else "SequenceRNNOptions"
    return model(code, inputs, [Tensor((*shape[:-1], CELLS), "float32")], options, **fields)


@given(seeds, st.sampled_from(["float32", "int8"]), flags, flags, st.sampled_from([1, 3, 4]))
@settings(max_examples=24)
def test_rnn(seed: int, kind: str, offset: bool, time_major: bool, activation: int) -> None:
    """Of weights of 8 bits with RELU and RELU6, the bits; sums of floats are in another order."""
    rng = np.random.default_rng(seed)
    more = {"asymmetricQuantizeInputs": offset, "fusedActivationFunction": activation}
    shape = (STEPS, BATCH, INPUTS) if time_major else (BATCH, STEPS, INPUTS)
    sources = {
        shape: rnn(rng, kind, "UNIDIRECTIONAL_SEQUENCE_RNN", shape, timeMajor=time_major, **more),
        (BATCH, INPUTS): rnn(rng, kind, "RNN", (BATCH, INPUTS), **more),
    }
    for size, source in sources.items():
        steps = [draw(rng, Tensor(size, "float32")) for _ in range(RUNS)]
        for a, b in zip(runs(source, steps), reference_runs(source, steps), strict=True):
            if kind == "int8" and activation != 4:
                np.testing.assert_array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6)
