"""Data movement groups: each is a few copies of whole tensors, wherever these lie. What is a view,
or lies in its place already, is not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from xdsl.dialects.builtin import FloatAttr, IntegerAttr
from xdsl.ir import Operation, SSAValue

from npu_dialect import tile
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping.groups import Group, copied_dims
from npu_dialect.passes.mapping.views import PORT, VIEW, border, copies, place_of, storage
from npu_dialect.passes.to_tile.context import Lowering, Nest
from npu_dialect.tile.attributes import Span


class MoveLowering:
    """The copies of one data movement group."""

    def __init__(self, low: Lowering, group: Group, resident: bool):
        self.low, self.group = low, group
        self.location = group.location
        self.op = group.body[0]
        self.nest = Nest(low.builder, self.location)
        self._is_in_place = False
        if PORT in group.op.attributes and not resident:
            self._is_in_place = self._share()
        if VIEW not in group.op.attributes:
            low.allocate_result(group, group.result, resident)

    def _share(self) -> bool:
        """Gives an input or an output that stays in dram one place there; whether it has one."""
        memory, source = self.low.memory, storage(self.group.op.operands[0])
        if self.group.result not in memory:
            memory[self.group.result] = self.low.buffer(self.group.op.operands[0], self.location)
        return self.low.shares(source, self.group.result)

    def emit(self) -> None:
        """Writes the copies."""
        if len(group_body := self.group.body) != 1:
            raise self._refuse(f"a movement group must have one operation, found {len(group_body)}")
        if VIEW in self.group.op.attributes or self._is_in_place:
            return
        lower = _LOWERINGS.get(self.op.name)
        if lower is None:
            raise self._refuse(f"{self.op.name} must have a lowering to copies")
        if self.op.name == "graph.gather" or self._is_plain():
            lower(self)
        else:
            self._by_strides()

    def _is_plain(self) -> bool:
        """Whether all that takes part has memory of its own."""
        tensors = (*self.group.op.operands, self.group.result)
        return all(place_of(v).is_whole for v in tensors)

    def _by_strides(self) -> None:
        """Copies what does not lie in its place already, and fills what is around it."""
        if self.op.name == "graph.pad":
            value = _pad_value(self.op)
            for place, shape in border(self.group.op):
                part = self.low.at(place, shape, self.location)
                self.nest.insert(tile.FillOp(part, value, location=self.location))
        for copy in copies(self.group.op):
            if copy.stays and self.low.shares(copy.source.storage, copy.destination.storage):
                continue  # what a new content of a state keeps of the old one
            dims = copied_dims(copy)
            source, destination = (
                self.low.at(place, dims, self.location) for place in (copy.source, copy.destination)
            )
            self.nest.copy(source, destination)

    def _refuse(self, rule: str) -> Exception:
        return error(
            Code.NOT_LOWERABLE, rule, source=self.group.op, remedy="placing it on the host"
        )

    def source(self, number: int, shape: Sequence[int] | None = None) -> SSAValue:
        """The memory of an operand, in its own shape or another."""
        operand = self.op.operands[number]
        return self.low.buffer(
            self.group.outer(operand), self.location, shape_of(operand) if shape is None else shape
        )

    def result(self, shape: Sequence[int] | None = None) -> SSAValue:
        """The memory of the result, in its own shape or another."""
        wanted = shape_of(self.op.results[0]) if shape is None else shape
        return self.low.buffer(self.group.result, self.location, wanted)


def _reshape(m: MoveLowering) -> None:
    m.nest.copy(m.source(0, shape_of(m.op.results[0])), m.result())


def _transpose(m: MoveLowering) -> None:
    shape = shape_of(m.op.operands[0])
    dims, permutation = merge_permutation(shape, values(m.op.properties["permutation"]))
    moved = m.nest.transpose(m.source(0, dims), permutation)
    m.nest.copy(moved, m.result([dims[p] for p in permutation]))


def merge_permutation(
    shape: Sequence[int], permutation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The same transposition with dimensions of 1 dropped and those that stay neighbours merged."""
    order = [p for p in permutation if shape[p] != 1]
    runs: list[list[int]] = []
    for p in order:
        if runs and _follows(shape, runs[-1][-1], p):
            runs[-1].append(p)
        else:
            runs.append([p])
    by_source = sorted(range(len(runs)), key=lambda r: runs[r][0])
    dims = [prod(shape[a] for a in runs[r]) for r in by_source]
    new = [by_source.index(r) for r in range(len(runs))]
    return (dims, new) if dims else ([1], [0])


def _follows(shape: Sequence[int], before: int, after: int) -> bool:
    return after > before and all(shape[a] == 1 for a in range(before + 1, after))


def _concat(m: MoveLowering) -> None:
    axis = _integer(m.op, "axis")
    shape = shape_of(m.op.results[0])
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    out = m.result((outer, shape[axis], inner))
    start = 0
    for number, operand in enumerate(m.op.operands):
        extent = shape_of(operand)[axis]
        if extent * outer * inner == 0:
            continue
        place = m.nest.view(out, [Span(outer), Span(extent, start), Span(inner)])
        m.nest.copy(m.source(number, (outer, extent, inner)), place)
        start += extent


def _slice(m: MoveLowering) -> None:
    starts, sizes, strides = (values(m.op.properties[n]) for n in ("starts", "sizes", "strides"))
    spans = [Span(n, s, (), step) for s, n, step in zip(starts, sizes, strides, strict=True)]
    m.nest.copy(m.nest.view(m.source(0), spans), m.result())


def _pad(m: MoveLowering) -> None:
    low = values(m.op.properties["low"])
    m.nest.insert(tile.FillOp(m.result(), _pad_value(m.op), location=m.location))
    spans = [Span(d, s) for d, s in zip(shape_of(m.op.operands[0]), low, strict=True)]
    m.nest.copy(m.source(0), m.nest.view(m.result(), spans))


def _pad_value(op: Operation) -> int | float:
    attribute = op.properties["value"]
    assert isinstance(attribute, IntegerAttr | FloatAttr)
    return attribute.value.data


def _broadcast(m: MoveLowering) -> None:
    shape = shape_of(m.op.results[0])
    source = m.source(
        0, (1,) * (len(shape) - len(shape_of(m.op.operands[0]))) + shape_of(m.op.operands[0])
    )
    wide = tile.BroadcastOp(source, shape, location=m.location)
    m.nest.insert(wide)
    m.nest.copy(wide.result, m.result())


def _gather(m: MoveLowering) -> None:
    source, indices, out = m.source(0), m.source(1), m.result()
    m.nest.insert(tile.GatherOp(source, indices, out, location=m.location))


def _integer(op: Operation, name: str) -> int:
    attribute = op.properties[name]
    assert isinstance(attribute, IntegerAttr)
    return attribute.value.data


_LOWERINGS: dict[str, Callable[[MoveLowering], None]] = {
    "graph.reshape": _reshape,
    "graph.transpose": _transpose,
    "graph.concat": _concat,
    "graph.slice": _slice,
    "graph.pad": _pad,
    "graph.broadcast_to": _broadcast,
    "graph.gather": _gather,
}
