"""Inputs and outputs that lie in the scratchpad, where dram that is written is the same memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mapping import chain

import npu_dialect as npu
from npu_dialect import api
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.sanitizer import Sanitizer
from npu_dialect.runtime.simulator import Session

MODELS = Path(__file__).parents[2] / "shared" / "models"
QUIET = api.Options(reproducer=None)


def compiled(target: str, layers: int = 3) -> Program:
    build = chain(target, layers)
    return api.build(build.module(build.result), options=QUIET)  # type: ignore[attr-defined]


def places(program: Program) -> set[str]:
    return {b.operand.space for b in (*program.inputs, *program.outputs)}


@pytest.mark.parametrize("target", ["ethos_u55_256", "ethos_u65_512"])
def test_inputs_and_outputs_lie_on_the_chip_where_dram_would_be_the_same_memory(target: str):
    program = compiled(target)
    is_flash = program.machine.memories["dram"].read_only > 0
    assert places(program) == {"spm" if is_flash else "dram"}


def test_a_program_moves_nothing_between_two_parts_of_one_memory():
    program = compiled("ethos_u55_256")
    read_only = program.machine.memories["dram"].read_only
    operands = [o for _, op in program.executed for o in (*op.reads(), *op.writes())]
    assert all(o.address < read_only for o in operands if o.space == "dram")


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1 << 16))
def test_each_run_takes_its_own_input(layers: int, seed: int):
    rng = np.random.default_rng(seed)
    build = chain("ethos_u55_256", layers)
    module = build.module(build.result)  # type: ignore[attr-defined]
    api.lower(module, "graph", options=QUIET)
    (port,) = npu.levels.inputs_of(module)
    given = [rng.integers(-128, 128, port.shape).astype(np.int8) for _ in range(3)]
    wanted = [next(iter(npu.execute(module, x).values())) for x in given]
    program = api.build(module, options=QUIET)
    for tier in ("plain", "compiled"):
        session = Session(program, tier=tier)
        for x, y in zip(given, wanted, strict=True):
            np.testing.assert_array_equal(next(iter(session.run(x).outputs.values())), y)


def test_the_sanitizer_knows_that_inputs_are_there():
    program = compiled("ethos_u55_256")
    session, watch = Session(program, tier="plain"), Sanitizer(program)
    shape = program.inputs[0].shape
    session.run(np.ones(shape, np.int8), observe=watch)
    assert not watch.report().findings
