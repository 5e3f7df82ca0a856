"""Scatter groups: tiles of the result, each loaded, updated by all indices, and stored; or rows
that are brought to their places in a state, of which the others stay where they are.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import tile
from npu_dialect.passes.mapping import scatter as mapper
from npu_dialect.passes.mapping.groups import Group, scatter
from npu_dialect.passes.mapping.scatter import ScatterMapping
from npu_dialect.passes.to_tile.context import Index, Lowering, Nest, along, whole
from npu_dialect.tile.attributes import Span
from npu_dialect.tile.syntax import dtype_of as buffer_dtype
from npu_dialect.tile.syntax import space_of


class ScatterLowering:
    """The nest of a scatter: rows, then elements; the lots of updates innermost."""

    def __init__(self, low: Lowering, group: Group, mapping: ScatterMapping, resident: bool):
        self.low, self.m = low, mapping
        self.location = group.location
        self.p = scatter(group, self._resident, resident)
        self.depth = {b.label: b.depth for b in mapper.buffers(self.p, mapping)}
        anchor = group.anchor
        assert anchor is not None
        self.x, self.indices, self.updates = (
            low.buffer(group.outer(v), self.location, shape)
            for v, shape in zip(anchor.operands, self._shapes(), strict=True)
        )
        low.allocate_result(group, group.result, resident)
        self.out = low.buffer(group.result, self.location, (self.p.rows, self.p.elements))

    def _resident(self, value: SSAValue) -> bool:
        return value in self.low.memory and space_of(self.low.memory[value]) == "spm"

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        p = self.p
        return (p.rows, p.elements), (p.count,), (p.count, p.elements)

    def emit(self) -> None:
        """Writes the nest, or what brings rows into a state that is updated in place."""
        if self._by_rows():
            self._bring_rows()
            return
        nest, _ = Nest(self.low.builder, self.location).loop(1, always=True)
        rows, columns, lots = mapper.tile_counts(self.p, self.m)
        nest, r = nest.loop(rows)
        nest, c = nest.loop(columns)
        spans = [
            along(self.m.rows, r, self.m.rows),
            along(self.m.elements, c, self.m.elements),
        ]
        place = nest.view(self.out, spans)
        out = nest.target_of(place, self.depth.get("out", 1), "out")
        nest.copy(nest.view(self.x, spans), out)
        inside, n = nest.loop(lots)
        self._update(inside, n, out, spans)
        nest.store(out, place)

    def _by_rows(self) -> bool:
        """Whether the rows that change are all that has to be moved."""
        in_place = whole(self.x) is whole(self.out) and space_of(self.out) == "dram"
        known = buffer_dtype(self.indices).name in self.low.target.dma.index_types
        return in_place and known and self.p.kind == "set"

    def _bring_rows(self) -> None:
        nest = Nest(self.low.builder, self.location)
        rows = Span(self.p.rows)
        nest.insert(
            tile.ScatterOp(
                self.indices, self.updates, self.out, "set", rows, location=self.location
            )
        )

    def _update(self, nest: Nest, n: Index, out: SSAValue, spans: list[Span]) -> None:
        lot = along(self.m.count, n, self.m.count)
        indices = nest.view(self.indices, [lot])
        updates = nest.view(self.updates, [lot, spans[1]])
        op = tile.ScatterOp(
            nest.load(indices, self.depth.get("indices", 1), "indices"),
            nest.load(updates, self.depth.get("updates", 1), "updates"),
            out,
            self.p.kind,
            spans[0],
            location=self.location,
        )
        nest.insert(op)
