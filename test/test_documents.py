"""The documents: their examples run as they are printed, their links lead somewhere, and the
generated ones are current.

```python blocks of a document run in one namespace; in ```bash blocks the lines of our tools run.
The folder has a small model.onnx (image f32[1, 3, 16, 16] -> logits f32[1, 10]) and its x.npy.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import ROOT, TOOLS, run_in_process
from onnx import TensorProto, helper, numpy_helper

from npu_dialect.tools.docs.pages import PAGES

README = ROOT / "README.md"
ADDING = ROOT / "docs" / "adding.md"

DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(small_model(), "model.onnx")
    np.save("x.npy", image())
    (tmp_path / "images").mkdir()
    for number in range(3):
        np.save(f"images/{number}.npy", image())
    np.save("y.npy", np.zeros(3, int))
    samples = np.random.default_rng(1).standard_normal((8, 3, 16, 16))
    np.savez("samples.npz", image=samples.astype(np.float32))
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
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def blocks(path: Path) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a document."""
    return re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_readme_run(folder: Path):
    names: dict[str, Any] = {"x": image(), "np": np}
    for language, text in blocks(README):
        if language == "python":
            exec(compile(text, str(README), "exec"), names)
        if language == "bash":
            run_commands(text)


def test_the_examples_of_how_to_add_run(tmp_path: Path):
    # in a process of its own, since it adds rows to the tables of the compiler
    code = "".join(text for language, text in blocks(ADDING) if language == "python")
    (tmp_path / "adding.py").write_text(code)
    command = [sys.executable, "-W", "error", "adding.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def run_commands(text: str) -> None:
    """Run the lines of our tools; what else a block shows (make, git) is not run."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and words[0] in TOOLS:
            run = run_in_process(words[0], words[1:])
            assert run.code == 0, f"{line}\n{run.err}"


# Links and names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_what_exists(path: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(path)):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link}"


FOLDERS = ("npu_dialect", "passes", "frontends", "runtime", "tools", "test", "docs", "benchmarks")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path):
    names = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", path.read_text())
    missing = [name for name in names if not (ROOT / name).exists()]
    assert [name for name in missing if re.sub("[_-]", " ", Path(name).stem) != EXAMPLE] == []


EXAMPLE = "graph same operands"
"""The pass that the guide adds."""


def without_blocks(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as the common renderers of Markdown make them."""
    heads = re.findall(r"^#+ (.*)$", without_blocks(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


# Generated pages


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str):
    written = (ROOT / "docs" / name).read_text()
    assert written == PAGES[name](), "run: python -m npu_dialect.tools.docs"
