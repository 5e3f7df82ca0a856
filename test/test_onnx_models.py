"""Real models import, and the graph computes what onnxruntime computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx_support import SHARED, Array, operations
from xdsl.dialects.builtin import ModuleOp

from npu_dialect import provenance
from npu_dialect.frontends.onnx import load
from npu_dialect.graph.interpret import run

MODELS = SHARED / "models"

pytestmark = pytest.mark.skipif(
    not MODELS.is_dir(), reason=f"needs the reference models in {MODELS}"
)

FLOAT = (
    "winml_mnist", "burn_mnist", "winml_cifar_cnn", "cifar_resnet20", "deeploy_autoencoder1d",
    "ultraface_rfb320", "yunet_n_320", "silero_vad_16k_static", "dtln_1", "gap_mnist_gru",
    "basic_pitch", "stories260k_prefill64", "cct_cifar", "magika_fast_v2_1", "shark_qmlp",
)  # fmt: skip
"""rtol 1e-3, atol 1e-4 of the range of the reference."""

QUANTIZED = ("winml_mnist_qdq_u8s8", "cifar_resnet20_qdq_s8s8_pc", "cifar_resnet20_qop_u8s8")
"""One step of the last quantized tensor, on at most 1 % of the elements, with the same argmax."""

MAX_CASES = 3


def entry(name: str) -> Mapping[str, Any]:
    manifest = json.loads((MODELS / "manifest.json").read_text())
    return next(model for model in manifest if model["id"] == name)


def imported(name: str) -> tuple[ModuleOp, list[tuple[list[Array], list[Array]]]]:
    """The module, and the inputs and outputs of the reference cases that have its shapes."""
    model = entry(name)
    with np.load(MODELS / model["reference"]["file"]) as data:
        arrays = {key: data[key] for key in data.files}
    cases = [
        (
            [arrays[f"case{k}/in{i}"] for i in range(len(model["inputs"]))],
            [arrays[f"case{k}/out{i}"] for i in range(len(model["outputs"]))],
        )
        for k in range(min(model["reference"]["cases"], MAX_CASES))
    ]
    first = [x.shape for x in cases[0][0]]
    cases = [case for case in cases if [x.shape for x in case[0]] == first]
    names = [value["name"] for value in model["inputs"]]
    shapes = {n: x.shape for n, x in zip(names, cases[0][0], strict=True)}
    return load(MODELS / model["file"], shapes), cases


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_model_matches_its_reference(name: str) -> None:
    module, cases = imported(name)
    module.verify()
    provenance.check(module)
    assert operations(module, "graph.opaque") == []
    for inputs, outputs in cases:
        for y, reference in zip(run(module, inputs), outputs, strict=True):
            assert (y.shape, y.dtype) == (reference.shape, reference.dtype)
            span = float(np.ptp(reference)) if reference.size else 0.0
            np.testing.assert_allclose(y, reference, rtol=1e-3, atol=1e-4 * span + 1e-9)


@pytest.mark.parametrize("name", QUANTIZED)
def test_an_integer_model_matches_its_reference(name: str) -> None:
    module, cases = imported(name)
    assert not operations(module, "graph.opaque")
    for inputs, (reference,) in cases:
        (y,) = run(module, inputs)
        step = np.diff(np.unique(reference)).min()
        assert np.abs(y - reference).max() <= step * 1.001
        assert np.argmax(y) == np.argmax(reference)
        assert np.mean(y != reference) <= 0.01


def test_a_quantized_detector_imports_without_opaque_operations() -> None:
    """Its float convolutions may round another way before a quantize: 3 % of the range."""
    module, cases = imported("ultraface_qdq_s8s8_pc")
    assert not operations(module, "graph.opaque")
    for y, reference in zip(run(module, cases[0][0]), cases[0][1], strict=True):
        assert np.abs(y - reference).max() <= 0.03 * np.ptp(reference)
