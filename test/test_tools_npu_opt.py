"""npu-opt: reads IR and models, runs passes, and answers bad input in one line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from harness import ROOT, RunTool

import npu_dialect as npu
from npu_dialect import pipeline, text
from npu_dialect.tools import common

RELU = """\
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32> loc("relu1")
  func.return %0 : tensor<4xf32>
}
"""


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.mlir"
    path.write_text(RELU)
    return path


def test_ir_is_read_and_printed(run_tool: RunTool, relu: Path):
    run = run_tool("npu-opt", relu)
    assert run.code == 0
    assert "%0 = graph.relu %x : (tensor<4xf32>) -> tensor<4xf32>\n" in run.out


def test_standard_input_is_read(run_tool: RunTool):
    assert "graph.relu" in run_tool("npu-opt", stdin=RELU).out


def test_locations_are_printed_when_asked(run_tool: RunTool, relu: Path):
    assert 'loc("relu1")' in run_tool("npu-opt", relu, "--locations").out


def test_a_file_that_is_written_can_be_read_back(run_tool: RunTool, relu: Path, tmp_path: Path):
    assert run_tool("npu-opt", relu, "-o", "out.mlir").code == 0
    assert 'loc("relu1")' in (tmp_path / "out.mlir").read_text()
    assert run_tool("npu-opt", "out.mlir").out == run_tool("npu-opt", relu).out


def test_the_generic_form_is_printed_when_asked(run_tool: RunTool, relu: Path):
    assert '"graph.relu"(%x)' in run_tool("npu-opt", relu, "--generic").out


def test_parts_of_a_file_are_treated_apart(run_tool: RunTool):
    run = run_tool("npu-opt", "--split-input-file", stdin=f"{RELU}// -----\n{RELU}")
    assert run.out.count("builtin.module") == 2


def test_errors_name_the_line_in_the_whole_file(run_tool: RunTool):
    run = run_tool(
        "npu-opt", "--split-input-file", stdin=f"{RELU}// -----\n{RELU.replace('relu', 'rel')}"
    )
    assert run.code == 1
    assert run.err.startswith("error[NPU0201]: <stdin>:7:")


def test_timing_lists_the_passes(run_tool: RunTool, relu: Path):
    err = run_tool("npu-opt", relu, "-p", "cse,dce", "--timing").err
    assert [line.split()[-1] for line in err.splitlines()] == ["pass", "cse", "dce", "total"]


def test_the_ir_is_printed_after_every_pass(run_tool: RunTool, relu: Path):
    err = run_tool("npu-opt", relu, "-p", "cse,dce", "--print-ir-after-all").err
    assert err.count("graph.relu") == 2


def test_the_target_is_recorded(run_tool: RunTool, relu: Path):
    assert '#npu.target<"edge256">' in run_tool("npu-opt", relu, "--target", "edge256").out


def test_passes_are_listed_with_their_meaning(run_tool: RunTool):
    out = run_tool("npu-opt", "--list-passes").out
    assert "verify-ssa-order             Check that every value is defined before" in out
    assert "pipeline graph:" in out


def test_an_onnx_model_is_read(run_tool: RunTool, models: Path):
    out = run_tool("npu-opt", models / "winml_mnist.onnx").out
    assert "graph.conv2d" in out
    assert "graph.max_pool2d" in out


def test_large_constants_go_to_a_side_file(run_tool: RunTool, models: Path, tmp_path: Path):
    run_tool("npu-opt", models / "winml_mnist.onnx", "-o", "m.mlir")
    with np.load(tmp_path / "m.blobs.npz") as blobs:
        assert len(blobs.files) == 3
    assert text.read(tmp_path / "m.mlir")


BAD = {
    "no such file": (["no.mlir"], "NPU0001]: no.mlir: must be a readable file; found no such"),
    "a folder": (["."], "NPU0001]: .: must be a readable file; found is a directory"),
    "an unknown option": (["--frob"], "NPU0004]: npu-opt: the command line must be as --help"),
    "an unknown pass": (["relu.mlir", "-p", "ces"], "NPU0005]: -p: a pipeline must name"),
    "an unknown target": (["relu.mlir", "--target", "moon"], "NPU0301]: target: a target must"),
    "a full disk": (["relu.mlir", "-o", "/dev/full"], "NPU0002]: /dev/full: must be a writable"),
    "a missing folder": (["relu.mlir", "-o", "no/x"], "NPU0002]: no/x: must be a writable file"),
    "a malformed shape": (["m.onnx", "--shape", "x"], "NPU0004]: --shape: must be the name of"),
    "a negative size": (["m.onnx", "--shape", "x=-1"], "NPU0004]: --shape: must be the name"),
    "an empty model": (["empty.onnx"], "NPU0101]: empty.onnx"),
}


@pytest.mark.parametrize(("arguments", "line"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_line(
    run_tool: RunTool, relu: Path, arguments: list[str], line: str
):
    (relu.parent / "empty.onnx").touch()
    before = sorted(os.listdir(relu.parent))
    run = run_tool("npu-opt", *arguments)
    assert run.code == 1
    assert run.out == ""
    assert run.err.startswith(f"error[{line}")
    assert len(run.err.splitlines()) == 1
    assert sorted(os.listdir(relu.parent)) == before


def test_debug_shows_the_traceback(run_tool: RunTool):
    run = run_tool("npu-opt", "no.mlir", "--debug")
    assert run.code == 1
    assert "Traceback" in run.err


def npu_opt(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "npu_dialect.tools.npu_opt", *arguments]


def test_a_closed_pipe_ends_quietly(relu: Path):
    process = subprocess.Popen(
        npu_opt(str(relu)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 1


def test_ctrl_c_ends_quietly(run_tool: RunTool, relu: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupt)
    run = run_tool("npu-opt", relu)
    assert (run.code, run.out, run.err) == (130, "", "npu-opt: interrupted\n")


def test_progress_appears_on_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch):
    pty = pytest.importorskip("pty")
    main, terminal = pty.openpty()
    monkeypatch.setattr(common, "PROGRESS_AFTER", 0.0)
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with common.progress("compiling") as progress:
            time.sleep(0.3)
            progress("graph-fuse", 1, 2)
            time.sleep(0.3)
    shown = os.read(main, 1 << 16).decode()
    os.close(main)
    assert "compiling: graph-fuse" in shown
    assert "50%" in shown


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from npu_dialect.tools import npu_opt, npu_compile, npu_run\n"
        "npu_opt._parser().format_help()\n"
        "print([m for m in ('xdsl', 'numpy', 'onnx', 'torch', 'rich') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() == "[]", run.stderr


def test_other_frontends_import_no_onnx():
    code = (
        "import sys; from npu_dialect.frontends.tflite import importer\n"
        "from npu_dialect.frontends.tosa import importer\n"
        "print([m for m in ('onnx', 'google.protobuf', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() == "[]", run.stderr


def test_help_lists_every_target_and_kind_of_model(run_tool: RunTool):
    text = run_tool("npu-compile", "--help").out
    words = set(re.findall(r"[\w.]+", text))
    assert words >= {*npu.target_names(), ".onnx", ".pt2", ".mlir"}


@pytest.mark.parametrize("tool", ["npu-opt", "npu-compile", "npu-run"])
def test_help_teaches_by_example(run_tool: RunTool, tool: str):
    run = run_tool(tool, "--help")
    assert run.code == 0
    assert run.out.split("examples:")[1].count(tool) >= 5
