"""Time and energy on the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from harness import RunTool
from npu_programs import convolve_and_pool, fill, program

from npu_dialect.runtime.run import Run
from npu_dialect.tools import profile_tables


@pytest.fixture
def run(run_tool: RunTool) -> RunTool:
    """`m.npu` convolves and pools."""
    convolve_and_pool().save("m.npu")
    return run_tool


def test_timing_needs_no_inputs(run: RunTool):
    found = run("npu-run", "m.npu", "--timing")
    assert (found.code, found.err) == (0, "")
    assert "simulated by          nothing: times only" in found.out


def test_timing_gives_the_figures_of_a_run(run: RunTool):
    timed = json.loads(run("npu-run", "m.npu", "--timing", "--json").out)
    ran = json.loads(run("npu-run", "m.npu", "--random", 0, "--json").out)
    assert timed | {"simulation": 0} == {k: v for k, v in ran.items() if k != "outputs"} | {
        "simulation": 0
    }


def test_timing_compiles_a_model(run_tool: RunTool, models: Path):
    found = run_tool("npu-run", models / "winml_mnist.onnx", "--target", "mobile4k", "--timing")
    assert found.code == 0
    assert "Convolution28" in found.out


@pytest.mark.parametrize(
    "option", [["--random", "0"], ["--input", "x.npy"], ["--output", "y.npz"], ["--level", "tile"],
               ["--seed", "1"], ["--sequence"], ["--compare"]]
)  # fmt: skip
def test_timing_refuses_what_needs_data(run: RunTool, option: list[str]):
    found = run("npu-run", "m.npu", "--model", "m.onnx", "--timing", *option)
    assert found.code == 1
    assert "--timing must stand without what runs a program on data; found --" in found.err


def test_a_trace_is_compressed_by_its_name(run: RunTool):
    assert run("npu-run", "m.npu", "--timing", "--trace", "t.json.gz").code == 0
    assert json.loads(gzip.decompress(Path("t.json.gz").read_bytes()))["traceEvents"]


def test_another_operating_point_changes_every_figure(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--operating-point", "half")
    assert "operating point       half: 0.65 V, 500 MHz" in found.out
    summary = json.loads(
        run("npu-run", "m.npu", "--timing", "--operating-point", "half", "--json").out
    )
    assert (summary["operating_point"], summary["frequency"]) == ("half", 5e8)


def test_an_operating_point_holds_for_a_run_on_data_too(run: RunTool):
    options = ["--random", 0, "--operating-point", "low", "--json"]
    assert json.loads(run("npu-run", "m.npu", *options).out)["operating_point"] == "low"


def test_an_unknown_operating_point_is_refused(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--operating-point", "turbo")
    assert found.err == (
        "error[NPU0004]: edge256: an operating point must be one of nominal, half, low; "
        "found turbo\n"
    )


def test_a_rate_names_the_best_point(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--frames-per-second", 30)
    assert "best: low, " in found.out


def test_a_rate_that_no_point_reaches_is_said_so(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--frames-per-second", 1e9)
    assert "no operating point is in time" in found.out


@pytest.mark.parametrize("rate", ["0", "-3", "inf", "nan"])
def test_a_rate_must_be_positive(run: RunTool, rate: str):
    found = run("npu-run", "m.npu", "--timing", "--frames-per-second", rate)
    assert "--frames-per-second must be a number greater than zero" in found.err


def test_a_baseline_shows_what_changed(run: RunTool):
    before = json.loads(run("npu-run", "m.npu", "--timing", "--json").out)
    before["layers"][0]["cycles"] += 1000
    before["cycles"] += 1000
    Path("before.json").write_text(json.dumps(before))
    found = run("npu-run", "m.npu", "--timing", "--baseline", "before.json").out
    now = before["layers"][0]["cycles"]
    assert f"{now:,}" in found and "-1,000" in found


def test_a_baseline_that_is_the_same_says_so(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--baseline", "m.npu").out
    assert "no layer takes other cycles" in found


def test_shared_ports_say_what_they_cost(run: RunTool):
    found = run("npu-run", "m.npu", "--timing", "--shared-ports")
    assert "with shared ports" in found.out


def test_tables_fit_a_terminal_of_80_columns(run: RunTool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"model/features/block_{k}/expand/Conv2D" for k in range(3)]
    program([fill("spm", 64 * k, 64) for k in range(3)], layers=names).save("m.npu")
    options = ["--timing", "--frames-per-second", "30", "--baseline", "m.npu", "--shared-ports"]
    out = run("npu-run", "m.npu", *options).out
    assert max(map(len, out.splitlines())) <= 80
    assert "energy" in out and "bound" in out


def test_a_layer_is_a_line_whatever_its_name(run_tool: RunTool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    program([fill("spm", 0, 64)], layers=["a" * 100 + "/fill"]).save("m.npu")
    out = run_tool("npu-run", "m.npu", "--timing").out
    (line,) = [line for line in out.splitlines() if "a" * 20 in line]
    assert "…" in line
    assert "/fill" in line


def test_many_layers_are_followed_by_those_that_take_the_most(run_tool: RunTool):
    names = [f"layer{k}" for k in range(14)]
    sizes = [64 * (50 if k == 3 else 90 if k == 8 else 1) for k in range(14)]
    fills = [fill("spm", 8192 * k, size) for k, size in enumerate(sizes)]
    program(fills, layers=names).save("m.npu")
    out = run_tool("npu-run", "m.npu", "--timing").out
    (line,) = [line for line in out.splitlines() if line.startswith("most cycles: ")]
    assert [part.split()[0] for part in line[13:].split(", ")][:2] == ["layer8", "layer3"]


def test_columns_make_room_for_names():
    layers = Run.without_data(convolve_and_pool()).layers
    wide = [name for name, _ in profile_tables.fitting(layers, 120)]
    narrow = [name for name, _ in profile_tables.fitting(layers, 60)]
    assert set(narrow) < set(wide)
    assert {"cycles", "share", "dram", "energy", "bound"} <= set(narrow)
