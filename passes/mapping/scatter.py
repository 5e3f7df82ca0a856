"""Mapping of scatters: rows of a tensor that are written or accumulated by indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from npu_dialect import cost
from npu_dialect.passes.mapping import energy
from npu_dialect.passes.mapping.estimates import Estimate
from npu_dialect.passes.mapping.tiles import Buffer, candidates, spm_bytes, trips
from npu_dialect.target import Target


@dataclass(frozen=True)
class Scatter:
    """`count` rows of updates for `rows` rows of `elements` each."""

    kind: str
    rows: int
    elements: int
    count: int
    itemsize: int
    index_bytes: int
    value_type: str
    indices_resident: bool = False
    updates_resident: bool = False
    out_resident: bool = False


@dataclass(frozen=True)
class ScatterMapping:
    """A tile has `rows` x `elements` of the result; the updates come `count` at a time, and all of
    them for every tile.
    """

    rows: int
    elements: int
    count: int


def tile_counts(p: Scatter, m: ScatterMapping) -> tuple[int, int, int]:
    """Tiles along rows, along elements, and lots of updates for each."""
    return trips(p.rows, m.rows), trips(p.elements, m.elements), trips(p.count, m.count)


def buffers(p: Scatter, m: ScatterMapping) -> list[Buffer]:
    """The buffers that the nest of this mapping allocates."""
    tiles = tile_counts(p, m)
    depth = 2 if prod(tiles) > 1 else 1
    found: list[Buffer] = []
    if not p.indices_resident:
        found.append(Buffer("indices", m.count * p.index_bytes, depth))
    if not p.updates_resident:
        found.append(Buffer("updates", m.count * m.elements * p.itemsize, depth))
    if not p.out_resident:
        size = m.rows * m.elements * p.itemsize
        found.append(Buffer("out", size, 2 if tiles[0] * tiles[1] > 1 else 1))
    return found


def estimate(target: Target, p: Scatter, m: ScatterMapping) -> Estimate:
    """What a mapping costs, by the cost functions of single instructions."""
    rows, columns, lots = tile_counts(p, m)
    one = cost.scatter(target, p.kind, m.count, m.elements, p.itemsize, p.index_bytes, p.value_type)
    width, startup = target.memories["dram"].ports["dma"], target.dma.startup
    tile = m.rows * m.elements * p.itemsize
    outer = startup + tile / width + (0 if p.out_resident else startup + tile / width)
    lot = 0.0
    if not p.indices_resident:
        lot += startup + m.count * p.index_bytes / width
    if not p.updates_resident:
        lot += startup + m.count * m.elements * p.itemsize / width
    transfer = rows * columns * (outer + lots * lot)
    return Estimate(rows * columns * lots * one.cycles, transfer, outer + lot)


def energy_of(target: Target, p: Scatter, m: ScatterMapping) -> float:
    """Dynamic energy of a mapping in pJ, with all tiles whole."""
    rows, columns, lots = tile_counts(p, m)
    one = cost.scatter(target, p.kind, m.count, m.elements, p.itemsize, p.index_bytes, p.value_type)
    lot = energy.of_instruction(target, one)
    lot += 0 if p.indices_resident else energy.loaded(target, m.count * p.index_bytes)
    updates = m.count * m.elements * p.itemsize
    lot += 0 if p.updates_resident else energy.loaded(target, updates)
    tile = m.rows * m.elements * p.itemsize
    outer = energy.loaded(target, tile)
    outer += 0 if p.out_resident else energy.stored(target, tile)
    return rows * columns * (outer + lots * lot)


def _mappings(p: Scatter) -> Iterator[ScatterMapping]:
    """Whole rows, some at a time; then parts of single rows."""
    counts = candidates(p.count)
    for rows in candidates(p.rows):
        for count in counts:
            yield ScatterMapping(rows, p.elements, count)
    for elements in candidates(p.elements)[1:]:
        for count in counts:
            yield ScatterMapping(1, elements, count)


@lru_cache(4096)
def search(target: Target, p: Scatter, capacity: int) -> tuple[ScatterMapping, Estimate] | None:
    """The mapping of least estimated cycles whose buffers fit; None when none does."""
    fitting = [m for m in _mappings(p) if spm_bytes(buffers(p, m)) <= capacity]
    if not fitting:
        return None
    best = min(fitting, key=lambda m: (estimate(target, p, m).cycles, prod(tile_counts(p, m))))
    return best, estimate(target, p, best)
