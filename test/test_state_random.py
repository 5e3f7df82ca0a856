"""Random graphs with random states, compiled for machines with little memory: every level and a
random order of execution leave the same bits in outputs and states, step after step.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import QUIET, Case
from graph_samples import Array, same
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ArrayAttr, FunctionType, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import api, levels
from npu_dialect.blob import BlobAttr
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.entries import merge
from npu_dialect.graph.states import State, set_states
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import Session

STEPS = 3


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def declare(module: ModuleOp, inputs: list[Array], rng: np.random.Generator) -> list[Array]:
    """Make some arguments states: each becomes, in the next step, any value of its type. Some
    values are states that are only written. Returns the inputs that are left.
    """
    function = levels.main(module)
    block, returned = function.body.block, function.body.block.last_op
    assert isinstance(returned, ReturnOp)
    values = [*block.args, *(r for op in block.ops for r in op.results)]
    results, states = list(returned.operands), list[State]()
    held: set[int] = set()
    for argument in block.args:
        if rng.random() < 0.3:
            continue
        held.add(argument.index)
        start = BlobAttr.of(inputs[argument.index]) if rng.random() < 0.7 else None
        number = None
        if rng.random() < 0.9:
            number = len(results)
            same_type = [v for v in values if v.type == argument.type]
            results.append(same_type[int(rng.integers(len(same_type)))])
        states.append(State(f"s{argument.index}", argument.index, number, start))
    if rng.random() < 0.3:
        states.append(State("written", None, len(results)))
        results.append(values[int(rng.integers(len(values)))])
    _return(function, returned, results)
    set_states(function, states)
    return [array for k, array in enumerate(inputs) if k not in held]


def _return(function: FuncOp, returned: Operation, results: list[SSAValue]) -> None:
    block = function.body.block
    returned.detach()
    returned.erase()
    block.add_op(ReturnOp(*results))
    kinds = FunctionType.from_lists(block.arg_types, [v.type for v in results])
    function.properties["function_type"] = kinds
    names = [StringAttr(f"y{k}") for k in range(len(results))]
    function.attributes["npu.output_names"] = ArrayAttr(names)


@contextmanager
def silent() -> Generator[None]:
    """Without warnings of overflows."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def check(case: Case, folder: Path) -> None:
    rng = np.random.default_rng([case.seed, 2])
    module, given_inputs = case.module(folder)
    inputs = declare(module, given_inputs, rng)
    runs: dict[str, list[tuple[list[Array], dict[str, Array]]]] = {}

    def step(level: levels.Level, lowered: ModuleOp) -> None:
        if level != "npu":
            run = levels.run_tile if level == "tile" else levels.run_graph
            state: dict[str, Array] = {}
            runs[level] = [(run(lowered, inputs, state=state), dict(state)) for _ in range(STEPS)]

    with silent():
        api.lower(module, options=QUIET, on_level=step)
        program = Program.from_bytes(api.assemble(module).to_bytes())
        tier = ("plain", "compiled", "torch")[case.seed % 3]
        session = Session(program, tier=tier, seed=case.seed)
        runs["npu"] = [
            (list(session.run(inputs).outputs.values()), dict(session.state)) for _ in range(STEPS)
        ]
    for level in ("tile", "npu"):
        for (outputs, states), (found, kept) in zip(runs["graph"], runs[level], strict=True):
            assert all(same(np.asarray(a), b) for a, b in zip(outputs, found, strict=True)), level
            assert all(same(np.asarray(a), kept[n]) for n, a in states.items()), level


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_graph_keeps_the_same_states_at_every_level(targets: Path, seed: int):
    check(Case.of(seed), targets)


# Entries


def check_entries(case: Case, folder: Path) -> None:
    """Two graphs on the same arguments, which agree on the states that both have, in turn."""
    parts: dict[str, ModuleOp] = {}
    inputs: dict[str, list[Array]] = {}
    rng = np.random.default_rng([case.seed, 3])
    for name, size in (("a", case.size), ("b", case.size // 2 + 2)):
        part, given_inputs = replace(case, size=size).module(folder)
        inputs[name] = declare(part, given_inputs, rng)
        parts[name] = part
    turns = [str(rng.choice(["a", "b"])) for _ in range(2 * STEPS)]
    with silent():
        try:
            module = merge(parts)
        except CompileError as problem:
            assert "must have one type" in str(problem) or "one initial" in str(problem)
            return
        expected: list[tuple[list[Array], dict[str, Array]]] = []

        def step(level: levels.Level, lowered: ModuleOp) -> None:
            if level == "graph":
                state: dict[str, Array] = {}
                for name in turns:
                    found = levels.run_graph(lowered, inputs[name], state=state, entry=name)
                    expected.append((found, dict(state)))

        api.lower(module, options=QUIET, on_level=step)
        program = Program.from_bytes(api.assemble(module).to_bytes())
        session = Session(program, tier="plain", seed=case.seed)
        for name, (outputs, states) in zip(turns, expected, strict=True):
            found = session.run(inputs[name], entry=name).outputs.values()
            assert all(same(np.asarray(a), b) for a, b in zip(outputs, found, strict=True))
            assert all(same(np.asarray(a), session.state[n]) for n, a in states.items())


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_entries_share_their_states(targets: Path, seed: int):
    check_entries(Case.of(seed), targets)
