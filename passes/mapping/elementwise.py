"""Mapping of vector work: elementwise chains, reductions and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from npu_dialect import cost
from npu_dialect.passes.mapping import energy
from npu_dialect.passes.mapping.contraction_problem import input_extent
from npu_dialect.passes.mapping.estimates import Estimate, dram_cycles, dram_width
from npu_dialect.passes.mapping.tiles import (
    Buffer,
    candidates,
    handover,
    split,
    spm_bytes,
    trips,
)
from npu_dialect.passes.mapping.views import strided_run
from npu_dialect.target import Target


@dataclass(frozen=True)
class Stream:
    """A tensor that a vector group reads or writes: extents (1 where it broadcasts or is reduced),
    bytes an element.
    """

    dims: tuple[int, ...]
    itemsize: int
    resident: bool = False
    strides: tuple[int, ...] | None = None
    """Elements from one to the next along each dimension in dram; None where it lies densely."""


@dataclass(frozen=True)
class Elementwise:
    """Elementwise work over `dims`, tiled along one of them; `whole` dimensions may not be cut
    (they are reduced).
    """

    dims: tuple[int, ...]
    inputs: tuple[Stream, ...]
    output: Stream
    whole: tuple[int, ...] = ()
    param_rows: int = 0
    table_bytes: int = 0
    kernel_costs: tuple[str, ...] = ()
    value_type: str = "i32"
    constants_resident: bool = False
    """Whether parameters and table are in the scratchpad."""
    takes_over: int = 0
    """Cycles of the layer that makes an input in the scratchpad just before; 0 for none."""
    hands_over: int = 0
    """Cycles of the layer that reads the result in the scratchpad next."""
    heads: int = 1
    """Equal parts of the outermost dimension, of which later layers read a row of each at once."""

    @property
    def head_rows(self) -> int:
        """The extent of the outermost dimension in each head."""
        return self.dims[0] // self.heads if self.dims else 1


@dataclass(frozen=True)
class ElementwiseMapping:
    """Dimensions before `axis` are looped over one by one, `axis` in steps of `chunk`, those after
    it are whole.
    """

    axis: int
    chunk: int


def tile_dims(
    dims: tuple[int, ...], m: ElementwiseMapping, whole: tuple[int, ...]
) -> tuple[int, ...]:
    """Extents of a tile of a tensor of extents `dims`."""
    return tuple(
        d if a > m.axis or a in whole else min(d, m.chunk if a == m.axis else 1)
        for a, d in enumerate(dims)
    )


def buffers(p: Elementwise, m: ElementwiseMapping) -> list[Buffer]:
    """The buffers that the nest of this mapping allocates."""
    depth = 2 if tile_count(p, m) > 1 else 1
    found = [
        Buffer(f"in{i}", prod(tile_dims(s.dims, m, p.whole)) * s.itemsize, depth)
        for i, s in enumerate(p.inputs)
        if not s.resident
    ]
    if p.param_rows and not p.constants_resident:
        found.append(Buffer("params", p.param_rows * p.output.dims[-1] * 4, 1))
    if p.table_bytes and not p.constants_resident:
        found.append(Buffer("table", p.table_bytes, 1))
    if not p.output.resident:
        size = prod(tile_dims(p.output.dims, m, p.whole)) * p.output.itemsize
        found.append(Buffer("out", size, depth, loaded=False))
    return found


def tile_count(p: Elementwise, m: ElementwiseMapping) -> int:
    """Tiles of the whole nest."""
    outer = prod(d for a, d in enumerate(p.dims[: m.axis]) if a not in p.whole)
    return outer * (1 if m.axis in p.whole else trips(p.dims[m.axis], m.chunk))


def estimate(target: Target, p: Elementwise, m: ElementwiseMapping) -> Estimate:
    """What a mapping costs, by the cost functions of single instructions."""
    count = tile_count(p, m)
    read = [prod(tile_dims(s.dims, m, p.whole)) * s.itemsize for s in p.inputs]
    written = prod(tile_dims(p.output.dims, m, p.whole)) * p.output.itemsize
    elements = prod(tile_dims(p.dims, m, p.whole))
    bytes_moved = sum(read), written
    if p.whole:  # the kernel works on what the reduction leaves
        outputs = prod(tile_dims(p.output.dims, m, p.whole))
        kernel = p.kernel_costs[:-1]
        cycles = reduced_cycles(target, elements, outputs, kernel, bytes_moved, p.value_type)
    else:
        costs = p.kernel_costs or ("alu",)
        cycles = cost.vector(target, elements, costs, *bytes_moved, p.value_type).cycles
    streams = zip((*p.inputs, p.output), (*read, written), strict=True)
    transfer = sum(_moved(target, s, size, m, p.whole) for s, size in streams if not s.resident)
    compute = cycles * count
    waits = sum(handover(compute, 1, count, n) for n in (p.takes_over, p.hands_over))
    return Estimate(compute, transfer * count, transfer, waits)


def energy_of(target: Target, p: Elementwise, m: ElementwiseMapping) -> float:
    """Dynamic energy of a mapping in pJ, with all tiles whole."""
    read = [prod(tile_dims(s.dims, m, p.whole)) * s.itemsize for s in p.inputs]
    written = prod(tile_dims(p.output.dims, m, p.whole)) * p.output.itemsize
    elements = prod(tile_dims(p.dims, m, p.whole))
    costs = p.kernel_costs[-1:] if p.whole else p.kernel_costs or ("alu",)
    one = energy.of_instruction(target, cost.vector(target, elements, costs, sum(read), written))
    one += sum(energy.loaded(target, r) for s, r in zip(p.inputs, read, strict=True)
               if not s.resident)  # fmt: skip
    one += 0 if p.output.resident else energy.stored(target, written)
    return one * tile_count(p, m)


def reduced_cycles(
    target: Target,
    elements: int,
    outputs: int,
    kernel: tuple[str, ...],
    bytes_moved: tuple[int, int],
    value_type: str,
    steps: tuple[str, ...] = ("alu",),
    least: int = 0,
) -> int:
    """Cycles of an instruction that takes `steps` for each of `elements`, `least` of them at least,
    and goes on with a kernel on each of `outputs`.
    """
    base = cost.vector(target, elements, steps, *bytes_moved, value_type).cycles
    base = max(base, least)
    if not kernel:
        return base
    more = cost.vector(target, outputs, kernel, 0, 0, value_type).cycles
    return base + more - target.vector.startup


def _moved(
    target: Target, s: Stream, size: int, m: ElementwiseMapping, whole: tuple[int, ...]
) -> float:
    """Cycles of the dma for a tile of `size` bytes."""
    if s.strides is None:
        return target.dma.startup + size / dram_width(target)
    run = s.itemsize * int(strided_run(s.strides, tile_dims(s.dims, m, whole)))
    return float(dram_cycles(target, size, run))


@lru_cache(4096)
def search(
    target: Target, p: Elementwise, capacity: int, objective: str = "latency"
) -> tuple[ElementwiseMapping, Estimate] | None:
    """The mapping of least estimated cycles (or energy) whose buffers fit; None when none does."""
    best: tuple[float, int, ElementwiseMapping, Estimate] | None = None
    for axis in range(max(1, len(p.dims))):
        for m in _along(p, axis):
            if spm_bytes(buffers(p, m)) > capacity:
                continue
            e = estimate(target, p, m)
            tiles, price = tile_count(p, m), e.in_place
            if objective == "energy":
                price = energy.price(target, energy_of(target, p, m), e.cycles, tiles)
            rank = (price, tiles)
            if best is None or rank < best[:2]:
                best = (*rank, m, e)
        if best is not None:
            break
    return None if best is None else (best[2], best[3])


def _along(p: Elementwise, axis: int) -> list[ElementwiseMapping]:
    if not p.dims:
        return [ElementwiseMapping(0, 1)]
    if axis in p.whole:
        return [ElementwiseMapping(axis, p.dims[axis])]
    return [ElementwiseMapping(axis, c) for c in _extents(p, axis)]


def _extents(p: Elementwise, axis: int) -> list[int]:
    """Extents of tiles along a dimension; of the rows of heads at most half, in even parts if there
    are any, so that what comes after all heads may begin with the first rows.
    """
    found = candidates(p.dims[axis])
    rows = 0 if p.head_rows > 1 else 1
    is_alone = p.heads == 1 or not (p.takes_over or p.hands_over)
    if is_alone or axis > rows or rows in p.whole or rows == len(p.dims):
        return found
    if axis < rows:
        return []
    most = p.head_rows if rows == 0 else p.dims[rows]
    even = [c for c in candidates(most) if 2 * c <= most and most % c == 0 and c > 1]
    return even or [c for c in found if 2 * c <= most] or found


@dataclass(frozen=True)
class Pooling:
    """Pooling of [H, W, C] tiles, `batch` times."""

    oh: int
    ow: int
    channels: int
    ih: int
    iw: int
    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    batch: int
    x_bytes: int
    out_bytes: int
    param_rows: int = 0
    table_bytes: int = 0
    kernel_costs: tuple[str, ...] = ()
    value_type: str = "i32"
    x_resident: bool = False
    out_resident: bool = False
    constants_resident: bool = False
    """Whether parameters and table are in the scratchpad."""
    takes_over: int = 0
    """Cycles of the layer that makes an input in the scratchpad just before; 0 for none."""
    hands_over: int = 0
    """Cycles of the layer that reads the result in the scratchpad next."""


@dataclass(frozen=True)
class PoolingMapping:
    """Extents of a tile: output rows, columns, channels; and the slots of what is transferred."""

    rows: int
    cols: int
    channels: int
    slots: int = 2


def pooling_bytes(p: Pooling, m: PoolingMapping) -> tuple[int, int]:
    """Bytes of a tile's input and output."""
    rows = input_extent(m.rows, p.size[0], p.strides[0], p.dilations[0])
    columns = input_extent(m.cols, p.size[1], p.strides[1], p.dilations[1])
    return rows * columns * m.channels * p.x_bytes, m.rows * m.cols * m.channels * p.out_bytes


def pooling_tiles(p: Pooling, m: PoolingMapping) -> int:
    """Tiles of the whole nest."""
    spatial = trips(p.oh, m.rows) * trips(p.ow, m.cols)
    return p.batch * spatial * trips(p.channels, m.channels)


def pooling_buffers(p: Pooling, m: PoolingMapping) -> list[Buffer]:
    """The buffers that the nest of this mapping allocates."""
    x, out = pooling_bytes(p, m)
    depth = m.slots if pooling_tiles(p, m) > 1 else 1
    found: list[Buffer] = []
    if not p.x_resident:
        found.append(Buffer("x", x, depth))
    if p.param_rows and not p.constants_resident:
        found.append(Buffer("params", p.param_rows * p.channels * 4, 1))
    if p.table_bytes and not p.constants_resident:
        found.append(Buffer("table", p.table_bytes, 1))
    if not p.out_resident:
        found.append(Buffer("out", out, depth, loaded=False))
    return found


def pooling_estimate(target: Target, p: Pooling, m: PoolingMapping) -> Estimate:
    """What a mapping costs."""
    x, out = pooling_bytes(p, m)
    taps = p.size[0] * p.size[1]
    compute = 0
    tiles = product(split(p.oh, m.rows), split(p.ow, m.cols), split(p.channels, m.channels))
    for (rows, n), (cols, k), (channels, count) in tiles:
        elements = rows * cols * channels
        cycles = reduced_cycles(
            target, elements, elements, p.kernel_costs, (x, out), p.value_type, ("alu",) * taps,
            cost.pool_cycles(target, (rows, cols, channels), p.size, p.x_bytes),
        )  # fmt: skip
        compute += cycles * n * k * count
    is_part = m.channels < p.channels or m.cols < p.ow
    moved = [] if p.x_resident else [(x, p.x_bytes)]
    moved += [] if p.out_resident else [(out, p.out_bytes)]
    transfer = sum(
        dram_cycles(target, size, m.channels * itemsize if is_part else size)
        for size, itemsize in moved
    )
    exposed = transfer if m.slots > 1 else transfer * pooling_tiles(p, m)
    compute *= p.batch
    passes, rows = trips(p.channels, m.channels), trips(p.oh, m.rows)
    if p.batch > 1:
        passes, rows = 1, p.batch * (rows if passes == 1 else 1)
    waits = sum(handover(compute, passes, rows, n) for n in (p.takes_over, p.hands_over))
    return Estimate(compute, transfer * pooling_tiles(p, m), exposed, waits)


def pooling_energy(target: Target, p: Pooling, m: PoolingMapping) -> float:
    """Dynamic energy of a mapping in pJ, with all tiles whole."""
    x, out = pooling_bytes(p, m)
    elements = m.rows * m.cols * m.channels
    costs = (*("alu",) * (p.size[0] * p.size[1]), *p.kernel_costs)
    one = energy.of_instruction(target, cost.vector(target, elements, costs, x, out))
    one += 0 if p.x_resident else energy.loaded(target, x)
    one += 0 if p.out_resident else energy.stored(target, out)
    return one * pooling_tiles(p, m)


def pooling_mappings(p: Pooling) -> Iterator[Iterator[PoolingMapping]]:
    """Families of mappings, the worse ones later: whole rows; single rows in parts; one slot."""
    channels = candidates(p.channels, min(p.channels, 16))
    yield (PoolingMapping(r, p.ow, c) for c in channels for r in candidates(p.oh))
    narrow = sorted({1, channels[-1]}, reverse=True)
    for slots in (2, 1):
        yield (PoolingMapping(1, w, c, slots) for c in narrow for w in candidates(p.ow))


@lru_cache(4096)
def search_pooling(
    target: Target, p: Pooling, capacity: int, objective: str = "latency"
) -> tuple[PoolingMapping, Estimate] | None:
    """The mapping of least estimated cycles (or energy) whose buffers fit; None when none does."""
    for family in pooling_mappings(p):
        found = [m for m in family if spm_bytes(pooling_buffers(p, m)) <= capacity]
        if found:
            best = min(found, key=lambda m: _pooling_rank(target, p, m, objective))
            return best, pooling_estimate(target, p, best)
    return None


def _pooling_rank(
    target: Target, p: Pooling, m: PoolingMapping, objective: str
) -> tuple[float, int]:
    found, tiles = pooling_estimate(target, p, m), pooling_tiles(p, m)
    price = found.in_place
    if objective == "energy":
        price = energy.price(target, pooling_energy(target, p, m), found.cycles, tiles)
    return price, tiles
