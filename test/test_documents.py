"""The examples in the documents run as they are printed.

```python blocks of a document run in one namespace; in ```bash blocks the lines of our tools run.
The folder has a small model.onnx (image f32[1, 3, 16, 16] -> logits f32[1, 10]) and its x.npy.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import ROOT, TOOLS, run_in_process
from onnx import TensorProto, helper, numpy_helper

DOCUMENTS = [path for path in [ROOT / "README.md"] if path.exists()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(small_model(), "model.onnx")
    np.save("x.npy", image())
    return tmp_path


def image() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)


def small_model() -> onnx.ModelProto:
    """Convolution, ReLU, average pooling and a fully connected layer."""
    generator = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        values = 0.1 * generator.standard_normal(shape)
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("GlobalAveragePool", ["r1"], ["p1"], "pool1"),
        helper.make_node("Flatten", ["p1"], ["f1"], "flatten1"),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["logits"], "fc1"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 8, 10), weights("b2", 10)],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def blocks(path: Path) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a document."""
    return re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_run(path: Path, folder: Path):
    names: dict[str, Any] = {"x": image(), "np": np}
    for language, text in blocks(path):
        if language == "python":
            exec(compile(text, str(path), "exec"), names)
        if language == "bash":
            run_commands(text)


def run_commands(text: str) -> None:
    """Run the lines of our tools; what else a block shows (make, git) is not run."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and words[0] in TOOLS:
            run = run_in_process(words[0], words[1:])
            assert run.code == 0, f"{line}\n{run.err}"
