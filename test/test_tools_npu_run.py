"""npu-compile and npu-run: bad input is answered in one line, and nothing is left half written."""

import os
from pathlib import Path

import numpy as np
import pytest
from harness import RunTool

from npu_dialect import dtypes
from npu_dialect.ports import Port
from npu_dialect.tools.inputs import load_inputs, random_inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with arrays and broken files."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 2), np.float32))
    np.savez("both.npz", x=np.zeros(1), y=np.ones(1))
    Path("text.npy").write_text("no array")
    Path("cut.npu").write_bytes(b"NPU")
    Path("empty.npu").touch()
    Path("cut.onnx").write_bytes(b"\x08\x07\x12\xff")
    Path("text.onnx").write_text("no model")
    Path("model.txt").touch()
    return tmp_path


BAD_COMPILE = {
    "no such model": (["no.onnx"], "NPU0001]: no.onnx: the model file must be"),
    "no model": (["text.onnx"], "NPU0101]: text.onnx"),
    "a truncated model": (["cut.onnx"], "NPU0101]: cut.onnx"),
    "another kind of file": (["model.txt"], "NPU0003]: model.txt: a model must be an .onnx or"),
    "a level that is none": (["m.onnx", "--emit", "moon"], "NPU0004]: npu-compile: the command"),
    "a malformed shape": (["m.onnx", "--shape", "x=a"], "NPU0004]: --shape: must be the name"),
}

BAD_RUN = {
    "no input": (["p.npu"], "NPU0004]: npu-run: must be given either --input or --random"),
    "both inputs": (["p.npu", "--input", "x.npy", "--random", "0"], "NPU0004]: npu-run: must be"),
    "no such program": (["p.npu", "--input", "x.npy"], "NPU0001]: p.npu: must be a readable"),
    "a cut program": (["cut.npu", "--input", "x.npy"], "NPU0401]: cut.npu"),
    "an empty program": (["empty.npu", "--input", "x.npy"], "NPU0401]: empty.npu"),
    "a level without model": (
        ["p.npu", "--input", "x.npy", "--level", "tile"],
        "NPU0004]: npu-run: --level and --compare must know the model",
    ),
    "a comparison without model": (
        ["p.npu", "--input", "x.npy", "--compare"],
        "NPU0004]: npu-run: --level and --compare must know the model",
    ),
    "no such model": (["no.onnx", "--input", "x.npy"], "NPU0001]: no.onnx"),
}

BAD = [("npu-compile", *case) for case in BAD_COMPILE.values()]
BAD += [("npu-run", *case) for case in BAD_RUN.values()]


@pytest.mark.parametrize(
    ("tool", "arguments", "line"), BAD, ids=[*map("compile {}".format, BAD_COMPILE), *BAD_RUN]
)
def test_bad_input_is_answered_in_one_line(
    run_tool: RunTool, folder: Path, tool: str, arguments: list[str], line: str
):
    before = sorted(os.listdir(folder))
    run = run_tool(tool, *arguments)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error[{line}")
    assert len(run.err.splitlines()) == 1
    assert sorted(os.listdir(folder)) == before


# Inputs


@pytest.mark.usefixtures("folder")
def test_arrays_are_read_in_order_or_by_name():
    assert [a.shape for a in load_inputs(["x.npy", "x.npy"])] == [(2, 2), (2, 2)]  # pyright: ignore
    assert sorted(load_inputs(["a=x.npy", "both.npz"])) == ["a", "x", "y"]  # pyright: ignore


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["text.npy"], "NPU0003.: text.npy: an input must be a .npy or .npz"),
        (["no.npy"], "NPU0001.: no.npy"),
        (["x.npy", "a=x.npy"], "NPU0004.: --input: must give a name to every array or to none"),
    ],
)
def test_files_that_are_no_inputs_are_refused(run_tool: RunTool, options: list[str], line: str):
    from npu_dialect.diagnostics import CompileError

    with pytest.raises(CompileError, match=line):
        load_inputs(options)


def test_random_inputs_fit_and_repeat():
    types = {"x": (dtypes.f32, (2, 3)), "y": (dtypes.u8, (100,)), "z": (dtypes.bool_, (4,))}
    ports = [Port(name, dtype, shape) for name, (dtype, shape) in types.items()]
    first, again = random_inputs(ports, 1), random_inputs(ports, 1)
    assert {n: (str(a.dtype), a.shape) for n, a in first.items()} == {
        "x": ("float32", (2, 3)),
        "y": ("uint8", (100,)),
        "z": ("bool", (4,)),
    }
    assert all((first[n] == again[n]).all() for n in first)
