"""The stored TFLite models give the bits of TFLite's reference kernels, at all levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npu_dialect as npu

pytest.importorskip("tflite")

EXACT = [
    "coral_mobilenet_v1_025_128",
    "mcunet_vww",
    "mlperf_ad_int8",
    "mlperf_ic_int8",
    "mlperf_kws_int8",
    "mlperf_vww_int8",
    "tflm_hello_int8",
    "tflm_micro_speech_int8",
    pytest.param("coral_tf2_mobilenet_v2_ptq", marks=pytest.mark.slow),
]

STREAMS = ["mww_okay_nabu_stream", "tflm_mnist_lstm_int8"]
"""Models with variables."""

HYBRID = "mlperf_kws_fp32"
"""Floats times 8-bit weights."""

FLOATS = ["mlperf_ad_fp32", "mlperf_ic_fp32", "dtln_quant_2", "tflm_mnist_lstm_fp32"]

Case = tuple[dict[str, Any], list[Any]]


def cases(models: Path, name: str) -> list[Case]:
    """Inputs in order and outputs in order, by the cases of the stored file."""
    path = models / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    with np.load(path) as stored:
        arrays = dict(stored)
    found: list[Case] = []
    for k in range(len({key.partition("/")[0] for key in arrays})):
        inputs = {key: a for key, a in sorted(arrays.items()) if key.startswith(f"case{k}/in")}
        outputs = [a for key, a in sorted(arrays.items()) if key.startswith(f"case{k}/out")]
        found.append((inputs, outputs))
    return found


def test_every_stored_model_is_compared(models: Path) -> None:
    exact = [name if isinstance(name, str) else str(name.values[0]) for name in EXACT]
    stored = {path.stem for path in models.glob("*.tflite")}
    assert stored <= {*exact, *STREAMS, HYBRID, *FLOATS}


def same(found: Any, expected: list[Any]) -> bool:
    values = list(found.values())[: len(expected)]
    return all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("name", EXACT)
def test_all_levels_give_the_bits_of_the_reference(name: str, models: Path) -> None:
    stored = cases(models, name)
    module = npu.load(models / f"{name}.tflite", target="edge256")
    for level in ("graph", "tile"):
        npu.lower(module, until=level)
        inputs, expected = stored[0]
        assert same(npu.execute(module, list(inputs.values())), expected), level
    npu.lower(module, until="npu")
    program = npu.assemble(module)
    for inputs, expected in stored:
        assert same(npu.simulate(program, list(inputs.values())).outputs, expected)


@pytest.mark.parametrize("name", STREAMS)
def test_variables_are_states_that_go_from_run_to_run(name: str, models: Path) -> None:
    stored = cases(models, name)
    program = npu.compile(models / f"{name}.tflite", "edge256")
    state: dict[str, Any] | None = None
    for inputs, expected in stored:
        run = npu.simulate(program, list(inputs.values()), state=state)
        assert same(run.outputs, expected)
        state = dict(run.state)


def test_floats_times_8_bit_weights_are_quantized_as_the_reference_does(models: Path) -> None:
    stored = cases(models, HYBRID)
    program = npu.compile(models / f"{HYBRID}.tflite", "mobile4k")
    for inputs, expected in stored:
        assert same(npu.simulate(program, list(inputs.values())).outputs, expected)


@pytest.mark.parametrize("name", FLOATS)
def test_float_models_are_within_a_rounding_or_two_of_the_reference(
    name: str, models: Path
) -> None:
    module = npu.load(models / f"{name}.tflite", target="mobile4k")
    npu.lower(module, until="graph")
    state: dict[str, Any] = {}
    for inputs, expected in cases(models, name):
        results = npu.execute(module, list(inputs.values()), state=state).values()
        for found, wanted in zip(list(results)[: len(expected)], expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_cell_of_an_lstm_gives_the_bits_of_the_reference(models: Path) -> None:
    """Every output of every step, for random inputs, from run to run."""
    pytest.importorskip("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from tflite_models import first_operator

    from npu_dialect.frontends import tflite

    source = first_operator((models / "tflm_mnist_lstm_int8.tflite").read_bytes())
    interpreter = Interpreter(
        model_content=source, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    module, state, rng = npu.load(tflite.load(source)), {}, np.random.default_rng(0)
    for spread in (0, 30, 128, 128):
        x = np.clip(rng.normal(-60, spread, (1, 28, 28)), -128, 127).astype(np.int8)
        interpreter.set_tensor(into["index"], x)
        interpreter.invoke()
        found = next(iter(npu.execute(module, x, state=state).values()))
        np.testing.assert_array_equal(found, interpreter.get_tensor(out["index"]))
