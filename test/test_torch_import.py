"""Torch programs through the compiler: models, ports, provenance, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import npu_dialect as npu  # noqa: E402
from npu_dialect import provenance  # noqa: E402
from npu_dialect.diagnostics import CompileError, Severity, collect  # noqa: E402
from npu_dialect.frontends.torch import package  # noqa: E402

nn = torch.nn
STORED = Path(os.environ.get("NPU_MODELS", Path(__file__).parents[2] / "shared" / "models"))


def worst(found: Any, wanted: Any) -> float:
    """The greatest difference, as a part of the range of what is wanted."""
    return float(np.abs(found - wanted).max() / np.ptp(wanted))


def compiled(module: Any, *inputs: Any) -> tuple[Any, list[float]]:
    """The program of a module, and how far each output of it is from torch's."""
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(module.eval()(*inputs))
    program = npu.compile(module, inputs, target="mobile4k")
    run = npu.simulate(program, [x.numpy() for x in inputs])
    pairs = zip(run.outputs.values(), wanted, strict=True)
    return program, [worst(found, x.numpy()) for found, x in pairs]


class Residual(nn.Module):
    """An inverted residual block as in MobileNetV2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.project = nn.Conv2d(wide, channels, 1)

    def forward(self, x: Any) -> Any:
        return x + self.project(nn.functional.silu(self.depthwise(self.expand(x))))


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), Residual(8),
        nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_network_runs_as_torch_does_and_wholly_on_the_npu() -> None:
    program, errors = compiled(network(), IMAGE)
    assert max(errors) < 1e-5
    assert {row.engine for row in program.placement}.isdisjoint({"host"})


def test_a_transformer_encoder_runs_as_torch_does() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    program, errors = compiled(layer, torch.randn(1, 6, 16))
    assert max(errors) < 1e-5
    assert {row.engine for row in program.placement}.isdisjoint({"host"})


def test_a_recurrent_network_gives_all_its_states() -> None:
    torch.manual_seed(0)
    _, errors = compiled(nn.LSTM(4, 6, bidirectional=True), torch.randn(3, 2, 4))
    assert len(errors) == 3
    assert max(errors) < 1e-5


@pytest.mark.parametrize("name", ["cifar_resnet20", "stories260k_prefill64"])
def test_a_stored_program_gives_its_stored_outputs(name: str) -> None:
    path = STORED / f"{name}.pt2"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    stored = np.load(path.with_suffix(".npz"))
    module = npu.load(path, target="mobile4k")
    (found,) = npu.execute(module, stored["case0/in0"]).values()
    assert worst(found, stored["case0/out0"]) < 1e-5
    npu.lower(module)
    (found,) = npu.execute(module, stored["case0/in0"]).values()
    assert worst(found, stored["case0/out0"]) < 1e-5


# What a module knows of its model


def exported(module: Any, *inputs: Any) -> Any:
    return npu.load(torch.export.export(module.eval(), inputs, strict=False), target="mobile4k")


def test_operations_know_the_module_and_the_line() -> None:
    module = exported(network(), IMAGE)
    locations = {n: str(op.location) for op in module.walk() for n in provenance.sources(op)}
    assert {"0", "3.expand.0", "3.depthwise", "8"} <= set(locations)
    assert Path(__file__).name in locations["3.depthwise"]


def test_a_module_says_how_it_was_captured() -> None:
    with collect() as records:
        module = npu.load(network(), target="mobile4k", example_inputs=(IMAGE,))
    assert module.attributes["npu.capture"].data == "non-strict"  # pyright: ignore
    assert any("captured by torch.export, non-strict" in str(record) for record in records)


def test_outputs_are_named_as_in_the_dictionary() -> None:
    class Named(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"twice": x * 2, "parts": [x + 1, x - 1]}

    x = torch.ones(2)
    found = npu.execute(exported(Named(), x), x.numpy())
    assert list(found) == ["twice", "parts.0", "parts.1"]


def test_what_no_input_reaches_is_computed_by_torch() -> None:
    class Offset(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + torch.linalg.inv(2 * torch.eye(3)).sum()

    module = exported(Offset(), torch.ones(3))
    names = [op.name for op in module.walk() if op.name.startswith("graph.")]
    assert names == ["graph.constant", "graph.add"]


# What is refused


@torch.library.custom_op("npu_test::doubled", mutates_args=(), schema="(Tensor x) -> Tensor")
def doubled(x: Any) -> Any:
    return x * 2


@doubled.register_fake
def _(x: Any) -> Any:
    return torch.empty_like(x)


def refused(module: Any, *inputs: Any) -> str:
    with pytest.raises(CompileError) as caught:
        npu.compile(module, inputs, target="mobile4k")
    return str(caught.value)


def test_an_operator_without_importer_is_named_with_its_module_and_line() -> None:
    class Inner(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.ops.npu_test.doubled(x)

    text = refused(nn.Sequential(nn.ReLU(), Inner()).eval(), torch.ones(2, 2))
    assert text.startswith("error[NPU0109]: 1 (")
    assert f"{Path(__file__).name}:" in text
    assert "a custom operator must have a lowering" in text
    assert 'try one with @npu_dialect.frontends.torch.lowering("npu_test::doubled")' in text


def test_control_flow_that_depends_on_values_names_the_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    text = refused(Branch().eval(), torch.ones(2))
    assert text.startswith("error[NPU0110]: Branch (")
    assert f"{Path(__file__).name}:" in text
    assert "found a value of run time decides here; try torch.where, or torch.cond" in text


def test_a_module_needs_example_inputs() -> None:
    with pytest.raises(CompileError, match="must come with example inputs"):
        npu.compile(network(), target="mobile4k")


def test_modules_in_training_are_named_and_left_so() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train()
    with collect() as records:
        npu.load(module, target="mobile4k", example_inputs=(torch.ones(1, 3),))
    warnings = [str(record) for record in records if record.severity is Severity.WARNING]
    assert len(warnings) == 1 and "in training; found 1; try module.eval()" in warnings[0]
    assert module.training and module[1].training


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"nothing")
    with pytest.raises(CompileError, match=r"a \.pt2 file must be one that torch\.export\.save"):
        npu.load(tmp_path / "m.pt2")


def test_an_old_torch_is_refused_in_a_line() -> None:
    package.check_version("2.13.0+cpu")
    with pytest.raises(CompileError, match=r"version 2\.6 or later; found torch 2\.5"):
        package.check_version("2.5.1")


def test_torch_is_not_imported_before_it_is_used() -> None:
    script = "import sys, npu_dialect, npu_dialect.api, npu_dialect.frontends.torch; "
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
