"""States at level tile: which are updated in place, and the copies that bring the others there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xdsl.builder import Builder
from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Operation, OpResult, SSAValue

from npu_dialect import tile
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping.groups import SCATTER, Group, root
from npu_dialect.passes.mapping.views import copies, final_readers, makers, storage
from npu_dialect.passes.to_tile.context import whole
from npu_dialect.tile.syntax import dtype_of
from npu_dialect.tile.syntax import shape_of as buffer_shape


def in_place(old: SSAValue, new: SSAValue) -> bool:
    """Whether the group that makes the new content of a state may write it over the old one: every
    other reader comes before, and the group itself reads nothing that it has overwritten.
    """
    assert isinstance(new, OpResult)
    maker, *others = makers(new)
    for user, _ in final_readers(old):
        if user is maker:
            alike = not others and _reads_before_writing(Group(maker), old)
            if not alike and not _keeps(maker, old):
                return False
        elif user.name != "graph.group" or not all(
            user.is_before_in_block(each) for each in (maker, *others)
        ):
            return False
    return True


def _keeps(maker: Operation, old: SSAValue) -> bool:
    """Whether a concat copies of `old` only what already is where it goes."""
    if Group(maker).body[0].name != "graph.concat" or any(root(v) is old for v in maker.operands):
        return False
    return all(c.stays for c in copies(maker) if c.source.storage is old)


def _reads_before_writing(group: Group, old: SSAValue) -> bool:
    """Whether every tile of a group reads of `old` only the elements that this tile writes: in the
    kernel, element by element, or as the rows that a scatter changes.
    """
    if group.kind not in ("array", "vector") or len(group.op.results) != 1:
        return False
    if any(storage(v) is old and root(v) is not old for v in group.op.operands):
        return False  # elements elsewhere than where the results go
    if group.anchor is None:
        return _reads_alike(group, old)
    if group.anchor.name == SCATTER:
        return not _reads(group, group.anchor.operands[1:], old)
    anchored = group.anchor.operands
    return group.kind == "array" and not _reads(group, anchored, old) and _reads_alike(group, old)


def _reads_alike(group: Group, old: SSAValue) -> bool:
    """Whether the kernel reads `old` without broadcasting."""
    read = [shape_of(v) for v in group.tensors if root(v) is old]
    return all(_padded(s) == _padded(shape_of(group.result)) for s in read)


def _reads(group: Group, values: Sequence[SSAValue], old: SSAValue) -> bool:
    """Whether any of the values inside the group is `old`."""
    return any(root(group.outer(v)) is old for v in values)


def _padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without leading ones, which broadcasting adds."""
    first = next((k for k, d in enumerate(shape) if d != 1), len(shape))
    return shape[first:]


# --- copies at the end ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A copy of a whole buffer."""

    source: SSAValue
    destination: SSAValue
    location: LocationAttr


def in_order(moves: list[Move], builder: Builder) -> Iterator[Move]:
    """The moves one after the other, so that each finds what was there before all of them. Where
    they go round (two states change places), one source is saved in a buffer of its own.
    """
    waiting = list(moves)
    while waiting:
        sources = {whole(m.source) for m in waiting}
        ready = [m for m in waiting if whole(m.destination) not in sources]
        if ready:
            yield from ready
            waiting = [m for m in waiting if m not in ready]
            continue
        first = waiting[0]
        saved = _buffer_like(first.source, first.location, builder)
        yield Move(first.source, saved, first.location)
        waiting[0] = replace(first, source=saved)


def _buffer_like(value: SSAValue, location: LocationAttr, builder: Builder) -> SSAValue:
    alloc = tile.AllocOp(
        buffer_shape(value), dtype_of(value), "dram", label="state", location=location
    )
    return builder.insert(alloc).result
