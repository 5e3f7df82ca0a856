"""Real models as onnxruntime's optimizer and quantizers leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_support import SHARED, Array, operations, run_onnxruntime
from test_onnx_models import entry, imported

from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

MODELS = SHARED / "models"

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"needs the reference models in {MODELS}"
)

OPTIMIZED = {
    "winml_mnist": {"FusedConv"},
    "burn_mnist": {"FusedConv", "FusedGemm"},
    "cct_cifar": {"FusedConv", "FusedMatMul", "SkipLayerNormalization"},
    "cifar_resnet20_qop_u8s8": {"QGemm", "QLinearAdd", "QLinearAveragePool"},
    "shark_qmlp": {"QGemm"},
}
"""Some of the operators of com.microsoft that the optimizer puts into each model."""


def first_case(name: str) -> tuple[dict[str, Array], list[Array]]:
    """The inputs of a stored case by name, and its outputs."""
    _, cases = imported(name)
    names = [value["name"] for value in entry(name)["inputs"]]
    return dict(zip(names, cases[0][0], strict=True)), cases[0][1]


def optimized(name: str, folder: Path) -> Path:
    """The model after all optimizations that do not depend on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    file = str(MODELS / entry(name)["file"])
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return folder / "optimized.onnx"


@pytest.mark.parametrize("name", OPTIMIZED)
def test_an_optimized_model_gives_the_stored_outputs(name: str, tmp_path: Path) -> None:
    feeds, outputs = first_case(name)
    path = optimized(name, tmp_path)
    assert {node.op_type for node in onnx.load(path).graph.node} >= OPTIMIZED[name]
    module = load(path, {key: x.shape for key, x in feeds.items()})
    assert not operations(module, "graph.opaque")
    for y, reference in zip(run(module, list(feeds.values())), outputs, strict=True):
        span = float(np.ptp(reference)) if reference.size else 0.0
        np.testing.assert_allclose(y, reference, rtol=1e-3, atol=1e-4 * span + 1e-9)


def test_weights_of_four_bits_give_what_onnxruntime_gives(tmp_path: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    feeds, _ = first_case("cct_cifar")
    path = MODELS / entry("cct_cifar")["file"]
    quantizer: Any = MatMulNBitsQuantizer(onnx.load(path), block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(str(tmp_path / "few.onnx"))
    model = onnx.load(tmp_path / "few.onnx")
    (expected,) = run_onnxruntime(model, feeds)
    (y,) = run(load(model, {key: x.shape for key, x in feeds.items()}), list(feeds.values()))
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * float(np.ptp(expected)))


def test_dynamic_quantization_gives_what_onnxruntime_gives(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    feeds, _ = first_case("winml_cifar_cnn")
    quantize_dynamic(MODELS / entry("winml_cifar_cnn")["file"], tmp_path / "dynamic.onnx")
    model = onnx.load(tmp_path / "dynamic.onnx")
    (expected,) = run_onnxruntime(model, feeds)
    (y,) = run(load(model, {key: x.shape for key, x in feeds.items()}), list(feeds.values()))
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * float(np.ptp(expected)))
