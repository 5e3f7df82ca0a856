"""npu-run over a data set: what is read, what is written, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from harness import RunTool
from npu_programs import copy, dense, program

from npu_dialect import dtypes
from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import f32, i8
from npu_dialect.ports import Port
from npu_dialect.tools import results
from npu_dialect.tools.datasets import DataSet, load_data_set

ONE = [Port("x", dtypes.f32, (2, 3))]
TWO = [Port("x", dtypes.f32, (2, 3)), Port("n", dtypes.i32, ())]
X = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
N = np.arange(5, dtype=np.int32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the five samples in every form."""
    monkeypatch.chdir(tmp_path)
    for name in ("files", "arrays", "nested/x", "nested/n", "mixed/n"):
        Path(name).mkdir(parents=True)
    for k in range(5):
        np.save(f"files/{k}.npy", X[k])
        np.save(f"nested/x/{k}.npy", X[k])
        np.save(f"nested/n/{k}.npy", N[k])
        np.save(f"mixed/n/{k}.npy", N[k])
    for name in ("arrays/x.npy", "mixed/x.npy", "x.npy"):
        np.save(name, X)
    np.save("arrays/n.npy", N)
    np.save("n.npy", N)
    np.savez("both.npz", x=X, n=N)
    np.savez_compressed("small.npz", x=X, n=N)
    np.savez("x.npz", x=X)
    np.save("fortran.npy", np.asfortranarray(X))
    Path("files/.hidden").touch()
    return tmp_path


def loaded(options: list[str], ports: list[Port]) -> DataSet:
    found = load_data_set(options, ports)
    assert found is not None
    return found


# What is read


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "options",
    [["files"], ["x=files"], ["arrays/x.npy"], ["x.npz"], ["x=x.npy"], ["x.npy"], ["fortran.npy"]],
    ids=" ".join,
)
def test_samples_of_one_input(options: list[str]):
    found = loaded(options, ONE)
    assert len(found) == 5
    assert (np.stack([sample["x"] for sample in found]) == X).all()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "options",
    [
        ["arrays"],
        ["nested"],
        ["mixed"],
        ["both.npz"],
        ["small.npz"],
        ["x=files", "n=n.npy"],
        ["x=x.npy", "n=nested/n"],
    ],
    ids=" ".join,
)
def test_samples_of_several_inputs(options: list[str]):
    found = loaded(options, TWO)
    assert len(found) == 5
    for _ in range(2):  # each iteration reads anew
        assert (np.stack([sample["x"] for sample in found]) == X).all()
        assert [int(sample["n"]) for sample in found] == N.tolist()


@pytest.mark.usefixtures("folder")
def test_a_folder_of_the_only_input_may_hold_one_array_of_samples():
    os.mkdir("one")
    np.save("one/x.npy", X)
    assert len(loaded(["one"], ONE)) == 5


@pytest.mark.usefixtures("folder")
def test_a_sample_that_has_the_name_of_the_input_is_a_sample():
    os.mkdir("one")
    np.save("one/x.npy", X[0])
    assert len(loaded(["one"], ONE)) == 1


@pytest.mark.usefixtures("folder")
def test_files_are_sorted_by_name():
    os.rename("files/4.npy", "files/-.npy")
    first, *_ = loaded(["files"], ONE)
    assert (first["x"] == X[4]).all()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("options", [["files/0.npy"], ["x=files/0.npy"], ["one.npz"], []])
def test_a_single_sample_is_no_data_set(options: list[str]):
    np.savez("one.npz", x=X[0])
    assert load_data_set(options, ONE) is None


@pytest.mark.usefixtures("folder")
def test_a_model_without_inputs_has_no_data_set():
    assert load_data_set([], []) is None


# What is refused

REFUSED = {
    "an empty folder": (
        ["empty"],
        ONE,
        "NPU0003]: empty: a folder of samples must hold .npy files",
    ),
    "other files": (
        ["other"],
        ONE,
        "NPU0003]: other: a folder of samples must hold .npy files, and "
        "nothing else; found notes.txt",
    ),
    "mixed shapes": (
        ["shapes"],
        ONE,
        "NPU0502]: shapes/3.npy: sample 3 of x must have shape [2, 3]; "
        "found [3, 2]; try array.reshape(2, 3)",
    ),
    "a wrong type": (
        ["types"],
        ONE,
        "NPU0503]: types/1.npy: sample 1 of x must have element type "
        "float32; found float64; try array.astype(numpy.float32)",
    ),
    "text": (["text"], ONE, "NPU0003]: text/2.npy: an input must be a .npy or .npz file of arrays"),
    "objects": (
        ["objects"],
        ONE,
        "NPU0003]: objects/0.npy: an input must be a .npy or .npz file of "
        "arrays; found an array of Python objects",
    ),
    "a cut file": (["cut"], ONE, "NPU0003]: cut/4.npy: sample 4 of x must take 24 bytes; found 20"),
    "folders in a folder": (
        ["deep"],
        ONE,
        "NPU0003]: deep: every sample of x must be a .npy file; found the folder inner",
    ),
    "rows of another shape": (
        ["rows.npy"],
        ONE,
        "NPU0502]: rows.npy: the samples of x must have "
        "shape [N, 2, 3]; found [5, 3, 2]; try array.reshape(-1, 2, 3)",
    ),
    "rows of another type": (
        ["wide.npz"],
        ONE,
        "NPU0503]: wide.npz[x]: the samples of x must have",
    ),
    "no rows": (["none.npy"], ONE, "NPU0502]: none.npy: the samples of x must be at least one"),
    "an unknown name": (
        ["y=x.npy", "x=x.npy"],
        ONE,
        "NPU0501]: x.npy: samples must be for an input",
    ),
    "a name too few": (
        ["x=x.npy"],
        TWO,
        "NPU0501]: --input: a data set must have samples for exact",
    ),
    "files without a name": (["files"], TWO, "NPU0501]: files/0.npy: samples must be for an input"),
    "another number": (
        ["x=x.npy", "n=few.npy"],
        TWO,
        "NPU0502]: --input: every input must have as "
        "many samples as the others; found 5 of x, 3 of n",
    ),
    "one sample beside many": (
        ["x=x.npy", "n=one.npy"],
        TWO,
        "NPU0502]: one.npy: the samples of n",
    ),
}


@pytest.fixture
def broken(folder: Path) -> Path:
    """The folder, with samples that do not fit."""
    for name in ("shapes", "types", "text", "objects", "cut", "deep/inner", "empty", "other"):
        Path(name).mkdir(parents=True)
    for name in ("shapes", "types", "text", "cut"):
        for k in range(5):
            np.save(f"{name}/{k}.npy", X[k])
    np.save("shapes/3.npy", X[3].T)
    np.save("types/1.npy", X[1].astype(float))
    Path("text/2.npy").write_text("no array")
    np.save("objects/0.npy", np.array([None]), allow_pickle=True)
    Path("cut/4.npy").write_bytes(Path("cut/4.npy").read_bytes()[:-4])
    Path("other/notes.txt").touch()
    np.save("rows.npy", X.reshape(5, 3, 2))
    np.savez("wide.npz", x=X.astype(float))
    np.save("none.npy", X[:0])
    np.save("few.npy", N[:3])
    np.save("one.npy", N[0])
    return folder


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(("options", "ports", "line"), REFUSED.values(), ids=REFUSED)
def test_samples_that_do_not_fit_are_refused(options: list[str], ports: list[Port], line: str):
    with pytest.raises(CompileError) as raised:
        load_data_set(options, ports)
    assert str(raised.value).startswith(f"error[{line}")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.usefixtures("folder")
def test_a_file_that_is_cut_while_it_is_read_is_an_error():
    found = iter(loaded(["files"], ONE))
    next(found)
    Path("files/1.npy").write_bytes(Path("files/1.npy").read_bytes()[:-4])
    with pytest.raises(CompileError, match=r"files/1.npy: sample 0 must take 24 bytes; found 20"):
        next(found)


# npu-run


@pytest.fixture
def turned(folder: Path) -> Path:
    """A program that transposes a matrix, and keeps a number."""
    x, y = dense("dram", 0, f32, [2, 3]), dense("dram", 64, f32, [2, 3])
    a, b = dense("dram", 128, i8, [4]), dense("dram", 192, i8, [4])
    one = program([copy(x, y)], inputs={"x": x}, outputs={"y": y})
    one.save("one.npu")
    both = program([copy(x, y), copy(a, b)], inputs={"x": x, "a": a}, outputs={"y": y, "b": b})
    both.save("two.npu")
    return folder


@pytest.mark.usefixtures("turned")
@pytest.mark.parametrize("options", [[], ["--jobs", "2"], ["--tier", "plain"], ["--strict"]])
def test_outputs_have_a_dimension_of_samples(run_tool: RunTool, options: list[str]):
    run = run_tool("npu-run", "one.npu", "--input", "files", "--output", "out.npz", *options)
    assert (run.code, run.err) == (0, "")
    assert "[5, 2, 3]" in run.out
    assert "samples per second" in run.out
    with np.load("out.npz") as out:
        assert out.files == ["y"]
        assert (out["y"] == X).all()
        assert out["y"].dtype == np.float32


@pytest.mark.usefixtures("turned")
def test_several_outputs_are_written_in_order(run_tool: RunTool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "KEPT_BYTES", 16)
    a = np.arange(20, dtype=np.int8).reshape(5, 4)
    options = ["--input", "x=files", "--input", "a=a.npy", "--output", "out.npz"]
    np.save("a.npy", a)
    assert run_tool("npu-run", "two.npu", *options).code == 0
    with np.load("out.npz") as out:
        assert out.files == ["y", "b"]
        assert (out["y"] == X).all()
        assert (out["b"] == a).all()
    first = Path("out.npz").read_bytes()
    assert run_tool("npu-run", "two.npu", *options, "--jobs", 3).code == 0
    assert Path("out.npz").read_bytes() == first


@pytest.mark.usefixtures("turned")
def test_the_summary_as_json_has_samples_and_speed(run_tool: RunTool):
    np.save("labels.npy", np.array([5, 5, 5, 0, 5]))
    options = ["--input", "x.npz", "--json", "--tier", "plain", "--jobs", 1]
    options += ["--labels", "labels.npy"]
    found = json.loads(run_tool("npu-run", "one.npu", *options).out)
    assert (found["samples"], found["jobs"], found["top1"]) == (5, 1, 0.8)
    assert found["samples_per_second"] == pytest.approx(5 / found["wall_seconds"])
    assert found["outputs"] == {"y": {"dtype": "float32", "shape": [5, 2, 3]}}
    assert found["simulation"]["tier"] == "plain"
    assert found["cycles"] > 0


@pytest.mark.usefixtures("turned")
def test_labels_give_the_accuracy(run_tool: RunTool):
    np.save("labels.npy", np.array([5, 5, 5, 0, 5]))
    out = run_tool("npu-run", "one.npu", "--input", "files", "--labels", "labels.npy").out
    assert "80.00% (4 of 5)" in out


@pytest.mark.usefixtures("turned")
def test_trace_and_report_of_a_data_set_are_those_of_a_sample(run_tool: RunTool):
    options = ["--trace", "t.json", "--report", "r.json"]
    assert run_tool("npu-run", "one.npu", "--input", "files", *options).code == 0
    assert json.loads(Path("r.json").read_text())["cycles"] > 0
    assert Path("t.json").exists()


BAD = {
    "labels of other samples": (
        ["--labels", "few.npy"],
        "NPU0502]: few.npy: there must be a label for each of the 5 samples, shape [5]; found [3]",
    ),
    "labels that are no integers": (
        ["--labels", "float.npy"],
        "NPU0503]: float.npy: labels must be ",
    ),
    "labels that are no classes": (
        ["--labels", "high.npy"],
        "NPU0004]: high.npy: labels must be cla",
    ),
    "labels in a .npz": (["--labels", "both.npz"], "NPU0003]: both.npz: must be a .npy file"),
    "no labels": (["--labels", "no.npy"], "NPU0001]: no.npy"),
    "no jobs": (["--jobs", "0"], "NPU0004]: jobs: jobs must be at least 1; found 0"),
    "no threads": (["--threads", "0"], "NPU0004]: threads: threads must be at least 1; found 0"),
    "a missing folder": (
        ["--output", "no/out.npz"],
        "NPU0002]: no/out.npz: must be a writable file",
    ),
    "a level": (
        ["--model", "m.onnx", "--level", "tile", "--jobs", "2"],
        "NPU0004]: npu-run: "
        "--labels, --jobs and --sequence must be for a data set, which runs at level npu alone; ",
    ),
    "a tier of a level": (
        ["--model", "m.onnx", "--compare", "--tier", "plain"],
        "NPU0004]: npu-run: --tier, --strict and --threads must be asked of a run at level npu",
    ),
}


@pytest.mark.usefixtures("turned")
@pytest.mark.parametrize(("options", "line"), BAD.values(), ids=BAD)
def test_bad_options_are_answered_in_one_line(run_tool: RunTool, options: list[str], line: str):
    np.save("few.npy", N[:3])
    np.save("float.npy", N.astype(float))
    np.save("high.npy", N + 2)
    before = sorted(os.listdir())
    run = run_tool("npu-run", "one.npu", "--input", "files", *options)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error[{line}")
    assert len(run.err.splitlines()) == 1
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("turned")
@pytest.mark.parametrize("option", [["--labels", "n.npy"], ["--jobs", "2"]])
def test_what_is_for_data_sets_is_refused_for_one_sample(run_tool: RunTool, option: list[str]):
    run = run_tool("npu-run", "one.npu", "--input", "files/0.npy", *option)
    assert run.code == 1
    assert f"npu-run: {option[0]} must be for a data set; found a single sample" in run.err


@pytest.mark.usefixtures("turned")
def test_nothing_is_left_of_a_run_that_fails(run_tool: RunTool):
    np.save("files/3.npy", X[3].T)
    before = sorted(os.listdir())
    run = run_tool("npu-run", "one.npu", "--input", "files", "--output", "out.npz")
    assert run.code == 1
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("turned")
def test_labels_are_for_models_with_one_output(run_tool: RunTool):
    np.save("a.npy", np.zeros((5, 4), np.int8))
    options = ["--input", "x=files", "--input", "a=a.npy", "--labels", "n.npy"]
    run = run_tool("npu-run", "two.npu", *options)
    assert "--labels must be for a model with one output; found y, b" in run.err


@pytest.mark.usefixtures("folder")
def test_a_folder_is_no_input_of_another_level(run_tool: RunTool, models: Path):
    model = models / "winml_mnist.onnx"
    run = run_tool("npu-run", model, "--target", "mobile4k", "--level", "graph", "--input", "files")
    assert run.err.startswith(
        "error[NPU0003]: files: an input must be a file; a folder is a data set"
    )
