"""The blocks in which an array of kind `ethos_u55` or `ethos_u85` goes over the result of one
instruction.

The instruction does not name its block: the array takes the one with which it is done first. Of
every number of rows and of channels, and of every way to share the banks out between inputs and
sums, the widest block that the banks hold is tried.

The input of a block is fetched for every block, that of a whole depth of channels for every group
of output channels; weights and scales are fetched for every block of positions, from the scratchpad
or from dram (as Vela's `weightsRefetch` counts). Runs shorter than the memory's burst pay for a
whole one, as `cycles.in_bursts` counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npu_dialect.ethos_u.cycles import (
    CONVOLUTION,
    DEPTHWISE,
    FINE,
    SCALE_BYTES,
    SUB_KERNEL,
    Block,
    Extents,
    Operation,
    block_cycles,
    in_bursts,
    rounded_down,
    rounded_up,
    sub_kernels,
    where,
)
from npu_dialect.target import Blocks, Memory, Target

if TYPE_CHECKING:
    from npu_dialect.cost import ArrayWork

Numbers = npt.NDArray[Any]

ITEM_BITS = {"i8": 8, "u8": 8, "i16": 16}
"""Bits of an element of the types that the array multiplies."""
WIDEST = 64
"""Bytes of a pixel that the output stage writes at once at most."""


@dataclass(frozen=True)
class Walk:
    """What the stages of an instruction take, and what it moves. Numbers, or an array with one for
    each of many instructions.
    """

    array: Any
    """Cycles of multiplying, over all blocks."""
    output: Any
    """Cycles of the output stage, over all blocks."""
    fill: Any
    """Cycles of the first load, of the shorter of both stages on one block and of the last store:
    what no other block hides.
    """
    port: Any
    """Cycles of the scratchpad's port, with the first load and the last store."""
    fetched: Any
    """Bytes of activations, weights and scales that are read from the scratchpad."""
    again: Any
    """How often weights and scales are read: blocks of positions."""
    block: tuple[int, ...] = ()
    """Rows, columns and channels of the block; of many instructions none."""


def walk(target: Target, work: ArrayWork) -> Walk:
    """How the array goes over the result of an instruction."""
    found = work.walks.get(target.digest)
    if found is None:
        many = {n: v for n in NUMBERS if np.ndim(v := getattr(work, n))}
        found = _many(target, work, many) if many else _one(target, _alone(work))
        work.walks[target.digest] = found
    return found


NUMBERS = (
    "rows", "out_channels", "positions", "in_channels", "input_pixel", "output_pixel",
    "weight_bytes", "output_bytes", "side_bytes", "dram_bytes", "decoded_bytes",
)  # fmt: skip
"""The fields of an instruction that may be arrays, and that its walk depends on."""
AT_ONCE = 1024
"""Instructions that are tried with all blocks at once: what fits a processor's cache."""
FEW = 8
"""Up to so many are looked up one by one."""


def _alone(work: ArrayWork) -> ArrayWork:
    """An instruction without what its walk does not depend on."""
    looks_up = ("lookup",) if "lookup" in work.kernel_costs else ()
    return replace(
        work, input_bytes=0, partial_reads=0, partial_writes=0, passes=1, kernel_costs=looks_up
    )


@lru_cache(4096)
def _one(target: Target, work: ArrayWork) -> Walk:
    """The walk of an instruction whose numbers are no arrays."""
    rows = np.array([work.rows], np.float64)
    *numbers, high, wide, deep = (int(n[0]) for n in _best(target, work, {"rows": rows}))
    return Walk(*numbers, block=(high, wide, deep))


def _many(target: Target, work: ArrayWork, numbers: dict[str, Any]) -> Walk:
    """The walks of instructions of which some numbers are arrays."""
    numbers = {"rows": work.rows, **numbers}
    columns = np.broadcast_arrays(*(np.asarray(n, np.int64) for n in numbers.values()))
    shape = columns[0].shape
    which, places = _distinct([c.ravel() for c in columns])
    table = dict(zip(numbers, (c.ravel()[which] for c in columns), strict=True))
    found = _few(target, work, table) if len(which) <= FEW else _all(target, work, table)
    array, output, fill, port, fetched, again = (n[places].reshape(shape) for n in found)
    return Walk(array, output, fill, port, fetched, again)


def _few(target: Target, work: ArrayWork, table: dict[str, Numbers]) -> list[Numbers]:
    """One after the other, as the same ones are asked for again and again."""
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    each = [_one(target, _alone(replace(work, **dict(zip(table, r, strict=True))))) for r in rows]
    return [np.array([getattr(w, f.name) for w in each]) for f in fields(Walk)[:-1]]


def _all(target: Target, work: ArrayWork, table: dict[str, Numbers]) -> list[Numbers]:
    """Many at once."""
    exact = {name: column.astype(np.float64) for name, column in table.items()}
    count = len(next(iter(exact.values())))
    parts = [
        _best(target, work, {name: c[k : k + AT_ONCE] for name, c in exact.items()})[:-3]
        for k in range(0, count, AT_ONCE)
    ]
    return [np.concatenate(n) for n in zip(*parts, strict=True)]


def _distinct(columns: list[Numbers]) -> tuple[Numbers, Numbers]:
    """The rows of a table where each is met in order, and which one of these each is."""
    keys = list(_keys(columns))
    order = np.lexsort(keys[::-1]) if len(keys) > 1 else np.argsort(keys[0])
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = np.any([(k := key[order])[1:] != k[:-1] for key in keys], axis=0)
    places = np.empty(len(order), np.int64)
    places[order] = np.cumsum(is_new) - 1
    return order[is_new], places


def _keys(columns: list[Numbers]) -> Iterator[Numbers]:
    """Few columns by which rows come in the same order as by all."""
    key, span = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        low = int(column.min())
        values = int(column.max()) - low + 1
        if span * values >= 1 << 62:
            yield key
            key, span = np.zeros(len(column), np.int64), 1
        if values > 1:
            key = key * values + (column - low)
            span *= values
    yield key


def _best(target: Target, work: ArrayWork, numbers: dict[str, Numbers]) -> list[Numbers]:
    """The numbers of a `Walk` with the best of the blocks, and its rows, columns and channels, for
    each of many instructions: `numbers` has an array of floats for each that is not the same.
    """
    unit, memory = target.array.blocks, target.memories["spm"]
    assert unit is not None, "checked where targets are read"
    block, which = _blocks(target, replace(work, **numbers))
    work = replace(work, **{k: n[which] for k, n in numbers.items()})
    op = operation(work)
    runs = _runs(unit, op, block, work)
    each = output_cycles(unit, work)
    latency = where(work.dram_bytes > 0, target.memories["dram"].latency, memory.latency)
    one = block_cycles(unit, op, block, memory, each, scale_latency=latency, runs=runs)
    multiplied, written = np.maximum(one.array, one.commands), np.maximum(one.output, one.commands)
    array, output = np.ceil(multiplied * one.count), np.ceil(written * one.count)
    fill = np.ceil(np.minimum(multiplied, written)) + one.load + one.store
    inside = block.output.within(op.output)
    parts = op.output.parts(inside)
    fetched, occupied = _fetched(memory, op, block, parts, work, runs[0])
    stored = in_bursts(memory, work.output_bytes, runs[1])
    port = np.ceil((occupied + stored) / memory.ports["mxu"])
    again = parts.positions
    total = np.maximum(np.maximum(array, output) + fill, port)
    total = np.maximum(total, _streamed(target, work) * again)
    best = _least(total + fetched * 1e-9, which)
    extents = inside.rows, inside.cols, inside.channels
    found = (array, output, fill, port, fetched, again, *extents)
    return [n[best].astype(np.int64) for n in found]


def _least(cost: Numbers, which: Numbers) -> Numbers:
    """The first of those that cost the least, for each group of equal numbers that follow each
    other.
    """
    begins = np.flatnonzero(np.diff(which, prepend=-1))
    least = np.flatnonzero(cost == np.minimum.reduceat(cost, begins)[which])
    return least[np.searchsorted(which[least], np.arange(len(begins)))]


# --- what is computed -----------------------------------------------------------------------------


def operation(work: ArrayWork) -> Operation:
    """What the instruction computes. A column of positions goes as a row; padding counts as input:
    blocks are loaded with it.
    """
    rows: Any = work.rows
    cols: Any = rounded_down(work.positions, rows)
    (kh, kw), strides = work.kernel or (1, work.taps), work.strides
    if (kh, kw) == strides == (1, 1):
        is_column = cols == 1
        rows, cols = where(is_column, 1, rows), where(is_column, rows, cols)
    channels = work.out_channels
    inputs = channels if work.depthwise else work.in_channels
    taken = Extents(
        (rows - 1) * strides[0] + (kh - 1) * work.dilations[0] + 1,
        (cols - 1) * strides[1] + (kw - 1) * work.dilations[1] + 1,
        inputs,
    )
    bits = ITEM_BITS[work.dtype]
    kind = DEPTHWISE if work.depthwise else CONVOLUTION
    return Operation(kind, taken, Extents(rows, cols, channels), (kh, kw), bits, bits)


def output_cycles(unit: Blocks, work: ArrayWork) -> float:
    """Cycles of an element in the output stage: the slowest of what is done with it."""
    each = unit.output_cycles[work.dtype]
    if work.has_residual:
        each = max(each, unit.residual_cycles)
    if "lookup" in work.kernel_costs:
        each = max(each, unit.lookup_cycles)
    return each


# --- the blocks that are tried --------------------------------------------------------------------

ROWS = (2, 4, 8, 16, 32, 64, 128)
CHANNELS = (8, 16, 32, 64, 128, 256, 512, 1024)
LEAST = np.array([[ROWS[0] + 1], [CHANNELS[0] + 1]])
"""Above the smallest. Of those that cover the result the smallest one is tried."""


@dataclass(frozen=True)
class Banks:
    """One way to share the banks out: bytes of a block's input, and elements of its sums."""

    input_bytes: int
    sums: int


def shares(unit: Blocks, dtype: str) -> tuple[Banks, ...]:
    """All ways in which both have some; half of what each has holds the next block."""
    if unit.buffers:
        inputs, sums = unit.buffers
        return (Banks(inputs // 2, sums // 2 * 8 // unit.sum_bits[dtype]),)
    granule, found = unit.sum_granule[dtype], list[Banks]()
    for sums in range(granule, unit.banks, granule):
        inputs = (unit.banks - sums) // unit.input_granule * unit.input_granule
        if inputs:
            elements = sums // 2 * unit.bank * 8 // unit.sum_bits[dtype]
            found.append(Banks(inputs // 2 * unit.bank, elements))
    return tuple(found)


@lru_cache
def _candidates(target: Target, dtype: str) -> Numbers:
    """Rows, channels, bytes of inputs and elements of sums of the blocks that are tried."""
    unit = target.array.blocks
    assert unit is not None, "checked where targets are read"
    most_rows, _, most_channels = unit.largest
    return np.array(
        [
            (rows, channels, banks.input_bytes, banks.sums)
            for banks in shares(unit, dtype)
            for rows in ROWS if rows <= most_rows
            for channels in CHANNELS if channels <= most_channels
        ],
        np.float64,
    ).T  # fmt: skip


def _blocks(target: Target, work: ArrayWork) -> tuple[Block, Numbers]:
    """The blocks that are tried, one after the other, and the numbers of their instructions."""
    op = operation(work)
    tried = _candidates(target, work.dtype)
    assert target.array.blocks is not None, "checked where targets are read"
    widest_allowed = target.array.blocks.largest[1]
    large = np.array([[np.max(op.output.rows)], [np.max(op.output.channels)]])
    tried = tried[:, (tried[:2] < np.maximum(2 * large, LEAST)).all(0)]
    rows, channels, input_bytes, sums = tried[..., None]  # [block, instruction]
    covers = (rows < np.maximum(2 * op.output.rows, LEAST[0])) & (
        channels < np.maximum(2 * op.output.channels, LEAST[1])
    )
    if op.kernel[0] == 1:
        rows = where(op.output.rows == 1, 1, rows)
    in_parts, depth = _traversal(target.array.blocks, op, channels)
    each = rounded_up(depth * op.bits, 64) * 8
    reach = [min((k - 1) * d + 1, SUB_KERNEL)
             for k, d in zip(op.kernel, work.dilations, strict=True)]  # fmt: skip
    in_rows = _even((rows - 1) * work.strides[0] + reach[0])
    widest = rounded_down(input_bytes, 2 * in_rows * each) * 2 - reach[1]
    widest = rounded_down(widest, work.strides[1]) + 1
    widest = np.minimum(np.minimum(widest, sums / (rows * channels)), widest_allowed)
    cols = np.floor(widest / 2) * 2
    fits = (cols >= 2) & covers
    cols = np.maximum(cols, 2)
    parts = rounded_up(op.output.cols, cols)
    cols = np.minimum(cols, _even(rounded_up(op.output.cols, parts)))
    once = _once(cols, fits, len(shares(target.array.blocks, work.dtype)))
    which, number = np.nonzero(once.T)
    every = rows, cols, channels, in_rows, depth, in_parts
    rows, cols, channels, in_rows, depth, in_parts = (_at(e, number, which) for e in every)
    in_cols = _even((cols - 1) * work.strides[1] + reach[1])
    return Block(Extents(rows, cols, channels), Extents(in_rows, in_cols, depth), in_parts), which


def _once(cols: Numbers, fits: Numbers, ways: int) -> Numbers:
    """The blocks that fit, without those that the way to share banks out before has too, for so
    many ways; the first one where none fits.
    """
    cols, found = (n.reshape(ways, -1, n.shape[-1]) for n in (cols, fits.copy()))
    found[1:] &= ~(found[:-1] & (cols[1:] == cols[:-1]))
    found[0, 0] |= ~fits.any(axis=0)
    return found.reshape(fits.shape)


def _at(numbers: Any, block: Numbers, instruction: Numbers) -> Any:
    """The numbers of these blocks and instructions: of a table, [block, instruction] or [block, 1],
    of a row with one for each instruction, or of a number.
    """
    if np.ndim(numbers) == 2:
        return numbers[block, 0] if numbers.shape[1] == 1 else numbers[block, instruction]
    return numbers[instruction] if np.ndim(numbers) else numbers


def _even(number: Any) -> Any:
    return rounded_up(number, 2) * 2


def _traversal(unit: Blocks, op: Operation, channels: Numbers) -> tuple[Any, Any]:
    """Whether kernels are taken in parts, and how many input channels a block has: what takes the
    fewest steps; on Ethos-U85 what fills more of them.
    """
    if op.kind == DEPTHWISE:
        return False, channels + 0 * op.output.channels
    whole = rounded_up(op.input.channels, 8) * 8
    if unit.depth == FINE:
        in_parts = _fills(op)
        return in_parts, np.minimum(whole, where(in_parts, 16, FINE)) + 0 * channels
    deepest = 16 if op.bits == 16 else 32
    elements = list(sub_kernels(op.kernel))
    by_depth = sum(elements) * rounded_up(op.input.channels, deepest)
    parts = sum(-(-e // (2 if op.bits == 16 else 4)) for e in elements)
    in_parts = parts * rounded_up(op.input.channels, 8) <= by_depth
    return in_parts, np.minimum(whole, where(in_parts, 16, deepest)) + 0 * channels


def _fills(op: Operation) -> Any:
    """Whether parts of 4 or 5 taps by 16 channels are filled no less than 64 channels by one tap,
    as Vela estimates it.
    """
    taps, channels = op.kernel[0] * op.kernel[1], op.input.channels
    in_parts = (
        channels / (rounded_up(channels, 16) * 16) * (taps / (taps // 5 * 5 + max(taps % 5, 2)))
    )
    return in_parts >= channels / (rounded_up(channels, FINE) * FINE)


# --- what is moved --------------------------------------------------------------------------------


def _runs(unit: Blocks, op: Operation, block: Block, work: ArrayWork) -> tuple[Any, Any]:
    """Bytes next to each other of a block of the input and of the result, which lie pixel after
    pixel with all channels. The output stage writes some channels of a pixel at a time, but those
    of many pixels where there are no others.
    """
    each = op.bits // 8
    inputs, outputs = block.input.channels * each, block.output.channels * each
    apart: Any = work.input_pixel
    apart = where(apart == 0, op.input.channels * each, apart)
    read = where(apart == inputs, block.input.cols * inputs, inputs)
    apart = work.output_pixel
    apart = where(apart == 0, op.output.channels * each, apart)
    is_whole = (apart == outputs) & (block.output.channels <= unit.written)
    piece = np.minimum(np.minimum(WIDEST, unit.written * unit.cores * each), outputs)
    return read, where(is_whole, block.output.cols * outputs, piece)


def _fetched(
    memory: Memory, op: Operation, block: Block, blocks: Extents, work: ArrayWork, run: Any
) -> tuple[Any, Any]:
    """(bytes that are read, bytes that the port is occupied for); the result has so many blocks."""
    again = 1 if op.kind == DEPTHWISE else blocks.channels
    count = sum(1 for _ in sub_kernels(op.kernel))
    pixels = block.input.within(op.input).positions * blocks.positions * again * count
    inputs = pixels * op.input.channels * (op.bits // 8)
    scales = SCALE_BYTES * op.output.channels * (blocks.positions - 1) * (work.dram_bytes == 0)
    fixed = work.weight_bytes * blocks.positions + scales + work.side_bytes
    return inputs + fixed, in_bursts(memory, inputs, run) + fixed


def _streamed(target: Target, work: ArrayWork) -> Any:
    """Cycles in which constants come from dram once."""
    port = target.memories["dram"].ports.get("mxu")
    if port is None:
        return 0
    decoder = target.dma.decoded_bytes or 1.0
    return np.maximum(work.dram_bytes / port, work.decoded_bytes / decoder)
