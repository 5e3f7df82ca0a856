"""What a plan says that cascades and tiles take, against the buffers that are emitted."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import QUIET, target_file
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mapping_cases import Layers
from random_graphs import TYPES, random_graph
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from npu_dialect import api, dtypes, pipeline, provenance
from npu_dialect.passes.lifetimes import Life, lifetimes
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Plan
from npu_dialect.passes.tile_allocate import slot_stride, tile_functions
from npu_dialect.tile.syntax import space_of
from npu_dialect.universe import NpuContext

KIB = 1024


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def network(seed: int, layers: int, target: str) -> ModuleOp:
    """Random layers of floats at level graph."""
    made = Layers(seed, target, (dtypes.f32,))
    for _ in range(layers):
        made.grow()
    module = made.finished()
    with warnings.catch_warnings():  # constants that overflow
        warnings.simplefilter("ignore")
        api.lower(module, "graph", options=QUIET)
    return module


def graph_of(seed: int, size: int, target: str) -> ModuleOp:
    """A random graph of all kinds of operations at level graph."""
    module, _ = random_graph(seed, target, size, TYPES)
    with warnings.catch_warnings():  # constants that overflow
        warnings.simplefilter("ignore")
        api.lower(module, "graph", options=QUIET)
    return module


def planned(module: ModuleOp, patch: pytest.MonkeyPatch) -> Plan:
    """Lowers to tiles; the plan by which that is done."""
    found: list[Plan] = []
    run = Planner.run

    def spy(planner: Planner) -> Plan:
        found.append(run(planner))
        return found[-1]

    with patch.context() as change:
        change.setattr(Planner, "run", spy)
        pipeline.run(module, "graph-views,graph-map,graph-to-tile", NpuContext(), QUIET)
    return found[-1]


def in_scratchpad(module: ModuleOp) -> Iterator[tuple[str, Life, int]]:
    """The emitted buffers: layer, lifetime, and bytes of all slots."""
    for function in tile_functions(module):
        for life in lifetimes(function):
            if space_of(life.alloc.result) == "spm":
                size = life.alloc.slots * slot_stride(life.alloc)
                yield provenance.sources(life.alloc)[0], life, size


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    layers=st.integers(3, 9),
    spm=st.sampled_from([2 * KIB, 3 * KIB, 6 * KIB, 12 * KIB]),
)
@example(seed=44, layers=9, spm=3 * KIB)  # the first stripe has tiles to rotate, others have not
def test_what_is_emitted_takes_no_more_than_planned(
    targets: Path, seed: int, layers: int, spm: int
):
    assert_planned(network(seed, layers, target_file(targets, "mobile4k", spm)))


def test_weights_that_are_computed_are_no_constants_of_a_cascade(targets: Path):
    assert_planned(graph_of(50019, 16, target_file(targets, "systolic32_os", 8 * KIB)))


def assert_planned(module: ModuleOp) -> None:
    """Raises where the tiles of a layer, or what a cascade holds for it, take more than planned."""
    with pytest.MonkeyPatch.context() as patch:
        plan = planned(module, patch)
    tiles, kept = Counter[str](), Counter[str]()
    for step in plan.steps:
        name = provenance.sources(step.group.op)[0]
        tiles[name] = max(tiles[name], step.work.used)
        if step.member is not None:
            kept[name] += step.member.holds
    emitted, held = Counter[tuple[str, int]](), Counter[str]()
    for name, life, size in in_scratchpad(module):
        if not isinstance(life.alloc.parent_op(), FuncOp):
            emitted[name, life.lower] += size
        elif life.alloc.part is not None:
            held[name] += size
    assert all(size <= tiles[name] for (name, _), size in emitted.items())
    assert all(size <= kept[name] for name, size in held.items())
