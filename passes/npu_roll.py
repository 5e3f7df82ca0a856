"""npu-roll: writes regular stretches of a program as repeats.

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, ...>
    npu.dma_copy source = <dram, 0x40, ...>, destination = <spm, 0x40, ...>
    npu.dma_copy source = <dram, 0x80, ...>, destination = <spm, 0x80, ...>

becomes

    npu.repeat 3 {
      npu.dma_copy source = <dram, 0x0, ...>, destination = ..., address_steps = [64, 64]
    }

A stretch repeats with a period when all fields of each instruction equal those of the one a period
later, save addresses and wait counts, and those advance by the same steps from trip to trip. The
expansion is compared with the original before anything is replaced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction, Wait
from npu_dialect.npu.fields import ADDRESS_BITS
from npu_dialect.npu.structure import ProgramOp, RepeatOp, expand

LONGEST_PERIOD = 96
"""Instructions in the body of a repeat, at most."""
FEWEST_TRIPS = 3

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NpuRollPass(ModulePass):
    """Write regular stretches as repeats."""

    name = "npu-roll"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for program in op.ops:
            if isinstance(program, ProgramOp):
                _roll(program)


def _roll(program: ProgramOp) -> None:
    """Rolls each stretch of plain instructions; repeats that are there already stay."""
    block = program.body.block
    result: list[Operation] = []
    plain: list[Instruction] = []
    for op in list(block.ops):
        op.detach()
        if isinstance(op, Instruction):
            plain.append(op)
        else:
            result += [*rolled(plain), op]
            plain = []
    block.add_ops([*result, *rolled(plain)])


def rolled(instructions: Sequence[Instruction]) -> list[Operation]:
    """The same sequence with repeats; `instructions` are used in it where they stand alone."""
    result: list[Operation] = []
    at = 0
    for start, period, trips in stretches(instructions):
        result += instructions[at:start]
        at = start + period * trips
        result += _repeat(instructions[start:at], period, trips)
    result += instructions[at:]
    return result


def _repeat(stretch: Sequence[Instruction], period: int, trips: int) -> Sequence[Operation]:
    """One repeat; the instructions as they are where their steps do not fit the fields."""
    steps = [_steps(stretch[k], stretch[k + period]) for k in range(period)]
    if any(not _fits(s) for s in steps):
        return stretch
    body = [
        stretch[k].with_values(address_steps=addresses, wait_steps=counts or None)
        for k, (addresses, counts) in enumerate(steps)
    ]
    repeat = RepeatOp(trips, body)
    repeat.location = stretch[0].location
    expanded = list(expand([repeat]))
    if not all(_equal(a, b) for a, b in zip(expanded, stretch, strict=True)):
        raise AssertionError("a repeat must expand to what it replaces")
    return [repeat]


def _steps(one: Instruction, two: Instruction) -> tuple[list[int], list[int]]:
    """(address steps, wait steps) from an instruction to the one a period later."""
    addresses = [b.address - a.address for a, b in zip(_operands(one), _operands(two), strict=True)]
    counts = [b.count - a.count for a, b in zip(one.wait_list, two.wait_list, strict=True)]
    return addresses, counts


def _fits(steps: tuple[list[int], list[int]]) -> bool:
    addresses, counts = steps
    return all(abs(s) < 1 << (ADDRESS_BITS - 1) for s in addresses) and all(
        abs(s) < 1 << 31 for s in counts
    )


def _equal(a: Instruction, b: Instruction) -> bool:
    return type(a) is type(b) and a.properties == b.properties and a.attributes == b.attributes


# --- stretches ------------------------------------------------------------------------------------


def stretches(instructions: Sequence[Instruction]) -> Iterator[tuple[int, int, int]]:
    """(start, period, trips) of the stretches to roll, in order and disjoint.

    At each start the period that replaces the most instructions is taken, the shortest of equals.
    """
    kinds, hashes = _fingerprints(instructions)
    count = len(instructions)
    saved = np.zeros(count, np.int64)
    best = np.zeros(count, np.int64)
    for period in range(1, min(LONGEST_PERIOD, count // FEWEST_TRIPS) + 1):
        trips = _trips(kinds, hashes, period)
        gain = np.where(trips >= FEWEST_TRIPS, (trips - 1) * period, 0)
        better = gain > saved[: gain.size]
        saved[: gain.size][better] = gain[better]
        best[: gain.size][better] = period
    at = 0
    starts = np.flatnonzero(best)
    while (k := int(np.searchsorted(starts, at))) < starts.size:
        start = _later_start(int(starts[k]), saved, best)
        period = int(best[start])
        trips = int(saved[start]) // period + 1
        yield start, period, trips
        at = start + period * trips


def _later_start(start: int, saved: Ints, best: Ints) -> int:
    """A start inside the same stretch that saves more: the first trips may be irregular."""
    length = min(LONGEST_PERIOD, int(saved[start] + best[start]))
    return start + int(np.argmax(saved[start : start + length]))


def _trips(kinds: Ints, hashes: Words, period: int) -> Ints:
    """How often the body that starts at each instruction is executed in a row, with this period."""
    same = kinds[:-period] == kinds[period:]
    step = hashes[period:] - hashes[:-period]
    regular = same[:-period] & same[period:] & (step[:-period] == step[period:])
    run = _run_lengths(regular)
    return np.where(run >= period, run // period + 2, 0)


def _run_lengths(flags: NDArray[np.bool_]) -> Ints:
    """For each position, how many flags in a row are set from there on."""
    number = np.arange(flags.size)
    ends = np.where(flags, flags.size, number)
    return np.minimum.accumulate(ends[::-1])[::-1] - number


def _fingerprints(instructions: Sequence[Instruction]) -> tuple[Ints, Words]:
    """For each instruction, the number of its kind (all that must be equal), and a linear hash.

    The hash is a sum of addresses and counts times fixed odd numbers, so equal steps give equal
    differences of hashes.
    """
    numbers: dict[Any, int] = {}
    kinds = [numbers.setdefault(_kind(i), len(numbers)) for i in instructions]
    chance = random.Random(0)
    weights = [chance.getrandbits(64) | 1 for _ in range(64)]
    hashes = [_hash(i, weights) for i in instructions]
    return np.array(kinds, np.int64), np.array(hashes, np.uint64)


def _kind(instruction: Instruction) -> tuple[Any, ...]:
    """All of an instruction but addresses and counts."""
    operands = tuple((o.space, o.dtype.code, o.dims, o.strides) for o in _operands(instruction))
    waits = tuple((w.core, w.engine) for w in instruction.wait_list)
    named = {name for name, _, _ in instruction.operand_fields()} | {"waits"}
    rest = tuple((n, a) for n, a in instruction.properties.items() if n not in named)
    other = tuple(instruction.attributes.items())
    names = tuple(name for name, _, _ in instruction.operand_fields())
    return (type(instruction), instruction.location, names, operands, waits, rest, other)


def _hash(instruction: Instruction, weights: Sequence[int]) -> int:
    words = [o.address for o in _operands(instruction)] + _counts(instruction.wait_list)
    total = sum(w * weights[k % 64] for k, w in enumerate(words))
    return total & (1 << 64) - 1


def _counts(waits: Sequence[Wait]) -> list[int]:
    return [w.count for w in waits]


def _operands(instruction: Instruction) -> list[Operand]:
    return [operand for _, _, operand in instruction.operand_fields()]
