"""The search: exact where it says so, by costs that are those of the instructions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mapped_layers import TARGETS, Layer, layers
from mapping_cases import extent

from npu_dialect import api, cache, cost
from npu_dialect.cost import ArrayWork
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping import contraction, fronts
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    buffers,
    loop_trips,
)
from npu_dialect.passes.mapping.contraction_taps import may_join
from npu_dialect.passes.mapping.problems import problem
from npu_dialect.passes.mapping.tiles import spm_bytes
from npu_dialect.pipeline import Options
from npu_dialect.target import Target, load_target

QUIET = Options(reproducer=None)
some = settings(max_examples=40, deadline=None)
pytestmark = pytest.mark.usefixtures("mapping_cache")
few = settings(max_examples=25, deadline=None)


# --- costs ----------------------------------------------------------------------------------------


@some
@given(st.sampled_from(TARGETS), st.booleans(), st.integers(0, 1 << 16))
def test_stages_of_many_tiles_are_those_of_each(name: str, depthwise: bool, seed: int):
    target, rng = load_target(name), np.random.default_rng(seed)
    fields = ("positions", "in_channels", "out_channels", "input_bytes", "weight_bytes",
              "output_bytes", "side_bytes", "partial_reads", "partial_writes")  # fmt: skip
    numbers = {f: rng.integers(1, 40_000, 8) for f in fields}
    if depthwise:
        numbers["in_channels"][:] = 1
    common = {"dtype": "i8", "taps": int(rng.integers(1, 10)), "depthwise": depthwise}
    many = cost.array_stages(target, ArrayWork(**numbers, **common))
    for k in range(8):
        each = {f: int(v[k]) for f, v in numbers.items()}
        one = cost.array_stages(target, ArrayWork(**each, **common))
        assert one == {stage: int(np.broadcast_to(v, 8)[k]) for stage, v in many.items()}


def random_mapping(p: Contraction, rng: np.random.Generator) -> ContractionMapping:
    level = st_levels(p)
    return ContractionMapping(
        extent(rng, p.oh),
        extent(rng, p.ow),
        extent(rng, p.oc),
        extent(rng, p.ic) if p.may_split_reduction else p.ic,
        ("weights_outer", "rows_outer")[int(rng.integers(2))],
        2,
        level[int(rng.integers(len(level)))],  # type: ignore[arg-type]
        level[int(rng.integers(len(level)))],  # type: ignore[arg-type]
    )


def st_levels(p: Contraction) -> tuple[str, ...]:
    return ("tile", "held", "slice") if p.may_split_reduction else ("tile", "held")


@few
@given(layers(24, 14), st.integers(0, 1 << 16))
def test_the_estimate_of_any_mapping_is_what_the_array_takes_and_nearly_what_copies_take(
    layer: Layer, seed: int
):
    build, group = layer.build()
    target = load_target(build.target)
    p = problem(group, lambda _: False, False)
    assert isinstance(p, Contraction)
    mapping = random_mapping(p, np.random.default_rng(seed))
    trips = loop_trips(p, mapping)
    if trips.tiles * trips.reduction > 300:
        return
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    module = build.module(group.result)
    api.lower(module, "npu", options=QUIET)
    profile = api.assemble(module).profile
    busy = {engine.name: engine.busy for engine in profile.engines}
    found = contraction.estimate(target, p, mapping)
    assert busy["mxu"] == found.compute
    copies = next(e.instructions for e in profile.engines if e.name == "dma")
    assert abs(found.transfer - busy["dma"]) <= copies + 0.2 * busy["dma"]


# --- the search -----------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn) -> Contraction:
    """Small problems of every kind, with operands here and there."""
    depthwise = draw(st.booleans())
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    oc = draw(st.integers(1, 20))
    ic = oc if depthwise else draw(st.integers(1, 20))
    oh, ow = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    flag, cycles = st.booleans(), st.sampled_from((0, 1, 64, 4096))
    return Contraction(
        oh=oh, ow=ow, oc=oc, ic=ic, ih=oh + kh - 1, iw=ow + kw - 1, kh=kh, kw=kw,
        depthwise=depthwise, batch=draw(st.integers(1, 2)), param_rows=draw(st.integers(0, 2)),
        kernel_costs=("requantize",), x_resident=draw(flag), w_resident=draw(flag),
        out_resident=draw(flag), takes_over=draw(cycles), hands_over=draw(cycles),
    )  # fmt: skip


def all_mappings(target: Target, p: Contraction) -> Iterator[ContractionMapping]:
    """Every mapping of the nests that the search knows."""
    reductions = range(1, p.ic + 1) if p.may_split_reduction else [p.ic]
    extents = product(range(1, p.oh + 1), range(1, p.ow + 1), range(1, p.oc + 1), reductions)
    for sizes, kind in product(list(extents), list(contraction.kinds(p))):
        mapping = ContractionMapping(*sizes, kind.order, kind.slots, kind.x, kind.weights)
        yield mapping
        if may_join(target, p) and (mapping.cols, mapping.reduction) == (p.ow, p.ic):
            yield replace(mapping, taps="joined")


@few
@given(problems(), st.sampled_from(TARGETS), st.integers(200, 8000), st.integers(0, 1 << 16))
def test_no_mapping_that_fits_costs_less_than_the_one_found(
    p: Contraction, name: str, capacity: int, seed: int
):
    assume(contraction.is_exhaustive(p))
    target = load_target(name)
    found = contraction.search(target, p, capacity)
    every = list(all_mappings(target, p))
    rng = np.random.default_rng(seed)
    for k in rng.permutation(len(every))[:60]:
        other = every[k]
        held = buffers(p, other)
        sums = sum(b.total for b in held if b.space == "acc")
        if spm_bytes(held) > capacity or sums > target.memories["acc"].size:
            continue
        assert found is not None
        assert found[1].gap == 0
        n, cycles = loop_trips(p, other), contraction.estimate(target, p, other).in_place
        each = min(contraction.TILE, cycles / contraction.SHARE)  # what an instruction counts
        assert found[1].in_place <= cycles + each * n.tiles * n.reduction + 1e-6


def test_a_mapping_costs_a_little_more_where_that_saves_much_scratchpad():
    target = load_target("edge256")
    p = Contraction(oh=1, ow=1, oc=1000, ic=1280, ih=1, iw=1, kh=1, kw=1,
                    kernel_costs=("requantize",), x_resident=True, out_resident=True)  # fmt: skip
    room = 400_000
    kept = contraction.fronts(target, p)
    least, most = min((float(f.costs[n]), int(f.bytes[n])) for f in kept for n in [f.within(room)])
    found = contraction.search(target, p, room)
    assert found is not None
    taken = spm_bytes(buffers(p, found[0]))
    assert taken <= most / 2
    assert found[1].in_place <= least * (1 + fronts.FRUGAL * np.log2(most / taken))


@few
@given(problems(), st.sampled_from(TARGETS), st.integers(200, 8000))
def test_the_mapping_found_fits_and_costs_what_the_search_says(
    p: Contraction, name: str, capacity: int
):
    target = load_target(name)
    found = contraction.search(target, p, capacity)
    if found is None:
        return
    mapping, estimate = found
    assert spm_bytes(buffers(p, mapping)) <= capacity
    assert estimate.in_place == contraction.estimate(target, p, mapping).in_place
    if estimate.alternative is not None:
        assert estimate.alternative[1] >= 0


@few
@given(problems(), st.sampled_from(TARGETS))
def test_no_mapping_costs_less_than_the_bound(p: Contraction, name: str):
    target = load_target(name)
    found = contraction.search(target, p, 1 << 20)
    assert found is not None
    assert contraction.lower_bound(target, p) <= found[1].in_place


def test_a_layer_takes_hardly_more_of_the_array_than_it_must():
    target = load_target("edge512")
    p = Contraction(oh=14, ow=14, oc=256, ic=256, ih=14, iw=14, kh=3, kw=3, pads=(1, 1),
                    kernel_costs=("requantize",), x_resident=True, out_resident=True)  # fmt: skip
    found = contraction.search(target, p, 400_000)
    assert found is not None
    ideal = p.oh * p.ow * p.oc * p.ic * 9 / 512
    assert found[1].compute <= 1.01 * ideal


# --- what is kept on disk -------------------------------------------------------------------------

P = Contraction(oh=8, ow=8, oc=32, ic=16, ih=8, iw=8, kernel_costs=("alu",))


def test_fronts_from_disk_are_those_that_were_computed(mapping_cache: Path):
    target = load_target("edge256")
    computed = contraction.fronts(target, P)
    contraction.fronts.cache_clear()
    assert len(list((mapping_cache / fronts.FOLDER).iterdir())) == 1
    for kept, fresh in zip(contraction.fronts(target, P), computed, strict=True):
        assert kept.kind == fresh.kind
        for field in ("bytes", "costs", "extents"):
            np.testing.assert_array_equal(getattr(kept, field), getattr(fresh, field))


def test_a_program_is_the_same_with_and_without_what_is_kept(mapping_cache: Path):
    def compiled() -> bytes:
        contraction.fronts.cache_clear()
        contraction.search.cache_clear()
        build, group = Layer("edge256", (1, 9, 9, 16), (3, 3, 24), False, (1, 1), (1,) * 4).build()
        module = build.module(group.result)
        api.lower(module, "npu", options=QUIET)
        return api.assemble(module).to_bytes()

    first = compiled()
    assert any((mapping_cache / fronts.FOLDER).iterdir())
    assert compiled() == first


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\0" * 1000])
def test_what_is_broken_on_disk_is_computed_again(mapping_cache: Path, content: bytes):
    target = load_target("edge256")
    expected = contraction.search(target, P, 4000)
    (file,) = (mapping_cache / fronts.FOLDER).iterdir()
    file.write_bytes(content)
    contraction.fronts.cache_clear()
    contraction.search.cache_clear()
    assert contraction.search(target, P, 4000) == expected
    assert file.read_bytes() != content


def test_another_machine_has_other_fronts():
    target = load_target("edge256")
    other = replace(target, array=replace(target.array, fill=17))
    assert fronts.name(target, P) != fronts.name(other, P)


def test_nothing_is_kept_where_that_is_off(mapping_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(cache.OFF_VARIABLE, "1")
    contraction.search(load_target("edge256"), P, 4000)
    assert not (mapping_cache / fronts.FOLDER).exists()


def test_the_oldest_pieces_go_first(mapping_cache: Path):
    for k in range(6):
        cache.write("kind", f"piece{k}", b"content")
        file = mapping_cache / "kind" / f"piece{k}"
        os.utime(file, (k, k))
    cache.trim("kind", 2)
    assert sorted(f.name for f in (mapping_cache / "kind").iterdir()) == ["piece4", "piece5"]


def test_a_folder_that_cannot_be_written_costs_time_only(
    mapping_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    (mapping_cache / "file").write_text("")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(mapping_cache / "file"))
    assert contraction.search(load_target("edge256"), P, 4000) is not None
