"""States: what a program keeps from one run to the next, at every level and in every tier."""

from __future__ import annotations

import numpy as np
import pytest
from fuzzing import QUIET
from graph_samples import same
from stateful import INTEGER_SUM, MODELS, Arrays, Builder, Model, module_of, stored
from xdsl.dialects.builtin import ModuleOp

import npu_dialect as npu
from npu_dialect import api, compare, dtypes, graph, levels
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import Session

STEPS = 4
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def agrees(found: Arrays, expected: Arrays, tolerance: float) -> bool:
    if not tolerance:
        return found.keys() == expected.keys() and all(same(found[n], expected[n]) for n in found)
    return found.keys() == expected.keys() and all(
        np.allclose(found[n], expected[n], tolerance, tolerance) for n in found
    )


def compiled(model: Model) -> Program:
    """The program, as it is read back from its file."""
    return Program.from_bytes(npu.compile(model.module(), options=QUIET).to_bytes())


@every_model
@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_every_level_steps_as_numpy_does(model: Model, level: levels.Level):
    module = model.module()
    api.lower(module, level, options=QUIET)
    inputs, state = model.inputs(STEPS), {}
    for given, (outputs, states) in zip(inputs, model.expected(inputs), strict=True):
        assert agrees(npu.execute(module, given, state=state, seed=1), outputs, model.tolerance)
        assert agrees(state, states, model.tolerance)


@every_model
@pytest.mark.parametrize("tier", ["plain", "torch", "compiled", "strict"])
def test_every_tier_keeps_the_states_of_level_graph(model: Model, tier: str):
    module = model.module()
    api.lower(module, "graph", options=QUIET)
    if tier == "strict":
        session = Session(compiled(model), tier="compiled", strict=True, threads=2)
    else:
        session = Session(compiled(model), tier=tier)
    state: Arrays = {}
    for given in model.inputs(STEPS):
        expected = npu.execute(module, given, state=state)
        found = session.run(given).outputs
        assert agrees(found, expected, 0.0) and agrees(dict(session.state), state, 0.0)


@every_model
def test_levels_are_compared_with_their_states(model: Model):
    (given,) = model.inputs(1)
    compared = compare.compare(model.module(), given)
    assert compared.levels_agree
    names = {step.source for step in compared.steps if step.source.startswith("state ")}
    assert names == {f"state {name}" for name in model.states}


# States in integers


@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_a_quantized_state_is_kept_in_integers(level: levels.Level):
    module, state = INTEGER_SUM.module(), {}
    api.lower(module, level, options=QUIET)
    inputs = INTEGER_SUM.inputs(STEPS)
    for given, (outputs, states) in zip(inputs, INTEGER_SUM.expected(inputs), strict=True):
        found = npu.execute(module, given, state=state)
        assert np.abs(found["y"] - outputs["y"]).max() <= 0.051
        assert state["h"].dtype == np.int8
        assert np.abs(state["h"].astype(int) - stored(states["h"])).max() <= 1


def test_a_quantized_state_needs_no_host_where_there_are_no_floats():
    program = compiled(INTEGER_SUM)
    assert {op.engine for _, op in program.executed} <= {"dma", "vpu", "io"}
    (state,) = program.states
    assert state.quantization is not None and state.quantization.zero_points == (3,)


# What is moved


def test_a_cache_of_which_one_row_changes_moves_one_row():
    program = compiled(MODELS["cache"])
    (cache,) = program.states
    row, outputs = cache.operand.dims[1] * 4, sum(b.operand.size for b in program.outputs)
    assert [op.name for _, op in program.executed].count("npu.dma_scatter") == 1
    assert program.profile.dram_written == row + outputs


def copied(program: Program) -> set[str]:
    """The states that a copy from dram to dram writes, all of them at once."""
    copies = [op.values() for _, op in program.executed if op.name == "npu.dma_copy"]
    ends = {
        v["destination"].interval
        for v in copies
        if v["source"].space == v["destination"].space == "dram"
    }
    return {state.name for state in program.states if state.operand.interval in ends}


def heads(kind: str, index: dtypes.DType) -> ModuleOp:
    """A cache [heads, time, values] of which rows are written along time."""
    b = Builder()
    cache = b.argument("cache", (4, 40, 16))
    at, new = b.argument("at", (3,), index), b.argument("new", (3, 64))
    turned = b.add(graph.TransposeOp(cache, (1, 0, 2)))
    rows = b.add(graph.ReshapeOp(turned, (40, 64)))
    made = b.add(graph.ReshapeOp(b.add(graph.ScatterOp(rows, at, new, kind)), (40, 4, 16)))
    return module_of(b.function({"cache'": b.add(graph.TransposeOp(made, (1, 0, 2)))}))


@pytest.mark.parametrize("index", [dtypes.i32, dtypes.i64], ids=str)
@pytest.mark.parametrize("kind", ["set", "add"])
def test_rows_of_every_head_are_written_where_they_lie(kind: str, index: dtypes.DType):
    program = npu.compile(heads(kind, index), "mobile4k", options=QUIET)
    assert program.profile.dram_written == (4 * 3 * 16 * 4 if kind == "set" else 4 * 40 * 16 * 4)
    session, cache = Session(program, tier="plain"), np.zeros((4, 40, 16), np.float32)
    g = np.random.default_rng(0)
    for step in ([3, 7, 3], [-1, 40, 39], [-40, 41, 0], [-(2**31), 2**31 - 1, 5]):
        new = g.normal(size=(3, 64)).astype(np.float32)
        for place, row in zip(step, new.reshape(3, 4, 16), strict=True):
            if 0 <= place < 40:
                cache[:, place] = row if kind == "set" else cache[:, place] + row
        session.run({"at": np.array(step, index.numpy), "new": new})
        assert same(session.state["cache"], cache)


@every_model
def test_a_state_that_can_be_updated_in_place_is_not_copied(model: Model):
    assert not copied(compiled(model)) & set(model.in_place)
