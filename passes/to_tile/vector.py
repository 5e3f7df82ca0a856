"""Vector groups: elementwise chains, reductions and pooling, as one loop nest each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import Attribute, SSAValue

from npu_dialect import tile
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping import elementwise as mapper
from npu_dialect.passes.mapping.contraction import input_extent
from npu_dialect.passes.mapping.elementwise import ElementwiseMapping, PoolingMapping
from npu_dialect.passes.mapping.groups import (
    POOLS,
    REDUCTIONS,
    Group,
    elementwise,
    pooling,
    streams,
)
from npu_dialect.passes.mapping.tiles import trips
from npu_dialect.passes.to_tile.context import Index, Lowering, Nest, along
from npu_dialect.passes.to_tile.site import Site, constants
from npu_dialect.tile.attributes import Span


class VectorLowering:
    """The nest of an elementwise chain or a reduction."""

    def __init__(self, low: Lowering, group: Group, mapping: ElementwiseMapping, site: Site):
        self.low, self.group, self.site = low, group, site
        self.location = group.location
        whole = elementwise(group, site.lies_in_scratchpad, site.out_resident)
        self.p, self.m = site.problem(whole, mapping)
        self.depth = {b.label: b.depth for b in mapper.buffers(self.p, self.m)}
        self.out = site.result(whole.output.dims)
        self.fixed = Fixed(*constants(site, group))
        self.inputs = [
            site.read(k, v, stream.dims)
            for k, (v, stream) in enumerate(zip(streams(group).inputs, whole.inputs, strict=True))
        ]

    def emit(self) -> None:
        """Writes the nest."""
        nest = self.site.nest(bool(self.depth))
        params, table = self.fixed.load(nest)
        indices: list[Index] = []
        for axis, extent in enumerate(self.p.dims[: self.m.axis + 1]):
            if axis in self.p.whole:
                indices.append(None)
                continue
            step = self.m.chunk if axis == self.m.axis else 1
            nest, index = nest.loop(trips(extent, step))
            indices.append(index)
        self._tile(nest, indices, params, table)

    def _spans(self, dims: Sequence[int], indices: Sequence[Index]) -> list[Span]:
        """The part of a tensor that a tile needs: all of a dimension it broadcasts along, or that
        is reduced.
        """
        sizes = mapper.tile_dims(tuple(dims), self.m, self.p.whole)
        spans: list[Span] = []
        for axis, (extent, size) in enumerate(zip(dims, sizes, strict=True)):
            looped = axis < len(indices) and extent > 1
            spans.append(along(size, indices[axis] if looped else None, size))
        return spans

    def _tile(
        self, nest: Nest, indices: Sequence[Index], params: SSAValue | None, table: SSAValue | None
    ) -> None:
        loaded = [
            nest.load(
                nest.view(b, self._spans(stream.dims, indices)),
                self.depth.get(f"in{i}", 1),
                f"in{i}",
            )
            for i, (b, stream) in enumerate(zip(self.inputs, self.p.inputs, strict=True))
        ]
        spans = self._spans(self.p.output.dims, indices)
        place = nest.view(self.out, spans)
        out = nest.target_of(place, self.depth.get("out", 1), "out")
        if params is not None:
            params = nest.view(params, [self.p.param_rows, spans[-1]])
        self._compute(nest, loaded, out, params, table)
        nest.store(out, place)

    def _compute(
        self,
        nest: Nest,
        loaded: list[SSAValue],
        out: SSAValue,
        params: SSAValue | None,
        table: SSAValue | None,
    ) -> None:
        anchor = self.group.anchor
        if anchor is None:
            kernel = self.group.plan.kernel
            op = tile.VectorOp(
                loaded, out, kernel, params=params, table=table, location=self.location
            )
            nest.insert(op)
            return
        zero = self.group.zero(anchor.operands[0]) if anchor.name == "graph.reduce_sum" else 0
        nest.insert(
            tile.ReduceOp(
                loaded[0],
                out,
                REDUCTIONS[anchor.name],
                self.p.whole,
                x_zero=zero,
                kernel=self.group.finish,
                params=params,
                table=table,
                location=self.location,
            )
        )


@dataclass
class Fixed:
    """The kernel's parameters and table: constants of the function, loaded once for a whole
    nest.
    """

    params: SSAValue | None
    table: SSAValue | None

    def load(self, nest: Nest) -> tuple[SSAValue | None, SSAValue | None]:
        """Both in the scratchpad."""
        return (
            None if self.params is None else nest.load(self.params, 1, "params"),
            None if self.table is None else nest.load(self.table, 1, "table"),
        )


class PoolingLowering:
    """The nest of a pooling group: channels, then batch, rows, columns."""

    def __init__(self, low: Lowering, group: Group, mapping: PoolingMapping, site: Site):
        self.low, self.group, self.site = low, group, site
        self.location = group.location
        whole = pooling(group, site.lies_in_scratchpad, site.out_resident)
        self.p, self.m = site.problem(whole, mapping)
        self.depth = {b.label: b.depth for b in mapper.pooling_buffers(self.p, self.m)}
        anchor = group.anchor
        assert anchor is not None
        self.anchor = anchor
        self.out = site.result(shape_of(anchor.results[0]))
        self.fixed = Fixed(*constants(site, group))
        x = anchor.operands[0]
        self.x = site.read(0, group.outer(x), shape_of(x))
        self.pads = (site.top(group.setting("pads")[0]), group.setting("pads")[1])

    def emit(self) -> None:
        """Writes the nest."""
        nest = self.site.nest(bool(self.depth))
        params, table = self.fixed.load(nest)
        nest, c = nest.loop(trips(self.p.channels, self.m.channels))
        nest, n = nest.loop(self.p.batch)
        nest, y = nest.loop(trips(self.p.oh, self.m.rows))
        nest, x_index = nest.loop(trips(self.p.ow, self.m.cols))
        channels = along(self.m.channels, c, self.m.channels)
        windows = self._windows(y, x_index)
        x = nest.view(self.x, [along(1, n, 1), *windows, channels])
        loaded = nest.load(x, self.depth.get("x", 1), "x")
        rows = along(self.m.rows, y, self.m.rows)
        cols = along(self.m.cols, x_index, self.m.cols)
        place = nest.view(self.out, [along(1, n, 1), rows, cols, channels])
        out = nest.target_of(place, self.depth.get("out", 1), "out")
        if params is not None:
            params = nest.view(params, [self.p.param_rows, channels])
        self._compute(nest, loaded, out, windows, (params, table))
        nest.store(out, place)

    def _windows(self, y: Index, x: Index) -> list[Span]:
        top, left = self.pads
        (kh, kw), (sh, sw), (dh, dw) = self.p.size, self.p.strides, self.p.dilations
        rows = along(input_extent(self.m.rows, kh, sh, dh), y, self.m.rows * sh, -top)
        cols = along(input_extent(self.m.cols, kw, sw, dw), x, self.m.cols * sw, -left)
        return [rows, cols]

    def _compute(
        self,
        nest: Nest,
        x: SSAValue,
        out: SSAValue,
        windows: list[Span],
        fixed: tuple[SSAValue | None, SSAValue | None],
    ) -> None:
        kind = POOLS[self.anchor.name]
        op = tile.Pool2DOp(
            x,
            out,
            kind,
            self.p.size,
            windows,
            strides=self.p.strides,
            dilations=self.p.dilations,
            count_include_pad=_is_set(self.anchor.properties.get("count_include_pad")),
            x_zero=self.group.zero(self.anchor.operands[0]) if kind == "sum" else 0,
            kernel=self.group.finish,
            params=fixed[0],
            table=fixed[1],
            location=self.location,
        )
        nest.insert(op)


def _is_set(attribute: Attribute | None) -> bool:
    """Whether a flag is present and not 0."""
    return isinstance(attribute, IntegerAttr) and attribute.value.data != 0
