"""The queues of a program, and the orders in which its waits allow them to be served.

Each (core, engine) takes its instructions in program order. An instruction may run once every
engine that it waits for has completed the stated count. Any such order must give the same results;
the simulator can take several.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.runtime.program import Program

Queue = tuple[int, str]
"""A core and one of its engines."""

Chooser = Callable[[Sequence[int]], int]
"""Picks one of the executed instructions that are ready, given in ascending order."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the order depends on. Instructions are numbered as `Program.executed` lists them."""

    program: Program
    queues: tuple[Queue, ...]
    queue_of: tuple[int, ...]
    """Per instruction, its queue by position in `queues`."""
    waits: tuple[tuple[tuple[int, int], ...], ...]
    """Per instruction, (queue, count) pairs."""

    @staticmethod
    def of(program: Program) -> Plan:
        """The queues and waits of a program."""
        numbers: dict[Queue, int] = {}
        queue_of: list[int] = []
        waits: list[tuple[tuple[int, int], ...]] = []
        for _, op in program.executed:
            queue_of.append(numbers.setdefault((op.core_index, op.engine), len(numbers)))
            waits.append(
                tuple(
                    (numbers.setdefault((w.core, w.engine), len(numbers)), w.count)
                    for w in op.wait_list
                )
            )
        return Plan(program, tuple(numbers), tuple(queue_of), tuple(waits))

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Per queue, its instructions in order."""
        members: list[list[int]] = [[] for _ in self.queues]
        for i, q in enumerate(self.queue_of):
            members[q].append(i)
        return tuple(map(tuple, members))

    def order(self, policy: str = "program", seed: int | None = None) -> Sequence[int]:
        """An order that the waits permit. Raises CompileError (NPU0604) where there is none.

        `program` takes the first ready instruction in program order, `dma-late` and `dma-early`
        prefer the other engines or the dma engine, `random` takes any by `seed`.
        """
        if policy == "program" and self._program_order_is_valid():
            return range(len(self.queue_of))
        return list(self._serve(self._chooser(policy, seed)))

    def _program_order_is_valid(self) -> bool:
        done = [0] * len(self.queues)
        for q, waits in zip(self.queue_of, self.waits, strict=True):
            if any(done[w] < count for w, count in waits):
                return False
            done[q] += 1
        return True

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
            ready = [i for i in heads if all(done[q] >= n for q, n in self.waits[i])]
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
        for q, count in self.waits[instruction]:
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


POLICIES = ("program", "random", "dma-late", "dma-early")
"""The orders that `Plan.order` knows."""


def queue_name(queue: Queue) -> str:
    """`mxu`, or `1.mxu` on another core than the first."""
    core, engine = queue
    return f"{core}.{engine}" if core else engine
