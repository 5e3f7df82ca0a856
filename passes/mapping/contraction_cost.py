"""What mappings of convolutions and matrix products cost, many of them at once.

Tiles at the edges are smaller, and their windows are cut where the input ends. So the tiles of a
mapping fall into few classes (`Cuts`), and the cost function of the array is called once for each
class, with one number of every mapping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_dialect import cost
from npu_dialect.cost import ArrayWork
from npu_dialect.passes.mapping.contraction_problem import (
    Contraction,
    ContractionMapping,
    Tile,
    Trips,
    input_bytes,
    input_extent,
    input_loads,
    input_repeats,
    itemsize,
    loop_trips,
    param_loads,
    stored_part,
    tile_bytes,
    weight_bytes,
    weight_loads,
    weight_repeats,
)
from npu_dialect.passes.mapping.contraction_taps import Columns, columns, whole_columns
from npu_dialect.passes.mapping.estimates import (
    Estimate,
    copy_cycles,
    cut_accesses,
    dram_cycles,
    whole_accesses,
)
from npu_dialect.passes.mapping.tiles import handover
from npu_dialect.passes.mapping.views import strided_run
from npu_dialect.target import Target

Numbers = npt.NDArray[np.int64]

LARGE = 8
"""A tile of weights beyond this part of the scratchpad finds no room beside the layers before: that
its layer waits for it counts."""


def estimate(target: Target, p: Contraction, m: ContractionMapping) -> Estimate:
    """What a mapping costs, by the cost functions of single instructions."""
    streamed = m.weights == "stream"
    layer = replace(
        p, x_resident=False, w_resident=False, residual_resident=False, out_resident=False,
        takes_over=0, hands_over=0, w_part=p.w_part if streamed else 1.0,
    )  # fmt: skip
    tiles = ContractionMapping(m.rows, m.cols, m.channels, m.reduction, taps=m.taps)
    compute = _array_cycles(target, layer, tiles, streamed)
    found = estimates(target, p, m, compute)
    numbers = (found.compute, found.transfer, found.exposed, found.handover)
    compute, transfer, exposed, waits = (float(np.ravel(v)[0]) for v in numbers)
    return Estimate(compute, transfer, exposed, waits, float(np.ravel(found.streamed)[0]))


@lru_cache(4096)
def _array_cycles(target: Target, p: Contraction, m: ContractionMapping, streamed: bool) -> Numbers:
    """The array's of one mapping, which differ neither with where operands lie nor with the nest;
    a search finds the same tiles again and again.
    """
    joined = np.array([m.taps == "joined"])
    return array_cycles(target, p, *extents_of(m), joined=joined, streamed=streamed)


def extents_of(m: ContractionMapping) -> tuple[Numbers, ...]:
    """The extents of one mapping, as those of many are given."""
    return tuple(np.array([e]) for e in (m.rows, m.cols, m.channels, m.reduction))


def estimates(
    target: Target,
    p: Contraction,
    m: ContractionMapping,
    compute: Any,
    size: Tile | None = None,
    n: Trips | None = None,
    known: dict[Any, Any] | None = None,
) -> Estimate:
    """What mappings cost whose array cycles are known. The extents of `m` are arrays. `size` and
    `n` are given where they are known; `known` keeps what is the same for mappings of these extents
    and other levels of loading.
    """
    size, n = size or tile_bytes(p, m), n or loop_trips(p, m)
    known = {} if known is None else known
    parts = (
        (_input_cycles, (m.x, m.order)), (_weight_cycles, (m.weights, m.order)),
        (_output_cycles, ()),
    )  # fmt: skip
    for each, decides in parts:
        if (each, *decides) not in known:
            known[each, *decides] = each(target, p, m, n)
    (x, first), (w, first_w), (out, last, residual) = (known[each, *d] for each, d in parts)
    moved = x + w + out + residual
    streamed = compute if m.weights == "stream" else 0.0
    waits = _handover(p, m, n, np.maximum(compute, moved + streamed))
    is_large = size.w * (n.reduction if m.weights != "slice" else 1) * LARGE
    waits = waits + first_w * (is_large > target.memories["spm"].size)
    exposed = first + last if m.slots > 1 else moved
    if m.weights == "stream":
        exposed = exposed + stream_latency(target)
    return Estimate(compute, moved, exposed, waits, streamed)


def _output_cycles(
    target: Target, p: Contraction, m: ContractionMapping, n: Trips
) -> tuple[Any, Any, Any]:
    """Cycles of all stores of results, of the last one, and of all loads of a residual."""
    out = last = residual = 0.0
    if not p.out_resident:
        out = copy_cycles(target, _output_bytes(target, p, m, itemsize(p.out_type)), n.tiles)
        last = out / n.tiles
    if p.residual_type and not p.residual_resident:
        occupied = _output_bytes(target, p, m, itemsize(p.residual_type))
        residual = copy_cycles(target, occupied, n.tiles)
    return out, last, residual


def _output_bytes(target: Target, p: Contraction, m: ContractionMapping, each: int) -> Any:
    """What all tiles of the result occupy dram for, in bytes, at so many bytes an element."""
    pixels = p.batch * p.oh * p.ow
    if p.out_strides is not None:
        run = strided_run(p.out_strides, (m.rows, m.cols, m.channels)) * each
        return pixels * p.groups * p.oc * each / run * whole_accesses(target, run)
    cut = cut_accesses(target, p.oc, m.channels, each) * pixels * p.groups
    run = np.where(m.cols < p.ow, m.cols, m.rows * m.cols) * m.channels * each
    whole = pixels * p.oc * each / run * whole_accesses(target, run)
    return np.where(m.channels < p.oc * p.groups, cut, whole)


def _input_cycles(
    target: Target, p: Contraction, m: ContractionMapping, n: Trips
) -> tuple[Any, Any]:
    """Cycles of all loads of activations, and of the first one."""
    if p.x_resident:
        return 0.0, 0.0
    loads = input_loads(p, m, n)
    each = itemsize(p.x_type)
    if m.x == "held":
        whole = input_bytes(p)
        run = np.minimum(_in_a_row(p, p.ih, p.iw) * (whole // (p.batch * p.ih * p.iw)), whole)
        if p.x_strides is not None:
            channels = whole // (p.batch * p.ih * p.iw * each)
            run = _strided_input(p, p.ih, p.iw, channels) * each
        total = dram_cycles(target, whole, run, loads)
        return total, total / loads
    depth = m.channels if p.depthwise else m.reduction if m.x == "slice" else p.ic
    channels = p.oc if p.depthwise else p.ic * p.groups
    height, width = _extents(p)
    rows, cols = height.total(m.rows), width.total(m.cols)
    pixels = p.batch * rows * cols * input_repeats(p, m, n)
    in_rows, in_cols = (
        np.minimum(input_extent(tile, k, s, d), most)
        for tile, k, s, d, most in (
            (m.rows, p.kh, p.strides[0], p.dilations[0], p.ih),
            (m.cols, p.kw, p.strides[1], p.dilations[1], p.iw),
        )
    )
    run = _in_a_row(p, in_rows, in_cols) * depth * each
    if p.x_strides is not None:
        run = _strided_input(p, in_rows, in_cols, depth) * each
    whole = pixels * channels * each / run * whole_accesses(target, run)
    if p.x_strides is not None:
        total = copy_cycles(target, whole, loads)
        return total, total / loads
    cut = cut_accesses(target, p.oc if p.depthwise else p.ic, depth, each) * pixels * p.groups
    total = copy_cycles(target, np.where(depth < channels, cut, whole), loads)
    return total, total / loads


def copied_input(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """Bytes of all copies of activations; their windows end where the input does."""
    if p.x_resident:
        return 0
    if m.x == "held":
        return input_bytes(p)
    height, width = _extents(p)
    channels = p.oc if p.depthwise else p.ic * p.groups
    pixels = p.batch * height.total(m.rows) * width.total(m.cols) * input_repeats(p, m, n)
    return pixels * channels * itemsize(p.x_type)


def _strided_input(p: Contraction, rows: Any, cols: Any, channels: Any) -> Any:
    """Elements in a row of a part of an input that lies within another tensor."""
    assert p.x_strides is not None
    apart = [s * step for s, step in zip(p.x_strides, (*p.steps, 1), strict=True)]
    return strided_run(apart, (rows, cols, channels))


def _in_a_row(p: Contraction, rows: Any, cols: Any) -> Any:
    """Pixels of so many rows and columns of the input that lie next to each other."""
    if p.steps[1] > 1:
        return 1
    if p.steps[0] > 1:
        return cols
    return np.where(cols < p.iw, cols, rows * cols)


def _weight_cycles(
    target: Target, p: Contraction, m: ContractionMapping, n: Trips
) -> tuple[Any, Any]:
    """Cycles of all loads of weights, parameters and table, and of the first of weights."""
    total, first = 0.0, 0.0
    is_streamed = m.weights == "stream"
    if not p.w_resident and not is_streamed:
        loads = weight_loads(p, m, n)
        occupied = _weight_bytes(target, p, m) * weight_repeats(p, m, n)
        total = copy_cycles(target, occupied, loads, constants=p.constant_weights)
        first = total / loads
    if p.constants_resident:
        return total, first
    if p.param_rows and not is_streamed:
        loads = param_loads(p, m, n)
        every = p.param_rows * p.oc * p.groups * 4
        held = m.weights == "held"
        repeats = 1 if held or m.order != "rows_outer" else p.batch * n.spatial
        rows = p.param_rows * p.groups
        cut = rows * cut_accesses(target, p.oc, m.channels, 4)
        is_cut = (m.channels < p.oc * p.groups) & (not held)
        occupied = np.where(is_cut, cut, whole_accesses(target, every))
        total = total + copy_cycles(target, occupied * repeats, loads, constants=True)
    if p.table_bytes:
        total = total + dram_cycles(target, p.table_bytes, p.table_bytes, constants=True)
    return total, first


def _weight_bytes(target: Target, p: Contraction, m: ContractionMapping) -> Any:
    """What all weights occupy dram for, in bytes, loaded once."""
    each: float = itemsize(p.w_type) * stored_part(p)
    total: float = weight_bytes(p) * stored_part(p)
    if m.weights == "held":
        return whole_accesses(target, total)
    per_channel = p.kh * p.kw * p.depth
    if p.w_strides is not None:
        run = strided_run(p.w_strides, (m.reduction, m.channels)) * each
        return total / run * whole_accesses(target, run)
    if not p.constant_weights:
        cut = cut_accesses(target, p.oc, m.channels, each) * (total // (p.oc * each))
        return np.where(m.channels < p.oc * p.groups, cut, total)
    whole = (total // (per_channel * p.oc * each)) * cut_accesses(
        target, per_channel * p.oc, per_channel * m.channels, each
    )
    if m.weights != "slice":
        return whole
    cut = cut_accesses(target, p.depth, m.reduction, each) * (total // (p.depth * each))
    return np.where(m.reduction < p.depth, cut, whole)


def _handover(p: Contraction, m: ContractionMapping, n: Trips, cycles: Any) -> Any:
    """Cycles that the layer and its neighbours wait for each other's rows."""
    passes = n.channels if m.order == "weights_outer" else 1
    rows: Any = n.rows
    if p.batched_weights:  # heads: what comes after them reads a row of all
        passes, rows = 1, np.where(passes == 1, rows, 1)
    elif p.batch > 1:  # the batches are the rows, each of which takes all passes
        passes, rows = 1, p.batch * np.where(passes == 1, rows, 1)
    else:
        passes = passes * p.groups
    waits = 0.0
    for neighbour in (p.takes_over, p.hands_over):
        if neighbour:
            waits = waits + handover(cycles, passes, rows, neighbour)
    return waits


# --- the array ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuts:
    """How an extent of the result is cut, for each of many sizes of tiles: classes of tiles, as
    arrays [class, size] of outputs of a tile, inputs of it, and how many tiles are like that.
    """

    sizes: Numbers
    outputs: Numbers
    inputs: Numbers
    counts: Numbers

    @staticmethod
    def of(extent: Extent, tiles: Numbers) -> Cuts:
        """The cuts for these sizes of tiles; equal ones are counted once."""
        sizes = np.flatnonzero(np.bincount(tiles))
        found = [sorted(extent.classes(t).items(), reverse=True) for t in sizes.tolist()]
        table = np.zeros((3, max(map(len, found)), len(sizes)), np.int64)
        table[:2] = 1
        for k, classes in enumerate(found):
            for c, ((outputs, inputs), count) in enumerate(classes):
                table[:, c, k] = outputs, inputs, count
        return Cuts(sizes, *table)

    def per_tile(self, tiles: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        """By class: outputs, inputs and count for each of `tiles`."""
        places = np.searchsorted(self.sizes, tiles)
        for row in zip(self.outputs, self.inputs, self.counts, strict=True):
            outputs, inputs, counts = (values[places] for values in row)
            yield outputs, inputs, counts


@dataclass(frozen=True)
class Extent:
    """A dimension of a window: outputs, inputs, and how the kernel goes over them."""

    outputs: int
    inputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    @lru_cache(1 << 16)  # noqa: B019 - an extent is six numbers
    def classes(self, tile: int) -> Counter[tuple[int, int]]:
        """(outputs, inputs) of the tiles, and how many are like that."""
        starts = np.arange(0, self.outputs, tile)
        first = starts * self.stride - self.pad
        end = first + input_extent(tile, self.kernel, self.stride, self.dilation)
        inputs = np.minimum(end, self.inputs) - np.maximum(first, 0)
        outputs = np.minimum(tile, self.outputs - starts)
        return Counter(zip(outputs.tolist(), np.maximum(inputs, 1).tolist(), strict=True))

    @lru_cache(1 << 16)  # noqa: B019
    def _inputs(self, tile: int) -> int:
        return sum(inputs * count for (_, inputs), count in self.classes(tile).items())

    def total(self, tiles: Any) -> Numbers:
        """Inputs of all tiles together, for each size of tile."""
        table = np.zeros(np.max(tiles) + 1, np.int64)
        for size in np.flatnonzero(np.bincount(np.ravel(tiles))).tolist():
            table[size] = self._inputs(size)
        return table[tiles]


def _extents(p: Contraction) -> tuple[Extent, Extent]:
    return (
        Extent(p.oh, p.ih, p.kh, p.strides[0], p.dilations[0], p.pads[0]),
        Extent(p.ow, p.iw, p.kw, p.strides[1], p.dilations[1], p.pads[1]),
    )


def array_cycles(
    target: Target,
    p: Contraction,
    rows: Numbers,
    cols: Numbers,
    channels: Numbers,
    reduction: Numbers,
    joined: npt.NDArray[np.bool_] | None = None,
    streamed: bool = False,
) -> Numbers:
    """Cycles that the array is busy with the layer cut into tiles of these extents; `joined` says
    for which the taps of a kernel row are one sum, `streamed` whether it reads weights and
    parameters from dram.
    """
    extents = rows, cols, channels, reduction
    if streamed:
        parts = whole_columns(p)
        found = over_nests(target, p, extents, over_streams(p, _cycles), joined, parts)
    else:
        found = over_nests(target, p, extents, _cycles, joined)
    return found.astype(np.int64)


Measure = Callable[[Target, ArrayWork], Any]
"""A number of an array instruction, as an array where the numbers of the instruction are ones."""


def over_streams(p: Contraction, measure: Measure) -> Measure:
    """A number of array instructions that read weights and parameters from dram."""

    def measured(target: Target, work: ArrayWork) -> Any:
        return measure(target, streaming(target, p, work))

    return measured


def streaming(target: Target, p: Contraction, work: ArrayWork) -> ArrayWork:
    """An instruction of the layer that reads weights and parameters from dram."""
    rows = p.param_rows * whole_accesses(target, work.out_channels * 4)
    return replace(
        work,
        dram_bytes=whole_accesses(target, np.ceil(work.weight_bytes * stored_part(p))) + rows,
        decoded_bytes=0 if p.w_codec is None else work.weight_bytes,
        weight_bytes=0,
        side_bytes=work.side_bytes - p.param_rows * work.out_channels * 4,
    )


def stream_latency(target: Target) -> int:
    """Cycles before the constants that an instruction reads from dram arrive."""
    return target.memories["dram"].latency + target.dma.startup


def over_nests(
    target: Target,
    p: Contraction,
    extents: tuple[Numbers, ...],
    measure: Measure,
    joined: npt.NDArray[np.bool_] | None = None,
    parts: Sequence[Columns] | None = None,
) -> npt.NDArray[np.float64]:
    """As `over_tiles`, with the taps of kernel rows joined where `joined` says so, in these parts
    (by default all that meet the same taps together).
    """
    if joined is None or not joined.any():
        return over_tiles(target, p, extents, measure)
    found = np.zeros(len(joined))
    apart, whole = np.flatnonzero(~joined), np.flatnonzero(joined)
    if apart.size:
        found[apart] = over_tiles(target, p, tuple(e[apart] for e in extents), measure)
    rows, _, channels, _ = (e[whole] for e in extents)
    for part in columns(p) if parts is None else parts:
        ow, ic = (np.full(len(whole), n) for n in (part.problem.ow, part.problem.ic))
        found[whole] += over_tiles(target, part.problem, (rows, ow, channels, ic), measure)
    return found


def over_tiles(
    target: Target, p: Contraction, extents: tuple[Numbers, ...], measure: Measure
) -> npt.NDArray[np.float64]:
    """The sum of a number over all array instructions of the layer cut into tiles of these extents
    (rows, columns, channels, reduction).
    """
    rows, cols, channels, reduction = extents
    height, width = (
        list(Cuts.of(e, t).per_tile(t)) for e, t in zip(_extents(p), (rows, cols), strict=True)
    )
    depth = list(Cuts.of(Extent(p.oc, p.oc), channels).per_tile(channels))
    which: list[Numbers] = []
    columns: list[tuple[Numbers, ...]] = []
    for (r, in_r, n_r), (c, in_c, n_c), (o, _, n_o) in product(height, width, depth):
        count = n_r * n_c * n_o
        used = np.flatnonzero(count)
        which.append(used)
        columns.append(tuple(n[used] for n in (count, r, c, o, in_r * in_c)))
    count, *tile = (np.concatenate(n) for n in zip(*columns, strict=True))
    mapping = np.concatenate(which)
    found = count * _over_steps(target, p, _Tile(*tile), reduction[mapping], measure)
    total: Any = np.bincount(mapping, found, len(rows))
    return total * (p.batch * p.groups)


@dataclass(frozen=True)
class _Tile:
    """Tiles of the result of many mappings, and the pixels of input that they need."""

    rows: Numbers
    cols: Numbers
    channels: Numbers
    pixels: Numbers


def _over_steps(
    target: Target, p: Contraction, tile: _Tile, reduction: Numbers, measure: Measure
) -> Any:
    """The sum over the instructions of a tile: one, or one for each part of the reduction."""
    steps = np.ones_like(reduction) if p.depthwise else -(-p.ic // reduction)
    many = np.flatnonzero(steps > 1)
    outputs = tile.rows * tile.cols * tile.channels
    sums = np.where(steps > 1, outputs * itemsize(p.sum_type), 0)
    last = replace(
        _work(p, tile, reduction if p.depthwise else p.ic - (steps - 1) * reduction),
        partial_reads=sums,
        output_bytes=outputs * itemsize(p.out_type),
        side_bytes=p.param_rows * tile.channels * 4 + p.table_bytes
        + (outputs * itemsize(p.residual_type) if p.residual_type else 0),
        kernel_costs=p.kernel_costs,
    )  # fmt: skip
    found = measure(target, last)
    if many.size:
        tile = _Tile(tile.rows[many], tile.cols[many], tile.channels[many], tile.pixels[many])
        first = replace(_work(p, tile, reduction[many]), partial_writes=sums[many])
        opening = measure(target, first)
        middle = replace(first, partial_reads=sums[many])
        middle.walks.update(first.walks)  # sums make no difference to them
        between = measure(target, middle) * (steps[many] - 2)
        found[many] = opening + between + found[many]
    return found


def _work(p: Contraction, tile: _Tile, reduction: Numbers) -> ArrayWork:
    depth: Any = tile.channels if p.depthwise else reduction
    weights = p.kh * p.kw * tile.channels * (1 if p.depthwise else reduction)
    return ArrayWork(
        dtype=p.x_type,
        passes=cost.weight_passes(p.w_type),
        positions=tile.rows * tile.cols,  # type: ignore[arg-type]
        taps=p.kh * p.kw,
        in_channels=1 if p.depthwise else reduction,  # type: ignore[arg-type]
        out_channels=tile.channels,  # type: ignore[arg-type]
        input_bytes=tile.pixels * depth * itemsize(p.x_type),
        weight_bytes=weights * itemsize(p.w_type),  # type: ignore[arg-type]
        output_bytes=0,
        depthwise=p.depthwise,
        has_residual=p.residual_type is not None,
        rows=tile.rows,  # type: ignore[arg-type]
        kernel=(p.kh, p.kw),
        strides=p.strides,
        dilations=p.dilations,
        input_pixel=(p.pixel or (p.oc if p.depthwise else p.ic * p.groups)) * itemsize(p.x_type),
        output_pixel=p.oc * p.groups * itemsize(p.out_type),
        made=p.made,
    )


def _cycles(target: Target, work: ArrayWork) -> Any:
    """Cycles of array instructions, as `cost.array` counts them."""
    fill = cost.mac_cycles(target, work)[0]
    stages = cost.array_stages(target, work)
    busy: Any = 0
    for cycles in stages.values():
        busy = np.maximum(busy, cycles)
    return np.asarray(busy).astype(np.int64) + fill
