"""Mappings whose instructions read weights and parameters from dram: bits, costs, choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, OUT, levels
from mapped_layers import Layer, layers
from mapping_cases import extent
from test_coded_constants import bells
from test_packed_weights import product, product_in_numpy
from test_streamed_constants import with_port
from test_wide_sums import check_everywhere
from xdsl.dialects.builtin import StringAttr

from npu_dialect import api, dtypes, graph
from npu_dialect.diagnostics import CompileError
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping import contraction
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    buffers,
    loop_trips,
)
from npu_dialect.passes.mapping.contraction_taps import may_join, whole_columns
from npu_dialect.passes.mapping.problems import problem
from npu_dialect.target import load_target

Array = npt.NDArray[Any]
QUIET = api.Options(reproducer=None)
MACHINES = ("edge256", "ethos_u55_256", "ethos_u85_2048")
few = settings(max_examples=8, deadline=None)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of machines whose array reads dram."""
    folder = tmp_path_factory.mktemp("machines")
    found: dict[str, str] = {}
    for name in MACHINES:
        file = folder / f"{name}.toml"
        file.write_text(with_port(name))
        found[name] = str(file)
    return found


def drawn(p: Contraction, seed: int) -> ContractionMapping:
    """A mapping without loads of constants, of few tiles."""
    rng = np.random.default_rng(seed)
    while loop_trips(p, found := _any(p, rng)).tiles > 40:
        pass
    return found


def _any(p: Contraction, rng: np.random.Generator) -> ContractionMapping:
    channels = p.oc if p.depthwise else extent(rng, p.oc)
    order = ("weights_outer", "rows_outer")[int(rng.integers(2))]
    x = ("tile", "held")[int(rng.integers(2))]
    rows, cols = extent(rng, p.oh), extent(rng, p.ow)
    return ContractionMapping(rows, cols, channels, p.ic, order, 2, x, "stream")  # type: ignore[arg-type]


def convolved(layer: Layer, x: Array, w: Array, b: Array) -> Array:
    """The sums of a layer in int64: zero points taken off, padding is zero."""
    (top, left, bottom, right), (sh, sw) = layer.pads, layer.strides
    image = np.pad(
        x.astype(np.int64)[0] - I8.zero_points[0], ((top, bottom), (left, right), (0, 0))
    )
    kh, kw = w.shape[:2]
    oh, ow = (image.shape[0] - kh) // sh + 1, (image.shape[1] - kw) // sw + 1
    sums = np.zeros((oh, ow, w.shape[3]), np.int64) + b
    for r in range(kh):
        for c in range(kw):
            seen = image[r : r + sh * (oh - 1) + 1 : sh, c : c + sw * (ow - 1) + 1 : sw]
            taps = w[r, c].astype(np.int64) - I8.zero_points[0]
            sums += seen * taps[0] if layer.depthwise else seen @ taps
    return sums


def rescaled(sums: Array) -> Array:
    """By 0.003 in f32, ties to even, to OUT."""
    scaled = np.rint(sums.astype(np.float32) * np.float32(0.003)).astype(np.int64)
    return np.clip(scaled + OUT.zero_points[0], -128, 127).astype(np.int8)


@few
@given(st.sampled_from(MACHINES), layers(24, 12), st.integers(0, 1 << 16))
def test_a_streamed_convolution_has_the_bits_of_int64_at_every_level(
    machines: dict[str, str], name: str, layer: Layer, seed: int
):
    layer = replace(layer, target=machines[name])
    rng = np.random.default_rng(seed)
    build, group = layer.build()
    w, b = (v.owner.properties["value"].data.array for v in list(group.op.operands)[1:])  # type: ignore[union-attr]
    group.op.attributes["npu.mapping"] = mapping_attribute(drawn(layer.problem(), seed))
    x = rng.integers(-128, 128, layer.image).astype(np.int8)
    wanted = rescaled(convolved(layer, x, np.asarray(w), np.asarray(b)))
    for level, (found,) in levels(build.module(group.result), [x], seed).items():
        np.testing.assert_array_equal(found[0], wanted, err_msg=level)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(2, 3), st.integers(0, 2), st.integers(0, 99)
)
def test_taps_are_joined_for_columns_that_meet_all_of_them_and_apart_at_the_edges(
    channels: int, stride: int, kernel: int, pad: int, seed: int
):
    layer = Layer(
        "ethos_u55_256", (1, 9, 12, channels), (kernel, kernel, 8),
        strides=(stride, stride), pads=(min(pad, kernel - 1),) * 4,
    )  # fmt: skip
    p = layer.problem()
    assert may_join(load_target(layer.target), p)
    whole = [part for part in whole_columns(p) if part.is_joined]
    assert len(whole) == 1
    build, group = layer.build()
    w, b = (v.owner.properties["value"].data.array for v in list(group.op.operands)[1:])  # type: ignore[union-attr]
    mapping = replace(drawn(p, seed), cols=p.ow, channels=p.oc, taps="joined")
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    x = np.random.default_rng(seed).integers(-128, 128, layer.image).astype(np.int8)
    wanted = rescaled(convolved(layer, x, np.asarray(w), np.asarray(b)))
    module = build.module(group.result)
    for level, (found,) in levels(module, [x], seed).items():
        np.testing.assert_array_equal(found[0], wanted, err_msg=level)
    program = api.assemble(module)
    busy = {engine.name: engine.busy for engine in program.profile.engines}
    assert busy["mxu"] == contraction.estimate(load_target(layer.target), p, mapping).compute


@settings(max_examples=4, deadline=None)
@given(
    st.integers(1, 600), st.integers(1, 70), st.integers(1, 9), st.sampled_from([0.3, 5, 25]),
    st.integers(0, 1 << 30),
)  # fmt: skip
def test_products_in_the_least_memory_read_their_weights_from_flash(
    depth: int, channels: int, rows: int, spread: float, seed: int
):
    rng = np.random.default_rng(seed)
    w = bells((depth, channels), spread, rng)
    zero = int(rng.integers(-5, 6))
    x = rng.integers(-128, 128, (rows, depth)).astype(np.int8)
    y = product_in_numpy(x, zero, w)
    module = product(w, graph.uniform(dtypes.i8, 0.1, zero), rows)
    module.attributes["npu.objective"] = StringAttr("memory")
    program = check_everywhere(module, x, y, "ethos_u55_256")
    products = [op for _, op in program.executed if isinstance(op, ArrayInstruction)]
    if w.size > 256:
        assert all(op.values()["weights"].space == "dram" for op in products)


# --- costs ----------------------------------------------------------------------------------------


@few
@given(st.sampled_from(MACHINES), layers(24, 12), st.integers(0, 1 << 16))
def test_the_estimate_of_a_streamed_mapping_is_what_its_program_takes(
    machines: dict[str, str], name: str, layer: Layer, seed: int
):
    layer = replace(layer, target=machines[name])
    target = load_target(layer.target)
    build, group = layer.build()
    near = target.memories["dram"].read_only > 0  # then input and result lie on the chip
    p = problem(group, lambda _: near, near)
    assert isinstance(p, Contraction)
    mapping = drawn(p, seed)
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    module = build.module(group.result)
    api.lower(module, "npu", options=QUIET)
    profile = api.assemble(module).profile
    found = contraction.estimate(target, p, mapping)
    busy = {engine.name: engine.busy for engine in profile.engines}
    assert busy["mxu"] == found.compute == found.streamed
    taken = sum(profile.energy.dynamic.values())
    assert contraction.energy_of(target, p, mapping) == pytest.approx(taken, rel=1e-9)


@given(layers(24, 12), st.integers(0, 1 << 16))
@few
def test_constants_that_are_streamed_take_no_room(layer: Layer, seed: int):
    p = layer.problem()
    labels = {b.label for b in buffers(p, drawn(p, seed))}
    assert not labels & {"weights", "params"}


@few
@given(layers(40, 12), st.integers(500, 30_000))
def test_a_streamed_mapping_is_found_where_it_is_asked_for(layer: Layer, capacity: int):
    layer = replace(layer, target="ethos_u55_256")
    target, p = load_target(layer.target), layer.problem()
    either = contraction.search(target, p, capacity)
    costs: list[float] = []
    for streams in (False, True):
        found = contraction.search(target, p, capacity, streams=streams)
        if found is not None:
            assert (found[0].weights == "stream") == streams
            costs.append(found[1].in_place)
    assert (either is None) == (not costs)
    if either is not None:
        assert contraction.lower_bound(target, p) <= min(costs) + 1e-6


# --- refusals and words ---------------------------------------------------------------------------


def test_weights_cannot_be_streamed_to_an_array_without_a_port_of_dram():
    layer = Layer("edge256", (1, 8, 8, 8), (3, 3, 8))
    build, group = layer.build()
    group.op.attributes["npu.mapping"] = mapping_attribute(drawn(layer.problem(), 0))
    with pytest.raises(CompileError, match="weights that are streamed need an array that reads"):
        api.lower(build.module(group.result), "tile", options=QUIET)


def test_explain_and_exported_mappings_say_that_weights_are_streamed(tmp_path: Path):
    from npu_dialect.tools import npu_compile

    model = Path(__file__).parents[2] / "shared" / "models" / "mlperf_ad_int8.tflite"
    file, out = tmp_path / "mappings.toml", str(tmp_path / "m.npu")
    npu_compile.main([
        str(model), "--target", "ethos_u55_256", "-o", out, "--export-mappings", str(file),
    ])  # fmt: skip
    assert 'weights = "stream"' in file.read_text()
    before = Path(out).read_bytes()
    npu_compile.main([str(model), "--target", "ethos_u55_256", "-o", out, "--overrides", str(file)])
    assert len(Path(out).read_bytes()) == pytest.approx(len(before), rel=0.01)
