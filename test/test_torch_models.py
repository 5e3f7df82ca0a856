"""Whole models of torch.nn through capture and compilation, as the benchmark measures them."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect.runtime.program import Program  # noqa: E402

nn = torch.nn
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ZOO = Path(os.environ.get("NPU_ZOO", Path(__file__).parents[2] / "shared/suites/torch_zoo.py"))
SAMPLE = ("nn_lenet", "nn_lstm", "nn_transformer_encoder", "nn_unet")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script `torch_models.py` as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("torch_models")
    for name in ({*sys.modules} - before) & {"torch_models", "common", "zoo"}:
        del sys.modules[name]


@pytest.mark.skipif(not ZOO.exists(), reason="the zoo of models is not there")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_model_of_the_zoo_runs_on_the_npu_and_gives_what_torch_gives(benchmark: Any, name: str):
    args = SimpleNamespace(zoo=ZOO, target="mobile4k", programs=None, scramble=True)
    row = benchmark.measure(args, name)
    assert row["host"] == {}
    assert row["off_by"] <= benchmark.GOAL
    assert row["cycles"] > 0


def test_a_distance_is_relative_to_the_range_of_its_own_output(benchmark: Any):
    wanted = [torch.tensor([0.0, 100.0]), torch.tensor([0.0, 1.0])]
    found = [np.array([0.0, 101.0]), np.array([0.5, 1.0])]
    assert benchmark.distance(found, wanted) == 0.5
    assert benchmark.distance([np.array([3.0])], [torch.tensor([2.0])]) == 0.5
    assert benchmark.distance([np.array([np.nan])], [torch.tensor([2.0])]) == float("inf")


class Attention(nn.Module):
    """A few modules of several operations each."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        q, k, v = self.project(x).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        return self.out(weights @ v)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Attention(), Attention())

    def forward(self, x: Any) -> Any:
        return torch.relu(self.blocks(x))


@pytest.fixture(scope="module")
def program() -> Program:
    return npu.compile(Model().eval(), (torch.randn(1, 6, 8),), target="mobile4k")


def lines_of(function: Any) -> set[str]:
    """`file:line` of every line of a function."""
    lines, first = inspect.getsourcelines(function)
    return {f"{__file__}:{first + k}" for k in range(len(lines))}


def test_every_instruction_names_modules_and_lines_of_the_model(program: Program):
    known = lines_of(Attention.forward) | lines_of(Model.forward)
    for each in program.instructions:
        assert set(each.source) <= {
            *(f"blocks.{k}{part}" for k in "01" for part in ("", ".project", ".out")),
            *(f"blocks.{k}.{part}.{name}" for k in "01" for part in ("project", "out")
              for name in ("weight", "bias")),
            "relu", "x",
        }  # fmt: skip
        assert set(each.lines) <= known
        assert each.lines or each.engine == "io" or each.source == ("x",)


def test_the_line_of_a_module_is_the_one_that_calls_it(program: Program):
    lines, first = inspect.getsourcelines(Attention.forward)
    call = next(k for k, line in enumerate(lines) if "self.out" in line)
    records = [r for r in program.debug if "blocks.1.out" in r.sources]
    assert records
    for record in records:
        at = record.sources.index("blocks.1.out")
        assert record.lines[at] == (f"{__file__}:{first + call}",)


def test_layers_are_modules(program: Program):
    names = {layer.name for layer in program.profile.layers}
    assert names <= {f"blocks.{k}{part}" for k in "01" for part in ("", ".project", ".out")}


def test_lines_survive_the_file_and_the_module(program: Program):
    assert Program.from_bytes(program.to_bytes()).debug == program.debug
    assert Program.from_module(program.to_module()).debug == program.debug
