"""npu-compile and npu-run: a model on its way, and bad input answered in one line."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import RunTool, run_in_process
from onnx import TensorProto, helper, numpy_helper

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
    "another kind of file": (["model.txt"], "NPU0003]: model.txt: a model must be an .onnx, "),
    "a level that is none": (["m.onnx", "--emit", "moon"], "NPU0004]: npu-compile: the command"),
    "a malformed shape": (["m.onnx", "--shape", "x=a"], "NPU0004]: --shape: must be the name"),
}

BAD_RUN = {
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


# A model on its way


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """A folder with a compiled program, its IR and report, and the first reference case."""
    folder = tmp_path_factory.mktemp("mnist")
    with np.load(models / "winml_mnist.npz") as cases:
        np.save(folder / "x.npy", cases["case0/in0"])
        np.save(folder / "expected.npy", cases["case0/out0"])
    model = models / "winml_mnist.onnx"
    options = f"--target mobile4k -o {folder}/m.npu --save-ir {folder}/ir --report {folder}/r.json"
    run = run_in_process("npu-compile", [str(model), *options.split()])
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"{folder}/m.npu: ")
    return folder


def test_inputs_must_be_given_where_there_are_any(run_tool: RunTool, mnist: Path):
    run = run_tool("npu-run", f"{mnist}/m.npu")
    wanted = "error[NPU0004]: npu-run: must be given either --input or --random; found neither"
    assert (run.code, run.err.startswith(wanted)) == (1, True)


@pytest.mark.usefixtures("folder")
def test_a_model_without_inputs_needs_none(run_tool: RunTool):
    node = helper.make_node("Relu", ["c"], ["y"])
    constant = numpy_helper.from_array(np.array([-1, 2], np.float32), "c")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [y], [constant])), "c.onnx")
    assert run_tool("npu-run", "c.onnx", "--output", "out.npz").code == 0
    assert np.load("out.npz")["y"].tolist() == [0, 2]


def test_a_program_gives_the_expected_outputs(run_tool: RunTool, mnist: Path):
    run = run_tool("npu-run", mnist / "m.npu", "--input", mnist / "x.npy", "--output", "out.npz")
    assert (run.code, run.err) == (0, "")
    with np.load("out.npz") as outputs:
        expected = np.load(mnist / "expected.npy")
        np.testing.assert_allclose(outputs["Plus214_Output_0"], expected, rtol=1e-3)


def test_the_tables_name_layers_and_totals(run_tool: RunTool, mnist: Path):
    out = run_tool("npu-run", mnist / "m.npu", "--input", mnist / "x.npy").out
    assert all(word in out for word in ("Convolution28", "energy", "cycles", "mobile4k"))


def test_a_summary_can_be_had_as_json(run_tool: RunTool, mnist: Path):
    run = run_tool("npu-run", mnist / "m.npu", "--input", mnist / "x.npy", "--json")
    summary = json.loads(run.out)
    assert summary["outputs"]["Plus214_Output_0"] == {"dtype": "float32", "shape": [1, 10]}
    assert summary["cycles"] == sum(layer["cycles"] for layer in summary["layers"])


def test_trace_and_report_are_written(run_tool: RunTool, mnist: Path):
    options = ["--random", 0, "--trace", "t.json", "--report", "r.html"]
    assert run_tool("npu-run", mnist / "m.npu", *options).code == 0
    assert json.loads(Path("t.json").read_text())
    assert "Convolution28" in Path("r.html").read_text()


def test_the_ir_of_every_level_is_kept_and_can_be_continued(run_tool: RunTool, mnist: Path):
    kept = {p.name for p in (mnist / "ir").glob("*.mlir")}
    assert kept == {"graph.mlir", "tile.mlir", "npu.mlir"}
    run = run_tool("npu-compile", mnist / "ir" / "tile.mlir", "-o", "again.npu")
    assert (run.code, run.err) == (0, "")
    assert Path("again.npu").read_bytes() == (mnist / "m.npu").read_bytes()


def test_two_compilations_give_the_same_bytes(run_tool: RunTool, mnist: Path, models: Path):
    model = models / "winml_mnist.onnx"
    assert run_tool("npu-compile", model, "--target", "mobile4k", "-o", "two.npu").code == 0
    assert Path("two.npu").read_bytes() == (mnist / "m.npu").read_bytes()


def test_the_report_of_a_compilation_lists_passes_and_placement(mnist: Path):
    report = json.loads((mnist / "r.json").read_text())
    assert "graph-to-tile" in [run["spec"] for run in report["passes"]]
    assert {row["source"] for row in report["program"]["placement"]} >= {"Convolution28"}


@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_ir_is_emitted_at_every_level(run_tool: RunTool, models: Path, level: str):
    run = run_tool("npu-compile", models / "winml_mnist.onnx", "--emit", level)
    assert run.code == 0
    assert f"{level}." in run.out


def test_a_level_runs_without_a_program(run_tool: RunTool, models: Path, mnist: Path):
    for level in ("graph", "tile", "npu"):
        arguments = ["--target", "mobile4k", "--input", mnist / "x.npy", "--level", level]
        model = models / "winml_mnist.onnx"
        assert run_tool("npu-run", model, *arguments, "--output", f"{level}.npz").code == 0
    contents = {Path(f"{level}.npz").read_bytes() for level in ("graph", "tile", "npu")}
    assert len(contents) == 1


def test_the_levels_are_compared_with_each_other_and_onnxruntime(
    run_tool: RunTool, models: Path, mnist: Path
):
    options = ["--model", models / "winml_mnist.onnx", "--input", mnist / "x.npy", "--seed", 1]
    run = run_tool("npu-run", mnist / "m.npu", "--compare", *options)
    assert run.code == 0
    assert "ReLU32" in run.out
    assert "graph, tile and npu agree bit for bit; outputs within" in run.out


BAD_INPUT = {
    "a wrong name": (["--input", "y=x.npy"], "NPU0501]: inputs: the inputs must be exactly"),
    "a wrong shape": (["--input", "shape.npy"], "NPU0502]: Input3: the input must have shape"),
    "a wrong type": (["--input", "type.npy"], "NPU0503]: Input3: the input must have element"),
    "a full disk": (["--random", "0", "--output", "/dev/full"], "NPU0002]: /dev/full: must be a"),
    "another target": (["--random", "0", "--target", "edge256"], "NPU0403]: "),
    "a strange report": (["--random", "0", "--report", "r.pdf"], "NPU0003]: r.pdf: a report must"),
}


@pytest.mark.parametrize(("options", "line"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_arrays_are_answered_in_one_line(
    run_tool: RunTool, mnist: Path, options: list[str], line: str
):
    x = np.load(mnist / "x.npy")
    np.save("x.npy", x)
    np.save("shape.npy", x[0])
    np.save("type.npy", x.astype(np.float64))
    run = run_tool("npu-run", mnist / "m.npu", *options)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error[{line}")
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "version"])
def test_a_damaged_program_is_refused_in_one_line(run_tool: RunTool, mnist: Path, damage: str):
    data = bytearray((mnist / "m.npu").read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data[4] ^= 0x7F
    Path("bad.npu").write_bytes(data)
    run = run_tool("npu-run", "bad.npu", "--random", 0)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("error[NPU040")
    assert len(run.err.splitlines()) == 1


def test_a_program_is_not_left_half_written(run_tool: RunTool, models: Path):
    arguments = ["--target", "mobile4k", "-o", "/dev/full"]
    run = run_tool("npu-compile", models / "winml_mnist.onnx", *arguments)
    assert run.code == 1
    assert run.err.startswith("error[NPU0002]: /dev/full: must be a writable file")


@pytest.mark.parametrize("option", ["--report", "--export-mappings", "--save-statistics"])
def test_a_folder_that_is_missing_is_told_before_the_work(
    run_tool: RunTool, models: Path, option: str
):
    arguments = [models / "winml_mnist.onnx", "-o", "early.npu", option, "nowhere/file"]
    run = run_tool("npu-compile", *arguments)
    assert run.code == 1
    assert run.err.startswith("error[NPU0002]: nowhere/file: ")
    assert not Path("early.npu").exists()


def test_a_model_is_mapped_as_the_options_say(run_tool: RunTool, models: Path):
    options = [models / "winml_mnist.onnx", "--target", "mobile4k", "--scratchpad", 8192]
    run_tool("npu-compile", *options, "-o", "small.npu")
    runs = [run_tool("npu-run", *each, "--timing", "--json") for each in (["small.npu"], options)]
    compiled, run = (json.loads(each.out)["peak_spm"] for each in runs)
    assert compiled == run <= 8192


def test_a_program_is_mapped_already(run_tool: RunTool, mnist: Path):
    run = run_tool("npu-run", mnist / "m.npu", "--timing", "--objective", "memory", "--exact")
    assert run.code == 1
    assert "--exact, --objective must be for a model; a .npu is compiled already" in run.err


def test_a_level_that_takes_no_time_has_no_trace(run_tool: RunTool, models: Path):
    options = ["--random", 0, "--level", "graph", "--trace", "t.json"]
    run = run_tool("npu-run", models / "winml_mnist.onnx", "--target", "mobile4k", *options)
    assert run.code == 1
    assert "what else tells of time must be asked of a run at level npu" in run.err


def test_a_compilation_says_what_left_the_accelerator_and_why(run_tool: RunTool, models: Path):
    options = ["--target", "edge256", "-o", "m.npu"]
    run = run_tool("npu-compile", models / "winml_mnist.onnx", *options)
    assert "on the host: Convolution28" in run.out
    assert "The array must multiply activations and weights of these types; found f32" in run.out


def test_a_program_is_no_ir(run_tool: RunTool, mnist: Path):
    run = run_tool("npu-opt", mnist / "m.npu")
    assert run.code == 1
    assert "must be IR or a model, and a .npu file is a program" in run.err


def test_nothing_is_proved_without_a_program(run_tool: RunTool, models: Path):
    run = run_tool("npu-opt", models / "winml_mnist.onnx", "-p", "npu-verify")
    assert run.code == 1
    assert "a module must be at level npu to be proved" in run.err
