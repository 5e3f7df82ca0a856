"""Stops, watched bytes and memory as tensors of a program that runs step by step."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import run_in_process
from onnx import helper, numpy_helper

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.runtime.debugger import Debugger, parse_place
from npu_dialect.runtime.program import Program
from npu_dialect.tools import debugger as shell

X = np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32)
W = np.random.default_rng(4).normal(size=(16, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def program() -> Program:
    """A product, and the sum of its exponentials."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "product1"),
        helper.make_node("Exp", ["m"], ["e"], "exp1"),
        helper.make_node("ReduceSum", ["e"], ["y"], "sum1", keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [4, 16])],
        [helper.make_tensor_value_info("y", 1, [1, 1])],
        [numpy_helper.from_array(W, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return npu.compile(model, target="mobile4k")


@pytest.fixture
def debugger(program: Program) -> Debugger:
    return Debugger(program, {"x": X})


def test_it_stops_at_a_layer(debugger: Debugger):
    debugger.stop_at("product1")
    stop = debugger.resume()
    assert stop is not None
    assert "product1" in stop.step.record.sources


def test_it_stops_after_an_instruction(debugger: Debugger):
    debugger.stop_at("#1")
    stop = debugger.resume()
    assert stop is not None
    assert stop.step.index == 1


def test_an_unknown_layer_is_refused(debugger: Debugger):
    with pytest.raises(CompileError, match="found product2; try product1"):
        debugger.stop_at("product2")


def test_a_layer_may_be_called_as_short_as_tables_have_it(debugger: Debugger):
    debugger.stop_at("pro…1")
    stop = debugger.resume()
    assert stop is not None
    assert "product1" in stop.step.record.sources


def test_an_unknown_place_is_answered_with_those_that_there_are(debugger: Debugger):
    debugger.advance()
    with pytest.raises(CompileError, match=r"\(.*x, y\), or SPACE:.*found nothing"):
        debugger.find("nothing")


def test_a_run_in_steps_gives_what_a_run_gives(program: Program, debugger: Debugger):
    assert debugger.resume() is None
    expected = npu.simulate(program, {"x": X}).outputs["y"]
    found = debugger.array(debugger.find("y")).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_the_output_of_an_instruction_is_a_tensor(debugger: Debugger):
    while debugger.advance():
        step = debugger.step
        if step and step.instruction.name == "npu.matmul":
            break
    products = debugger.array(debugger.find("output"))
    np.testing.assert_allclose(products, X @ W, rtol=1e-4, atol=1e-5)


def test_a_watched_byte_stops_the_program(program: Program, debugger: Debugger):
    low, high = program.outputs[0].operand.interval
    debugger.watch("dram", low, high)
    stop = debugger.resume()
    assert stop is not None
    assert stop.reason == f"write to dram [{low:#x}, {high:#x})"


def test_bytes_outside_a_memory_are_not_watched(debugger: Debugger):
    with pytest.raises(CompileError, match="spm"):
        debugger.watch("spm", 0, 1 << 40)


def test_a_place_is_a_dense_block():
    place = parse_place("spm:0x40:i8:8x16")
    assert (place.space, place.address, place.dims, place.strides) == ("spm", 64, (8, 16), (16, 1))


@pytest.mark.parametrize("text", ["spm:0x40:i8", "spm:x:i8:4", "spm:0:i9:4", "nothing"])
def test_what_is_no_place_is_refused(text: str):
    with pytest.raises(CompileError):
        parse_place(text)


# --- the commands ---------------------------------------------------------------------------------


def run(debugger: Debugger, *lines: str) -> str:
    out = io.StringIO()
    shell.run(debugger, io.StringIO("".join(f"{line}\n" for line in lines)), out)
    return out.getvalue()


def test_commands_stop_show_and_go_on(debugger: Debugger):
    text = run(debugger, "break product1", "continue", "where", "list", "next", "continue")
    assert "stopped at layer" in text
    assert text.endswith("end of the program\n")


def test_a_wrong_command_leaves_the_program_where_it_is(debugger: Debugger):
    text = run(debugger, "step", "print nothing", "frobnicate", "quit")
    assert "error" in text
    assert "no command 'frobnicate'" in text
    assert debugger.step is not None
    assert debugger.step.number == 0


def test_the_end_of_the_commands_runs_the_rest(debugger: Debugger):
    assert run(debugger, "step").endswith("end of the program\n")


@pytest.mark.parametrize("command", [m[3:] for m in dir(shell.Shell) if m.startswith("do_")])
def test_every_command_has_help(command: str):
    method: Any = getattr(shell.Shell, f"do_{command}")
    assert method.__doc__


# --- npu-run --------------------------------------------------------------------------------------


@pytest.fixture
def files(program: Program, tmp_path: Path) -> tuple[str, str]:
    program.save(tmp_path / "m.npu")
    np.save(tmp_path / "x.npy", X)
    return str(tmp_path / "m.npu"), str(tmp_path / "x.npy")


def test_npu_run_takes_commands_from_standard_input(files: tuple[str, str]):
    model, x = files
    found = run_in_process("npu-run", [model, "--input", x, "--break", "product1"], "where\nc\n")
    assert found.code == 0
    assert "stopped at layer" in found.out
    assert "end of the program" in found.out


def test_npu_run_says_that_a_program_is_clean(files: tuple[str, str]):
    model, x = files
    found = run_in_process("npu-run", [model, "--input", x, "--sanitize"])
    assert found.code == 0
    assert found.out.startswith("clean")


def test_npu_run_reports_what_is_not_clean(files: tuple[str, str], tmp_path: Path):
    np.save(tmp_path / "nan.npy", np.full_like(X, np.nan))
    options = ["--input", str(tmp_path / "nan.npy"), "--sanitize", "--json"]
    found = run_in_process("npu-run", [files[0], *options])
    assert found.code == 1
    assert {f["kind"] for f in json.loads(found.out)["findings"]} == {"not-finite"}


@pytest.mark.parametrize("other", [["--tier", "compiled"], ["--sanitize"]])
def test_npu_run_refuses_what_does_not_go_with_stops(files: tuple[str, str], other: list[str]):
    model, x = files
    found = run_in_process("npu-run", [model, "--input", x, "--break", "start", *other])
    assert found.code == 1
    assert "must be" in found.err
