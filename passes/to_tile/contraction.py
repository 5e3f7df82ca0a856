"""Array groups: convolutions and matrix products with their output stage, as one loop nest.

With the order `weights_outer` the loops are groups, output channels, batch, rows, columns; with
`rows_outer` batch, groups, rows, columns, output channels. Loops of one trip are left out. The
reduction is innermost. Activations and weights in dram are loaded at the level that the mapping
says: whole before the nest ("held"), with all input channels where a tile begins ("tile"), or in
the loop over input channels ("slice"). Weights that are not loaded ("stream"), nor their
parameters, are read by every operation as they lie in dram.

Weights lie in dram as [OC, KH, KW, IC], so that a tile of output channels is one contiguous piece.

A tile is one operation, or with `taps = "joined"` one for the columns whose windows lie within the
image and one for each column that meets fewer taps:

    %part = tile.view %x[0 : 1, 0 : 17, 1 : 223, 0 : 3]
    %runs = tile.unfold %part {size = 7, step = 2} : ... to memref<1x17x109x21xi8, "spm">
    tile.conv2d ins(%runs, %weights as [7, 1, 21, 64]) out(columns 2 to 110 of the tile) ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import IntegerAttr, i64
from xdsl.ir import Operation, OpResult, SSAValue

from npu_dialect import tile
from npu_dialect.blob import BlobAttr
from npu_dialect.codecs import PACKED
from npu_dialect.diagnostics import Code, error
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping import contraction as mapper
from npu_dialect.passes.mapping.contraction import Contraction, ContractionMapping, input_extent
from npu_dialect.passes.mapping.contraction_problem import may_stream
from npu_dialect.passes.mapping.contraction_taps import (
    Columns,
    columns,
    may_join,
    whole_columns,
)
from npu_dialect.passes.mapping.groups import Group, contraction, is_constant, matrices, root
from npu_dialect.passes.to_tile.context import Index, Lowering, Nest, along
from npu_dialect.passes.to_tile.site import Site, constants
from npu_dialect.tile.attributes import Span
from npu_dialect.tile.syntax import shape_of as buffer_shape
from npu_dialect.tile.syntax import space_of
from npu_dialect.zeros import ALL_MADE, MADE


@dataclass
class Loops:
    """The indices at a point of the nest."""

    batch: tuple[Index, ...] = ()
    group: Index = None
    channels: Index = None
    rows: Index = None
    cols: Index = None
    reduction: Index = None


@dataclass
class Weights:
    """What is loaded once for a tile of output channels."""

    params: SSAValue | None
    table: SSAValue | None
    weights: SSAValue | None


class ContractionLowering:
    """The nest of one array group."""

    def __init__(self, low: Lowering, group: Group, mapping: ContractionMapping, site: Site):
        self.low, self.group, self.site = low, group, site
        anchor = group.anchor
        assert anchor is not None
        self.anchor = anchor
        self.x, self.w = (group.outer(v) for v in anchor.operands[:2])
        whole = contraction(group, site.lies_in_scratchpad, site.out_resident)
        self.p: Contraction
        self.m: ContractionMapping
        self.p, self.m = site.problem(whole, mapping)
        self._check_taps()
        self._check_stream()
        self.n = mapper.loop_trips(self.p, self.m)
        self.depth = {b.label: b.depth for b in mapper.buffers(self.p, self.m)}
        self.location = group.location
        self.is_matmul = anchor.name == "graph.matmul"
        self._prepare()

    def _check_taps(self) -> None:
        """Raises CompileError (NPU0305) where taps shall be joined that cannot be."""
        p, m = self.p, self.m
        is_whole = (m.cols, m.reduction) == (p.ow, p.ic)
        if m.taps == "apart" or (is_whole and may_join(self.low.target, p)):
            return
        raise error(
            Code.NOT_LOWERABLE,
            "joined taps need a convolution of one group with constant weights, channels that do "
            "not fill the array, and several columns of taps side by side, some of which always "
            "meet the image, in tiles of all columns and input channels",
            found=f"cols = {m.cols} of {p.ow}, reduction = {m.reduction} of {p.ic}, kernel "
            f"{p.kh}x{p.kw}, dilations {p.dilations}, {p.groups} groups",
            source=self.group.op,
            remedy='taps = "apart" in its mapping',
        )

    def _check_stream(self) -> None:
        """Raises CompileError (NPU0305) where weights shall be read from dram that cannot be."""
        p, m, target = self.p, self.m, self.low.target
        if m.weights != "stream" or p.w_resident:
            return
        whole_taps = m.taps == "apart" or len(whole_columns(p)) > 0
        if target.array_reads_dram and may_stream(p) and m.reduction == p.ic and whole_taps:
            return
        raise error(
            Code.NOT_LOWERABLE,
            "weights that are streamed need an array that reads dram (a port mxu in "
            "[memories.dram]), must be constants as they are or coded without loss, and are read "
            "with all input channels and, where taps are joined, for columns that meet all of them",
            found=f"{target.name}, reduction = {m.reduction} of {p.ic}, taps = {m.taps}, weights "
            f"{'constant' if p.constant_weights else 'computed'}, codec {p.w_codec}",
            source=self.group.op,
            remedy='weights = "tile" in its mapping',
        )

    # --- operands
    # ---------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        group, site = self.group, self.site
        if self.is_matmul:
            b = self.matrices = matrices(group)
            self.batch = site.batch(b.batch)
            x_shape, out_shape = (*b.x_batch, b.m, b.k), (*b.batch, b.m, b.n)
        else:
            self.batch = (self.p.batch,)
            x_shape, out_shape = (
                shape_of(v) for v in (self.anchor.operands[0], self.anchor.results[0])
            )
            top, left = group.setting("pads")[:2]
            self.pads = site.top(top), left
        self.out_buffer = site.result(out_shape)
        self.x_buffer = self._stepped(site.read(0, self.x, x_shape))
        self.residual = site.read(1, group.tensors[0], out_shape) if group.tensors else None
        streamed = self.m.weights == "stream" and not self.p.constants_resident
        self.params, self.table = constants(site, group, streamed)
        self.packed: SSAValue | None = None
        if is_constant(self.w):
            codec = cast(OpResult, root(self.w)).op.attributes.get(PACKED)
            self.packed = site.constant("weights", self._packed, codec)
        self.weights = self.packed
        if self.weights is None:
            number = 1 + len(group.tensors)
            self.weights = site.read(number, self.w, self._dynamic_shape())

    def _stepped(self, image: SSAValue) -> SSAValue:
        """The rows and columns of an image that a convolution of one tap reads."""
        if self.p.steps == (1, 1):
            return image
        images, _, _, channels = buffer_shape(image)
        (down, right), p = self.p.steps, self.p
        spans = [images, Span(p.oh, 0, step=down), Span(p.ow, 0, step=right), channels]
        return Nest(self.low.builder, self.location).view(image, spans)

    def _packed(self) -> np.ndarray[Any, Any]:
        """The constant weights with output channels outermost."""
        owner = cast(OpResult, root(self.w)).op
        array = cast(BlobAttr, owner.properties["value"]).data.array.reshape(shape_of(self.w))
        if self.is_matmul:
            return (
                array.reshape(array.shape[-2:]).T
                if array.size == self.p.ic * self.p.oc
                else np.swapaxes(array, -1, -2)
            )
        if self.p.depthwise:
            return array[:, :, 0, :].transpose(2, 0, 1)
        return array.transpose(3, 0, 1, 2)

    # --- the nest
    # ---------------------------------------------------------------------------------------------

    def emit(self) -> None:
        """Writes the nest."""
        outside = self.site.nest(bool(self.depth))
        table = None if self.table is None else outside.load(self.table, 1, "table")
        self._hold(outside)
        if self.m.order == "weights_outer":
            self._weights_outer(outside, table)
        else:
            self._rows_outer(outside, table)

    def _hold(self, nest: Nest) -> None:
        """Loads what is held, in as many pieces as the nest has tiles along it."""
        if self.m.x == "held":
            self.x_buffer = _in_pieces(nest, self.x_buffer, self.n.rows, "x")
        if self.m.weights != "held":
            return
        assert self.weights is not None
        more = Nest(nest.builder, self.group.constants_location)
        self.weights = _in_pieces(more, self.weights, self.n.channels, "weights")
        if self.params is not None:
            self.params = nest.load(self.params, 1, "params")

    def _weights_outer(self, nest: Nest, table: SSAValue | None) -> None:
        at = Loops(batch=(None,) * len(self.batch))
        nest, at.group = nest.loop(self.p.groups)
        nest, at.channels = nest.loop(self.n.channels)
        fixed = Weights(self._load_params(nest, at), table, None)
        if not self.p.batched_weights:
            fixed.weights = self._load_weights(nest, at)
        nest, at.batch = self._batch_loops(nest)
        if self.p.batched_weights:
            fixed.weights = self._load_weights(nest, at)
        nest, at.rows = nest.loop(self.n.rows)
        nest, at.cols = nest.loop(self.n.cols)
        self._tile(nest, at, fixed, None)

    def _rows_outer(self, nest: Nest, table: SSAValue | None) -> None:
        at = Loops()
        nest, at.batch = self._batch_loops(nest)
        nest, at.group = nest.loop(self.p.groups)
        nest, at.rows = nest.loop(self.n.rows)
        nest, at.cols = nest.loop(self.n.cols)
        x = None if self.p.depthwise else self._load_x(nest, at)
        nest, at.channels = nest.loop(self.n.channels)
        fixed = Weights(self._load_params(nest, at), table, self._load_weights(nest, at))
        self._tile(nest, at, fixed, x)

    def _batch_loops(self, nest: Nest) -> tuple[Nest, tuple[Index, ...]]:
        found: list[Index] = []
        for extent in self.batch:
            nest, index = nest.loop(extent)
            found.append(index)
        return nest, tuple(found)

    # --- loads ----------------------------------------
    # ------------

    def _channels(self, at: Loops, offset_by_group: bool = True) -> Span:
        """The output channels of a tile."""
        span = along(self.m.channels, at.channels, self.m.channels)
        if at.group is not None and offset_by_group:
            return Span(span.size, 0, [(at.group, self.p.oc), *span.terms])
        return span

    def _load_params(self, nest: Nest, at: Loops) -> SSAValue | None:
        if self.params is None:
            return None
        view = nest.view(self.params, [self.p.param_rows, self._channels(at)])
        if self.m.weights == "stream":
            return view
        return nest.load(view, self.depth.get("params", 1), "params")

    def _load_weights(self, nest: Nest, at: Loops) -> SSAValue | None:
        """The weights of a tile with all input channels; None where they are loaded further in."""
        return None if self.m.weights == "slice" else self._weights_at(nest, at, Span(self.p.ic))

    def _weights_at(self, nest: Nest, at: Loops, reduction: Span) -> SSAValue:
        """Some weights as [KH, KW, IC, OC], [KH, KW, C] or [K, N]."""
        assert self.weights is not None
        depth = self.depth.get("weights", 1)
        channels = self._channels(at)
        batch = self._batch_spans(at, self.matrices.w_batch) if self.p.batched_weights else []
        if self.packed is None:
            return self._dynamic_weights(nest, at, reduction, depth)
        if self.is_matmul:
            view = nest.view(self.weights, [*batch, channels, reduction])
            loaded = self._near(nest, view, depth)
            matrix = self._matrix(nest, loaded, channels.size, reduction.size)
            return nest.transpose(matrix, (1, 0))
        if self.p.depthwise:
            view = nest.view(self.weights, [channels, self.p.kh, self.p.kw])
            return nest.transpose(self._near(nest, view, depth), (1, 2, 0))
        view = nest.view(self.weights, [channels, self.p.kh, self.p.kw, reduction])
        return nest.transpose(self._near(nest, view, depth), (1, 2, 3, 0))

    def _near(self, nest: Nest, view: SSAValue, depth: int) -> SSAValue:
        """Constant weights where the array reads them: loaded, or as they lie in dram."""
        return view if self.m.weights == "stream" else nest.load(view, depth, "weights")

    def _dynamic_weights(self, nest: Nest, at: Loops, reduction: Span, depth: int) -> SSAValue:
        """Weights that lie as the graph has them: [..., K, N], [KH, KW, IC, OC] or [KH, KW, C]."""
        assert self.weights is not None
        outer: Sequence[Span | int] = (self.p.kh, self.p.kw)
        if self.is_matmul:
            outer = self._batch_spans(at, self.matrices.w_batch)
        inner = [self._channels(at)] if self.p.depthwise else [reduction, self._channels(at)]
        loaded = nest.load(nest.view(self.weights, [*outer, *inner]), depth, "weights")
        return self._matrix(nest, loaded, *(s.size for s in inner)) if self.is_matmul else loaded

    def _dynamic_shape(self) -> tuple[int, ...]:
        """The extents of weights that are computed."""
        if self.is_matmul:
            m = self.matrices
            return (*m.w_batch, m.k, m.n)
        inner = (self.p.oc,) if self.p.depthwise else (self.p.ic, self.p.oc * self.p.groups)
        return (self.p.kh, self.p.kw, *inner)

    def _part(self, nest: Nest, at: Loops, loaded: SSAValue, axis: int) -> SSAValue:
        """The input channels of an instruction, of what was loaded with all of them."""
        spans: list[Span | int] = list(buffer_shape(loaded))
        spans[axis] = self._reduction(at)
        return nest.view(loaded, spans)

    def _reduction(self, at: Loops) -> Span:
        return along(self.m.reduction, at.reduction, self.m.reduction)

    def _batch_spans(self, at: Loops, extents: tuple[int, ...]) -> list[Span]:
        """One index of each batch dimension; the only one where a dimension broadcasts."""
        indices = at.batch or (None,) * len(extents)
        return [along(1, i if e > 1 else None, 1) for i, e in zip(indices, extents, strict=True)]

    def _matrix(self, nest: Nest, buffer: SSAValue, rows: int, cols: int) -> SSAValue:
        """A tile without its batch dimensions."""
        return nest.reshape(buffer, (rows, cols))

    def _windows(self, at: Loops) -> tuple[Span, Span]:
        """Input rows and columns of a tile before clamping."""
        top, left = self.pads
        (sh, sw), (dh, dw) = self.p.strides, self.p.dilations
        rows = input_extent(self.m.rows, self.p.kh, sh, dh)
        cols = input_extent(self.m.cols, self.p.kw, sw, dw)
        return along(rows, at.rows, self.m.rows * sh, -top), along(
            cols, at.cols, self.m.cols * sw, -left
        )

    def _load_x(self, nest: Nest, at: Loops) -> SSAValue | None:
        """The activations of a tile with all input channels; None where they are loaded further
        in.
        """
        return None if self.m.x == "slice" else self._x_at(nest, at, Span(self.p.ic))

    def _x_at(self, nest: Nest, at: Loops, reduction: Span) -> SSAValue:
        depth = self.depth.get("x", 1)
        if self.is_matmul:
            rows = along(self.m.rows, at.rows, self.m.rows)
            view = nest.view(
                self.x_buffer, [*self._batch_spans(at, self.matrices.x_batch), rows, reduction]
            )
            return self._matrix(nest, nest.load(view, depth, "x"), rows.size, reduction.size)
        rows, cols = self._windows(at)
        channels = self._input_channels(at, reduction)
        view = nest.view(self.x_buffer, [along(1, at.batch[0], 1), rows, cols, channels])
        return nest.load(view, depth, "x")

    def _input_channels(self, at: Loops, reduction: Span) -> Span:
        if self.p.depthwise:
            return self._channels(at)
        if at.group is not None:
            return Span(reduction.size, 0, [(at.group, self.p.ic), *reduction.terms])
        return reduction

    def _output_spans(self, at: Loops) -> list[Span]:
        channels = self._channels(at)
        rows = along(self.m.rows, at.rows, self.m.rows)
        if self.is_matmul:
            return [*self._batch_spans(at, self.batch), rows, channels]
        return [along(1, at.batch[0], 1), rows, along(self.m.cols, at.cols, self.m.cols), channels]

    def _as_result(self, nest: Nest, buffer: SSAValue) -> SSAValue:
        if not self.is_matmul:
            return buffer
        return self._matrix(nest, buffer, self.m.rows, self.m.channels)

    # --- one tile
    # ---------------------------------------------------------------------------------------------

    def _tile(self, nest: Nest, at: Loops, fixed: Weights, x: SSAValue | None) -> None:
        spans = self._output_spans(at)
        place = nest.view(self.out_buffer, spans)
        residual = None
        if self.residual is not None:
            loaded = nest.load(
                nest.view(self.residual, spans), self.depth.get("residual", 1), "residual"
            )
            residual = self._as_result(nest, loaded)
        computed = nest.target_of(place, self.depth.get("out", 1), "out")
        out = self._as_result(nest, computed)
        x = x or self._load_x(nest, at)
        acc = None
        inner = nest
        if self.n.reduction > 1:
            kind = self.group.plan.kernel.tensors[0]
            acc = self._as_result(nest, nest.local(place, 1, "acc", "acc", kind))
            inner, at.reduction = nest.loop(self.n.reduction)
        x, weights = self._operands(inner, at, x, fixed.weights)
        more = Operands(fixed, residual, acc, out)
        if self.m.taps == "joined":
            self._joined(inner, at, x, weights, more)
        else:
            self._compute(inner, at, x, weights, more)
        at.reduction = None
        nest.store(computed, place)

    def _operands(
        self, nest: Nest, at: Loops, x: SSAValue | None, weights: SSAValue | None
    ) -> tuple[SSAValue, SSAValue]:
        """What an instruction multiplies, of what was loaded before or is loaded now."""
        if x is None:
            x = self._x_at(nest, at, self._reduction(at))
        elif at.reduction is not None:
            x = self._part(nest, at, x, -1)
        if weights is None:
            weights = self._weights_at(nest, at, self._reduction(at))
        elif at.reduction is not None:
            weights = self._part(nest, at, weights, -2)
        return x, weights

    def _joined(self, nest: Nest, at: Loops, x: SSAValue, w: SSAValue, more: Operands) -> None:
        """A tile with the taps of a kernel row as one sum (`mapping/contraction_taps.py`), columns
        that meet the same taps together.
        """
        rows, _ = self._windows(at)
        stride = self.p.strides[1]
        for part in (whole_columns if self.m.weights == "stream" else columns)(self.p):
            p, (start, stop) = part.problem, part.taps
            if not part.is_joined:
                self._apart(nest, at, x, w, more, part)
                continue
            read = input_extent(p.ow, stop - start, stride, 1)
            image = nest.unfold(_columns(nest, x, part.first, read), stop - start, stride)
            filters = _joined_taps(nest, w, start, stop)
            some = more.columns(nest, part.start, p.ow)
            self._convolve(nest, at, image, filters, some, (rows, Span(p.ow)), p)

    def _apart(
        self, nest: Nest, at: Loops, x: SSAValue, w: SSAValue, more: Operands, part: Columns
    ) -> None:
        """Columns at an edge, tap by tap."""
        p = part.problem
        image = _columns(nest, x, part.first, p.iw)
        extent = input_extent(p.ow, p.kw, p.strides[1], p.dilations[1])
        windows = self._windows(at)[0], Span(extent, part.first - p.pads[1])
        self._convolve(nest, at, image, w, more.columns(nest, part.start, p.ow), windows, p)

    def _compute(self, nest: Nest, at: Loops, x: SSAValue, w: SSAValue, more: Operands) -> None:
        if self.is_matmul:
            nest.insert(self._noted(tile.MatmulOp(x, w, **self._common(at, more))))
        else:
            self._convolve(nest, at, x, w, more, self._windows(at), self.p)

    def _convolve(
        self,
        nest: Nest,
        at: Loops,
        x: SSAValue,
        w: SSAValue,
        more: Operands,
        windows: tuple[Span, Span],
        p: Contraction,
    ) -> None:
        """Convolves as `p` says, whose windows these are."""
        cls = tile.DepthwiseConv2DOp if p.depthwise else tile.Conv2DOp
        common = self._common(at, more)
        made = cls(x, w, windows, strides=p.strides, dilations=p.dilations, **common)
        nest.insert(self._noted(made))

    def _noted(self, op: Operation) -> Operation:
        """The operation with a note which part of its products the array makes, if not all."""
        if self.p.made < ALL_MADE:
            op.attributes[MADE] = IntegerAttr(self.p.made, i64)
        return op

    def _common(self, at: Loops, more: Operands) -> dict[str, Any]:
        """What operations of the array have in common."""
        return {
            "out": more.out,
            "kernel": self.group.plan.kernel,
            "params": more.fixed.params,
            "table": more.fixed.table,
            "residual": more.residual,
            "acc": more.acc,
            "reduction": [] if at.reduction is None else [at.reduction],
            "x_zero": self.group.zero(self.x),
            "w_zero": self.group.zero(self.w),
            "location": self.location,
        }


def _columns(nest: Nest, image: SSAValue, start: int, count: int) -> SSAValue:
    """Some columns of [1, H, W, C]."""
    images, rows, _, channels = buffer_shape(image)
    return nest.view(image, [images, rows, Span(count, start), channels])


def _joined_taps(nest: Nest, weights: SSAValue, start: int, stop: int) -> SSAValue:
    """The taps [start, stop) of each row of weights [KH, KW, IC, OC] as [KH, 1, taps * IC, OC]; the
    weights must lie with output channels outermost.
    """
    kh, _, channels, outputs = buffer_shape(weights)
    packed = nest.transpose(weights, (3, 0, 1, 2))
    some = nest.view(packed, [outputs, kh, Span(stop - start, start), channels])
    flat = nest.reshape(some, (outputs, kh, 1, (stop - start) * channels))
    return nest.transpose(flat, (1, 2, 3, 0))


def _in_pieces(nest: Nest, source: SSAValue, pieces: int, label: str) -> SSAValue:
    """A buffer in the scratchpad with all of `source`, filled by copies of parts along the first
    dimension of more than one element; `source` itself where it lies there.
    """
    if space_of(source) == "spm":
        return source
    buffer = nest.local(source, 1, label)
    shape = buffer_shape(source)
    axis = next((a for a, d in enumerate(shape) if d > 1), 0)
    size = -(-shape[axis] // min(pieces, shape[axis]))
    for start in range(0, shape[axis], size):
        spans: list[Span | int] = list(shape)
        spans[axis] = Span(min(size, shape[axis] - start), start)
        nest.copy(nest.view(source, spans), nest.view(buffer, spans))
    return buffer


@dataclass
class Operands:
    """The operands of one array operation beside activations and weights."""

    fixed: Weights
    residual: SSAValue | None
    acc: SSAValue | None
    out: SSAValue

    def columns(self, nest: Nest, start: int, count: int) -> Operands:
        """Those of some columns of the result."""
        residual = None if self.residual is None else _columns(nest, self.residual, start, count)
        return Operands(self.fixed, residual, None, _columns(nest, self.out, start, count))
