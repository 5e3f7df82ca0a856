"""Models whose outputs are inputs of the next step: as programs with states they step as
onnxruntime does when it is fed back by hand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.base import Array
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.simulator import Session

STEPS = 6
RTOL, ATOL = 1e-3, 1e-4
"""Those of the reference models, the second times the range of the reference."""


@dataclass(frozen=True)
class Feedback:
    """A model of the manifest that names what is fed back."""

    path: Path
    inputs: list[str]
    outputs: list[str]
    pair: tuple[int, int]
    cases: list[tuple[list[Array], list[Array]]]

    @property
    def states(self) -> dict[str, str]:
        return {self.inputs[self.pair[0]]: self.outputs[self.pair[1]]}

    @property
    def state(self) -> str:
        return self.inputs[self.pair[0]]

    def plain(self, arrays: list[Array]) -> dict[str, Array]:
        """The inputs that are no state."""
        named = dict(zip(self.inputs, arrays, strict=True))
        return {name: array for name, array in named.items() if name != self.state}


def feedback(models: Path, name: str) -> Feedback:
    manifest: list[dict[str, Any]] = json.loads((models / "manifest.json").read_text())
    row = next(model for model in manifest if model["id"] == name)
    names = [[port["name"] for port in row[end]] for end in ("inputs", "outputs")]
    with np.load(models / row["reference"]["file"]) as data:
        cases = [
            tuple(
                [data[f"case{k}/{end}{i}"] for i in range(len(ports))]
                for end, ports in zip(("in", "out"), names, strict=True)
            )
            for k in range(row["reference"]["cases"])
        ]
    return Feedback(models / row["file"], names[0], names[1], tuple(row["feedback"]), cases)  # type: ignore[arg-type]


def near(found: Array, wanted: Array) -> bool:
    return np.allclose(found, wanted, RTOL, ATOL * float(np.ptp(wanted)))


@pytest.fixture(params=["silero_vad_16k_static", "dtln_1"])
def model(request: pytest.FixtureRequest, models: Path) -> Feedback:
    return feedback(models, request.param)


@pytest.fixture
def program(model: Feedback) -> Program:
    made = npu.compile(model.path, "mobile4k", states=model.states)
    return Program.from_bytes(made.to_bytes())


@pytest.mark.parametrize("tier", ["plain", "compiled"])
def test_a_stream_is_what_onnxruntime_gives_fed_back(model: Feedback, program: Program, tier: str):
    ort = pytest.importorskip("onnxruntime")
    reference = ort.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    session, state = Session(program, tier=tier), np.zeros_like(model.cases[0][0][model.pair[0]])
    for step in range(STEPS):
        given = model.plain(model.cases[step % len(model.cases)][0])
        results = reference.run(None, given | {model.state: state})
        wanted = dict(zip(model.outputs, results, strict=True))
        state = wanted.pop(model.outputs[model.pair[1]])
        found = session.run(given).outputs
        assert found.keys() == wanted.keys()
        assert all(near(found[name], wanted[name]) for name in wanted)
        assert near(session.state[model.state], state)


def test_a_step_from_a_stored_state_gives_the_stored_outputs(model: Feedback, program: Program):
    session = Session(program)
    for inputs, outputs in model.cases:
        session.state[model.state] = inputs[model.pair[0]]
        found = dict(session.run(model.plain(inputs)).outputs)
        found[model.outputs[model.pair[1]]] = session.state[model.state]
        for name, wanted in zip(model.outputs, outputs, strict=True):
            assert near(found[name], wanted)


@pytest.mark.parametrize(
    ("states", "line"),
    {
        "an input": ({"h": "stateN"}, "state h: a state must be an input .*; found h, not one of"),
        "an output": ({"state": "h"}, "found h, not one of output, stateN"),
        "one type": ({"input": "stateN"}, "argument and the result of a state must have the same"),
    }.values(),
)
def test_states_must_be_inputs_and_outputs_of_the_model(
    models: Path, states: dict[str, str], line: str
):
    path = feedback(models, "silero_vad_16k_static").path
    with pytest.raises(CompileError, match=line):
        npu.load(path, states=states)
