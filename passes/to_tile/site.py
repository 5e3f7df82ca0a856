"""Where a lowering finds its problem: the operands of a whole group, or those of some of its rows.

A lowering asks for each operand in the extents that the whole group sees it in, and gets a buffer
or a view that has the rows of its problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Attribute, SSAValue

from npu_dialect import rice, tile
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.parts import clipped, cut_in_images, is_image, part
from npu_dialect.passes.mapping.rows import (
    Read,
    is_batched,
    reshaped,
    row_axis,
    rows_of_tensor,
)
from npu_dialect.passes.mapping.stripes import Piece
from npu_dialect.passes.to_tile.context import Lowering, Nest
from npu_dialect.tile.attributes import Span
from npu_dialect.tile.syntax import shape_of as buffer_shape
from npu_dialect.tile.syntax import space_of

Make = Callable[[], npt.NDArray[Any]]


class Site:
    """All of a group: whole tensors, constants in dram."""

    def __init__(self, low: Lowering, group: Group, resident: bool):
        self.low, self.group = low, group
        self.location = group.location
        self.out_resident = resident

    def lies_in_scratchpad(self, base: SSAValue) -> bool:
        """Whether a tensor does that has memory of its own."""
        memory = self.low.memory
        return base in memory and space_of(memory[base]) == "spm"

    def problem(self, whole: Any, mapping: Any) -> tuple[Any, Any]:
        """What is to be lowered and how, of the problem of the whole group."""
        return whole, mapping

    def read(self, number: int, value: SSAValue, dims: Sequence[int]) -> SSAValue:
        """The operand `value`, the `number`-th of `stripes.reads`, which the whole group sees with
        the extents `dims`.
        """
        return self.low.buffer(value, self.location, dims)

    def result(self, dims: Sequence[int]) -> SSAValue:
        """The place of the result."""
        self.low.allocate_result(self.group, self.group.result, self.out_resident)
        return self.low.buffer(self.group.result, self.location, dims)

    def constant(self, name: str, make: Make, codec: Attribute | None = None) -> SSAValue:
        """Weights (in dram by a codec), parameters ("params") or the table, for the nest."""
        return self.low.data(make(), self.group.constants_location, codec)

    def top(self, pad: int) -> int:
        """Rows of padding above the operand that a window slides over."""
        return pad

    def batch(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        """The extents of a batch of products, of the whole group's."""
        return extents

    def nest(self, has_buffers: bool) -> Nest:
        """Where to write: in a loop of one trip, with which the buffers inside begin and end."""
        return Nest(self.low.builder, self.location).loop(1, always=True)[0]


def constants(
    site: Site, group: Group, streamed: bool = False
) -> tuple[SSAValue | None, SSAValue | None]:
    """The kernel's parameters (as they are where the array reads them from dram) and its table."""
    plan = group.plan
    params, table = plan.params, plan.table
    codecs = site.low.target.dma.codecs
    codec = StringAttr(rice.name(0)) if rice.NAME in codecs else None
    found: list[SSAValue | None] = [None, None]
    if params is not None:
        of_params = None if streamed else codec
        found[0] = site.constant("params", lambda: params.view(np.int32), of_params)
    if table is not None:
        found[1] = site.constant("table", lambda: table, codec)
    return found[0], found[1]


@dataclass
class RowBuffer:
    """Rows of a tensor in the scratchpad: [base, base + held) of them have a place, those below
    `made` are there.
    """

    value: SSAValue
    buffer: SSAValue
    axis: int
    held: int
    base: int = 0
    made: int = 0

    @staticmethod
    def of(low: Lowering, group: Group, value: SSAValue, held: int) -> RowBuffer:
        """A new one for at most `held` rows of `value`, which `group` makes or reads."""
        shape = list(shape_of(value))
        axis, extent = rows_axis(shape)
        shape[axis] = min(held, extent)
        alloc = tile.AllocOp(
            shape, dtype_of(value), "spm", label=group.name, part=True, location=group.location
        )
        return RowBuffer(value, low.builder.insert(alloc).result, axis, shape[axis])

    def rows(self, nest: Nest, start: int, stop: int) -> SSAValue:
        """The rows [start, stop) of the tensor."""
        assert self.base <= start <= stop <= self.base + self.held
        return self._part(nest, start - self.base, stop - self.base)

    def _part(self, nest: Nest, start: int, stop: int) -> SSAValue:
        return cut(nest, self.buffer, self.axis, start, stop)

    def make_room(self, nest: Nest, kept: int, stop: int) -> None:
        """Gives rows up to `stop` a place, and keeps those from `kept` on: where the buffer ends
        before, they go to its start, piece by piece as they must not overlap.
        """
        kept = min(kept, self.made)
        assert stop - kept <= self.held
        if stop - self.base <= self.held:
            return
        step = kept - self.base
        for start in range(kept, self.made, step):
            end = min(start + step, self.made)
            source = self._part(nest, start - self.base, end - self.base)
            nest.copy(source, self._part(nest, start - kept, end - kept))
        self.base = kept


def cut(nest: Nest, buffer: SSAValue, axis: int, start: int, stop: int) -> SSAValue:
    """The elements [start, stop) of a buffer along one dimension."""
    spans = [Span(d) for d in buffer_shape(buffer)]
    spans[axis] = Span(stop - start, start)
    return nest.view(buffer, spans)


@dataclass
class Shared:
    """What the pieces of one group have in common."""

    group: Group
    whole: bool
    """Whether its result is held whole, or goes to dram."""
    resident: bool
    held: bool
    """Whether its constants stay in the scratchpad."""
    reads: list[Read]
    constants: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])


class PieceSite(Site):
    """Some rows of a group's result, in a cascade whose row buffers are `rows`, by tensor."""

    def __init__(
        self,
        low: Lowering,
        shared: Shared,
        piece: Piece,
        rows: dict[SSAValue, RowBuffer],
        near: frozenset[SSAValue],
    ):
        super().__init__(low, shared.group, shared.resident or not shared.whole)
        self.shared, self.piece, self.rows, self.near = shared, piece, rows, near
        self.function = Nest(low.builder, self.location)

    def lies_in_scratchpad(self, base: SSAValue) -> bool:
        return base in self.near or super().lies_in_scratchpad(base)

    def nest(self, has_buffers: bool) -> Nest:
        return super().nest(True) if has_buffers else self.function

    def problem(self, whole: Any, mapping: Any) -> tuple[Any, Any]:
        piece = self.piece
        buffered = reshaped(self.shared.reads[0].value) in self.rows
        found = part(whole, self.group, piece.start, piece.stop, self.shared.held, buffered)
        return found, clipped(mapping, found)

    def read(self, number: int, value: SSAValue, dims: Sequence[int]) -> SSAValue:
        window = self.shared.reads[number].window
        if window is None or window.seen == 1:
            return super().read(number, value, dims)
        low, high = window.seen_of(self.piece.start, self.piece.stop)
        axis, extent = rows_axis(dims)
        factor = extent // window.seen
        rows = self.rows.get(reshaped(value))
        if rows is None:
            whole = super().read(number, value, dims)
            return cut(self.function, whole, axis, low * factor, high * factor)
        first, last = window.of(self.piece.start, self.piece.stop)
        seen, start = self._in_shape(rows, first, last, dims)
        return cut(self.function, seen, axis, low * factor - start, high * factor - start)

    def result(self, dims: Sequence[int]) -> SSAValue:
        start, stop = self.piece.start, self.piece.stop
        rows = self.rows.get(self.group.result)
        if rows is not None:
            return self._in_shape(rows, start, stop, dims)[0]
        axis, extent = rows_axis(dims)
        factor = extent // rows_of_tensor(self.group.result)
        return cut(self.function, super().result(dims), axis, start * factor, stop * factor)

    def _in_shape(
        self, rows: RowBuffer, start: int, stop: int, dims: Sequence[int]
    ) -> tuple[SSAValue, int]:
        """Rows of a row buffer as a part of a tensor of the extents `dims`, and where it begins
        there.
        """
        axis, extent = rows_axis(dims)
        total = rows_of_tensor(rows.value)
        found = list(dims)
        found[axis] = (stop - start) * extent // total
        view = rows.rows(self.function, start, stop)
        return self.low.reshaped(view, found, self.location), start * extent // total

    def constant(self, name: str, make: Make, codec: Attribute | None = None) -> SSAValue:
        known = self.shared.constants
        if name not in known:
            known[name] = self._held(super().constant(name, make, codec), name)
        return known[name]

    def _held(self, constant: SSAValue, name: str) -> SSAValue:
        """A constant in the scratchpad, where it stays for the other pieces."""
        if not self.shared.held:
            return constant
        location = self.group.constants_location
        alloc = tile.AllocOp.of(constant, "spm", label=name, part=True, location=location)
        buffer = self.low.builder.insert(alloc).result
        Nest(self.low.builder, location).copy(constant, buffer)
        return buffer

    def batch(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        if not is_batched(self.group):
            return extents
        axis = rows_axis(extents)[0]
        return (*extents[:axis], self.piece.rows, *extents[axis + 1 :])

    def top(self, pad: int) -> int:
        window = self.shared.reads[0].window
        if not is_image(self.group) or cut_in_images(self.group) or window is None:
            return pad
        first = window.seen_of(self.piece.start, self.piece.stop)[0]
        return first - (self.piece.start * window.stride - pad)


def rows_axis(dims: Sequence[int]) -> tuple[int, int]:
    """The dimension that rows lie along, and its extent."""
    axis = row_axis(dims)
    assert axis is not None
    return axis, dims[axis]
