"""States and entries on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from harness import RunTool
from stateful import CACHE, COUNTER, Builder, module_of

from npu_dialect import dtypes, graph, text
from npu_dialect.graph.entries import merge
from npu_dialect.runtime.program import Program

X = np.arange(4, dtype=np.int32)


@pytest.fixture
def counter(run_tool: RunTool) -> RunTool:
    """`counter.npu` sums what it is given: y = n' = n + x, where n is 10 at first."""
    b = Builder()
    x, n = b.argument("x", (4,), dtypes.i32), b.argument("n", (4,), dtypes.i32)
    new = b.add(graph.AddOp(n, x))
    function = b.function({"y": new, "n'": new}, {"n": np.full(4, 10, np.int32)})
    text.write("counter.mlir", module_of(function))
    np.save("x.npy", X)
    np.save("xs.npy", np.stack([X, X, X]))
    assert run_tool("npu-compile", "counter.mlir", "-o", "counter.npu").code == 0
    return run_tool


def test_compiling_says_what_is_kept(counter: RunTool):
    run = counter("npu-compile", "counter.mlir")
    assert "state n: tensor" not in run.err
    assert "  state n: i32[4]: 16 bytes at 0x0" in run.out


def test_a_run_shows_and_saves_the_states_that_it_leaves(counter: RunTool):
    run = counter("npu-run", "counter.npu", "--input", "x.npy", "--save-states", "after.npz")
    assert run.code == 0 and "states after the run" in run.out
    with np.load("after.npz") as after:
        assert after["n"].tolist() == [10, 11, 12, 13]


@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_a_run_starts_from_the_states_that_it_is_given(counter: RunTool, level: str):
    np.save("n.npy", X * 100)
    options = ["--model", "counter.mlir", "--level", level] if level != "npu" else []
    run = counter(
        "npu-run", "counter.npu", "--input", "x.npy", "--initial", "n=n.npy",
        "--save-states", "after.npz", *options,
    )  # fmt: skip
    assert run.code == 0, run.err
    with np.load("after.npz") as after:
        assert after["n"].tolist() == [0, 101, 202, 303]


def test_samples_of_a_data_set_are_independent(counter: RunTool):
    run = counter("npu-run", "counter.npu", "--input", "x=xs.npy", "--output", "y.npz")
    assert run.code == 0, run.err
    with np.load("y.npz") as found:
        assert found["y"].tolist() == [[10, 11, 12, 13]] * 3


def test_a_sequence_keeps_states_from_sample_to_sample(counter: RunTool):
    run = counter(
        "npu-run", "counter.npu", "--input", "x=xs.npy", "--sequence", "--output", "y.npz"
    )
    assert run.code == 0, run.err
    with np.load("y.npz") as found:
        assert found["y"].tolist() == [[10, 11, 12, 13], [10, 12, 14, 16], [10, 13, 16, 19]]


def test_levels_are_compared_with_states(counter: RunTool):
    run = counter("npu-run", "counter.mlir", "--compare", "--input", "x.npy", "--json")
    found = json.loads(run.out)
    assert found["levels_agree"] and "state n" in {s["source"] for s in found["steps"]}


BAD = {
    "a state that is none": (["--input", "x.npy", "--initial", "m=x.npy"], "NPU0501]: state: "),
    "another type": (["--input", "x.npy", "--initial", "n=f.npy"], "NPU0503]: n: "),
    "no name": (["--input", "x.npy", "--initial", "x.npy"], "NPU0004]: --initial: "),
    "an entry that is none": (["--input", "x.npy", "--entry", "two"], "NPU0507]: entry: "),
    "a sequence of one": (["--input", "x.npy", "--sequence"], "NPU0004]: npu-run: --sequence"),
    "a sequence in two jobs": (
        ["--input", "x=xs.npy", "--sequence", "--jobs", "2"],
        "NPU0004]: jobs: the steps of one stream",
    ),
    "states of many": (
        ["--input", "x=xs.npy", "--save-states", "after.npz"],
        "NPU0004]: npu-run: --save-states must be for a single sample",
    ),
}


@pytest.mark.parametrize(("options", "line"), BAD.values(), ids=BAD)
def test_bad_options_are_answered_in_one_line(counter: RunTool, options: list[str], line: str):
    np.save("f.npy", X.astype(np.float32))
    run = counter("npu-run", "counter.npu", *options)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"error[{line}") and len(run.err.splitlines()) == 1


# The guide


def test_the_examples_of_the_guide_run(root: Path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (root / "docs" / "states.md").read_text(), re.M | re.S
    )
    exec(compile("".join(blocks), "states.md", "exec"), {})


# Entries


@pytest.fixture
def entries(run_tool: RunTool) -> RunTool:
    """`both.npu` has the entries count and cache."""
    text.write("a.mlir", COUNTER.module())
    text.write("b.mlir", CACHE.module())
    run = run_tool(
        "npu-compile", "--entry", "count=a.mlir", "--entry", "cache=b.mlir", "-o", "b.npu"
    )
    assert run.code == 0, run.err
    assert "  count: " in run.out and "  cache: " in run.out
    return run_tool


def test_an_entry_is_chosen_by_its_name(entries: RunTool):
    (given,) = COUNTER.inputs(1)
    np.save("x.npy", given["x"])
    run = entries("npu-run", "b.npu", "--entry", "count", "--input", "x.npy", "--output", "y.npz")
    assert run.code == 0, run.err
    ((outputs, _),) = COUNTER.expected([given])
    with np.load("y.npz") as found:
        assert (found["y"] == outputs["y"]).all()


def test_the_entry_that_the_inputs_fit_is_run(entries: RunTool):
    (given,) = CACHE.inputs(1)
    np.savez("row.npz", row=given["row"], at=given["at"])
    run = entries("npu-run", "b.npu", "--input", "row.npz", "--output", "y.npz")
    assert run.code == 0, run.err
    ((outputs, _),) = CACHE.expected([given])
    with np.load("y.npz") as found:
        np.testing.assert_allclose(found["y"], outputs["y"], 1e-5, 1e-5)
    np.save("other.npy", np.zeros(3, np.float32))
    run = entries("npu-run", "b.npu", "--input", "other.npy")
    assert run.code == 1 and "NPU0507" in run.err and "inputs that fit none" in run.err


@pytest.mark.parametrize(
    "options",
    [
        ["--level", "graph", "--output", "y.npz"],
        ["--compare"],
        ["--dump", "t.npz", "--level", "tile"],
    ],
    ids=["level", "compare", "dump"],
)
def test_every_level_takes_the_entry_that_the_inputs_fit(run_tool: RunTool, options: list[str]):
    modules = {"count": COUNTER.module(), "cache": CACHE.module()}
    text.write("both.mlir", merge(modules))
    (given,) = CACHE.inputs(1)
    np.savez("row.npz", row=given["row"], at=given["at"])
    run = run_tool("npu-run", "both.mlir", "--target", "mobile4k", "--input", "row.npz", *options)
    assert run.code == 0, run.err


def test_a_data_set_is_run_by_the_entry_that_it_fits(entries: RunTool):
    given = CACHE.inputs(3)
    row, at = (np.stack([each[n] for each in given]) for n in ("row", "at"))
    np.savez("rows.npz", row=row, at=at)
    options = ["--input", "rows.npz", "--sequence", "--output", "y.npz"]
    run = entries("npu-run", "b.npu", *options)
    assert run.code == 0, run.err
    wanted = [outputs["y"] for outputs, _ in CACHE.expected(given)]
    with np.load("y.npz") as found:
        np.testing.assert_allclose(found["y"], np.stack(wanted), 1e-5, 1e-5)


def test_an_entry_has_shapes_of_its_own(run_tool: RunTool):
    b = Builder()
    text.write("fixed.mlir", module_of(b.function({"y": b.argument("x", (4,))})))
    run = run_tool(
        "npu-compile", "--entry", "a=fixed.mlir", "--entry", "b=fixed.mlir", "--shape", "b:x=8",
        "-o", "p.npu",
    )  # fmt: skip
    assert run.code == 1 and "NPU0105" in run.err and "text whose shapes are fixed" in run.err


def test_a_program_with_entries_must_be_told_which(entries: RunTool):
    run = entries("npu-run", "b.npu", "--random", "0")
    assert run.code == 1 and "NPU0507" in run.err and "count, cache" in run.err


def test_the_text_of_a_program_with_entries_is_proved_and_assembled(entries: RunTool):
    run = entries("npu-compile", "--entry", "count=a.mlir", "--entry", "cache=b.mlir",
                  "--emit", "npu", "-o", "both.mlir")  # fmt: skip
    assert run.code == 0, run.err
    assert entries("npu-opt", "both.mlir", "-p", "npu-verify").code == 0
    assert entries("npu-compile", "both.mlir", "-o", "again.npu").code == 0
    assert Program.load("again.npu").to_bytes() == Program.load("b.npu").to_bytes()


ENTRIES = {
    "neither": ([], "must be given either a model or entries; found neither"),
    "both": (["m.mlir", "--entry", "a=a.mlir"], "found both"),
    "no name": (["--entry", "a.mlir", "-o", "p.npu"], "must be NAME=FILE; found 'a.mlir'"),
    "one name": (
        ["--entry", "a=a.mlir", "--entry", "a=b.mlir"],
        "must be NAME=FILE; found a twice",
    ),
    "no output": (["--entry", "a=a.mlir"], "must be given a name"),
}


@pytest.mark.parametrize(("options", "line"), ENTRIES.values(), ids=ENTRIES)
def test_bad_entries_are_answered_in_one_line(run_tool: RunTool, options: list[str], line: str):
    run = run_tool("npu-compile", *options)
    assert run.code == 1 and line in run.err and len(run.err.splitlines()) == 1
