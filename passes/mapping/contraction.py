"""Mapping of convolutions and matrix products onto the array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from npu_dialect import cost, dtypes
from npu_dialect.cost import ArrayWork
from npu_dialect.passes.mapping.tiles import (
    Buffer,
    candidates,
    handover,
    split,
    spm_bytes,
    trips,
)
from npu_dialect.target import Target

Order = Literal["weights_outer", "rows_outer"]

SHARED_DMA = 0.1
"""What a cycle of transfer counts that the layer's own computation hides: other layers could load.
Of 0, 0.1 and 0.25 the best on twelve programs."""
LARGE = 8
"""A tile of weights beyond this part of the scratchpad finds no room beside the layers before: that
its layer waits for it counts."""


@dataclass(frozen=True)
class Contraction:
    """One convolution or matrix product, in elements. A matrix product has its rows as `oh`, one
    column, one tap.

    `groups` independent contractions of `ic` -> `oc` channels each (`depthwise`: one channel each,
    `oc` channels in all, and `groups` is 1); `batch` repeats with other activations, and with other
    weights where `batched_weights`.
    """

    oh: int
    ow: int
    oc: int
    ic: int
    ih: int
    iw: int
    kh: int = 1
    kw: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1
    batched_weights: bool = False
    depthwise: bool = False
    x_type: str = "i8"
    w_type: str = "i8"
    out_type: str = "i8"
    residual_type: str | None = None
    param_rows: int = 0
    table_bytes: int = 0
    kernel_costs: tuple[str, ...] = ()
    x_resident: bool = False
    w_resident: bool = False
    residual_resident: bool = False
    out_resident: bool = False
    constants_resident: bool = False
    """Whether parameters and table are in the scratchpad."""
    takes_over: bool = False
    """Whether another engine makes an input in the scratchpad."""
    hands_over: bool = False
    """Whether another engine reads the result in the scratchpad."""

    @property
    def may_split_reduction(self) -> bool:
        """Whether input channels may be split over instructions without changing a bit.

        Integer sums wrap, so any order is the same; float sums must ascend over (kh, kw, ic), which
        only a contraction with one tap keeps.
        """
        return not self.depthwise and (
            not self.x_type.startswith(("f", "bf")) or self.kh * self.kw == 1
        )


@dataclass(frozen=True)
class ContractionMapping:
    """Extents of a tile: output rows, columns and channels, and input channels; which loop is
    outermost; and the slots of what is transferred (with one, copies wait for the array).
    """

    rows: int
    cols: int
    channels: int
    reduction: int
    order: Order = "weights_outer"
    slots: int = 2


def input_extent(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    """Input rows (or columns) that so many output rows need."""
    return (outputs - 1) * stride + (kernel - 1) * dilation + 1


def _bytes(name: str) -> int:
    return dtypes.BY_NAME[name].itemsize


@dataclass(frozen=True)
class Tile:
    """Bytes of everything one tile touches."""

    x: int
    w: int
    params: int
    residual: int
    out: int
    acc: int


def tile_bytes(p: Contraction, rows: int, cols: int, channels: int, reduction: int) -> Tile:
    """The bytes of a tile of these extents."""
    in_rows = input_extent(rows, p.kh, p.strides[0], p.dilations[0])
    in_cols = input_extent(cols, p.kw, p.strides[1], p.dilations[1])
    depth = channels if p.depthwise else reduction
    outputs = rows * cols * channels
    return Tile(
        x=in_rows * in_cols * depth * _bytes(p.x_type),
        w=p.kh * p.kw * channels * (1 if p.depthwise else reduction) * _bytes(p.w_type),
        params=p.param_rows * channels * 4,
        residual=outputs * _bytes(p.residual_type) if p.residual_type else 0,
        out=outputs * _bytes(p.out_type),
        acc=outputs * 4,
    )


@dataclass(frozen=True)
class Trips:
    """How often each loop runs."""

    outer: int
    channels: int
    rows: int
    cols: int
    reduction: int

    @property
    def spatial(self) -> int:
        return self.rows * self.cols


def loop_trips(p: Contraction, m: ContractionMapping) -> Trips:
    """The trip counts of a mapping."""
    return Trips(
        p.batch * p.groups,
        trips(p.oc, m.channels),
        trips(p.oh, m.rows),
        trips(p.ow, m.cols),
        1 if p.depthwise else trips(p.ic, m.reduction),
    )


def buffers(p: Contraction, m: ContractionMapping) -> list[Buffer]:
    """The buffers that the nest of this mapping allocates."""
    size = tile_bytes(p, m.rows, m.cols, m.channels, m.reduction)
    n = loop_trips(p, m)
    w_loads = _weight_loads(p, m, n)
    x_loads = _input_loads(p, m, n)
    many = n.outer * n.channels * n.spatial > 1
    found: list[Buffer] = []
    if not p.x_resident:
        found.append(Buffer("x", size.x, m.slots if x_loads > 1 else 1))
    if not p.w_resident:
        found.append(Buffer("weights", size.w, m.slots if w_loads > 1 else 1))
    if p.param_rows and not p.constants_resident:
        found.append(Buffer("params", size.params, m.slots if w_loads > 1 else 1))
    if p.table_bytes and not p.constants_resident:
        found.append(Buffer("table", p.table_bytes, 1))
    if p.residual_type and not p.residual_resident:
        found.append(Buffer("residual", size.residual, m.slots if many else 1))
    if not p.out_resident:
        found.append(Buffer("out", size.out, m.slots if many else 1, loaded=False))
    if n.reduction > 1:
        found.append(Buffer("acc", size.acc, 1, "acc", loaded=False))
    return found


def _weight_loads(p: Contraction, m: ContractionMapping, n: Trips) -> int:
    if n.reduction > 1 or (m.order == "rows_outer" and n.channels > 1):
        return n.outer * n.channels * n.spatial * n.reduction
    return p.groups * n.channels * (p.batch if p.batched_weights else 1)


def _input_loads(p: Contraction, m: ContractionMapping, n: Trips) -> int:
    if n.reduction > 1:
        return n.outer * n.channels * n.spatial * n.reduction
    if m.order == "rows_outer" and not p.depthwise:
        return n.outer * n.spatial
    return n.outer * n.channels * n.spatial


def dram_cycles(target: Target, size: int, run: int) -> float:
    """Cycles of one transfer of `size` bytes in runs of `run`."""
    return target.dma.startup + cost.port_cycles(target, "dram", "dma", size / run, run)


@dataclass(frozen=True)
class Estimate:
    """Cycles of a mapped group: what the array and the dma are busy, and what cannot be hidden."""

    compute: int
    transfer: float
    exposed: float
    handover: float = 0.0
    """Cycles for which neighbours on other engines wait for single tiles."""

    @property
    def cycles(self) -> float:
        """Of the layer."""
        return max(self.compute, self.transfer) + self.exposed

    @property
    def in_place(self) -> float:
        """Of the layer between its neighbours: what a mapping is chosen by."""
        return self.cycles + self.handover + SHARED_DMA * self.transfer


def estimate(target: Target, p: Contraction, m: ContractionMapping) -> Estimate:
    """What a mapping costs, by the cost functions of single instructions."""
    n = loop_trips(p, m)
    size = tile_bytes(p, m.rows, m.cols, m.channels, m.reduction)
    depth, all_channels = (m.channels, p.oc) if p.depthwise else (m.reduction, p.ic * p.groups)
    x_run = depth * _bytes(p.x_type) if depth < all_channels or m.cols < p.ow else size.x
    out_run = m.channels * _bytes(p.out_type) if m.channels < p.oc * p.groups else size.out
    x = 0.0 if p.x_resident else dram_cycles(target, size.x, x_run)
    w = 0.0 if p.w_resident else dram_cycles(target, size.w + size.params, size.w)
    out = 0.0 if p.out_resident else dram_cycles(target, size.out, out_run)
    residual = (
        0.0
        if p.residual_resident or not p.residual_type
        else dram_cycles(target, size.residual, out_run)
    )
    tiles = n.outer * n.channels * n.spatial
    moved = x * _input_loads(p, m, n) + w * _weight_loads(p, m, n) + (out + residual) * tiles
    compute = _compute(target, p, m, n)
    waits = _handover(p, m, n, max(compute, moved))
    if size.w * LARGE > target.memories["spm"].size:
        waits += w
    return Estimate(compute, moved, x + out if m.slots > 1 else moved, waits)


def _handover(p: Contraction, m: ContractionMapping, n: Trips, cycles: float) -> float:
    """Cycles that neighbours wait for single tiles. Where all rows are done for some channels
    first, the next layer waits for the last channels.
    """
    last = n.channels if m.order == "weights_outer" and n.channels > 1 else 1
    tiles = n.outer * n.rows
    taken = handover(cycles, tiles * n.channels, 1) if p.takes_over else 0.0
    given = cycles - cycles / last + handover(cycles / last, tiles, 1) if p.hands_over else 0.0
    return taken + given


def _compute(target: Target, p: Contraction, m: ContractionMapping, n: Trips) -> int:
    total = 0
    for rows, rows_count in split(p.oh, m.rows):
        for cols, cols_count in split(p.ow, m.cols):
            for channels, channels_count in split(p.oc, m.channels):
                count = rows_count * cols_count * channels_count
                total += count * _tile_cycles(target, p, m, n, rows, cols, channels)
    return total * n.outer


def _tile_cycles(
    target: Target,
    p: Contraction,
    m: ContractionMapping,
    n: Trips,
    rows: int,
    cols: int,
    channels: int,
) -> int:
    size = tile_bytes(p, rows, cols, channels, m.reduction)
    partial = size.acc if n.reduction > 1 else 0
    work = ArrayWork(
        dtype=p.x_type,
        positions=rows * cols,
        taps=p.kh * p.kw,
        in_channels=1 if p.depthwise else m.reduction,
        out_channels=channels,
        input_bytes=size.x,
        weight_bytes=size.w,
        output_bytes=size.out,
        depthwise=p.depthwise,
        side_bytes=size.params + size.residual,
        partial_reads=partial,
        partial_writes=partial,
        kernel_costs=p.kernel_costs,
    )
    return cost.array(target, work).cycles * n.reduction


def mappings(target: Target, p: Contraction) -> Iterator[ContractionMapping]:
    """The mappings worth considering, those without a split of the reduction or the columns
    first.
    """
    for channels in _channel_candidates(target, p):
        for rows in candidates(p.oh):
            yield ContractionMapping(rows, p.ow, channels, p.ic, "weights_outer")
            if channels < p.oc and not p.depthwise:
                yield ContractionMapping(rows, p.ow, channels, p.ic, "rows_outer")


def _channel_candidates(target: Target, p: Contraction) -> list[int]:
    """Tiles of output channels; a grouped convolution keeps its groups whole, so that no tile
    crosses into the next.
    """
    if p.groups > 1:
        return [p.oc]
    step = 16 if p.depthwise else target.array.macs[p.x_type][1]
    return candidates(p.oc, min(p.oc, step))


def narrow_mappings(target: Target, p: Contraction) -> Iterator[ContractionMapping]:
    """The mappings for what does not fit otherwise: single rows, split columns, split reduction."""
    block = target.array.macs[p.x_type][1]
    return _narrow(p, (block, 4 * block, 16 * block), 2)


def narrowest_mappings(target: Target, p: Contraction) -> Iterator[ContractionMapping]:
    """The last resort: few channels, and nothing is transferred ahead of its use."""
    return _narrow(p, (1, 4, target.array.macs[p.x_type][1]), 1)


def _narrow(p: Contraction, channels: tuple[int, ...], slots: int) -> Iterator[ContractionMapping]:
    narrow = {p.oc} if p.groups > 1 else {min(p.oc, b) for b in channels}
    reductions = candidates(p.ic, 16) if p.may_split_reduction and p.groups == 1 else [p.ic]
    for reduction in reductions:
        for cols in candidates(p.ow):
            for rows in sorted({1, min(4, p.oh), min(16, p.oh), min(64, p.oh)}):
                for oc in sorted(narrow):
                    yield ContractionMapping(rows, cols, oc, reduction, "weights_outer", slots)


def fits(target: Target, p: Contraction, m: ContractionMapping, capacity: int) -> bool:
    """Whether the buffers of a mapping fit `capacity` bytes of scratchpad, and the accumulators."""
    found = buffers(p, m)
    sums = sum(b.total for b in found if b.space == "acc")
    limit = max(1, target.memories["acc"].size)
    return spm_bytes(found) <= capacity and sums <= limit


@lru_cache(4096)
def search(
    target: Target, p: Contraction, capacity: int
) -> tuple[ContractionMapping, Estimate] | None:
    """The mapping of least estimated cycles whose buffers fit; None when none does."""
    for family in (mappings, narrow_mappings, narrowest_mappings):
        found = [m for m in family(target, p) if fits(target, p, m, capacity)]
        if found:
            best = min(found, key=lambda m: _rank(target, p, m))
            return best, estimate(target, p, best)
    return None


def _rank(target: Target, p: Contraction, m: ContractionMapping) -> tuple[float, float, int]:
    e = estimate(target, p, m)
    return (e.in_place, e.transfer, loop_trips(p, m).spatial)
