"""The mapper's problem of some rows of a group's result: what a stripe of a cascade lowers.

    part(p, group, 8, 12)     of a 3x3 convolution `p` over 32 rows: oh = 4, ih = 6

A mapping of the group in a cascade is one of such a problem; where a stripe is smaller (the first
or last one), its tiles are as large as the stripe at most (`clipped`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from npu_dialect.graph.base import shape_of
from npu_dialect.passes.mapping.contraction import Contraction, ContractionMapping
from npu_dialect.passes.mapping.elementwise import (
    Elementwise,
    ElementwiseMapping,
    Pooling,
    PoolingMapping,
    Stream,
)
from npu_dialect.passes.mapping.groups import POOLS, Group
from npu_dialect.passes.mapping.rows import is_batched, reads, row_axis, rows_of_tensor

P = TypeVar("P", Contraction, Elementwise, Pooling)
M = TypeVar("M", ContractionMapping, ElementwiseMapping, PoolingMapping)


def part(
    p: P, group: Group, start: int, stop: int, held: bool = False, buffered: bool = False
) -> P:
    """The problem of rows [start, stop) of the result, `p` being that of all rows; `held` where the
    group's constants lie in the scratchpad, `buffered` where rows of its first operand do, densely.
    The group must have rows.
    """
    found: Any
    if isinstance(p, Elementwise):
        found = _elementwise(p, stop - start, rows_of_tensor(group.result))
    elif cut_in_images(group):
        found = replace(p, batch=stop - start)
    elif is_batched(group):
        found = replace(p, batch=p.batch // rows_of_tensor(group.result) * (stop - start))
    elif is_image(group):
        window = reads(group)[0].window
        assert window is not None
        low, high = window.seen_of(start, stop)
        rows = stop - start
        stepped = isinstance(p, Contraction) and p.steps != (1, 1)
        found = replace(p, oh=rows, ih=rows if stepped else high - low)
    else:
        rows = p.oh // rows_of_tensor(group.result) * (stop - start)
        found = replace(p, oh=rows, ih=rows)
    if buffered and isinstance(found, Contraction):
        found = replace(found, dense_columns=True)
    return _with_constants(found) if held else found


def _with_constants(p: P) -> P:
    if isinstance(p, Contraction):
        return replace(p, w_resident=p.w_resident or p.constant_weights, constants_resident=True)
    return replace(p, constants_resident=True)


def is_image(group: Group) -> bool:
    """Whether a group works on images [N, H, W, C]."""
    anchor = group.anchor
    return anchor is not None and (anchor.name == "graph.conv2d" or anchor.name in POOLS)


def cut_in_images(group: Group) -> bool:
    """Whether the rows of a group's result are the images of a batch."""
    return is_image(group) and row_axis(shape_of(group.result)) == 0


def _elementwise(p: Elementwise, rows: int, total: int) -> Elementwise:
    """The outermost dimension holds the rows."""

    def cut(stream: Stream) -> Stream:
        return replace(stream, dims=cut_dims(stream.dims, rows, total))

    return replace(
        p,
        dims=cut_dims(p.dims, rows, total),
        inputs=tuple(map(cut, p.inputs)),
        output=cut(p.output),
        heads=max(1, p.heads * rows // total) if p.dims[0] > 1 else p.heads,
    )


def cut_dims(dims: tuple[int, ...], rows: int, total: int) -> tuple[int, ...]:
    """`rows` of `total` rows of a tensor of the extents `dims`, unless it is repeated for each."""
    return dims if dims[0] == 1 else (dims[0] // total * rows, *dims[1:])


def clipped(m: M, p: Contraction | Elementwise | Pooling) -> M:
    """A mapping with tiles no larger than the problem."""
    if isinstance(m, ElementwiseMapping):
        assert isinstance(p, Elementwise)
        return replace(m, chunk=min(m.chunk, p.dims[m.axis]))
    assert not isinstance(p, Elementwise)
    return replace(m, rows=min(m.rows, p.oh))
