"""The lower bound: below every program, and equal to what is counted by hand."""

from __future__ import annotations

import warnings
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from fuzzing import QUIET, Case
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, OUT, ModuleBuilder, f32, integers
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import SSAValue

from npu_dialect import api, bound, graph
from npu_dialect.bound import Bound, LayerBound
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.runtime import report
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.program import Program
from npu_dialect.runtime.run import Run
from npu_dialect.target import load_target

ENGINES = {"array": ("mxu",), "vector": ("vpu",), "spm": ("mxu", "vpu"), "dram": ("dma", "host")}
"""The engines of which one is busy for at least a resource's cycles."""


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def bound_of(module: ModuleOp, target: str = "edge256") -> Bound:
    """The bound of a module of groups."""
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    return bound.of_function(function, load_target(target))


def assert_below(profile: Profile) -> None:
    """The bound, and every resource of it, is below what the program takes."""
    least = profile.lower_bound
    assert least is not None
    assert least.cycles <= profile.cycles
    busy = {e.name: e.busy for e in profile.engines}
    if profile.program.machine.vector.is_output_stage:  # they take turns
        busy |= dict.fromkeys(("mxu", "vpu"), busy.get("mxu", 0) + busy.get("vpu", 0))
    for resource, engines in ENGINES.items():
        assert least.resources[resource] <= max(busy.get(e, 0) for e in engines) + 1e-6, resource
    assert least.in_layers <= profile.cycles
    for engine in ("mxu", "vpu"):
        assert least.engines[engine] <= busy.get(engine, 0) + 1e-6, engine
    assert least.dram_bytes <= profile.dram_read + profile.dram_written
    for layer in profile.layers:
        alone = layer.lower_bound
        if alone is not None and (alone.resources["array"] or alone.resources["vector"]):
            assert alone.cycles <= sum(layer.busy.values())  # moves may be done by their neighbours


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_no_random_graph_is_faster_than_its_bound(targets: Path, seed: int):
    module, _ = Case.of(seed).module(targets)
    with warnings.catch_warnings():  # constants that overflow
        warnings.simplefilter("ignore")
        api.lower(module, options=QUIET)
    assert_below(api.assemble(module).profile)


@pytest.mark.parametrize("target", ["edge256", "mobile4k"])
@pytest.mark.parametrize(
    "name", ["cifar_resnet20_qdq_s8s8_pc", "winml_mnist", "gap_mnist_gru", "shark_qmlp"]
)
def test_no_model_is_faster_than_its_bound(models: Path, name: str, target: str):
    assert_below(api.compile(models / f"{name}.onnx", target, options=QUIET).profile)


# --- counted by hand ------------------------------------------------------------------------------


def convolution(weights: tuple[int, int, int, int], stride: int = 1) -> Bound:
    """Of one convolution of int8 [1, 16, 16, 16] without padding, on edge256."""
    rng = np.random.default_rng(0)
    m = ModuleBuilder("edge256", ((1, 16, 16, 16), I8))
    w = m.constant(integers(rng, *weights), I8)
    multiplier = np.full(weights[3], 0.01, np.float32)

    def body(x: SSAValue, w: SSAValue) -> list[graph.GraphOp]:
        conv = graph.Conv2DOp(x, w, strides=(stride, stride), groups=16 if weights[2] == 1 else 1)
        return [conv, graph.RequantizeOp(conv.result, requant_f32(multiplier), OUT)]

    return bound_of(m.module(m.group("conv", "array", [m.args[0], w], body)))


def test_a_convolution_takes_its_products_over_the_peak_of_the_array():
    assert convolution((3, 3, 16, 32)).resources["array"] == 14 * 14 * 9 * 16 * 32 / 256


def test_a_depthwise_convolution_has_a_peak_of_its_own():
    assert convolution((3, 3, 1, 16)).resources["array"] == 14 * 14 * 9 * 16 / 32


def test_the_port_carries_each_operand_of_an_array_layer_once():
    found = convolution((3, 3, 16, 32))
    assert found.resources["spm"] == (16 * 16 * 16 + 9 * 16 * 32 + 14 * 14 * 32) / 16


def test_rows_that_a_stride_skips_are_not_read():
    found = convolution((1, 1, 16, 32), stride=2)
    assert found.dram_bytes == 8 * 8 * 16 + 16 * 32 + 8 * 8 * 32


def test_dram_carries_weights_inputs_and_outputs_once():
    found = convolution((3, 3, 16, 32))
    assert found.dram_bytes == 16 * 16 * 16 + 9 * 16 * 32 + 14 * 14 * 32
    assert found.resources["dram"] == found.dram_bytes / 3.75


def test_a_constant_of_two_layers_comes_from_dram_once():
    rng = np.random.default_rng(0)
    m = ModuleBuilder("mobile4k", ((8, 32), f32))
    w = m.constant(rng.normal(size=(32, 32)).astype(np.float32))
    hidden = m.group("first", "array", [m.args[0], w], lambda x, w: [graph.MatmulOp(x, w)])
    out = m.group("second", "array", [hidden, w], lambda x, w: [graph.MatmulOp(x, w)])
    assert bound_of(m.module(out), "mobile4k").dram_bytes == (8 * 32 + 32 * 32 + 8 * 32) * 4


def test_vector_work_takes_every_operation_on_all_lanes():
    m = ModuleBuilder("mobile4k", ((4, 1024), f32))
    body = lambda x: [a := graph.ExpOp(x), graph.AddOp(a.result, x)]  # noqa: E731
    found = bound_of(m.module(m.group("exp", "vector", [m.args[0]], body)), "mobile4k")
    assert found.resources["vector"] == 4 * 1024 * (8 + 1) / 64
    assert found.resources["spm"] == 2 * 4 * 1024 * 4 / 128


def test_moving_data_costs_the_bound_nothing_but_what_is_read_of_it():
    m = ModuleBuilder("mobile4k", ((4, 1024), f32))
    cut = m.group(
        "slice", "move", [m.args[0]], lambda x: [graph.SliceOp(x, [0, 0], [4, 100], [1, 1])]
    )
    out = m.group("exp", "vector", [cut], lambda x: [graph.ExpOp(x)])
    assert bound_of(m.module(out), "mobile4k").dram_bytes == 2 * 4 * 100 * 4


def test_a_program_is_bound_by_the_sum_of_a_resource_over_its_layers():
    layers = [{"array": 5.0, "vector": 9.0, "spm": 1.0, "dram": 7.5}] * 2
    sums = {"array": 10.0, "vector": 18.0, "spm": 2.0, "dram": 15.0}
    found = Bound(sums, tuple(LayerBound("l", r) for r in layers))
    assert (found.cycles, found.binds) == (18, "vector")


def test_an_engine_takes_each_layer_for_as_long_as_its_slower_part():
    first = {"array": 100.0, "vector": 0.0, "spm": 40.0, "dram": 5.0}
    second = {"array": 30.0, "vector": 0.0, "spm": 90.0, "dram": 5.0}
    rows = (LayerBound("a", first, 20), LayerBound("b", second), LayerBound("c", first, 150))
    found = Bound({name: 2 * first[name] + second[name] for name in first}, rows)
    assert found.cycles == 230
    assert found.engines["mxu"] == 100 + 90 + 150
    assert found.in_layers == 340


def test_what_the_scratchpad_cannot_hold_ahead_comes_after_the_layers_before():
    edge256 = load_target("edge256")
    ahead = edge256.memories["spm"].size / edge256.memories["dram"].ports["dma"]
    first = {"array": ahead, "vector": 0.0, "spm": 0.0, "dram": 0.0}
    second = {"array": 10.0, "vector": 0.0, "spm": 0.0, "dram": 3 * ahead}
    sums = {name: first[name] + second[name] for name in first}
    found = Bound(sums, (LayerBound("a", first), LayerBound("b", second)))
    # while `a` computes, a third of b's bytes fill the scratchpad; two thirds still have to come
    assert found.in_layers == ceil(3 * ahead)
    assert found.in_room(edge256) == ceil(ahead + 2 * ahead)


def test_layers_that_fill_the_room_late_take_longer_than_dram_alone():
    edge256 = load_target("edge256")
    ahead = edge256.memories["spm"].size / edge256.memories["dram"].ports["dma"]
    early = {"array": 2 * ahead, "vector": 0.0, "spm": 0.0, "dram": 0.0}
    late = {"array": 0.0, "vector": 0.0, "spm": 0.0, "dram": 2 * ahead}
    sums = {name: early[name] + late[name] for name in early}
    found = Bound(sums, (LayerBound("a", early), LayerBound("b", late)))
    assert found.in_room(edge256) == ceil(3 * ahead)


def test_every_result_goes_through_the_output_stage():
    (layer,) = convolution((1, 1, 16, 32)).layers
    assert layer.output == 16 * 16 * 32 / load_target("edge256").array.output_elements


def test_a_bound_is_the_same_after_it_was_written_and_read():
    found = convolution((3, 3, 16, 32))
    assert Bound.of_text(found.to_text()) == found


# --- in reports -----------------------------------------------------------------------------------


def test_every_report_states_the_bound(models: Path):
    program = api.compile(models / "winml_mnist_qdq_u8s8.onnx", options=QUIET)
    least = program.profile.lower_bound
    assert least is not None
    summary = Run({}, program.profile).summary()
    assert summary["lower_bound"]["cycles"] == least.cycles
    assert summary["lower_bound"]["ratio"] == program.profile.cycles / least.cycles
    totals = dict(row[:2] for row in report.totals(Run({}, program.profile)))
    assert totals["at least"].startswith(f"{least.cycles:,} cycles, by {least.binds}")


def test_a_saved_program_keeps_its_bound(models: Path, tmp_path: Path):
    program = api.compile(models / "winml_mnist_qdq_u8s8.onnx", options=QUIET)
    program.save(tmp_path / "m.npu")
    assert Program.load(tmp_path / "m.npu").profile.lower_bound == program.profile.lower_bound
