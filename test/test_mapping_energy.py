"""Mappings chosen by energy: what is estimated is what the program takes, and no sampled mapping
takes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import assert_levels_agree, integers
from mapped_layers import Layer, layers
from test_mapping import tight_target
from test_plan import layers as chain_of_layers
from xdsl.dialects.builtin import StringAttr

from npu_dialect import api
from npu_dialect.passes.graph_map import GraphMapPass, mapping_attribute
from npu_dialect.passes.mapping import contraction, energy
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    buffers,
    loop_trips,
)
from npu_dialect.passes.mapping.tiles import spm_bytes
from npu_dialect.pipeline import Options
from npu_dialect.target import Target, load_target
from npu_dialect.universe import NpuContext

ACCELFORGE = Path(__file__).parents[1] / "benchmarks/targets/accelforge.toml"
QUIET = Options(reproducer=None)
pytestmark = pytest.mark.usefixtures("mapping_cache")
few = settings(max_examples=20, deadline=None)


def energy_of(layer: Layer, mapping: ContractionMapping) -> float:
    """Dynamic energy in pJ of the program of a layer with this mapping, of all units."""
    build, group = layer.build()
    group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
    module = build.module(group.result)
    api.lower(module, "npu", options=QUIET)
    return sum(api.assemble(module).profile.energy.dynamic.values())


def without_leakage(target: Target) -> Target:
    """The machine with dynamic energy alone."""
    memories = {name: replace(m, leakage=0.0) for name, m in target.memories.items()}
    array, vector, dma = (
        replace(unit, leakage=0.0) for unit in (target.array, target.vector, target.dma)
    )
    power = replace(target.power, clock=0.0)
    return replace(target, memories=memories, array=array, vector=vector, dma=dma, power=power)


def sampled(
    target: Target, p: Contraction, capacity: int, seed: int
) -> Iterator[ContractionMapping]:
    """Mappings that fit and make few instructions, drawn from all there are."""
    rng = np.random.default_rng(seed)
    kinds = list(contraction.kinds(p, "energy"))
    for _ in range(60):
        kind = kinds[int(rng.integers(len(kinds)))]
        m = ContractionMapping(
            _extent(rng, p.oh), _extent(rng, p.ow), _extent(rng, p.oc),
            _extent(rng, p.ic) if p.may_split_reduction else p.ic,
            kind.order, kind.slots, kind.x, kind.weights,
        )  # fmt: skip
        held, n = buffers(p, m), loop_trips(p, m)
        sums = sum(b.total for b in held if b.space == "acc")
        fits = spm_bytes(held) <= capacity and sums <= target.memories["acc"].size
        if fits and n.tiles * n.reduction <= 200:
            yield m


def _extent(rng: np.random.Generator, most: int) -> int:
    """All of it, or a part."""
    return most if rng.random() < 0.4 else int(rng.integers(1, most + 1))


@few
@given(layers(40, 12), st.integers(0, 1 << 16))
def test_the_estimate_is_the_energy_of_the_program(layer: Layer, seed: int):
    target, p = load_target(layer.target), layer.problem()
    for mapping in list(sampled(target, p, target.memories["spm"].size, seed))[:2]:
        found = contraction.energy_of(target, p, mapping)
        assert found == pytest.approx(energy_of(layer, mapping), rel=1e-9)


@few
@given(layers(40, 12), st.integers(2000, 12_000), st.integers(0, 1 << 16))
def test_no_sampled_mapping_makes_a_program_of_less_energy(layer: Layer, capacity: int, seed: int):
    target, p = without_leakage(load_target(layer.target)), layer.problem()
    found = contraction.search(target, p, capacity, "energy")
    if found is None:
        return
    least = energy_of(layer, found[0])
    for other in list(sampled(target, p, capacity, seed))[:5]:
        n = loop_trips(p, other)
        cycles = contraction.estimate(target, p, other).cycles
        ties = energy.per_cycle(target) * (cycles + n.tiles * n.reduction)
        assert least <= energy_of(layer, other) + ties


@few
@given(layers(40, 12))
def test_no_mapping_takes_less_energy_than_the_bound(layer: Layer):
    target, p = load_target(layer.target), layer.problem()
    found = contraction.search(target, p, target.memories["spm"].size, "energy")
    assert found is not None
    assert contraction.least_energy(target, p) <= contraction.energy_of(target, p, found[0])


def test_by_energy_weights_are_not_loaded_again_although_the_array_would_hide_it():
    p = Contraction(oh=512, ow=1, oc=512, ic=512, ih=512, iw=1, kernel_costs=("requantize",))
    target = load_target(ACCELFORGE)
    by_time = contraction.search(target, p, 98304)
    by_energy = contraction.search(target, p, 98304, "energy")
    assert by_time is not None and by_energy is not None
    assert by_energy[1].transfer < 0.7 * by_time[1].transfer


def test_a_plan_by_energy_takes_less_than_one_by_time(tmp_path: Path):
    def taken(objective: str) -> float:
        module = chain_of_layers(tight_target(tmp_path, 20_000), 4)
        GraphMapPass(objective).apply(NpuContext(), module)
        api.lower(module, "npu", options=QUIET)
        return api.assemble(module).profile.energy.total

    assert taken("energy") < taken("latency")


@pytest.mark.parametrize("spm", [6_000, 12_000, 40_000])
def test_a_plan_by_energy_changes_no_bit(tmp_path: Path, spm: int):
    module = chain_of_layers(tight_target(tmp_path, spm), 4)
    module.attributes["npu.objective"] = StringAttr("energy")
    x = integers(np.random.default_rng(1), 1, 16, 16, 16)
    assert_levels_agree(module, [x])
