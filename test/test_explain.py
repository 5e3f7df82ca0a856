"""`npu-compile --explain` and `--strict`: where operations run, why, and what would help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import ToolRun, run_in_process
from onnx import helper
from onnx_support import model_of

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.placement import remedies, rules
from npu_dialect.runtime.program import PlacedOp, Program
from npu_dialect.tools import explain

F32 = "float32"


def floats() -> onnx.ModelProto:
    """Relu, Softmax, Transpose; nothing of it is integers."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Softmax", ["a"], ["b"], name="second"),
        helper.make_node("Transpose", ["b"], ["y"], name="third"),
    ]
    return model_of(nodes, {"x": (F32, [4, 6])}, ["y"])


def quantized() -> onnx.ModelProto:
    """Integers between a QuantizeLinear and a DequantizeLinear."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("MaxPool", ["q"], ["p"], name="pool", kernel_shape=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"], name="dequantize"),
    ]
    constants = {"s": np.float32(0.5), "z": np.int8(0)}
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return model_of(nodes, {"x": (F32, [1, 4, 6, 6])}, ["y"], arrays)


def compiled(model: onnx.ModelProto, target: str = "edge256") -> Program:
    return npu.compile(model, target)


def tool(folder: Path, model: onnx.ModelProto, *options: str) -> ToolRun:
    path = folder / "m.onnx"
    onnx.save(model, path)
    arguments = [str(path), "-o", str(folder / "m.npu"), "--target", "edge256", *options]
    return run_in_process("npu-compile", arguments)


def test_every_rule_has_a_remedy() -> None:
    every = {rules.rule_name(rule) for unit in rules.UNITS.values() for rule in unit.rules}
    assert every <= set(remedies.REMEDIES)


@pytest.mark.parametrize(
    ("rule", "found", "words"),
    [("vector-types", "f64, and mobile4k has f32", "a cast to float32"),
     ("expressible", "Pad (the padding value is computed at run time)", "binding it"),
     ("copy-rank", "7", "merging dimensions with a Reshape")],
)  # fmt: skip
def test_a_remedy_answers_what_was_found(rule: str, found: str, words: str) -> None:
    assert words in remedies.remedy(rule, found)


# Placement


def test_every_node_has_a_record() -> None:
    engines = {(row.source, row.engine) for row in compiled(quantized()).placement}
    assert {("quantize", "io"), ("pool", "vpu"), ("dequantize", "io")} <= engines


def test_a_node_that_leaves_nothing_behind_is_folded() -> None:
    nodes = [
        helper.make_node("Add", ["c", "c"], ["d"], name="known"),
        helper.make_node("Add", ["x", "d"], ["y"], name="sum"),
    ]
    model = model_of(nodes, {"x": (F32, [4])}, ["y"], {"c": np.ones(4, np.float32)})
    (sum_, known) = compiled(model, "mobile4k").placement
    assert (sum_.source, sum_.engine) == ("sum", "vpu")
    assert (known.source, known.op, known.engine, known.cycles) == ("known", "Add", "folded", 0)
    assert known.reason == "its result needs no work at run time"


def test_what_was_folded_is_kept_with_the_program(tmp_path: Path) -> None:
    program = compiled(quantized())
    program.save(tmp_path / "m.npu")
    assert Program.load(tmp_path / "m.npu").placement == program.placement


# Causes


def test_floats_on_a_machine_of_integers_are_one_cause_and_moves_belong_to_it() -> None:
    (cause,) = explain.causes(compiled(floats()))
    assert (cause.rule, cause.found) == ("floats", "floats, and edge256 has none")
    assert cause.sources == ["first", "second", "third"]


def test_what_the_host_takes_is_the_cycles_and_bytes_of_its_instructions() -> None:
    program = compiled(floats())
    (trip,) = explain.trips(program).values()
    assert (trip.calls, trip.read, trip.written) == (1, 4 * 24, 4 * 24)
    assert trip.cycles == sum(engine.busy for engine in program.profile.engines
                              if engine.name == "host")  # fmt: skip


# The tool


def test_explain_prints_a_line_for_each_operation_and_each_cause(tmp_path: Path) -> None:
    run = tool(tmp_path, floats(), "--explain")
    assert run.code == 0
    lines = run.out.splitlines()
    assert lines[0].split() == ["source", "operation", "engine", "cycles", "layer", "rule:",
                                "reason"]  # fmt: skip
    assert sum("graph.relu  " in line for line in lines) == 1
    (cause,) = [line for line in lines if line.startswith("  floats: ")]
    for words in ("3 operations: first, second, third", "1 call of the host, ",
                  "96 bytes read, 96 written", "try quantizing the model to integers",
                  "--target mobile4k"):  # fmt: skip
        assert words in cause


def placed(op: str, source: str, engine: str = "vpu") -> PlacedOp:
    return PlacedOp(source, op, engine, "vector-kernel", "it can", layer=source, cycles=7)


def test_operations_that_differ_in_their_kind_alone_share_a_line() -> None:
    kinds = ["graph.sub", "graph.exp", "graph.exp", "graph.mul", "graph.div", "graph.neg"]
    rows = [placed(kind, "softmax1") for kind in kinds]
    rows += [placed("graph.exp", "softmax1", "mxu"), placed("graph.exp", "softmax2", "mxu")]
    _, *lines = explain.table(rows)
    assert [line.split("  ")[1] for line in lines] == [
        "graph.sub, graph.exp, graph.mul and 2 more", "graph.exp", "graph.exp",
    ]  # fmt: skip


def test_long_names_lose_their_middle() -> None:
    _, line = explain.table([placed("graph.exp", f"{'a' * 100}/exp")])
    assert line.startswith(f"{'a' * 20}…{'a' * 15}/exp  ")


def test_strict_refuses_work_of_the_host_and_writes_nothing(tmp_path: Path) -> None:
    run = tool(tmp_path, floats(), "--strict")
    assert run.code == 1
    assert run.err.startswith("error[NPU0306]: first, second, third: floats: An operation on ")
    assert run.err.count("\n") == 1
    assert not (tmp_path / "m.npu").exists()


def test_strict_allows_the_conversion_of_inputs_and_outputs(tmp_path: Path) -> None:
    run = tool(tmp_path, quantized(), "--strict", "--explain")
    assert run.code == 0, run.err
    assert "conversion of inputs and outputs (io): quantize, dequantize; " in run.out
    assert "on the host: nothing" in run.out
    assert (tmp_path / "m.npu").exists()


def test_strict_has_one_record_for_each_cause() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="float"),
        helper.make_node("Identity", ["a"], ["y"]),
        helper.make_node("Det", ["m"], ["d"], name="determinant"),
    ]
    inputs = {"x": (F32, [4]), "m": (F32, [5, 5])}
    program = compiled(model_of([*nodes], inputs, ["y", "d"]))
    with pytest.raises(CompileError) as caught:
        explain.check_strict(program, explain.nowhere)
    assert len(caught.value.records) == 2
    assert {record.source for record in caught.value.records} == {"float", "determinant"}


# --- mappings -------------------------------------------------------------------------------------


def test_explain_says_how_layers_are_mapped(tmp_path: Path) -> None:
    run = tool(tmp_path, quantized(), "--explain")
    head = next(line for line in run.out.splitlines() if line.startswith("layer"))
    assert all(word in head for word in ("bound by", "gap", "result in", "best rejected"))
    assert "estimated before scheduling" in run.out


def test_exported_mappings_give_the_same_program(tmp_path: Path) -> None:
    exported = tmp_path / "m.toml"
    first = tool(tmp_path, quantized(), "--export-mappings", str(exported))
    again = tool(tmp_path, quantized(), "--overrides", str(exported))
    assert "mapping = {" in exported.read_text()
    assert first.out.splitlines()[-1] == again.out.splitlines()[-1]
