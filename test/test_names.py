"""Names of the model's nodes, inputs and outputs may be any text, at every level and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import npu_dialect as npu
from npu_dialect import text
from npu_dialect.levels import Level
from npu_dialect.provenance import needs_source, sources
from npu_dialect.runtime.program import Program

NAMES = {
    "another script": "größe/入力",
    "quotes and spaces": "a \"b\" 'c' d",
    "both": 'größe "b"',
    "backslashes and lines": "a\\b\\22\nc\td",
    "what looks like IR": '%0 = graph.relu loc("x") // }',
    "emoji": "👓",
}

each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def negation(name: str) -> object:
    """A model in which everything has the same name, as far as it may."""
    graph = helper.make_graph(
        [helper.make_node("Neg", [name], [f"{name}_out"], name=name)],
        name,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, [2, 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@each_name
@pytest.mark.parametrize("target", ["mobile4k", "edge256"])
def test_a_program_keeps_the_names_of_the_model(name: str, target: str, tmp_path: Path):
    """On edge256 the negation of floats is a function of the host, kept as text."""
    npu.compile(negation(name), target=target).save(tmp_path / "model.npu")
    program = Program.load(tmp_path / "model.npu")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    run = npu.simulate(program, {name: x})
    assert (run.outputs[f"{name}_out"] == -x).all()
    assert {p.source for p in program.placement} == {name}


@each_name
@pytest.mark.parametrize("level", ["graph", "tile", "npu"])
def test_text_of_every_level_keeps_the_names_of_the_model(name: str, level: Level):
    module = npu.load(negation(name), target="mobile4k")
    npu.lower(module, until=level)
    read = text.parse(text.to_text(module, locations=True))
    assert text.to_text(read) == text.to_text(module)
    assert [sources(op) for op in read.walk() if needs_source(op)] == [
        sources(op) for op in module.walk() if needs_source(op)
    ]
