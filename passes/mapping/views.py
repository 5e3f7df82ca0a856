"""Where the elements of tensors lie: several tensors may be parts of one storage.

A reshape is its operand in another shape. A movement group may be decided to move nothing
(`graph-views`): its result is a view of its operand (`npu.view`), or its operands are written to
where they lie within its result (`npu.within`, by number). Then the tensors are addressed by
strides in the storage, the tensor that has memory of its own.

    %t = graph.group %x {kind = "move", npu.view} { graph.transpose %x {permutation = [1, 0]} }

`place_of(%t)` is (storage %x, offset 0, steps ((8, 1), (4, 8))) for a `%x` of 4x8: 8 elements that
lie 1 apart, each the first of 4 that lie 8 apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of

VIEW = "npu.view"
"""On a movement group: its result is its first operand, seen in another way."""
WITHIN = "npu.within"
"""On a movement group: the operands that are parts of its result, by number."""
COPIED = "npu.copied"
"""On a movement group: why something is copied."""
PORT = "npu.port"
"""On a movement group that copies an input or an output (`ports.py`)."""

Step = tuple[int, int]
"""(how many, elements from one to the next)."""
Dims = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Elements of a tensor within a storage, in row-major order: the first lies at `offset`, and
    `steps` count them, the outermost first, as few as can be. All in elements.

    The shape of the tensor is no part of it: a reshape keeps the place.
    """

    storage: SSAValue
    offset: int
    steps: tuple[Step, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is the storage itself, in its own order."""
        return self.offset == 0 and self.steps == whole_steps(prod(shape_of(self.storage)))

    def strides(self, dims: Sequence[int]) -> Dims | None:
        """Elements from one to the next along each of `dims`; None where some dimension has no
        single stride.
        """
        split = _split(self.steps, dims)
        if split is None or any(len(steps) > 1 for steps in split):
            return None
        found: list[int] = []
        inner = 1
        for d, steps in zip(reversed(dims), reversed(split), strict=True):
            stride = steps[0][1] if steps else inner
            found.append(stride)
            inner = stride * d
        return tuple(reversed(found))


def whole_steps(size: int) -> tuple[Step, ...]:
    """The steps of a dense tensor."""
    return ((size, 1),) if size != 1 else ()


def merged(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same elements in as few steps as can be."""
    found: list[Step] = []
    for count, stride in steps:
        if count == 1:
            continue
        if found and found[-1][1] == count * stride:
            found[-1] = (found[-1][0] * count, stride)
        else:
            found.append((count, stride))
    return tuple(found)


def _split(steps: Sequence[Step], dims: Sequence[int]) -> list[list[Step]] | None:
    """The steps that make up each of `dims`, where every step ends with a dimension or divides
    along with them; else None.
    """
    left = list(steps)
    found: list[list[Step]] = []
    for d in reversed(dims):
        own: list[Step] = []
        while d > 1:
            if not left:
                return None
            count, stride = left.pop()
            taken = min(count, d)
            if count % taken or d % taken:
                return None
            own.insert(0, (taken, stride))
            d //= taken
            if count > taken:
                left.append((count // taken, stride * taken))
        found.append(own)
    return None if left else found[::-1]


# --- following the IR -----------------------------------------------------------------------------


def root(value: SSAValue) -> SSAValue:
    """The tensor of which `value` is all elements in their order: reshapes undone."""
    while isinstance(value, OpResult) and value.op.name == "graph.reshape":
        value = value.op.operands[0]
    return value


def storage(value: SSAValue) -> SSAValue:
    """The tensor whose memory `value` lies in; `value` itself where it has memory of its own."""
    while True:
        value = root(value)
        inner = viewed(value) or holder(value)
        if inner is None:
            return value
        value = inner


def viewed(value: SSAValue) -> SSAValue | None:
    """The tensor that the result of a movement group shows, if it is a view."""
    if isinstance(value, OpResult) and VIEW in value.op.attributes:
        return _outer(value.op, _move(value.op).operands[0])
    return None


def holder(value: SSAValue) -> SSAValue | None:
    """The result of the movement group that a tensor is written within, if there is one."""
    found = holding(value)
    return None if found is None else found[0].results[0]


def holding(value: SSAValue) -> tuple[Operation, int] | None:
    """The movement group that a tensor is written within, and the number of its operand."""
    if not isinstance(value, OpResult) or value.op.name != "graph.group":
        return None
    return _holding(value)


def _holding(value: SSAValue) -> tuple[Operation, int] | None:
    """The first reader of a tensor that holds it. This is asked for very often, of many readers."""
    for use in value.uses:
        user = use.operation
        if WITHIN in user.attributes:
            for number in within(user):
                inner = _move(user).operands[number]
                if isinstance(inner, BlockArgument) and inner.index == use.index:
                    return user, number
        elif user.name == "graph.reshape":
            found = _holding(user.results[0])
            if found is not None:
                return found
    return None


def within(group: Operation) -> Dims:
    """The operands of a movement group that lie within its result."""
    found = group.attributes.get(WITHIN)
    return () if found is None else values(found)  # type: ignore[arg-type]


def readers(value: SSAValue) -> Iterator[tuple[Operation, int]]:
    """What uses a tensor, itself or in another shape, and as which operand."""
    for use in value.uses:
        if use.operation.name == "graph.reshape":
            yield from readers(use.operation.results[0])
        else:
            yield use.operation, use.index


def final_readers(value: SSAValue) -> Iterator[tuple[Operation, int]]:
    """What uses the elements of a tensor, also through views; movement groups that hold it within
    their result count, and what reads that does not.
    """
    for user, number in readers(value):
        if VIEW in user.attributes:
            yield from final_readers(user.results[0])
        else:
            yield user, number


def makers(value: SSAValue) -> Iterator[Operation]:
    """The groups that write into the memory of a group's result: its own, and those that make what
    lies within it.
    """
    assert isinstance(value, OpResult)
    yield value.op
    for number in within(value.op):
        yield from makers(root(_outer(value.op, _move(value.op).operands[number])))


def source_of(value: SSAValue) -> SSAValue:
    """The tensor that a view shows, through any number of views and reshapes: a group's result, an
    argument or a constant.
    """
    value = root(value)
    while (inner := viewed(value)) is not None:
        value = root(inner)
    return value


def place_of(value: SSAValue) -> Place:
    """Where a tensor lies.

    Raises ValueError where a movement group is no view that strides can express.
    """
    known = _known.get()
    if known is None:
        return _find_place(value)
    if value not in known:
        known[value] = _find_place(value)
    return known[value]


_known: ContextVar[dict[SSAValue, Place] | None] = ContextVar("places", default=None)


@contextmanager
def settled() -> Generator[None]:
    """Inside, nothing changes what is a view of what: each place is found once."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def _find_place(value: SSAValue) -> Place:
    value = root(value)
    shown = viewed(value)
    if shown is not None:
        assert isinstance(value, OpResult)
        return _shown(value.op, place_of(shown))
    held = holding(value)
    if held is not None:
        group, number = held
        return _part(group, number, place_of(group.results[0]))
    return Place(value, 0, whole_steps(prod(shape_of(value))))


def _move(group: Operation) -> Operation:
    """The operation of a movement group."""
    first = group.regions[0].block.first_op
    assert first is not None
    return first


def _outer(group: Operation, inner: SSAValue) -> SSAValue:
    assert isinstance(inner, BlockArgument)
    return group.operands[inner.index]


# --- what each movement makes of a place ----------------------------------------------------------


class NoViewError(ValueError):
    """A movement that strides cannot express; its text says why."""


def _shown(group: Operation, place: Place) -> Place:
    """The place of a movement's result, where its operand lies at `place`."""
    op = _move(group)
    make = _SHOWN.get(op.name)
    if make is None:
        raise NoViewError(f"{op.name} makes new elements or joins several tensors")
    split = _split(place.steps, shape_of(op.operands[0]))
    if split is None:
        raise NoViewError("the dimensions of its operand do not divide where its parts lie")
    return make(op, place, split)


def _transposed(op: Operation, place: Place, split: list[list[Step]]) -> Place:
    order = values(op.properties["permutation"])  # type: ignore[arg-type]
    return Place(place.storage, place.offset, merged([s for a in order for s in split[a]]))


def _sliced(op: Operation, place: Place, split: list[list[Step]]) -> Place:
    starts, sizes, strides = (
        values(op.properties[n])  # type: ignore[arg-type]
        for n in ("starts", "sizes", "strides")
    )
    return _window(place, split, shape_of(op.operands[0]), starts, sizes, strides)


def _broadcast(op: Operation, place: Place, split: list[list[Step]]) -> Place:
    shape, wide = shape_of(op.operands[0]), shape_of(op.results[0])
    missing = len(wide) - len(shape)
    steps: list[Step] = [(d, 0) for d in wide[:missing]]
    for before, after, own in zip(shape, wide[missing:], split, strict=True):
        steps += own if before == after else [(after, 0)]
    return Place(place.storage, place.offset, merged(steps))


_SHOWN: dict[str, Callable[[Operation, Place, list[list[Step]]], Place]] = {
    "graph.transpose": _transposed,
    "graph.slice": _sliced,
    "graph.broadcast_to": _broadcast,
}


def _part(group: Operation, number: int, place: Place) -> Place:
    """The place of an operand of a movement whose result lies at `place`."""
    op = _move(group)
    result = shape_of(op.results[0])
    split = _split(place.steps, result)
    if split is None:
        raise NoViewError("the dimensions of its result do not divide where its parts lie")
    if op.name == "graph.transpose":
        order = values(op.properties["permutation"])  # type: ignore[arg-type]
        back = sorted(range(len(order)), key=lambda k: order[k])
        return Place(place.storage, place.offset, merged([s for a in back for s in split[a]]))
    shape = shape_of(op.operands[number])
    starts = part_starts(op, number)
    return _window(place, split, result, starts, shape, (1,) * len(shape))


def part_starts(op: Operation, number: int) -> Dims:
    """Where in the result of a concat or pad an operand begins.

    Raises ValueError for other operations.
    """
    if op.name == "graph.pad":
        return values(op.properties["low"])  # type: ignore[arg-type]
    if op.name != "graph.concat":
        raise NoViewError(f"{op.name} does not keep its operand as a part of its result")
    axis: int = op.properties["axis"].value.data  # type: ignore[attr-defined]
    start = sum(shape_of(v)[axis] for v in op.operands[:number])
    return tuple(start if a == axis else 0 for a in range(len(shape_of(op.results[0]))))


def _window(
    place: Place,
    split: list[list[Step]],
    shape: Sequence[int],
    starts: Sequence[int],
    sizes: Sequence[int],
    strides: Sequence[int],
) -> Place:
    """Some elements of each dimension."""
    offset, steps = place.offset, list[Step]()
    rows = zip(split, shape, starts, sizes, strides, strict=True)
    for own, extent, start, size, stride in rows:
        if (start, size, stride) == (0, extent, 1):
            steps += own
            continue
        if len(own) > 1:
            raise NoViewError("a part of a dimension that has no single stride")
        apart = own[0][1] if own else 0
        offset += start * apart
        steps.append((size, apart * stride))
    return Place(place.storage, offset, merged(steps))


# --- what is left to copy -------------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """Elements that a movement group copies: `count` of them, in row-major order."""

    source: Place
    destination: Place
    count: int

    @property
    def stays(self) -> bool:
        """Whether the elements are as far into one storage as into the other."""
        a, b = self.source, self.destination
        return (a.offset, a.steps) == (b.offset, b.steps)


def copies(group: Operation, only: int | None = None) -> list[Copy]:
    """What a movement group copies: nothing where it is a view, or where all its operands lie
    within its result. Not of a gather, which reads by indices. `only` asks for one operand of a
    concat.

    Raises NoViewError where strides cannot express a copy.
    """
    op, result = _move(group), group.results[0]
    if VIEW in group.attributes:
        place_of(result)
        return []
    if op.name in ("graph.concat", "graph.pad"):
        held, whole = within(group), place_of(result)
        asked = range(len(op.operands)) if only is None else [only]
        left = [(n, op.operands[n]) for n in asked if n not in held]
        return [
            Copy(place_of(_outer(group, v)), _part(group, n, whole), prod(shape_of(v)))
            for n, v in left
            if prod(shape_of(v))
        ]
    if within(group):
        place_of(result)
        return []
    place = place_of(_outer(group, op.operands[0]))
    shown = place if op.name == "graph.reshape" else _shown(group, place)
    return [Copy(shown, place_of(result), prod(shape_of(result)))]


def border(group: Operation) -> list[tuple[Place, Dims]]:
    """The parts of a pad's result that are around its operand, with their extents."""
    op, result = _move(group), shape_of(group.results[0])
    place, inner = place_of(group.results[0]), shape_of(op.operands[0])
    split = _split(place.steps, result)
    if split is None:
        raise NoViewError("the dimensions of its result do not divide where its parts lie")
    low = part_starts(op, 0)
    found: list[tuple[Place, Dims]] = []
    for axis, (extent, size, start) in enumerate(zip(result, inner, low, strict=True)):
        for first, length in ((0, start), (start + size, extent - start - size)):
            if length:
                starts = (*low[:axis], first, *(0 for _ in result[axis + 1 :]))
                sizes = (*inner[:axis], length, *result[axis + 1 :])
                ones = (1,) * len(result)
                found.append((_window(place, split, result, starts, sizes, ones), sizes))
    return found


# --- common dimensions ----------------------------------------------------------------------------


def refined(dims: Sequence[int], operands: Sequence[tuple[Place, Sequence[int]]]) -> Dims | None:
    """`dims` split so far that every operand has one stride along each part. Operands come with
    their extents: as `dims`, or 1 where they repeat. None where they divide in ways that do not go
    together.
    """
    cuts: list[set[int]] = [{1, d} for d in dims]
    for place, own in operands:
        split = _split(place.steps, own)
        if split is None:
            return None
        for k, steps in enumerate(split):
            size = 1
            for count, _ in reversed(steps):
                size *= count
                cuts[k].add(size)
    found: list[int] = []
    for d, marks in zip(dims, cuts, strict=True):
        ordered = sorted(marks)
        if any(b % a for a, b in pairwise(ordered)):
            return None
        parts = [b // a for a, b in pairwise(ordered)]
        found += parts[::-1] if d != 1 else [1]
    return tuple(found)


def refined_extents(dims: Sequence[int], fine: Sequence[int], own: Sequence[int]) -> Dims:
    """The extents of an operand along the dimensions `fine` that `dims` were split into."""
    found: list[int] = []
    at = 0
    for d, extent in zip(dims, own, strict=True):
        size, first = 1, at
        while size < d or at == first:
            size *= fine[at]
            at += 1
        found += fine[first:at] if extent == d else [1] * (at - first)
    return tuple(found)


def apart(fine: Sequence[int], operands: Sequence[tuple[Place, Sequence[int]]]) -> frozenset[int]:
    """The dimensions of `fine` that must not be joined with the one before, since some operand (its
    place and extents) does not go on there.
    """
    found: set[int] = set()
    for place, own in operands:
        strides = place.strides(own)
        assert strides is not None
        inner: int | None = None
        for k in reversed(range(len(fine))):
            if own[k] == 1:
                continue
            if inner is not None and strides[k] != strides[inner] * own[inner]:
                found.add(inner)
            inner = k
    return frozenset(found)


def strided_run(strides: Sequence[int], extents: Sequence[Any]) -> Any:
    """Elements that a block has in a row, where its dimensions lie so far apart; the extents may be
    numpy arrays.
    """
    run: Any = 1
    for stride, extent in sorted(zip(strides, extents, strict=True), key=lambda pair: pair[0]):
        run = np.where(run == stride, run * extent, run)
    return run
