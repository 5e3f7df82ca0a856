"""Several entries in one program: shared constants and states, each entry by its name."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fuzzing import QUIET
from graph_samples import same
from stateful import COUNTER, RECURRENT, Arrays, Builder, floats, module_of
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp

import npu_dialect as npu
from npu_dialect import api, dtypes, graph, levels
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.entries import merge
from npu_dialect.npu.structure import ProgramOp
from npu_dialect.npu.verifier import verify_program
from npu_dialect.runtime import container
from npu_dialect.runtime.program import Constant, Program
from npu_dialect.runtime.simulator import Session
from npu_dialect.tools import npu_compile

ROWS, WIDTH = 12, 16
WEIGHTS = floats(np.random.default_rng(5), WIDTH, WIDTH)


def prefill(name: str = "main") -> FuncOp:
    """Fills the first rows of the cache, and sums them."""
    b = Builder()
    rows = b.argument("rows", (4, WIDTH))
    mapped = b.add(graph.MatmulOp(rows, b.constant(WEIGHTS)))
    rest = b.constant(np.zeros((ROWS - 4, WIDTH), np.float32))
    new = b.add(graph.ConcatOp([mapped, rest], 0))
    return b.function({"cache'": new, "sum": b.add(graph.ReduceSumOp(new, (0,)))}, name=name)


def decode(name: str = "main") -> FuncOp:
    """Writes one row of the cache, and sums all."""
    b = Builder()
    row, at = b.argument("row", (1, WIDTH)), b.argument("at", (1,), dtypes.i32)
    cache = b.argument("cache", (ROWS, WIDTH))
    mapped = b.add(graph.MatmulOp(row, b.constant(WEIGHTS)))
    new = b.add(graph.ScatterOp(cache, at, mapped))
    return b.function({"cache'": new, "total": b.add(graph.ReduceSumOp(new, (0,)))}, name=name)


def merged() -> ModuleOp:
    return merge({"prefill": module_of(prefill()), "decode": module_of(decode())})


@pytest.fixture(scope="module")
def program() -> Program:
    """The program of both, as it is read back from its file."""
    return Program.from_bytes(npu.compile(merged(), options=QUIET).to_bytes())


def steps() -> list[tuple[str, Arrays]]:
    g = np.random.default_rng(2)
    rows = {"rows": floats(g, 4, WIDTH)}
    later = [{"row": floats(g, 1, WIDTH), "at": np.array([k], np.int32)} for k in (4, 5, 2)]
    return [("prefill", rows), *(("decode", given) for given in later)]


def expected() -> list[Arrays]:
    """What numpy says that the steps give."""
    cache = np.zeros((ROWS, WIDTH), np.float32)
    found: list[Arrays] = []
    for name, given in steps():
        if name == "prefill":
            cache[:] = 0
            cache[:4] = given["rows"] @ WEIGHTS
            found.append({"sum": cache.sum(0, keepdims=True)})
        else:
            cache[given["at"][0]] = given["row"][0] @ WEIGHTS
            found.append({"total": cache.sum(0, keepdims=True)})
    return found


def close(found: Arrays, wanted: Arrays) -> bool:
    return found.keys() == wanted.keys() and all(
        np.allclose(found[n], wanted[n], 1e-5, 1e-5) for n in wanted
    )


@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_entries_share_a_state_at_every_level(level: levels.Level):
    module = merged()
    api.lower(module, level, options=QUIET)
    state: Arrays = {}
    for (name, given), wanted in zip(steps(), expected(), strict=True):
        assert close(npu.execute(module, given, entry=name, state=state), wanted)


@pytest.mark.parametrize("tier", ["plain", "torch", "compiled"])
def test_entries_share_a_state_in_every_tier(program: Program, tier: str):
    module, session, state = merged(), Session(program, tier=tier), {}
    api.lower(module, "graph", options=QUIET)
    for name, given in steps():
        wanted = npu.execute(module, given, entry=name, state=state)
        found = session.run(given, entry=name).outputs
        assert all(same(found[n], wanted[n]) for n in wanted)
        assert same(session.state["cache"], state["cache"])


def test_a_constant_of_several_entries_is_there_once(program: Program):
    weights = [c for c in program.constants if c.array.nbytes == WEIGHTS.nbytes]
    assert len(weights) == 1


def test_constants_without_elements_take_no_place():
    made = npu.compile(RECURRENT.module(), options=QUIET)
    address = made.constants[0].address
    empty = Constant("nothing", address, np.zeros((0, 3), np.float32))
    more = replace(made, constants=(empty, *made.constants))
    again = Program.from_module(more.to_module())
    assert [c.label for c in again.constants] == [c.label for c in more.constants]


def test_an_entry_is_a_program_of_its_own(program: Program):
    alone = program.entry("decode")
    assert [b.name for b in alone.inputs] == ["row", "at"]
    assert [b.name for b in alone.outputs] == ["total"]
    assert alone.profile.cycles > 0 and alone.placement


def test_an_entry_must_be_named_where_none_is_main(program: Program):
    with pytest.raises(
        CompileError,
        match="NPU0507.*not exactly one of prefill.*decode.*found inputs that fit none",
    ):
        Session(program).run({})
    with pytest.raises(CompileError, match="NPU0507.*one of prefill, decode; found train"):
        npu.simulate(program, {}, entry="train")


def test_a_program_with_entries_is_the_same_after_its_file_and_its_text(program: Program):
    data = program.to_bytes()
    assert Program.from_bytes(data).to_bytes() == data
    assert Program.from_module(program.to_module()).to_bytes() == data


def changed(manifest: Any, generator: random.Random) -> Any:
    """A copy of JSON values in which one is another, or gone."""
    copy = json.loads(json.dumps(manifest))
    at = copy
    while True:
        key = generator.choice(list(at) if isinstance(at, dict) else range(len(at)))
        if not isinstance(at[key], dict | list) or not at[key] or generator.random() < 0.1:
            break
        at = at[key]
    if isinstance(at, dict) and generator.random() < 0.3:
        del at[key]
    else:
        at[key] = generator.choice(
            [None, -1, 0, 10**9, 2**40, "x", [], {}, 1.5, True, [1, 2], "spm"]
        )
    return copy


def test_a_forged_manifest_is_refused_or_does_no_harm(program: Program):
    sections = {n: bytes(s) for n, s in container.unpack(program.to_bytes(), "p").items()}
    manifest, refused = json.loads(sections["manifest"]), 0
    for seed in range(200):
        forged = json.dumps(changed(manifest, random.Random(seed))).encode()
        data = container.pack(sections | {"manifest": forged})
        try:
            session = Session(Program.from_bytes(data), tier="plain")
            for name, given in steps():
                session.run(given, entry=name)
        except CompileError:
            refused += 1
    assert refused > 100


def test_states_of_one_name_must_have_one_type():
    b = Builder()
    other = b.function({"cache'": b.argument("x", (3, 3))})
    with pytest.raises(CompileError, match="NPU0202.*state cache must have one type"):
        merge({"prefill": module_of(prefill()), "other": module_of(other)})


def test_modules_for_several_targets_are_no_program():
    with pytest.raises(CompileError, match=r"NPU0202.*must have the same npu\.target"):
        merge({"a": module_of(prefill()), "b": module_of(decode(), target="edge256")})


@pytest.mark.parametrize("level", ["tile", "npu"])
def test_states_are_declared_at_level_graph(level: levels.Level):
    module = COUNTER.module()
    api.lower(module, level, options=QUIET)
    with pytest.raises(CompileError, match="NPU0206.*before a module is lowered to tile"):
        npu.load(module, states={"x": "y"})


def test_a_state_of_entries_must_be_an_input_of_one():
    with pytest.raises(CompileError, match="NPU0501.*an input of an entry; found rest, which no"):
        npu.load({"a": module_of(prefill()), "b": module_of(decode())}, states={"rest": "sum"})


# One model in several shapes


@pytest.fixture
def growing() -> onnx.ModelProto:
    """y = x W, for any number of rows."""
    value = onnx.helper.make_tensor_value_info
    graph_ = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "growing",
        [value("x", onnx.TensorProto.FLOAT, ["rows", WIDTH])],
        [value("y", onnx.TensorProto.FLOAT, ["rows", WIDTH])],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph_, opset_imports=[opset], ir_version=8)


def test_a_run_takes_the_entry_that_its_inputs_fit(growing: onnx.ModelProto):
    shapes = {f"rows{n}": {"x": (n, WIDTH)} for n in (1, 8)}
    made = npu.compile(dict.fromkeys(shapes, growing), "mobile4k", shapes=shapes, options=QUIET)
    assert made.constant_bytes == WEIGHTS.nbytes
    session = Session(made)
    for n in (8, 1):
        x = floats(np.random.default_rng(n), n, WIDTH)
        found = session.run({"x": x}).outputs["y"]
        np.testing.assert_allclose(found, x @ WEIGHTS, 1e-5, 1e-5)
        assert same(npu.simulate(made, x).outputs["y"], found)
    with pytest.raises(CompileError, match="NPU0507.*inputs that fit none"):
        session.run({"x": floats(np.random.default_rng(0), 3, WIDTH)})


def of_two_shapes(growing: onnx.ModelProto) -> Program:
    shapes = {f"rows{n}": {"x": (n, WIDTH)} for n in (1, 8)}
    return npu.compile(dict.fromkeys(shapes, growing), "mobile4k", shapes=shapes, options=QUIET)


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_of_many_samples_takes_the_entry_that_it_fits(growing: onnx.ModelProto, jobs: int):
    made = of_two_shapes(growing)
    samples = [floats(np.random.default_rng(k), n, WIDTH) for k, n in enumerate((8, 1, 8))]
    for given in (samples, iter(samples), tuple({"x": x} for x in samples)):
        runs = list(npu.simulate_all(made, given, jobs=jobs))
        for x, run in zip(samples, runs, strict=True):
            np.testing.assert_allclose(run.outputs["y"], x @ WEIGHTS, 1e-5, 1e-5)
    with pytest.raises(CompileError, match="NPU0507.*inputs that fit none"):
        list(npu.simulate_all(made, [*samples, samples[0][:3]], jobs=jobs))


def test_a_session_tells_how_the_entry_of_its_latest_run_is_executed(growing: onnx.ModelProto):
    session = Session(of_two_shapes(growing), tier="plain")
    assert session.tier == "plain"
    with pytest.raises(CompileError, match="NPU0507.*rows1, rows8; found none"):
        _ = session.execution
    for n in (8, 1):
        run = session.run(floats(np.random.default_rng(n), n, WIDTH))
        assert session.execution is run.execution is session.executor(f"rows{n}").execution
        assert session.tier == "plain"


def test_the_levels_take_the_entry_that_the_inputs_fit(growing: onnx.ModelProto):
    shapes = {f"rows{n}": {"x": (n, WIDTH)} for n in (1, 8)}
    module = npu.load(dict.fromkeys(shapes, growing), "mobile4k", shapes=shapes)
    x = floats(np.random.default_rng(0), 8, WIDTH)
    expected = npu.execute(module, {"x": x})["y"]
    for level in ("tile", "npu"):
        npu.lower(module, level, options=QUIET)
        assert same(npu.execute(module, {"x": x})["y"], expected)
    with pytest.raises(CompileError, match="NPU0507.*inputs that fit none"):
        npu.execute(module, {"x": x[:3]})


def test_shapes_for_an_entry_that_is_none_are_refused(growing: onnx.ModelProto):
    shapes = {"one": {"x": (1, WIDTH)}, "more": {"x": (8, WIDTH)}}
    with pytest.raises(CompileError, match="NPU0004.*shapes.*one of one, many; found more"):
        npu.load({"one": growing, "many": growing}, shapes=shapes)
    with pytest.raises(CompileError, match="NPU0004.*shapes by entry.*found one, more"):
        npu.load(growing, shapes=shapes)
    with pytest.raises(CompileError, match=r"NPU0105.*shapes are fixed"):
        npu.load(module_of(prefill()), shapes={"rows": (4, WIDTH)})


def test_shapes_may_be_for_all_entries_and_for_one(growing: onnx.ModelProto):
    shapes: Any = {"x": (8, WIDTH), "one": {"x": (1, WIDTH)}}
    module = npu.load({"one": growing, "many": growing}, shapes=shapes)
    found = {name: levels.inputs_of(module, name)[0].shape for name in ("one", "many")}
    assert found == {"one": (1, WIDTH), "many": (8, WIDTH)}


def colon(growing: onnx.ModelProto) -> onnx.ModelProto:
    """The same with an input called `input:0`."""
    growing.graph.input[0].name = growing.graph.node[0].input[0] = "input:0"
    return growing


def test_an_input_with_a_colon_in_its_name_has_its_shape(growing: onnx.ModelProto, tmp_path: Path):
    onnx.save(colon(growing), tmp_path / "m.onnx")
    models = [f"--entry={name}={tmp_path / 'm.onnx'}" for name in ("one", "many")]
    shapes = ["--shape=input:0=8,16", "--shape=one:input:0=1,16"]
    made = tmp_path / "m.npu"
    assert npu_compile.main([*models, *shapes, "-o", str(made)]) == 0
    entries = Program.load(made).entries
    assert {n: e.inputs[0].shape for n, e in entries.items()} == {"one": (1, 16), "many": (8, 16)}


def test_a_shape_for_an_entry_that_is_none_is_refused_on_the_command_line(
    growing: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    onnx.save(growing, tmp_path / "m.onnx")
    options = [f"--entry=one={tmp_path / 'm.onnx'}", "--shape=many:x=1,16", "-o", "m.npu"]
    assert npu_compile.main(options) == 1
    assert "NPU0105" in (text := capsys.readouterr().err) and "many:x" in text


@pytest.mark.parametrize("sources", [{}, {1: None}])
def test_entries_must_have_names(sources: Any):
    with pytest.raises(CompileError, match="NPU0004.*entries must be models by name"):
        npu.load(sources)


# What entries must leave alone


def test_an_entry_does_not_write_what_another_one_keeps(program: Program):
    module = program.to_module()
    ops = {op.sym_name.data: op for op in module.ops if isinstance(op, ProgramOp)}
    target = program.machine
    assert not any(verify_program(op, target) for op in ops.values())
    states = ops["prefill"].properties.pop("states")
    found = verify_program(ops["prefill"], target)
    assert "must not write what another program of the module keeps" in found[0].rule
    assert "state cache of @decode is" in found[0].found
    ops["prefill"].properties["states"] = states
    alone = ops["decode"].constants
    ops["decode"].properties["constants"] = ArrayAttr(list(alone)[:0])
    assert verify_program(ops["decode"], target)  # it reads what it does not have
