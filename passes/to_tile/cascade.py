"""Cascades: runs of groups executed in stripes of rows, depth-first.

    %a = graph.group ... {npu.cascade = {number = 0, rows = 4}, npu.memory = "rows", npu.held = 6}
    %b = graph.group %a, %w ... {npu.cascade = {number = 0, rows = 4}, npu.weights = "held", ...}

becomes

    %rows = tile.alloc {part} : memref<1x6x32x16xi8, "spm">
    nest of rows 0..5 of %a into %rows[0 : 5]
    %held = tile.alloc {part}; copy of the weights
    nest of rows 0..4 of %b from %rows[0 : 5] and %held
    copy of %rows[3 : 2] to %rows[0 : 2], which the next stripe reads again
    nest of rows 5..9 of %a into %rows[2 : 4]
    ...

Every nest is that of a group, on the rows of its stripe. What each group says:

    npu.memory       "rows" for a result of which a row buffer has `npu.held` rows, else as ever
    npu.weights      "held" where its constants are loaded once and stay
    npu.rows         the most rows of the result that are made at once, where they are fewer than a
                     stripe needs: the groups before it make what these need, in turn
    npu.input_held   on the first group that reads a tensor of dram with its first operand: rows of
                     that tensor that a row buffer has, which is filled by each row once. Without it
                     every nest loads what its windows need
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, StringAttr
from xdsl.ir import Operation, SSAValue

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.rows import reads, reshaped
from npu_dialect.passes.mapping.stripes import (
    Flow,
    Piece,
    Source,
    fits,
    held_storages,
    least_held,
    least_input_held,
    steps,
)
from npu_dialect.passes.to_tile.context import Lowering, Nest
from npu_dialect.passes.to_tile.site import PieceSite, RowBuffer, Shared, Site, cut
from npu_dialect.tile.syntax import space_of

CASCADE = "npu.cascade"
HELD = "npu.held"
WEIGHTS = "npu.weights"
INPUT_HELD = "npu.input_held"
ROWS = "npu.rows"

Emit = Callable[[Group, Site], None]
"""Writes the nest of a group on the operands of a site."""


def cascade_of(op: Operation) -> int | None:
    """The number of the cascade that a group is in."""
    attribute = op.attributes.get(CASCADE)
    return None if attribute is None else _setting(op, "number")


def runs(ops: Iterable[Operation]) -> dict[Operation, list[Group]]:
    """The groups of each cascade, by the first one's operation."""
    found: dict[int, list[Group]] = {}
    for op in ops:
        number = cascade_of(op)
        if number is not None:
            found.setdefault(number, []).append(Group(op))
    return {groups[0].op: groups for groups in found.values()}


def _setting(op: Operation, name: str) -> int:
    attribute = op.attributes[CASCADE]
    value = attribute.data.get(name) if isinstance(attribute, DictionaryAttr) else None
    if not isinstance(value, IntegerAttr) or cast(Any, value).value.data < 0:
        raise error(
            Code.NOT_LOWERABLE,
            f"{CASCADE} must be {{number = ..., rows = ...}}",
            found=str(attribute),
            source=op,
        )
    return cast(IntegerAttr[Any], value).value.data


class CascadeLowering:
    """The nests of one cascade."""

    def __init__(self, low: Lowering, groups: Sequence[Group], emit: Emit):
        self.low, self.groups, self.emit_nest = low, tuple(groups), emit
        self.flow = Flow(self.groups)
        self._check()
        self.rows = _setting(groups[0].op, "rows")
        self.most = [self._most(g) for g in groups]
        self.made = [0] * len(groups)
        self.buffers: dict[SSAValue, RowBuffer] = {}
        self.shared = [self._shared(g) for g in groups]

    def _check(self) -> None:
        """Raises CompileError unless the groups are a cascade and agree on its stripes."""
        reason = fits(self.groups)
        if reason is not None:
            raise self._refuse(self.groups[0], f"a cascade must be executable in stripes: {reason}")
        stripes = {str(g.op.attributes[CASCADE]) for g in self.groups}
        if len(stripes) > 1:
            found = " and ".join(sorted(stripes))
            raise self._refuse(self.groups[0], "groups of a cascade must have equal stripes", found)
        rows, total = _setting(self.groups[0].op, "rows"), self.flow.rows[-1]
        if not 1 <= rows <= total:
            last = self.groups[-1]
            raise self._refuse(last, f"a stripe must have 1 to {total} rows", rows)

    def _refuse(self, group: Group, rule: str, found: object = "") -> CompileError:
        remedy = "other settings of the cascade, or leaving it to the compiler"
        return error(Code.NOT_LOWERABLE, rule, found=found, remedy=remedy, source=group.op)

    def _shared(self, group: Group) -> Shared:
        memory = group.op.attributes.get("npu.memory")
        weights = group.op.attributes.get(WEIGHTS)
        if weights not in (None, StringAttr("held")):
            raise self._refuse(group, f'{WEIGHTS} must be "held" or absent', weights)
        return Shared(
            group,
            whole=memory != StringAttr("rows"),
            resident=memory == StringAttr("spm"),
            held=weights is not None,
            reads=reads(group),
        )

    def _most(self, group: Group) -> int | None:
        attribute = group.op.attributes.get(ROWS)
        if attribute is None:
            return None
        most = cast(Any, attribute).value.data if isinstance(attribute, IntegerAttr) else 0
        if most < 1:
            raise self._refuse(group, f"{ROWS} must be 1 at least", attribute)
        return most

    # --- row buffers

    def _allocate(self) -> None:
        """Row buffers for results and inputs."""
        least = least_held(self.groups, self.rows, self.most)
        for shared in self.shared:
            if shared.whole:
                continue
            group = shared.group
            if group.result not in least:
                rule = f"{group.name} must be held whole, as it is read outside of its cascade"
                raise self._refuse(group, rule)
            held = self._held(group, HELD, least[group.result])
            self.buffers[group.result] = RowBuffer.of(self.low, group, group.result, held)
        self.inputs = {s.value: s for s in self._held_inputs()}
        self.near = frozenset(self.buffers) | held_storages(self.groups, self.inputs)

    def _held_inputs(self) -> Iterator[Source]:
        """Gives inputs row buffers where their first readers say so."""
        sources = {s.value: s for s in self.flow.inputs}
        least = least_input_held(self.groups, self.rows, self.most)
        for number, group in enumerate(self.groups):
            if INPUT_HELD not in group.op.attributes:
                continue
            source = sources.get(reshaped(reads(group)[0].value))
            if source is None or source.readers[0][0] != number or self._is_near(source):
                rule = f"{INPUT_HELD} must stand on the first reader of a tensor of dram, by rows"
                raise self._refuse(group, rule)
            held = self._held(group, INPUT_HELD, least[source.value])
            self.buffers[source.value] = RowBuffer.of(self.low, group, source.value, held)
            yield source

    def _is_near(self, source: Source) -> bool:
        memory = self.low.memory.get(source.value)
        return memory is not None and space_of(memory) == "spm"

    def _held(self, group: Group, name: str, least: int) -> int:
        attribute = group.op.attributes.get(name)
        held = attribute.value.data if isinstance(attribute, IntegerAttr) else 0
        if held < least:
            raise self._refuse(group, f"{name} must be {least} at least", held)
        return held

    # --- stripes

    def emit(self) -> None:
        """Writes all stripes."""
        self._allocate()
        for piece in chain.from_iterable(steps(self.groups, self.rows, self.most)):
            for source in self.inputs.values():
                self._load(source, piece)
            self._make_room(piece)
            self._emit(piece)

    def _load(self, source: Source, piece: Piece) -> None:
        """Brings the rows of an input into its buffer that the piece is the first to read."""
        window = self.flow.needs[piece.group].get(source.value)
        buffer = self.buffers[source.value]
        start, stop = buffer.made, 0 if window is None else window.of(piece.start, piece.stop)[1]
        if stop <= start:
            return
        nest = Nest(self.low.builder, self.groups[piece.group].location)
        buffer.make_room(nest, self.flow.kept_from(source, self.made), stop)
        whole = self.low.buffer(source.value, nest.location)
        rows = cut(nest, whole, buffer.axis, start, stop)
        nest.copy(rows, buffer.rows(nest, start, stop))
        buffer.made = stop

    def _make_room(self, piece: Piece) -> None:
        group = self.groups[piece.group]
        buffer = self.buffers.get(group.result)
        if buffer is not None:
            kept = self.flow.kept_from(self.flow.results[piece.group], self.made)
            buffer.make_room(Nest(self.low.builder, group.location), kept, piece.stop)
            buffer.made = piece.stop

    def _emit(self, piece: Piece) -> None:
        shared = self.shared[piece.group]
        self.emit_nest(shared.group, PieceSite(self.low, shared, piece, self.buffers, self.near))
        self.made[piece.group] = piece.stop
