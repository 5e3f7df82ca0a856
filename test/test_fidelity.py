"""Quantized against float, layer by layer: noise, saturation, blame; the tool and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import RunTool
from onnx import helper, numpy_helper, save
from xdsl.dialects.builtin import ModuleOp

import npu_dialect as npu
from npu_dialect import fidelity, pipeline
from npu_dialect.fidelity import Fidelity
from npu_dialect.graph import interpret
from npu_dialect.passes.graph_calibrate import ESTIMATORS, annotate, functions
from npu_dialect.passes.quantizing import calibration
from npu_dialect.quantization import PREPARE

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(8)
SHAPE = (1, 4, 8, 8)
SAMPLES = RNG.normal(size=(10, *SHAPE)).astype(np.float32)
W1, W2, W3 = ((RNG.normal(size=(4, 4, 3, 3)) / 5).astype(np.float32) for _ in range(3))


def model() -> Any:
    """Three convolutions with ReLU, called first, second and third."""
    nodes: list[Any] = []
    value = "x"
    for k, name in enumerate(("first", "second", "third")):
        nodes.append(
            helper.make_node("Conv", [value, f"w{k}"], [f"c{k}"], f"conv{k}", pads=[1] * 4)
        )
        value = "y" if k == 2 else name
        nodes.append(helper.make_node("Relu", [f"c{k}"], [value], name))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, SHAPE)],
        [helper.make_tensor_value_info("y", 1, SHAPE)],
        [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate((W1, W2, W3))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def floats() -> ModuleOp:
    module = npu.load(model(), "edge256")
    pipeline.run(module, ",".join(PREPARE))
    return module


def quantized(narrow: str = "") -> ModuleOp:
    """At level graph. The range of the tensor `narrow` holds a quarter of its values' reach."""
    module = floats()
    function = functions(module)[0]
    found = calibration.observe(function, [[s] for s in SAMPLES])
    if narrow:
        found[narrow].high /= 4
    annotate(function, found, ESTIMATORS["minmax"])
    pipeline.run(module, "graph-quantize")
    npu.lower(module, "graph")
    return module


def compared(narrow: str = "") -> Fidelity:
    return fidelity.compare(floats(), quantized(narrow), [[s] for s in SAMPLES[:4]])


def layer(found: Fidelity, name: str) -> fidelity.Layer:
    return next(each for each in found.layers if each.name == name)


def test_the_layers_are_the_tensors_that_are_stored():
    assert [each.name for each in compared().layers] == ["first", "second", "third"]


def test_signal_to_noise_is_that_of_the_outputs():
    """By numpy, from the outputs of both modules."""
    exact = np.array([interpret.run(floats(), [s])[0] for s in SAMPLES[:4]], np.float64)
    found = np.array([interpret.run(quantized(), [s])[0] for s in SAMPLES[:4]], np.float64)
    noise = 10 * np.log10(np.sum(exact**2) / np.sum((exact - found) ** 2))
    cosine = np.sum(exact * found) / np.sqrt(np.sum(exact**2) * np.sum(found**2))
    result = compared()
    assert result.outputs["y"] == pytest.approx(noise)
    assert layer(result, "third").sqnr == pytest.approx(noise)
    assert layer(result, "third").cosine == pytest.approx(cosine)
    steps = np.abs(exact - found).max() / layer(result, "third").scale
    assert layer(result, "third").worst == pytest.approx(steps, rel=1e-5)


def test_the_first_layer_has_no_noise_but_its_own():
    first = layer(compared(), "first")
    assert first.own == pytest.approx(first.sqnr)


def test_own_noise_is_less_than_that_with_the_layers_before():
    third = layer(compared(), "third")
    assert third.own is not None and third.own > third.sqnr


def test_saturated_elements_are_counted():
    exact = np.concatenate([interpret.run_all(floats(), [s])["second"] for s in SAMPLES[:4]])
    function = functions(floats())[0]
    high = calibration.observe(function, [[s] for s in SAMPLES])["second"].high / 4
    expected = np.mean(exact > high * (1 + 0.5 / 255))
    assert layer(compared("second"), "second").saturated == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_layer_that_saturates_is_to_blame(name: str):
    found = compared(name)
    assert found.blame[0].name == name
    assert "of its values saturate" in fidelity.reason(found.blame[0])


def test_a_program_has_the_noise_of_its_module():
    program = npu.compile(model(), "edge256", quantize="int8", calibrate=list(SAMPLES))
    found = fidelity.compare_program(floats(), program, [[s] for s in SAMPLES[:4]])
    module = compared()
    assert found.outputs["y"] == pytest.approx(module.outputs["y"])
    for each in found.layers:
        assert each.sqnr == pytest.approx(layer(module, each.name).sqnr)


def recurrent() -> Any:
    """n = tanh(x + h u), y = n v, with the state h."""
    nodes = [
        helper.make_node("MatMul", ["h", "u"], ["r"], "back"),
        helper.make_node("Add", ["x", "r"], ["s"], "add"),
        helper.make_node("Tanh", ["s"], ["n"], "tanh"),
        helper.make_node("MatMul", ["n", "v"], ["y"], "out"),
    ]
    ports = {name: helper.make_tensor_value_info(name, 1, [1, 8]) for name in "xhny"}
    weights = {k: (RNG.normal(size=(8, 8)) / 3).astype(np.float32) for k in "uv"}
    graph = helper.make_graph(
        nodes,
        "g",
        [ports["x"], ports["h"]],
        [ports["n"], ports["y"]],
        [numpy_helper.from_array(w, k) for k, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_states_go_on_from_input_to_input_in_both():
    """Their noise adds up: by numpy, in float64, over a sequence."""
    made, frames = recurrent(), RNG.normal(size=(12, 1, 8)).astype(np.float32)
    samples = [[frame] for frame in frames]
    states = {"h": "n"}
    plain, module = (npu.load(made, "edge256", states=states) for _ in range(2))
    pipeline.run(plain, ",".join(PREPARE))
    npu.quantize(module, npu.Quantization(samples=samples))
    npu.lower(module, "graph")
    found = fidelity.compare(plain, module, samples)
    program = npu.compile(made, "edge256", quantize="int8", calibrate=samples, states=states)
    session, u, v = (
        npu.Session(program),
        *(numpy_helper.to_array(w) for w in made.graph.initializer),
    )
    state, signal, noise = np.zeros((1, 8)), 0.0, 0.0
    for frame in frames:
        state = np.tanh(frame + state @ u.astype(np.float64))
        exact = state @ v
        signal += np.sum(exact**2)
        noise += np.sum((exact - session.run([frame]).outputs["y"]) ** 2)
    assert found.outputs["y"] == pytest.approx(10 * np.log10(signal / noise), abs=1e-3)
    of_program = fidelity.compare_program(plain, program, samples)
    assert of_program.outputs["y"] == pytest.approx(found.outputs["y"], abs=1e-6)


# --- the tool -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(model(), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "s.npz", x=SAMPLES)
    np.save(tmp_path / "x.npy", SAMPLES[0])
    return tmp_path


OPTIONS = ("--target", "edge256", "--compare", "--quantize", "int8", "--calibrate", "s.npz")


def test_the_tool_shows_layers_and_blame(folder: Path, run_tool: RunTool):
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--input", "s.npz")
    assert run.code == 0, run.err
    assert "quantized against float, 10 inputs" in run.out
    assert all(name in run.out for name in ("first", "second", "third", "output y: SQNR"))
    assert "graph and npu of the quantized model agree bit for bit" in run.out


def test_samples_may_lack_the_batch_of_one(folder: Path, run_tool: RunTool):
    np.savez(folder / "flat.npz", x=SAMPLES[:, 0])
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--input", "flat.npz")
    assert run.code == 0 and "quantized against float, 10 inputs" in run.out, run.err


def test_integer_ports_take_floats_to_compare(folder: Path, run_tool: RunTool):
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--integer-io", "--input", "x.npy")
    assert run.code == 0 and "agree bit for bit" in run.out, run.err


def test_a_program_is_compared_with_the_model_that_it_was_made_of(folder: Path, run_tool: RunTool):
    run_tool("npu-compile", "m.onnx", "--quantize", "int8", "--calibrate", "s.npz", "-o", "m.npu")
    run = run_tool("npu-run", "m.npu", "--model", "m.onnx", "--compare", "--input", "x.npy")
    assert run.code == 0 and "quantized against float, 1 input" in run.out, run.err


def test_a_program_of_integers_is_compared_on_floats_too(folder: Path, run_tool: RunTool):
    options = ("--quantize", "int8", "--calibrate", "s.npz")
    found: list[str] = []
    for name, more in (("a.npu", ()), ("b.npu", ("--integer-io",))):
        run_tool("npu-compile", "m.onnx", *options, *more, "-o", name)
        run = run_tool("npu-run", name, "--model", "m.onnx", "--compare", "--input", "x.npy")
        assert run.code == 0, run.err
        found.append(run.out.splitlines()[-1])
    assert found[0] == found[1] and "output y: SQNR" in found[0]


def test_it_is_said_how_many_tensors_a_program_does_not_show(folder: Path, run_tool: RunTool):
    run_tool("npu-compile", "m.onnx", "--quantize", "int8", "--calibrate", "s.npz", "-o", "m.npu")
    options = ("m.npu", "--model", "m.onnx", "--compare", "--input", "x.npy")
    found = json.loads(run_tool("npu-run", *options, "--json").out)
    text = run_tool("npu-run", *options).out
    program = npu.Program.load(folder / "m.npu")
    known = json.loads(program.metadata["types.main"])
    assert found["unseen"] == len(known) - len(found["layers"])
    assert ("more tensors are inside of instructions" in text) == (found["unseen"] > 0)


def test_another_model_than_that_of_the_program_is_refused(folder: Path, run_tool: RunTool):
    run_tool("npu-compile", "m.onnx", "--quantize", "int8", "--calibrate", "s.npz", "-o", "m.npu")
    save(recurrent(), str(folder / "other.onnx"))
    run = run_tool("npu-run", "m.npu", "--model", "other.onnx", "--compare", "--random", "0")
    assert run.code == 1 and "--model must be the model that m.npu was made of" in run.err


def test_inputs_that_are_no_numbers_are_refused(folder: Path, run_tool: RunTool):
    array = SAMPLES[0].copy()
    array.flat[3] = np.nan
    np.save(folder / "nan.npy", array)
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--input", "nan.npy")
    assert run.code == 1 and "must be finite; found 1 of " in run.err


def test_as_json(folder: Path, run_tool: RunTool):
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--input", "x.npy", "--json")
    found = json.loads(run.out)
    assert found["levels_agree"] is True
    assert [each["name"] for each in found["layers"]] == ["first", "second", "third"]


def test_the_page_has_a_section_of_it(folder: Path, run_tool: RunTool):
    run = run_tool("npu-run", "m.onnx", *OPTIONS, "--input", "x.npy", "--report", "r.html")
    page = (folder / "r.html").read_text()
    assert run.code == 0, run.err
    assert '<section id="fidelity">' in page and 'class="fidelity"' in page
    assert page.count("<circle") >= 6  # a point with all noise, and one alone, for each layer


def test_a_report_of_a_model_that_is_not_quantized_is_refused(folder: Path, run_tool: RunTool):
    run = run_tool("npu-compile", "m.onnx", "--target", "mobile4k", "-o", "f.npu")
    options = ("--model", "m.onnx", "--compare", "--input", "x.npy", "--report", "r.html")
    run = run_tool("npu-run", "f.npu", *options)
    assert run.code == 1 and "must be of a model that is quantized" in run.err


def test_a_program_is_quantized_already(folder: Path, run_tool: RunTool):
    run_tool("npu-compile", "m.onnx", "--quantize", "int8", "--calibrate", "s.npz", "-o", "m.npu")
    run = run_tool(
        "npu-run", "m.npu", "--quantize", "int8", "--calibrate", "s.npz", "--input", "x.npy"
    )
    assert run.code == 1 and "a .npu is compiled already" in run.err


def test_auto_that_has_nothing_to_do_cannot_be_compared(folder: Path, run_tool: RunTool):
    options = ("--target", "mobile4k", "--compare", "--quantize", "auto", "--input", "x.npy")
    run = run_tool("npu-run", "m.onnx", *options)
    assert run.code == 1 and "must be quantized to be compared with its floats" in run.err


def test_a_model_runs_quantized_without_a_file(folder: Path, run_tool: RunTool):
    options = ("--target", "edge256", "--quantize", "int8", "--calibrate", "s.npz")
    run_tool("npu-run", "m.onnx", *options, "--input", "x.npy", "--output", "a.npz")
    run_tool(
        "npu-run", "m.onnx", *options, "--input", "x.npy", "--level", "graph", "--output", "b.npz"
    )
    a, b = (np.load(folder / name)["y"] for name in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(a, b)
