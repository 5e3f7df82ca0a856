"""Targets: what a file must hold, and that each that is shipped is a machine to compile for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import npu_dialect as npu
from npu_dialect.cost import ARRAY_KINDS
from npu_dialect.target import TargetError, parse_target, target_names, target_text

each_target = pytest.mark.parametrize("name", target_names())


@each_target
def test_a_target_has_the_name_of_its_file_and_an_array_that_is_known(name: str):
    target = npu.load_target(name)
    assert target.name == name
    assert target.array.kind in ARRAY_KINDS


@each_target
def test_a_target_names_the_sources_of_its_numbers(name: str):
    lines = target_text(name).splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert any("Sources of the numbers" in line for line in head)
    assert sum("[own]" in line or "[22nm]" in line or "[U" in line for line in lines) > 20


@each_target
def test_a_target_gives_the_same_bits_at_every_level_in_any_order(name: str):
    x = np.random.default_rng(1).standard_normal((1, 3, 9, 7)).astype(np.float32)
    runs: list[np.ndarray] = []
    for level in ("graph", "tile", "npu"):
        module = npu.load(convolution(), target=name)
        npu.lower(module, until=level)
        runs += [npu.execute(module, x, seed=seed)["y"] for seed in (None, 1, 2)]
    assert all((run == runs[0]).all() for run in runs)


def convolution() -> object:
    w = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv1", pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 9, 7])],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


WRONG = {
    "an unknown field": ("fill = 16 ", "fil = 16 ", "array: must have only known fields, found"),
    "another type": ("cores = 1", 'cores = "one"', "cores must be of type int, found 'one'"),
    "an unknown kind": ("dot_product", "cubic", "array.kind must be one of .*, found cubic"),
    "no TOML": ("[array]", "[array", "a target must be a TOML file, found"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG.values(), ids=WRONG)
def test_a_file_that_describes_no_machine_is_refused(old: str, new: str, message: str):
    with pytest.raises(TargetError, match=rf"mine.toml: {message}"):
        parse_target(target_text("edge256").replace(old, new), "mine.toml")


def test_a_target_may_be_a_file(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(target_text("edge256").replace('name = "edge256"', 'name = "mine"'))
    assert npu.load_target(path).name == "mine"


def test_a_target_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(TargetError, match="must be one of edge256, mobile4k or a .toml file"):
        npu.load_target("edge512")
