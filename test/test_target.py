"""Targets: what a file must hold, and that each that is shipped is a machine to compile for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import npu_dialect as npu
from npu_dialect import api, cost, target
from npu_dialect.diagnostics import CompileError
from npu_dialect.kernel import MICRO_OPS, VALUE_NUMPY
from npu_dialect.target import TargetError, parse_target, target_names, target_text

each_target = pytest.mark.parametrize("name", target_names())


@each_target
def test_a_target_has_the_name_of_its_file(name: str):
    assert npu.load_target(name).name == name


def test_a_target_may_name_all_that_the_cost_model_and_the_kernels_know():
    assert tuple(cost.ARRAY_KINDS) == target.ARRAY_KINDS
    assert {op.cost for op in MICRO_OPS.values()} == set(target.COST_CLASSES)
    assert tuple(VALUE_NUMPY) == ("i32", "i64", "f32") == target.VALUE_TYPES


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
    "a cost class less": ("alu = 1.0, mul", "mul", "vector.cycles must name .*, found no alu"),
    "an unknown memory": ("memories.acc", "memories.acd", "memories must name only .*, found acd"),
    "a port less": ("dma = 16.0, mxu = 16.0,", "dma = 16.0,", "memories.spm.ports .* no mxu"),
    "a port to nowhere": ("host = 3.75", "vpu = 3.75", "memories.dram.ports .* found vpu"),
    "a size below zero": ("size = 268435456", "size = -5", ".*size must be greater than zero"),
    "no frequency": ("frequency = 1.0e9 ", "frequency = 0.0", "frequency must be greater than"),
    "a negative latency": ("latency = 500", "latency = -1", ".*latency must not be negative"),
    "an unknown type": (
        '["i8", "u8", "i16"]',
        '["i9"]',
        "array.weight_types must name only .* found i9",
    ),
    "energy less": ("i16 = 1.144", "u16 = 1.144", "array.mac_pj must name only .*, found u16"),
    "two extents": ("[4, 8, 8], u8", "[4, 8], u8", "array: macs.i8 must be 3 values, found 2"),
    "text for a list": ('["i8", "u8", "i16"]', '"i8"', "array: weight_types must be of type list"),
    "a truth for a number": ("fill_bytes = 16", "fill_bytes = true", ".*must be of type int"),
    "two channels": ("channels = 1", "channels = 2", "dma.channels must be 1 in this version"),
    "a stationary array of blocks": (
        "dot_product",
        "weight_stationary",
        "array.macs.i8 must be one position x columns x rows, found 4",
    ),
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
    with pytest.raises(TargetError, match="must be one of edge256, .* or a .toml file"):
        npu.load_target("edge1024")


@each_target
def test_every_pattern_of_micro_operations_fits_some(name: str):
    api.find_target(name)


def test_a_pattern_that_no_micro_operation_fits_is_refused(tmp_path: Path):
    path = tmp_path / "typo.toml"
    path.write_text(target_text("edge256").replace('"requantize.*"', '"requantise.*"', 1))
    with pytest.raises(CompileError, match=r"NPU0302.*found requantise\.\*; try requantize"):
        api.find_target(path)


def test_a_target_that_is_nearly_named_is_proposed():
    with pytest.raises(CompileError, match="NPU0301.*found edge25; try edge256"):
        api.find_target("edge25")
