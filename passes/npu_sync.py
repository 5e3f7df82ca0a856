"""npu-sync: adds the waits that make every dependency between engines hold, and no more.

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, ...>
    npu.vector a = <spm, 0x0, ...>, output = <spm, 0x40, ...>, kernel = 0

becomes

    npu.dma_copy source = <dram, 0x0, ...>, destination = <spm, 0x0, ...>
    npu.vector waits = {0.dma: 1}, a = <spm, 0x0, ...>, output = <spm, 0x40, ...>, kernel = 0

An engine takes its instructions in order, and an instruction may touch what an earlier one of the
same engine reads. It waits for counts across engines, and for what its own engine has not stored
yet (`ordering.overtakes`). A wait is left out where the queue's
earlier waits, or another wait of the same instruction, imply it. Program order is kept; waits that
are there already are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, error
from npu_dialect.npu.base import WAITS, Instruction, Wait
from npu_dialect.npu.ordering import PIPELINED, Overtaking
from npu_dialect.npu.structure import ProgramOp, RepeatOp
from npu_dialect.passes.dependencies import predecessors, stands_for_others

Queue = tuple[int, str]
Clock = dict[Queue, int]
"""How many instructions of each queue are known to be complete."""


@dataclass(frozen=True)
class NpuSyncPass(ModulePass):
    """Compute the waits of every instruction."""

    name = "npu-sync"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for program in programs(op):
            _sync(program)


def programs(module: ModuleOp) -> Iterator[ProgramOp]:
    """The programs of a module."""
    return (op for op in module.ops if isinstance(op, ProgramOp))


def _sync(program: ProgramOp) -> None:
    instructions: list[Instruction] = []
    for op in program.body.block.ops:
        if isinstance(op, RepeatOp):
            raise error(
                Code.NOT_LOWERABLE,
                "a program must hold no repeats when its waits are computed",
                found="npu.repeat",
                remedy="npu-sync before npu-roll",
                source=op,
            )
        assert isinstance(op, Instruction)
        instructions.append(op)
    for instruction, needed in zip(instructions, waits(instructions), strict=True):
        set_waits(instruction, needed)


def set_waits(instruction: Instruction, needed: Sequence[Wait]) -> None:
    """Replaces the waits of an instruction."""
    if needed:
        instruction.properties["waits"] = WAITS.attribute(needed)
    else:
        instruction.properties.pop("waits", None)


def waits(instructions: Sequence[Instruction]) -> list[tuple[Wait, ...]]:
    """The waits that each instruction needs, for this program order."""
    counts: Clock = {}
    place: list[tuple[Queue, int]] = []
    for instruction in instructions:
        queue = queue_of(instruction)
        counts[queue] = counts.get(queue, 0) + 1
        place.append((queue, counts[queue]))
    before = predecessors(instructions)
    overtaking = Overtaking(instructions)
    known: dict[Queue, Clock] = {queue: {} for queue in counts}
    complete: dict[tuple[Queue, int], Clock] = {}
    result: list[tuple[Wait, ...]] = []
    for number, ((queue, count), found) in enumerate(zip(place, before, strict=True)):
        clock = known[queue]
        instruction = instructions[number]
        found = [
            p
            for p in found
            if place[p][1] > clock.get(place[p][0], 0)
            and (
                place[p][0] != queue
                or overtaking.between(p, number)
                or _waits_for_crowd(instruction, instructions[p])
            )
        ]
        needed = _needed(place[p] for p in found)
        needed = _reduced(needed, complete)
        for item in needed.items():
            _merge(clock, complete[item])
        complete[queue, count] = clock | {queue: count}
        if instruction.engine not in PIPELINED:
            clock[queue] = count
        result.append(tuple(Wait(*q, c) for q, c in sorted(needed.items())))
    return result


def queue_of(instruction: Instruction) -> Queue:
    """The queue that an instruction goes through: core and engine."""
    return instruction.core_index, instruction.engine


def _waits_for_crowd(instruction: Instruction, earlier: Instruction) -> bool:
    """Whether an instruction of the same engine stands for others that must be complete."""
    return earlier.engine in PIPELINED and stands_for_others(earlier, instruction)


def _needed(found: Iterable[tuple[Queue, int]]) -> Clock:
    """The greatest count of each queue."""
    needed: Clock = {}
    for queue, count in found:
        needed[queue] = max(count, needed.get(queue, 0))
    return needed


def _reduced(needed: Clock, complete: dict[tuple[Queue, int], Clock]) -> Clock:
    """`needed` without the counts that another of them implies."""
    clocks = {item: complete[item] for item in needed.items()}
    return {
        queue: count
        for queue, count in needed.items()
        if not any(
            clock.get(queue, 0) >= count for (other, _), clock in clocks.items() if other != queue
        )
    }


def _merge(clock: Clock, other: Clock) -> None:
    for queue, count in other.items():
        if count > clock.get(queue, 0):
            clock[queue] = count
