"""When the buffers of a tile function live, and for how much longer they may keep their place.

    nest 1   load w1, conv 1            w1 lives in nest 1
    nest 2   load w2, conv 2            w2 lives in nest 2, and in nest 1 to be filled ahead

Time is the number of the top-level operation. A buffer inside a nest lives as long as the nest, one
of the function from its first use to its last. Where memory has room, buffers get their place some
steps (loop nests, computations) before they need it, so that nobody waits for a place to be free:
copies from dram can then run ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue

from npu_dialect.tile import AllocOp, CopyOp, ForOp, HostOp, KernelOp
from npu_dialect.tile.structure import ViewLikeOp
from npu_dialect.tile.syntax import space_of

LOADED_AHEAD = (0, 1, 2, 3, 4, 6, 8, 12, 16)
"""Steps before its use at which a buffer that is filled from dram may get its place, by level."""
OTHERS_AHEAD = (0, 1, 2)
"""The same for buffers that are computed."""


@dataclass(frozen=True)
class Life:
    """A buffer and the top-level operations [lower, upper) that use it.

    `starts` are the earlier beginnings that it may have, by level; `starts[0]` is `lower`.
    """

    alloc: AllocOp
    lower: int
    upper: int
    starts: tuple[int, ...]
    loaded: bool

    @property
    def top_level(self) -> int:
        return len(self.starts) - 1


def lifetimes(function: FuncOp) -> list[Life]:
    """The lives of all buffers that are used."""
    body = function.body.block
    number = {op: k for k, op in enumerate(body.ops)}
    steps = [k for op, k in number.items() if isinstance(op, ForOp | KernelOp | HostOp)]
    found: list[Life] = []
    for op in function.walk():
        if isinstance(op, AllocOp):
            users = list(_users(op.result))
            times = [number[_top(user, body)] for user in users]
            if times:
                loaded = _is_loaded(op, users)
                starts = _starts(steps, min(times), loaded)
                found.append(Life(op, min(times), max(times) + 1, starts, loaded))
    return found


def _starts(steps: Sequence[int], lower: int, loaded: bool) -> tuple[int, ...]:
    at = int(np.searchsorted(steps, lower))
    earlier = [steps[max(0, at - n)] for n in (LOADED_AHEAD if loaded else OTHERS_AHEAD)[1:] if at]
    return (lower, *sorted({s for s in earlier if s < lower}, reverse=True))


def _users(value: SSAValue) -> Iterator[Operation]:
    """The operations that read or write a buffer, also through views."""
    for use in value.uses:
        op = use.operation
        if isinstance(op, ViewLikeOp):
            yield from _users(op.result)
        elif not isinstance(op, AllocOp):
            yield op


def _top(op: Operation, body: Block) -> Operation:
    """The top-level operation that `op` is or is part of."""
    while op.parent is not body:
        parent = op.parent_op()
        assert parent is not None
        op = parent
    return op


def _is_loaded(alloc: AllocOp, users: Sequence[Operation]) -> bool:
    """Whether the buffer is filled from dram."""
    return any(
        isinstance(user, CopyOp)
        and _base(user.destination) is alloc.result
        and space_of(user.source) == "dram"
        for user in users
    )


def _base(value: SSAValue) -> SSAValue:
    """The buffer that a view shows."""
    while isinstance(value.owner, ViewLikeOp):
        value = value.owner.source
    return value


# --- how early ------------------------------------------------------------------------------------


class Levels:
    """How early each buffer gets its place: a level for each, lowered until all fit."""

    def __init__(self, lives: Sequence[Life], sizes: Sequence[int]) -> None:
        self.lives, self.sizes = lives, sizes
        self.level = [life.top_level for life in lives]

    def start(self, number: int) -> int:
        return self.lives[number].starts[self.level[number]]

    @property
    def lowest(self) -> bool:
        """Whether no buffer gets its place early."""
        return not any(self.level)

    def limit(self, capacity: int) -> None:
        """Lowers levels until at no time more than `capacity` bytes are live, where that helps."""
        profile = self._profile()
        while profile.size and profile.max() > capacity:
            moment = int(profile.argmax())
            number = self._least_needed(moment, moment + 1)
            if number is None:
                return
            before = self.start(number)
            self.level[number] -= 1
            profile[before : self.start(number)] -= self.sizes[number]

    def lower(self, spans: Sequence[tuple[int, int]]) -> None:
        """Lowers what is in the way during any of the spans of time."""
        chosen = {n for span in spans if (n := self._least_needed(*span)) is not None}
        if not chosen:
            chosen = {n for n, level in enumerate(self.level) if level}
        for number in chosen:
            self.level[number] -= 1

    def clear(self) -> None:
        self.level = [0] * len(self.level)

    def _profile(self) -> NDArray[np.int64]:
        """Bytes live at each time."""
        profile = np.zeros(max((life.upper for life in self.lives), default=0), np.int64)
        for number, life in enumerate(self.lives):
            profile[self.start(number) : life.upper] += self.sizes[number]
        return profile

    def _least_needed(self, lower: int, upper: int) -> int | None:
        """Of the buffers with an early place during [lower, upper), the one to wait longer."""
        early = [
            number
            for number, life in enumerate(self.lives)
            if self.level[number] and self.start(number) < upper and lower < life.lower
        ]
        return min(early, key=self._worth, default=None)

    def _worth(self, number: int) -> tuple[int, int, int]:
        life, level = self.lives[number], self.level[number]
        if life.loaded:
            kind = 3 if level == 1 else 0
        else:
            kind = 2 if level == 1 else 1
        return kind, -level, -self.sizes[number]
