"""The stored models as TOSA: bit for bit by the specification, by Arm's model of it, and back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tosa_reference
from tosa_support import mlir_opt, reference_model, stored, tool

import npu_dialect as npu
from npu_dialect import exchange, levels
from npu_dialect.diagnostics import CompileError, collect

pytest.importorskip("tflite")

EXACT = [
    "mlperf_ad_int8.tflite", "mlperf_ic_int8.tflite", "mlperf_kws_int8.tflite",
    "tflm_hello_int8.tflite", "tflm_micro_speech_int8.tflite", "mcunet_vww.tflite",
    "shark_qmlp.onnx", "winml_mnist_qdq_u8s8.onnx", "cifar_resnet20_qdq_s8s8_pc.onnx",
    *(pytest.param(name, marks=pytest.mark.slow) for name in (
        "mlperf_vww_int8.tflite", "coral_mobilenet_v1_025_128.tflite",
        "coral_tf2_mobilenet_v2_ptq.tflite", "cifar_resnet20_qop_u8s8.onnx",
    )),
]  # fmt: skip
"""Models whose integers decide the results: these are the same in every bit."""

FLOAT = ["mlperf_ad_fp32.tflite", "mlperf_ic_fp32.tflite", "winml_mnist.onnx", "cct_cifar.onnx"]
"""Models of floats, which are close."""

OPEN = {
    "dtln_quant_2.tflite": "rsqrt, on which integers of the model depend; try --tosa-open",
    "mlperf_kws_fp32.tflite": "on which integers of the model depend; try --tosa-open",
    "ultraface_qdq_s8s8_pc.onnx": "exp, on which integers of the model depend; try --tosa-open",
}
"""Models in which integers are made of what TOSA leaves open."""

REFUSED = {"stories260k_prefill64.onnx": "whole numbers of 64 bits"}


def exported(path, target="edge256", **options):
    with collect():
        return exchange.tosa_text(exchange.to_tosa(npu.load(path, target), **options))


def case(models: Path, name):
    """The inputs and outputs of the first stored case."""
    path = models / f"{name.partition('.')[0]}.npz"
    if not path.is_file() or not (models / name).is_file():
        pytest.skip(f"{path} is missing")
    with np.load(path) as arrays:
        found = {k: arrays[k] for k in sorted(arrays.files) if k.startswith("case0/")}
    inputs = [a for k, a in found.items() if "/in" in k]
    return inputs, [a for k, a in found.items() if "/out" in k]


def same(found, expected):
    return all(np.array_equal(stored(a), stored(b)) for a, b in zip(found, expected, strict=False))


@pytest.mark.parametrize("name", EXACT)
def test_the_text_and_what_is_read_back_give_the_stored_bits(models: Path, name, tmp_path):
    inputs, expected = case(models, name)
    text = exported(models / name)
    assert same(tosa_reference.run(text, [stored(a) for a in inputs]), expected)
    path = tmp_path / "model.mlir"
    path.write_text(text)
    module = npu.load(path)
    assert same(npu.execute(module, inputs).values(), expected)
    assert [p.name for p in levels.inputs_of(module)] == [
        p.name for p in levels.inputs_of(npu.load(models / name))
    ]


@pytest.mark.parametrize("name", FLOAT)
def test_floats_are_close_and_read_back_as_close(models: Path, name, tmp_path):
    inputs, expected = case(models, name)
    text = exported(models / name, "mobile4k")
    path = tmp_path / "model.mlir"
    path.write_text(text)
    for found in (tosa_reference.run(text, inputs), npu.execute(npu.load(path), inputs).values()):
        for a, b in zip(found, expected, strict=True):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OPEN)
def test_integers_of_open_floats_are_refused_unless_allowed(models: Path, name):
    case(models, name)
    with pytest.raises(CompileError) as found:
        exported(models / name, "mobile4k")
    assert OPEN[name] in str(found.value)
    assert "tosa." in exported(models / name, "mobile4k", is_open=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_tosa_has_no_type_for_is_refused(models: Path, name):
    case(models, name)
    with pytest.raises(CompileError) as found:
        exported(models / name, "mobile4k")
    assert REFUSED[name] in str(found.value)


@pytest.mark.skipif(tool("mlir-opt") is None, reason="mlir-opt (mlir-22-tools) is not installed")
@pytest.mark.parametrize("name", [*EXACT, *FLOAT, *OPEN])
def test_mlir_takes_the_text(models: Path, name):
    case(models, name)
    target = "edge256" if name in EXACT else "mobile4k"
    assert mlir_opt(exported(models / name, target, is_open=True)) is None


@pytest.mark.skipif(tool("tosa_reference_model") is None, reason="tosa-tools are not installed")
@pytest.mark.parametrize("name", EXACT)
def test_the_reference_model_gives_the_stored_bits(models: Path, name, tmp_path):
    inputs, expected = case(models, name)
    text = exported(models / name)
    given = [stored(a) for a in inputs]
    assert same(reference_model(tmp_path, text, given, len(expected)), expected)


CONVERTED = [
    "mlperf_ic_int8", "mlperf_kws_int8", "mlperf_ad_int8", "mlperf_vww_int8", "tflm_hello_int8",
    "tflm_micro_speech_int8", "mcunet_vww", "coral_mobilenet_v1_025_128",
]  # fmt: skip
"""Models that Arm's converter makes TOSA of, in its own way: the bits are not TFLite's."""


@pytest.mark.skipif(
    tool("tosa_reference_model") is None or tool("tosa-converter-for-tflite") is None,
    reason="tosa-tools or tosa-converter-for-tflite are not installed",
)
@pytest.mark.parametrize("name", CONVERTED)
def test_what_another_tool_makes_of_a_model_has_the_bits_of_the_reference_model(
    models: Path, name, tmp_path
):
    inputs, expected = case(models, f"{name}.tflite")
    path = tmp_path / "converted.mlir"
    command = [tool("tosa-converter-for-tflite"), "--text", str(models / f"{name}.tflite")]
    subprocess.run([*command, "-o", str(path)], check=True, capture_output=True)
    text = re.sub(r"tensor<\?x", "tensor<1x", path.read_text())
    text = re.sub(r"const_shape +\{values = dense<\[-1,", "const_shape {values = dense<[1,", text)
    path.write_text(text)
    found = npu.execute(npu.load(path), inputs).values()
    given = [stored(a) for a in inputs]
    assert same(found, reference_model(tmp_path, text, given, len(expected)))


def test_the_program_of_what_is_read_back_gives_the_stored_bits(models: Path, tmp_path):
    inputs, expected = case(models, "mlperf_kws_int8.tflite")
    path = tmp_path / "model.mlir"
    path.write_text(exported(models / "mlperf_kws_int8.tflite"))
    program = npu.compile(path, "edge256")
    assert same(npu.simulate(program, inputs).outputs.values(), expected)


def test_a_streaming_model_keeps_its_states(models: Path, tmp_path):
    name = "mww_okay_nabu_stream.tflite"
    case(models, name)
    path = tmp_path / "model.mlir"
    path.write_text(exported(models / name))
    original, back = npu.load(models / name), npu.load(path)
    (port,) = levels.inputs_of(original)
    rng = np.random.default_rng(0)
    before, after = {}, {}
    for _ in range(4):
        x = rng.integers(-128, 128, port.shape).astype(np.int8)
        expected = npu.execute(original, [x], state=before)
        assert same(npu.execute(back, [x], state=after).values(), expected.values())
