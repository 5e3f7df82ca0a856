"""Our count of the cycles of Arm Vela's operators, with the blocks that Vela chose."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from vela_runs import MACHINES, Operator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from npu_dialect import cost
from npu_dialect.ethos_u.cycles import (
    CONVOLUTION,
    DEPTHWISE,
    POOLING,
    SUM,
    Block,
    Extents,
    Operation,
    block_cycles,
)
from npu_dialect.target import Blocks, load_target

KINDS = {
    "Conv2D": CONVOLUTION,
    "FullyConnected": CONVOLUTION,
    "DepthwiseConv2D": DEPTHWISE,
    "ReduceSum": SUM,
}
"""What is not here, but multiplies, is a pooling: a copy is an average of one."""
TABLES = {"LUT", "Sigmoid", "Tanh"}
BITS = {"Int8": 8, "UInt8": 8, "Int16": 16, "Int32": 32}
ACTIVATIONS = {"Clamp", "Relu", "Relu6", *TABLES}
"""Which Ethos-U85 does along with what is before, or with a copy."""
CHAINED = {"Add", "Sub", "Mul", "Minimum", "Maximum"}
"""Operators that Ethos-U85 does in one go with the one before."""
SCALINGS = {"Add": 3, "Sub": 3}
"""Of elementwise operators: both operands and the result of a sum; one of the others."""


@dataclass(frozen=True)
class Count:
    """Cycles as Vela's debug database calls them: mac_cycles, cmd_cycles, and of the whole
    operator.
    """

    mac_cycles: int
    commands: int
    total: int


def of_operator(machine: str, o: Operator) -> Count:
    """The count of an operator that multiplies or pools, on the machine of this target."""
    target = load_target(machine)
    (system,) = (m for m in MACHINES if m.target == machine)
    blocks = target.array.blocks
    assert blocks is not None, "the machines go in blocks"
    bits, output_bits = BITS[o.input_type], BITS[o.output_type]
    kind = KINDS.get(o.kind, POOLING)
    op = Operation(
        kind, Extents(*o.input), Extents(*o.output), o.kernel, bits, output_bits, o.skips
    )
    block = Block(Extents(*o.output_block), Extents(*o.input_block), o.traversal == "PartKernel")
    latency = system.sram_latency if o.is_buffered else system.off_chip_latency
    found = block_cycles(
        blocks, op, block, target.memories["spm"], _output_cycles(blocks, o),
        scale_latency=latency if o.has_scales else None,
        runs=(_read_run(o), _written_run(o, blocks.cores)),
    )  # fmt: skip
    mac_cycles = int(found.array * found.count + found.output)
    return Count(mac_cycles, int(found.commands), int(found.total))


def _output_cycles(blocks: Blocks, o: Operator) -> float:
    """Of an element: half of it where the greatest is taken, more where a table is looked up."""
    if TABLES & set(o.fused):
        return blocks.lookup_cycles
    if blocks.buffers and o.kind in ACTIVATIONS:
        return blocks.lookup_cycles
    if not blocks.buffers:
        return blocks.output_cycles["i8"] / (2 if o.kind == "MaxPool" else 1)
    chained = 1 + len(CHAINED & set(o.fused))
    return chained * blocks.output_cycles["i8"] * BITS[o.output_type] / 8


def _read_run(o: Operator) -> int:
    """Bytes in a row of a block of the input, by Vela's formats."""
    each, (_, cols, channels) = BITS[o.input_type] // 8, o.input_block
    if o.formats[0] == "NHCWB16":
        whole = o.input[1] * each * 16 == channels
        return each * cols * (channels if whole else 16)
    return each * channels * (cols if o.input[2] * each == channels else 1)


def _written_run(o: Operator, cores: int) -> int:
    """The same of a block of the result."""
    each, (_, cols, channels) = BITS[o.output_type] // 8, o.output_block
    if o.formats[1] == "NHCWB16":
        whole = o.output[1] * each * 16 == channels
        return each * cols * (channels if whole else 16 * cores)
    if channels <= 16 and o.output[2] * each == channels:
        return each * cols * channels
    return min(64, 16 * each * cores, each * channels)


def of_elementwise(machine: str, o: Operator) -> int:
    """Cycles of our vector unit for an elementwise operator."""
    elements, each = prod(o.output), BITS[o.input_type] // 8
    if TABLES & set(o.fused):
        kernel: tuple[str, ...] = ("lookup",)
    elif o.kind == "Mul":
        kernel = ("mul", "requantize")
    else:
        kernel = ("requantize",) * SCALINGS.get(o.kind, 1)
    target = load_target(machine)
    return cost.vector(target, elements, kernel, 2 * elements * each, elements).cycles


def of_network(machine: str, operators: Iterable[Operator]) -> int:
    """Cycles of array and output stage for all operators."""
    return sum(
        of_elementwise(machine, o) if o.mac_cycles is None else of_operator(machine, o).total
        for o in operators
    )
