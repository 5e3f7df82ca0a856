"""Real models, compiled and simulated, against the outputs of onnxruntime that are stored with
them.

fp32: rtol 1e-3, atol 1e-4 of the tensor's range. int8: at most one quantization step, on at most
one in a hundred elements of all cases together, and the same argmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from npu_dialect import api
from npu_dialect.frontends.onnx import load
from npu_dialect.runtime.program import Program
from npu_dialect.tools.demo import digits
from npu_dialect.tools.demo.__main__ import compile_model, output_scale, simulate

Array = npt.NDArray[Any]
FLOAT = ("winml_mnist", "winml_cifar_cnn", "cifar_resnet20")
INT8 = ("winml_mnist_qdq_u8s8", "cifar_resnet20_qdq_s8s8_pc", "cifar_resnet20_qop_u8s8")


def cases(models: Path, name: str) -> Iterator[tuple[Array, Array]]:
    """(input, output) of each stored case."""
    with np.load(models / f"{name}.npz") as stored:
        for k in range(len(stored.files) // 2):
            yield stored[f"case{k}/in0"], stored[f"case{k}/out0"]


def compiled(models: Path, name: str, target: str, shape: tuple[int, ...]) -> Program:
    path = models / f"{name}.onnx"
    if name != "winml_cifar_cnn":
        return api.compile(path, target)
    return api.compile(path, target, shapes={"modelInput": shape})


def run(program: Program, x: Array) -> Array:
    return next(iter(api.simulate(program, [x]).outputs.values()))


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_model_matches_its_stored_outputs(models: Path, name: str):
    programs: dict[tuple[int, ...], Program] = {}
    for x, expected in cases(models, name):
        if x.shape not in programs:
            programs[x.shape] = compiled(models, name, "mobile4k", x.shape)
        found = run(programs[x.shape], x)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.ptp(expected)))
        np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_model_runs_on_the_host_of_an_integer_machine(models: Path, name: str):
    x, expected = next(cases(models, name))
    program = compiled(models, name, "edge256", x.shape)
    assert {row.engine for row in program.placement} <= {"host", "dma", "io", "folded"}
    atol = 1e-4 * float(np.ptp(expected))
    np.testing.assert_allclose(run(program, x), expected, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("name", INT8)
def test_an_integer_model_matches_its_stored_outputs_to_a_step(models: Path, name: str):
    program = api.compile(models / f"{name}.onnx", "edge256")
    step = last_scale(models / f"{name}.onnx")
    differing = total = 0
    for x, expected in cases(models, name):
        found = run(program, x)
        steps = np.rint(np.abs(found - expected) / step)
        assert steps.max() <= 1
        assert found.argmax() == expected.argmax()
        differing += int(np.count_nonzero(steps))
        total += steps.size
    assert differing <= total / 100


@pytest.mark.parametrize("name", INT8)
def test_an_integer_model_needs_no_host_operation(models: Path, name: str):
    program = api.compile(models / f"{name}.onnx", "edge256")
    assert "host" not in {op.engine for _, op in program.executed}


def last_scale(path: Path) -> float:
    """The greatest scale of the last quantized tensor of a model."""
    from npu_dialect.graph import DequantizeOp, QuantType

    last = [op for op in load(path).walk() if isinstance(op, DequantizeOp)][-1]
    element = last.x.type.element_type  # type: ignore[union-attr]
    assert isinstance(element, QuantType)
    return float(element.scales.max())


# --- the network of the demonstration


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, digits.Digits]:
    folder = tmp_path_factory.mktemp("digits")
    data = digits.load()
    digits.export(digits.train(data, epochs=3), folder / "digits.onnx")
    digits.quantize(folder / "digits.onnx", folder / "digits_int8.onnx", data)
    return folder, data


def test_the_digits_network_in_fp32_matches_onnxruntime(network: tuple[Path, digits.Digits]):
    folder, data = network
    images = data.test_images[:20]
    logits, _ = simulate(api.compile(folder / "digits.onnx", "mobile4k"), images)
    expected = digits.run_onnxruntime(folder / "digits.onnx", images)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * float(np.ptp(expected)))


def test_the_digits_network_in_int8_matches_onnxruntime_to_a_step(
    network: tuple[Path, digits.Digits],
):
    folder, data = network
    program = compile_model(folder / "digits_int8.onnx", "edge256", folder)
    logits, _ = simulate(program, data.test_images)
    expected = digits.run_onnxruntime(folder / "digits_int8.onnx", data.test_images)
    steps = np.rint(np.abs(logits - expected) / output_scale(folder / "digits_int8.onnx"))
    assert steps.max() <= 1
    assert np.count_nonzero(steps) <= steps.size / 100
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def test_two_compilations_give_the_same_bytes(network: tuple[Path, digits.Digits]):
    path = network[0] / "digits_int8.onnx"
    assert api.compile(path, "edge256").to_bytes() == api.compile(path, "edge256").to_bytes()
