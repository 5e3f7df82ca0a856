"""The pieces of the benchmarks: their models, their measure of distance, their scripts start."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = (
    "accuracy", "compile", "external", "fuzz_import", "integer_functions", "onnx_backend",
    "simulation", "startup", "torch_models", "torch_opinfo", "vela", "zoo",
)  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the benchmarks as their scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {*sys.modules} - before:
        if name in (*SCRIPTS, "common", "reference"):
            del sys.modules[name]


@pytest.fixture
def zoo(load: Any) -> Any:
    return load("zoo")


@pytest.fixture
def reference(load: Any) -> Any:
    return load("reference")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_explains_itself(name: str):
    found = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--help"], capture_output=True, text=True
    )
    assert found.returncode == 0
    assert "usage:" in found.stdout


def test_every_script_has_its_section_in_the_document():
    text = (FOLDER.parent / "docs" / "benchmarks.md").read_text()
    for name in ("accuracy", "compile", "simulation", "startup"):
        assert f"python benchmarks/{name}.py" in text


def test_an_unknown_model_is_refused_with_the_known_ones():
    command = [sys.executable, str(FOLDER / "compile.py"), "mobilenet"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "no model mobilenet; there are: digits, " in found.stderr


def test_a_row_of_the_compile_benchmark_needs_equal_programs(load: Any):
    compile = load("compile")
    row = {"import_seconds": 1.0, "compile_seconds": 2.0, "memory": 5, "digest": "a"}
    slow = row | {"compile_seconds": 3.0, "memory": 7}
    assert compile.merge(slow, row) == row | {"memory": 7, "identical": True}
    assert not compile.merge(slow, row | {"digest": "b"})["identical"]
    assert compile.merge(row, {"error": "no"}) == {"error": "no"}


@pytest.mark.parametrize(
    ("name", "parameters", "convolutions"),
    [("mobilenet_v2", 3_504_872, 52), ("resnet18", 11_689_512, 20)],
)
def test_a_network_has_the_size_that_is_published(
    zoo: Any, name: str, parameters: int, convolutions: int
):
    torch = pytest.importorskip("torch")
    net = getattr(zoo, name)()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == convolutions


def test_a_cache_folder_depends_on_what_makes_the_model(zoo: Any, tmp_path: Path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text("a")
    first = zoo._place(tmp_path, str(recipe))
    assert first == zoo._place(tmp_path, str(recipe))
    recipe.write_text("b")
    assert first != zoo._place(tmp_path, str(recipe))


def test_reals_are_compared_relative_to_their_range(reference: Any):
    wanted = np.array([0.0, 10.0], np.float32)
    near = reference.distance(wanted + np.float32(0.0009), wanted)
    far = reference.distance(wanted + np.float32(0.0011), wanted)
    assert near.within and not far.within
    assert far.largest == pytest.approx(0.00011, rel=1e-2)


def test_quantized_values_may_differ_by_one_step_in_one_of_a_hundred(reference: Any):
    wanted = np.zeros(200, np.int8)
    wanted[0] = 100
    found = wanted.copy()
    found[1:3] += 1
    assert reference.distance(found, wanted).within
    found[3] += 1
    assert not reference.distance(found, wanted).within
    assert str(reference.distance(found, wanted)) == "1 steps, 1.500%"


def test_dequantized_values_are_compared_in_steps(reference: Any):
    wanted = np.zeros(100, np.float32)
    found = wanted.copy()
    found[7] = 0.5
    assert reference.distance(found, wanted, step=0.5).largest == 1
    assert reference.distance(found, wanted, step=0.25).largest == 2


def test_another_argmax_is_a_disagreement(reference: Any):
    found = reference.distance(np.array([1, 2] * 100), np.array([2, 2] + [1, 2] * 99))
    assert not found.same_argmax and not found.within


def test_a_tensor_of_the_reference_is_moved_to_our_layout(reference: Any):
    wanted = np.arange(24).reshape(1, 2, 3, 4)
    moved = wanted.transpose(0, 2, 3, 1)
    assert np.array_equal(reference.in_layout_of(wanted, moved), moved)
    assert reference.in_layout_of(wanted, np.zeros((1, 5, 5, 1))) is None


def test_the_verdict_names_the_reason(load: Any, reference: Any):
    accuracy = load("accuracy")
    near = reference.Distance(True, 1, 1, 1000)
    far = reference.Distance(True, 9, 700, 1000)
    assert accuracy.agrees(near, near, near, near) == "yes"
    assert accuracy.agrees(far, near, far, near) == "by layers"
    assert accuracy.agrees(far, near, near, near) == "NO"
    assert accuracy.agrees(far, near, far, far) == "NO"
