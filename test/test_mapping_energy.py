"""Mappings chosen by energy: what is estimated is what the program takes, and no sampled mapping
takes less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapped_groups import I8, OUT, ModuleBuilder, assert_levels_agree, integers
from test_mapping import tight_target
from test_plan import layers as chain_of_layers
from xdsl.dialects.builtin import StringAttr, i32
from xdsl.ir import SSAValue

from npu_dialect import api, cache, graph
from npu_dialect.graph.attributes import requant_f32
from npu_dialect.passes.graph_map import GraphMapPass, mapping_attribute
from npu_dialect.passes.mapping import contraction, energy
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    buffers,
    loop_trips,
)
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.problems import problem
from npu_dialect.passes.mapping.tiles import spm_bytes
from npu_dialect.pipeline import Options
from npu_dialect.target import Target, load_target
from npu_dialect.universe import NpuContext

TARGETS = ("edge256", "edge512", "headset2k", "mobile4k", "systolic32_ws", "systolic32_os")
ACCELFORGE = Path(__file__).parents[1] / "benchmarks/targets/accelforge.toml"
QUIET = Options(reproducer=None)
few = settings(max_examples=20, deadline=None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv(cache.FOLDER_VARIABLE, str(folder))
        contraction.fronts.cache_clear()
        contraction.search.cache_clear()
        yield folder


@dataclass(frozen=True)
class Layer:
    """A convolution of int8 alone in a module."""

    target: str
    image: tuple[int, int, int, int]
    filters: tuple[int, int, int]
    """Rows, columns, output channels."""
    depthwise: bool = False
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, ...] = (0, 0, 0, 0)

    def build(self) -> tuple[ModuleBuilder, Group]:
        """The module under construction, and its group."""
        rng = np.random.default_rng(0)
        build = ModuleBuilder(self.target, (self.image, I8))
        kh, kw, oc = self.filters
        w = build.constant(integers(rng, kh, kw, 1 if self.depthwise else self.image[3], oc), I8)
        b = build.constant(rng.integers(-1000, 1000, oc, np.int32), i32)
        y = build.group("conv", "array", [build.args[0], w, b], self._body)
        assert isinstance(y.owner, graph.GroupOp)
        return build, Group(y.owner)

    def _body(self, x: SSAValue, w: SSAValue, b: SSAValue) -> list[graph.GraphOp]:
        groups = self.image[3] if self.depthwise else 1
        sums = graph.Conv2DOp(x, w, b, self.strides, self.pads, groups=groups)
        return [sums, graph.RequantizeOp(sums.result, requant_f32(0.003), OUT)]

    def problem(self) -> Contraction:
        """The mapper's problem of it, with everything in dram."""
        found = problem(self.build()[1], lambda _: False, False)
        assert isinstance(found, Contraction)
        return found

    def energy(self, mapping: ContractionMapping) -> float:
        """Dynamic energy in pJ of the program with this mapping, of all units."""
        build, group = self.build()
        group.op.attributes["npu.mapping"] = mapping_attribute(mapping)
        module = build.module(group.result)
        api.lower(module, "npu", options=QUIET)
        return sum(api.assemble(module).profile.energy.dynamic.values())


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Any window, pads and strides, on any target."""
    depthwise = draw(st.booleans())
    ic = draw(st.integers(2, 40))
    oc = ic if depthwise else draw(st.integers(1, 40))
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return Layer(
        draw(st.sampled_from(TARGETS)),
        (1, draw(st.integers(4, 12)), draw(st.integers(4, 12)), ic),
        (kh, kw, oc),
        depthwise,
        (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        tuple(draw(st.integers(0, k - 1)) for k in (kh, kw, kh, kw)),
    )


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
@given(layers(), st.integers(0, 1 << 16))
def test_the_estimate_is_the_energy_of_the_program(layer: Layer, seed: int):
    target, p = load_target(layer.target), layer.problem()
    for mapping in list(sampled(target, p, target.memories["spm"].size, seed))[:2]:
        found = contraction.energy_of(target, p, mapping)
        assert found == pytest.approx(layer.energy(mapping), rel=1e-9)


@few
@given(layers(), st.integers(2000, 12_000), st.integers(0, 1 << 16))
def test_no_sampled_mapping_makes_a_program_of_less_energy(layer: Layer, capacity: int, seed: int):
    target, p = without_leakage(load_target(layer.target)), layer.problem()
    found = contraction.search(target, p, capacity, "energy")
    if found is None:
        return
    least = layer.energy(found[0])
    for other in list(sampled(target, p, capacity, seed))[:5]:
        n = loop_trips(p, other)
        cycles = contraction.estimate(target, p, other).cycles
        ties = energy.per_cycle(target) * (cycles + n.tiles * n.reduction)
        assert least <= layer.energy(other) + ties


@few
@given(layers())
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
