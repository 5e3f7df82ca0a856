"""The parts of a plan: tensors with memory of their own, segments of groups, steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Block, SSAValue

from npu_dialect.passes.mapping.cascades import Member, Option
from npu_dialect.passes.mapping.groups import Group, is_constant, size_in_bytes
from npu_dialect.passes.mapping.problems import AnyMapping
from npu_dialect.passes.mapping.tiles import Buffer, aligned
from npu_dialect.passes.mapping.views import storage
from npu_dialect.passes.mapping.work import Work

Key = tuple[int, int, int, tuple[bool, ...]]
"""Of options: the first group and the one after the last, the inputs in the scratchpad by bits, and
which results stay there.
"""


@dataclass
class Tensor:
    """A tensor with memory of its own (others may lie within it): its bytes, the first step that
    writes it, and the last one that needs it.
    """

    value: SSAValue
    size: int
    written: int
    read: int
    may_stay: bool
    bit: int = 0

    @property
    def aligned(self) -> int:
        return aligned(self.size)


@dataclass(frozen=True)
class Cascade:
    """A run of groups that is executed in stripes."""

    option: Option
    stays: tuple[bool, ...]
    """Whether each result that is read outside stays in the scratchpad."""
    cycles: float = 0.0
    """Beyond the segments before."""
    key: Key | None = None
    """By which its options are known; None where it is pinned."""

    @property
    def stop(self) -> int:
        return self.option.stop


@dataclass(frozen=True)
class Single:
    """A segment of one group."""

    number: int
    work: Work
    stays: bool
    cycles: float = 0.0
    """Beyond the segments before."""

    @property
    def stop(self) -> int:
        return self.number + 1


Segment = Single | Cascade


@dataclass
class Step:
    """One group, mapped; as a member of a cascade, of which `number` tells which."""

    group: Group
    work: Work
    number: int | None = None
    rows: int = 0
    """Of the last result of the cascade, in a stripe."""
    member: Member | None = None

    @property
    def mapping(self) -> AnyMapping | None:
        return self.work.mapping

    @property
    def buffers(self) -> Sequence[Buffer]:
        return self.work.buffers

    @property
    def cycles(self) -> float:
        """Of the group alone; of one whole stripe in a cascade."""
        return float(max(self.work.compute, self.work.transfer))


@dataclass
class Plan:
    """Steps in program order, and the tensors (with memory of their own) that stay in the
    scratchpad.
    """

    steps: list[Step] = field(default_factory=list[Step])
    resident: set[SSAValue] = field(default_factory=set[SSAValue])
    segments: list[Segment] = field(default_factory=list[Segment])
    cost: float = 0.0


class TooLargeError(Exception):
    """A group of which no tile fits the scratchpad, whatever else goes to dram."""

    def __init__(self, group: Group):
        super().__init__(group)
        self.group = group


def first_of(segment: Segment) -> int:
    """The number of the first group of a segment."""
    return segment.number if isinstance(segment, Single) else segment.option.first


def weights_of(group: Group) -> int:
    """Bytes of the constants of an array group."""
    if group.kind != "array" or group.anchor is None:
        return 0
    w = group.outer(group.anchor.operands[1])
    return size_in_bytes(w) if is_constant(w) else 0


def tensors(block: Block, groups: Sequence[Group]) -> dict[SSAValue, Tensor]:
    """Every tensor with memory of its own that a group writes. One may stay unless the host, the
    caller or the program's end needs it.
    """
    own = {v for group in groups for v in group.op.results if storage(v) is v}
    found: dict[SSAValue, Tensor] = {}
    for n, group in enumerate(groups):
        in_dram = group.kind in ("host", "io")
        for value in map(storage, group.op.results):
            if value in own:
                tensor = found.setdefault(value, Tensor(value, size_in_bytes(value), n, n, True))
                tensor.read = n
                tensor.may_stay &= not in_dram
        for value in map(storage, group.inputs):
            tensor = found.get(value)
            if tensor is not None:
                tensor.read = n
                tensor.may_stay &= not in_dram
    last = block.last_op
    assert last is not None
    for value in map(storage, last.operands):
        tensor = found.get(value)
        if tensor is not None:
            tensor.may_stay = False
    return found
