"""The queues of a program, and the orders in which its waits allow them to be served.

Each (core, engine) takes its instructions in program order. An instruction may run once every
engine that it waits for has completed the stated count. Any such order must give the same results;
the simulator can take several. In time, engines that share something take turns besides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.structure import RepeatOp
from npu_dialect.runtime.program import Program

Words = npt.NDArray[np.int64]

Queue = tuple[int, str]
"""A core and one of its engines."""

Chooser = Callable[[Sequence[int]], int]
"""Picks one of the executed instructions that are ready, given in ascending order."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the order depends on. Instructions are numbered as `Program.executed` lists them."""

    program: Program
    queues: tuple[Queue, ...]
    queue: Words
    """Per instruction, its queue by position in `queues`."""
    static: Words
    """Per instruction, its number in `Program.instructions`."""
    wait_offsets: Words
    """Instruction i has the waits `wait_offsets[i]` to `wait_offsets[i + 1]`."""
    wait_queue: Words
    wait_count: Words
    turn: Words
    """Per instruction, the earlier one whose engine it needs to be free although it is not its own;
    -1 for none. Copies and instructions of the array that read dram take turns, in program order.
    """

    @staticmethod
    def of(program: Program) -> Plan:
        """The queues and waits of a program, trips of repeats unrolled."""
        return _Unroll(program).plan()

    @cached_property
    def queue_of(self) -> tuple[int, ...]:
        """`queue` as Python numbers."""
        return tuple(self.queue.tolist())

    @cached_property
    def waits(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Per instruction, (queue, count) pairs."""
        pairs = list(zip(self.wait_queue.tolist(), self.wait_count.tolist(), strict=True))
        offsets = self.wait_offsets.tolist()
        return tuple(tuple(pairs[a:b]) for a, b in pairwise(offsets))

    @cached_property
    def _needed(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """As `waits`, with the turns."""
        found, count = list(self.waits), {i: k for m in self.members for k, i in enumerate(m, 1)}
        for i in np.flatnonzero(self.turn >= 0).tolist():
            other = int(self.turn[i])
            found[i] = (*found[i], (self.queue_of[other], count[other]))
        return tuple(found)

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Per queue, its instructions in order."""
        return tuple(tuple(m.tolist()) for m in self._by_queue)

    @cached_property
    def _by_queue(self) -> list[Words]:
        return [np.flatnonzero(self.queue == q) for q in range(len(self.queues))]

    @cached_property
    def _awaited(self) -> Words:
        """Per wait, the instruction that it is for: -1 for none, the number of all where there is
        no such.
        """
        found = np.full(len(self.wait_queue), -1, np.int64)
        for q, members in enumerate(self._by_queue):
            mine = np.flatnonzero((self.wait_queue == q) & (self.wait_count > 0))
            count = self.wait_count[mine]
            there = count <= len(members)
            found[mine[there]] = members[count[there] - 1]
            found[mine[~there]] = len(self.queue)
        return found

    @cached_property
    def awaited(self) -> Words:
        """What is waited for, by instruction: number i waits for `awaited[offsets[i] :
        offsets[i + 1]]`. Waits for nothing are left out.
        """
        return self._awaited[self._awaited >= 0]

    @cached_property
    def offsets(self) -> Words:
        """See `awaited`."""
        kept = np.zeros(len(self._awaited) + 1, np.int64)
        np.cumsum(self._awaited >= 0, out=kept[1:])
        return kept[self.wait_offsets]

    def order(self, policy: str = "program", seed: int | None = None) -> Sequence[int]:
        """An order that the waits permit. Raises CompileError (NPU0604) where there is none.

        `program` takes the first ready instruction in program order, `dma-late` and `dma-early`
        prefer the other engines or the dma engine, `random` takes any by `seed`.
        """
        if policy == "program" and self._program_order_is_valid:
            return range(len(self.queue_of))
        return list(self._serve(self._chooser(policy, seed)))

    @cached_property
    def _program_order_is_valid(self) -> bool:
        waiting = np.repeat(np.arange(len(self.queue)), np.diff(self.wait_offsets))
        return bool((self._awaited < waiting).all())

    def _chooser(self, policy: str, seed: int | None) -> Chooser:
        if policy == "program":
            return min
        if policy == "random":
            return random.Random(seed).choice
        if policy in ("dma-late", "dma-early"):
            wanted = policy == "dma-early"
            return lambda ready: min(ready, key=lambda i: (self._is_dma(i) != wanted, i))
        raise error(
            Code.OPTION,
            f"an order of execution must be one of {', '.join(POLICIES)}",
            found=policy,
            source="order",
        )

    def _is_dma(self, instruction: int) -> bool:
        return self.queues[self.queue_of[instruction]][1] == "dma"

    def _serve(self, choose: Chooser) -> Iterator[int]:
        done = [0] * len(self.queues)
        for _ in self.queue_of:
            heads = sorted(m[d] for m, d in zip(self.members, done, strict=True) if d < len(m))
            ready = [i for i in heads if all(done[q] >= n for q, n in self._needed[i])]
            if not ready:
                raise self._deadlock(heads, done)
            chosen = choose(ready)
            done[self.queue_of[chosen]] += 1
            yield chosen

    def _deadlock(self, heads: Sequence[int], done: Sequence[int]) -> CompileError:
        lines = "; ".join(line for i in heads for line in self._blocked(i, done))
        return error(
            Code.PROOF_DEADLOCK,
            "every wait must be for a count that is reached",
            found=lines,
            source=self._describe(heads[0]),
        )

    def _blocked(self, instruction: int, done: Sequence[int]) -> Iterator[str]:
        for q, count in self._needed[instruction]:
            if done[q] < count:
                name, total = queue_name(self.queues[q]), len(self.members[q])
                yield (
                    f"{self._describe(instruction)} waits for {count} of {name}, "
                    f"which has completed {done[q]} of {total}"
                )

    def _describe(self, instruction: int) -> str:
        static, op = self.program.executed[instruction]
        queue = queue_name(self.queues[self.queue_of[instruction]])
        return f"{queue} #{static} {op.name} ({self.program.debug[static].layer})"


class _Unroll:
    """Queues and waits as arrays, without the instructions of every trip."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.numbers: dict[Queue, int] = {}
        self.parts: list[tuple[Words, ...]] = []
        """(queue, static, waits per instruction, whether it takes the dma engine's place, wait
        queue, wait count) of stretches of code.
        """

    def plan(self) -> Plan:
        first = 0
        for op in self.program.code:
            is_repeat = isinstance(op, RepeatOp)
            body = op.instructions if is_repeat else [cast(Instruction, op)]
            self._add(body, op.count if is_repeat else 1, first)
            first += len(body)
        queue, static, counts, takes, wait_queue, wait_count = self._joined()
        if self.program.machine.vector.is_output_stage:
            counts, wait_queue, wait_count = self._one_at_a_time(
                queue, counts, wait_queue, wait_count
            )
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        waits = offsets, wait_queue, wait_count
        turn = self._turns(queue, takes)
        return Plan(self.program, tuple(self.numbers), queue, static, *waits, turn)

    def _turns(self, queue: Words, takes: Words) -> Words:
        """By instruction, the one of the other engine that is before it among copies and what takes
        the dma engine's place.
        """
        found = np.full(len(queue), -1, np.int64)
        for core in {core for core, _ in self.numbers} if takes.any() else ():
            dma, mxu = (self.numbers.get((core, engine), -1) for engine in ("dma", "mxu"))
            members = np.flatnonzero((queue == dma) | ((queue == mxu) & (takes != 0)))
            changes = np.flatnonzero(np.diff(queue[members]))
            found[members[changes + 1]] = members[changes]
        return found

    def _one_at_a_time(
        self, queue: Words, counts: Words, wait_queue: Words, wait_count: Words
    ) -> tuple[Words, Words, Words]:
        """The waits, and where array and vector unit take turns in program order, one for the
        other of them.
        """
        waiting = np.repeat(np.arange(len(queue)), counts)
        rows = [(waiting, wait_queue, wait_count)]
        for core in {core for core, _ in self.numbers}:
            pair = [self.numbers.get((core, engine), -1) for engine in ("mxu", "vpu")]
            members = np.flatnonzero(np.isin(queue, pair))
            mine = queue[members]
            before = {q: np.cumsum(mine == q) for q in pair}
            turns = np.flatnonzero(mine[1:] != mine[:-1])
            other = mine[turns]
            reached = np.where(other == pair[0], before[pair[0]][turns], before[pair[1]][turns])
            rows.append((members[turns + 1], other, reached))
        columns = zip(*rows, strict=True)
        waiting, wait_queue, wait_count = (np.concatenate(column) for column in columns)
        order = np.argsort(waiting, kind="stable")
        counts = np.bincount(waiting, minlength=len(queue))
        return counts, wait_queue[order], wait_count[order]

    def _add(self, body: Sequence[Instruction], trips: int, first: int) -> None:
        queue, counts, takes = list[int](), list[int](), list[int]()
        waits: list[tuple[int, int, int]] = []
        for op in body:
            queue.append(self._number(op.core_index, op.engine))
            found = op.wait_list
            steps = op.values().get("wait_steps") or (0,) * len(found)
            counts.append(len(found))
            takes.append(op.takes_dma)
            for wait, step in zip(found, steps, strict=True):
                waits.append((self._number(wait.core, wait.engine), wait.count, step))
        rows = np.array(waits, np.int64).reshape(-1, 3)
        trip = np.arange(trips)[:, None]
        self.parts.append(
            (
                np.tile(np.array(queue, np.int64), trips),
                np.tile(np.arange(first, first + len(body)), trips),
                np.tile(np.array(counts, np.int64), trips),
                np.tile(np.array(takes, np.int64), trips),
                np.tile(rows[:, 0], trips),
                (rows[:, 1] + trip * rows[:, 2]).ravel(),
            )
        )

    def _number(self, core: int, engine: str) -> int:
        return self.numbers.setdefault((core, engine), len(self.numbers))

    def _joined(self) -> Iterator[Words]:
        for k in range(6):
            columns = [part[k] for part in self.parts]
            yield np.concatenate(columns) if columns else np.zeros(0, np.int64)


POLICIES = ("program", "random", "dma-late", "dma-early")
"""The orders that `Plan.order` knows."""


def queue_name(queue: Queue) -> str:
    """`mxu`, or `1.mxu` on another core than the first."""
    core, engine = queue
    return f"{core}.{engine}" if core else engine
