"""Random layers with random legal mappings, on machines of every kind with little memory.

A case is a small network of what is mapped (convolutions of every kind, products, pools, reductions
and elementwise chains) in which most groups are cut in a way that the mapper would not choose, but
that its rules allow.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import random_graphs as rg
from fuzzing import QUIET, target_file
from graph_samples import Array, quant, same
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Attribute, SSAValue

from npu_dialect import api, dtypes
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.passes.graph_map import mapping_attribute
from npu_dialect.passes.mapping.contraction import Contraction, ContractionMapping
from npu_dialect.passes.mapping.contraction_problem import loop_trips, may_stream
from npu_dialect.passes.mapping.contraction_taps import may_join, whole_columns
from npu_dialect.passes.mapping.elementwise import (
    Elementwise,
    ElementwiseMapping,
    Pooling,
    PoolingMapping,
    pooling_tiles,
    tile_count,
)
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.problems import buffers_of, problem
from npu_dialect.passes.mapping.tiles import spm_bytes
from npu_dialect.target import Target, load_target

INTEGERS = (
    "edge256", "edge512", "headset2k", "mobile4k", "systolic32_ws", "systolic32_os",
    "ethos_u55_256", "ethos_u85_2048",
)  # fmt: skip
FLOATS = ("mobile4k",)
SCRATCHPADS = (None, 4096, 8192, 16384, 65536)
"""Bytes; None leaves the target as it is."""
LAYERS = (
    *[rg._conv] * 6, *[rg._matmul] * 4, rg._pool, rg._pool, rg._reduce, rg._quantize,  # pyright: ignore[reportPrivateUsage]
    *[rg._plain] * 3,  # pyright: ignore[reportPrivateUsage]
)  # fmt: skip
DRAWS = 40
"""Mappings drawn until one fits; a group of which none does is left to the compiler."""


MOST_TILES = 120
"""Tiles of a group, so that a case takes a moment."""


class Layers(rg.Graph):
    """A network of layers, each taking one of the last results."""

    def __init__(self, seed: int, target: str, kinds: Sequence[dtypes.DType]) -> None:
        super().__init__(seed, target, kinds)
        self.pool = [self.argument(self.shape(), self.element())]

    def shape(self) -> tuple[int, ...]:
        batch = self.below(3) + 1 if self.chance(0.3) else 1
        if self.chance(0.7):
            return batch, self.below(14) + 3, self.below(12) + 3, self.below(24) + 1
        return batch, self.below(20) + 1, self.below(40) + 1

    def element(self) -> Attribute:
        kind = self.kinds[self.below(len(self.kinds))]
        return f32 if kind is dtypes.f32 else quant(self.rng, kind)

    def random(self, shape: Sequence[int], element: Attribute) -> SSAValue:
        return self.constant(self.numbers(tuple(shape), element), element)

    def grow(self) -> None:
        for _ in range(8):
            op = self._try(LAYERS[self.below(len(LAYERS))], self.pick(self.pool[-2:]))
            if op is not None:
                self.pool.append(self.add(op))
                return


@dataclass(frozen=True)
class Case:
    """A network and the machine that it is compiled for."""

    seed: int
    size: int
    base: str
    spm: int | None
    floats: bool

    @staticmethod
    def of(seed: int, size: int = 4) -> Case:
        """The case of a number."""
        rng = np.random.default_rng([seed, 3])
        floats = bool(rng.random() < 0.35)
        bases = FLOATS if floats else INTEGERS
        base = bases[int(rng.integers(len(bases)))]
        spm = SCRATCHPADS[int(rng.integers(len(SCRATCHPADS)))]
        return Case(seed, int(rng.integers(1, size + 1)), base, spm, floats)

    def module(self, folder: Path) -> tuple[ModuleOp, list[Array]]:
        """A module before any pass, and inputs."""
        kinds = (dtypes.f32,) if self.floats else (dtypes.i8, dtypes.i8, dtypes.u8)
        s = Layers(self.seed, target_file(folder, self.base, self.spm), kinds)
        for _ in range(self.size):
            s.grow()
        return s.finished(), s.inputs


def check(case: Case, folder: Path) -> None:
    """Raises where a level differs, or where a pass (npu-verify is one) finds something."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _check(case, folder)


def _check(case: Case, folder: Path) -> None:
    module, inputs = case.module(folder)
    api.lower(module, "graph", options=QUIET)
    target = load_target(target_file(folder, case.base, case.spm))
    pin_mappings(module, target, np.random.default_rng([case.seed, 4]))
    expected = run_graph(module, inputs)
    api.lower(module, "tile", options=QUIET)
    _equal(expected, list(api.execute(module, inputs).values()), "tile")
    api.lower(module, "npu", options=QUIET)
    program = api.assemble(module)
    for order in (case.seed, None):
        found = api.simulate(program, inputs, seed=order).outputs.values()
        _equal(expected, list(found), f"npu, order {order}")


def _equal(expected: Sequence[Any], found: Sequence[Any], what: str) -> None:
    for number, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert same(np.asarray(a), np.asarray(b)), f"output {number} differs: {what}"


# --- mappings -------------------------------------------------------------------------------------


def pin_mappings(module: ModuleOp, target: Target, rng: np.random.Generator) -> int:
    """Gives most groups of a module a random legal mapping; how many have one."""
    count = 0
    for op in list(module.walk()):
        if op.name != "graph.group" or rng.random() < 0.1:
            continue
        group = Group(op)
        mapping = random_mapping(group, target, rng)
        if mapping is not None:
            op.attributes["npu.mapping"] = mapping_attribute(mapping)
            count += 1
    return count


def random_mapping(group: Group, target: Target, rng: np.random.Generator) -> Any:
    """A mapping whose buffers fit the memories; None where none of those drawn does."""
    p = problem(group, lambda _: False, False)
    if p is None:
        return None
    for mapping in _draws(target, p, rng):
        if _tiles(p, mapping) > MOST_TILES:
            continue
        found = buffers_of(p, mapping)
        sums = sum(b.total for b in found if b.space == "acc")
        room, most = target.memories["spm"].size, target.memories["acc"].size
        if spm_bytes(found) <= room and sums <= most:
            return mapping
    return None


def _tiles(p: Any, m: Any) -> int:
    """Instructions of a mapping, about."""
    if isinstance(p, Contraction):
        n = loop_trips(p, m)
        return n.tiles * n.reduction
    return pooling_tiles(p, m) if isinstance(p, Pooling) else tile_count(p, m)


def _draws(target: Target, p: Any, rng: np.random.Generator) -> Iterator[Any]:
    for _ in range(DRAWS):
        if isinstance(p, Contraction):
            yield _contraction(target, p, rng)
        elif isinstance(p, Pooling):
            rows, cols, channels = (extent(rng, e) for e in (p.oh, p.ow, p.channels))
            yield PoolingMapping(rows, cols, channels, int(rng.integers(1, 4)))
        elif isinstance(p, Elementwise) and p.dims:
            axis = int(rng.integers(len(p.dims)))
            whole = p.dims[axis]
            yield ElementwiseMapping(axis, whole if axis in p.whole else extent(rng, whole))


def _contraction(target: Target, p: Contraction, rng: np.random.Generator) -> ContractionMapping:
    """A grouped convolution keeps its groups whole."""
    splits = p.may_split_reduction and p.groups == 1
    levels = ("tile", "held", "slice") if splits else ("tile", "held")
    mapping = ContractionMapping(
        extent(rng, p.oh),
        extent(rng, p.ow),
        extent(rng, p.oc) if p.groups == 1 else p.oc,
        extent(rng, p.ic) if splits else p.ic,
        order=("weights_outer", "rows_outer")[int(rng.integers(2))],
        slots=int(rng.integers(1, 4)),
        x=levels[int(rng.integers(len(levels)))],  # type: ignore[arg-type]
        weights=levels[int(rng.integers(len(levels)))],  # type: ignore[arg-type]
    )
    if target.array_reads_dram and may_stream(p) and rng.random() < 0.5:
        held = "tile" if mapping.x == "slice" else mapping.x
        mapping = replace(mapping, reduction=p.ic, x=held, weights="stream")
        joins = may_join(target, p) and bool(whole_columns(p)) and rng.random() < 0.5
        return replace(mapping, cols=p.ow, taps="joined") if joins else mapping
    if may_join(target, p) and rng.random() < 0.3:
        return replace(mapping, cols=p.ow, reduction=p.ic, taps="joined")
    return mapping


def extent(rng: np.random.Generator, whole: int) -> int:
    """A part of an extent: all of it, any, or a small one."""
    kind = rng.random()
    if kind < 0.3:
        return whole
    most = whole if kind < 0.7 else min(whole, 4)
    return int(rng.integers(1, most + 1))
