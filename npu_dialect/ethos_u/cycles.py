"""The array of Arm's Ethos-U55, U65 and U85: cycles of an operation that goes over its result in
blocks, as Arm Vela 5.2.0 counts them (regor/architecture/ethosu55/ethos_u55_performance.cpp).

A block of the result is computed from a block of the input, both in buffers of banks. It is made of
micro-blocks, 2 x 2 positions x 8 channels, each of which takes 4 cycles at a time:

    convolution, depth first    one tap, 32 input channels (16 of int16)
    convolution, part kernel    4 taps (2 of int16), 8 input channels
    depthwise                   4 taps (twice the cycles for int16)
    pooling                     one tap a cycle, at least 4, times 4 (8 for int16)

Kernels go in sub-kernels of 8 x 8. The weights of a micro-block's channels take 32 cycles to come,
in which a block of fewer than 8 positions of micro-blocks waits.

Ethos-U85 (regor/architecture/ethosu85/ethos_u85_performance.cpp) has larger micro-blocks of three
shapes, of which a convolution takes the one that wastes the fewest results; depth first, a tap of
up to 64 input channels takes a cycle for every 8 of them (twice as many for int16).

The output stage works on a block while the next one is computed; the slower of both decides, and
commands take a quarter of all.

Sizes of operations and blocks may be numpy arrays, and then so are the cycles. Arrays of floats,
which are divided in a tenth of the time of integers, hold whole numbers exactly up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from npu_dialect.target import Blocks, Memory

CONVOLUTION, DEPTHWISE, POOLING, SUM = "convolution", "depthwise", "pooling", "sum"
"""The kinds of operation. A matrix product is a convolution; SUM adds up the channels."""

SUB_KERNEL = 8
"""Rows and columns of the kernel that are taken at once."""
STEP = 4
"""Cycles of a micro-block."""
STEP_WEIGHTS = 32
"""Weights of a channel in a micro-block, all of which are decoded in the meantime."""
FINE = 64
"""Input channels of a block, where a step takes a cycle for every `DEPTH` of them."""
DEPTH = 8
"""Input channels that a micro-block takes at once."""
SCALE_BYTES = 10
"""Of a channel: bias, multiplier and shift."""
COMMANDS = 4
"""Parts of the cycles of a block that its commands take one of."""


@dataclass(frozen=True)
class Extents:
    """Rows, columns and channels."""

    rows: Any
    cols: Any
    channels: Any

    @property
    def positions(self) -> Any:
        return self.rows * self.cols

    @property
    def elements(self) -> Any:
        return self.rows * self.cols * self.channels

    def within(self, other: Extents) -> Extents:
        """What of it lies inside of other extents."""
        return Extents(
            np.minimum(self.rows, other.rows),
            np.minimum(self.cols, other.cols),
            np.minimum(self.channels, other.channels),
        )

    def parts(self, part: Extents) -> Extents:
        """How many parts cover it, by dimension."""
        return Extents(
            rounded_up(self.rows, part.rows),
            rounded_up(self.cols, part.cols),
            rounded_up(self.channels, part.channels),
        )


@dataclass(frozen=True)
class Operation:
    """What the array does: its kind, input, result and kernel (rows, columns)."""

    kind: str
    input: Extents
    output: Extents
    kernel: tuple[Any, Any] = (1, 1)
    bits: int = 8
    """Of an element of the input."""
    output_bits: int = 8
    skips: bool = False
    """Whether two of every four weights are zero, and not multiplied."""


@dataclass(frozen=True)
class Block:
    """The part of the result that is computed at a time, and of the input that it needs."""

    output: Extents
    input: Extents
    part_kernel: Any = False


@dataclass(frozen=True)
class BlockCycles:
    """Cycles of one block (those at the edges being parts of one), and how many there are."""

    array: Any
    output: Any
    """Of the output stage, with the wait for its scales."""
    commands: Any
    count: Any
    load: Any
    """Until the first block's input is there."""
    store: Any
    """Until the last block's result is written."""

    @property
    def total(self) -> Any:
        """Of the whole operation: the slower of array and output stage on every block, the other
        one on one, and the first load and the last store.
        """
        array = np.maximum(self.array, self.commands)
        output = np.maximum(self.output, self.commands)
        by_array = np.floor(array * self.count) + np.floor(output)
        by_output = output * self.count + array
        both = where(array > output, by_array, by_output)
        return np.floor(both) + self.store + self.load


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`np.where` of numbers that may be arrays."""
    return cast(Any, np.where(condition, yes, no))


def rounded_up(number: Any, part: Any) -> Any:
    """A quotient of whole numbers that may be arrays, as a whole number."""
    if isinstance(number, int) and isinstance(part, int):
        return -(-number // part)
    return np.ceil(number / part)


def rounded_down(number: Any, part: Any) -> Any:
    """As `rounded_up`, but rounded down."""
    if isinstance(number, int) and isinstance(part, int):
        return number // part
    return np.floor(number / part)


def sub_kernels(kernel: tuple[int, int]) -> Iterator[int]:
    """The elements of the parts in which a kernel is taken."""
    for row in range(0, kernel[0], SUB_KERNEL):
        for col in range(0, kernel[1], SUB_KERNEL):
            yield min(kernel[0] - row, SUB_KERNEL) * min(kernel[1] - col, SUB_KERNEL)


def micro_block(unit: Blocks, op: Operation) -> Extents:
    """What is computed at once: one row of it where the result has one."""
    rows, cols, channels = unit.micro
    if unit.others:
        return _least_waste(unit, op)
    if op.kind != CONVOLUTION or op.kernel[0] != 1 or rows != 2:
        return Extents(rows, cols, channels)
    flat = (op.output.rows == 1) & (op.output.cols % 2 == 0)
    return Extents(where(flat, 1, rows), where(flat, rows * cols, cols), channels)


def _least_waste(unit: Blocks, op: Operation) -> Extents:
    """The micro-block that computes the fewest results too many; the first of equal ones."""
    best = Extents(*unit.micro)
    if op.kind != CONVOLUTION:
        return best
    least: Any = None
    for rows, cols, channels in (*unit.others, unit.micro):
        parts = op.output.parts(Extents(rows, cols, channels))
        taken = parts.elements * (rows * cols * channels)
        if least is None:
            best, least = Extents(rows, cols, channels), taken
            continue
        is_less = taken < least
        best = Extents(
            where(is_less, rows, best.rows),
            where(is_less, cols, best.cols),
            where(is_less, channels, best.channels),
        )
        least = np.minimum(least, taken)
    return best


def array_cycles(unit: Blocks, op: Operation, block: Block) -> Any:
    """Cycles in which a block is multiplied and summed up."""
    inputs = block.input.within(op.input)
    micro = block.output.within(op.output).parts(micro_block(unit, op))
    steps = rounded_up(inputs.channels, DEPTH)
    total: Any = 0
    wait = rounded_down(STEP_WEIGHTS * micro_block(unit, op).channels, unit.decoded)
    for elements in sub_kernels(op.kernel):
        busy, taken = _sub_kernel(op, block, micro, elements, steps, wait, unit.depth == FINE)
        total = total + busy + _delay(unit, op, block, micro, taken, steps)
    if op.kind in (CONVOLUTION, SUM):
        total = total * rounded_up(op.input.channels, inputs.channels)
    return total if unit.cores == 1 else rounded_down(total, unit.cores)


def _sub_kernel(
    op: Operation, block: Block, micro: Extents, elements: int, steps: Any, wait: Any, fine: bool
) -> tuple[Any, Any]:
    """Cycles of a part of the kernel, and the steps in which its elements are taken. `wait` is
    until the weights of a step are there; `fine`, whether one that is taken depth first takes a
    cycle for every `DEPTH` channels.
    """
    wide = op.bits // 8
    if op.kind == POOLING:
        return max(STEP, elements) * micro.elements * (op.bits // 2), 1
    if op.kind == DEPTHWISE:
        taken: Any = -(-elements // 4)
        return np.maximum(wait, STEP * micro.positions * wide) * taken * micro.channels, taken
    in_parts = block.part_kernel if op.kind == CONVOLUTION else False
    taken = where(in_parts, -(-elements // (2 if op.bits == 16 else 4)), elements)
    deep = rounded_down(block.input.within(op.input).channels, DEPTH) if fine else STEP
    busy = where(in_parts, STEP, deep) * micro.positions
    each = np.maximum(wait, busy) * taken * micro.channels
    wide = wide if fine else 1
    each = each * where(in_parts, steps, wide)
    return rounded_down(each, 2) if op.skips else each, taken


def _delay(
    unit: Blocks, op: Operation, block: Block, micro: Extents, taken: Any, steps: Any
) -> Any:
    """Cycles that the sums of a block of one position of micro-blocks wait for each other."""
    waits = where(micro.channels == 1, taken, (taken - 1) * micro.channels)
    delay = where(micro.positions == 1, unit.delay * waits, 0)
    if op.kind == CONVOLUTION:
        delay = delay * where(block.part_kernel, steps, 1)
    return delay


def block_cycles(
    unit: Blocks,
    op: Operation,
    block: Block,
    memory: Memory,
    each: Any,
    *,
    scale_latency: int | None,
    runs: tuple[Any, Any],
) -> BlockCycles:
    """The cycles of blocks whose input and result lie in `memory`.

    `each` is the cycles of an element in the output stage, `scale_latency` that of the memory which
    the scales are read from (None: there are none), `runs` the bytes next to each other of a block
    of the input and of the result.
    """
    output = block.output.within(op.output)
    micro = micro_block(unit, op)
    count = op.output.parts(micro).elements / output.parts(micro).elements
    compute = np.ceil(each * output.elements)
    scales: Any = 0.0
    if scale_latency is not None and op.kind in (CONVOLUTION, DEPTHWISE):
        scales = SCALE_BYTES * output.channels * scale_latency / 256
    array, written = array_cycles(unit, op, block), np.maximum(compute, scales)
    load = block_transfer(memory, block.input.within(op.input), op.bits, runs[0])
    store = block_transfer(memory, output, op.output_bits, runs[1])
    between = where(count > 1, np.abs(store - load), 0)
    commands = (between + array + written) / COMMANDS
    return BlockCycles(array, written, commands, count, load, store)


def block_transfer(memory: Memory, block: Extents, bits: int, run: Any) -> Any:
    """Cycles of the transfer of one block."""
    moved = in_bursts(memory, rounded_down(block.elements * bits, 8), run)
    return memory.latency + np.floor(moved / memory.ports["mxu"])


def in_bursts(memory: Memory, size: Any, run: Any) -> Any:
    """Bytes that so many bytes occupy a memory for, in runs of `run`: shorter ones than a burst pay
    for one.
    """
    return rounded_down(size * memory.burst, np.minimum(memory.burst, run))
