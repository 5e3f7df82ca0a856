"""A trained decoder (stories260k, 64 words) in integers, beside onnxruntime's floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import npu_dialect as npu
from npu_dialect import graph, levels

Array = np.ndarray[Any, Any]


def texts(models: Path) -> list[Array]:
    """The two texts that are stored beside the model: [1, 64] numbers of words."""
    with np.load(models / "stories260k_prefill64.npz") as found:
        return [found[f"case{k}/in0"] for k in (0, 1)]


@pytest.mark.parametrize(
    ("scheme", "decibels", "agreeing"), [("int8", 25.0, 0.8), ("int16x8", 40.0, 0.97)]
)
def test_a_trained_decoder_keeps_its_words(
    models: Path, scheme: str, decibels: float, agreeing: float
):
    """On edge256, which has no floats; nothing of it is left to the host."""
    path = models / "stories260k_prefill64.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    module = npu.load(path, target="edge256")
    (port,) = levels.inputs_of(module)
    samples = [{port.name: each.astype(port.dtype.numpy)} for each in texts(models)]
    npu.quantize(module, npu.Quantization(scheme, samples=samples))
    npu.lower(module, until="graph")
    groups = [op for op in module.walk() if isinstance(op, graph.GroupOp)]
    assert groups and "host" not in {op.kind.data for op in groups}
    name = session.get_inputs()[0].name
    exact = np.stack([np.asarray(session.run(None, {name: x})[0]) for x in texts(models)])
    found = np.stack([next(iter(npu.execute(module, s).values())) for s in samples])
    noise = np.sum((exact.astype(np.float64) - found) ** 2)
    assert 10 * np.log10(np.sum(exact.astype(np.float64) ** 2) / noise) > decibels
    assert np.mean(exact.argmax(-1) == found.argmax(-1)) >= agreeing
