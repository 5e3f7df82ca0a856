"""Loop nests of the tile dialect for the tests, built the way a mapping pass builds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import InsertPoint

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel
from npu_dialect.tile import (
    AllocOp,
    Conv2DOp,
    CopyOp,
    DepthwiseConv2DOp,
    ForOp,
    MatmulOp,
    Pool2DOp,
    Span,
    ViewOp,
    WaitOp,
)
from npu_dialect.tile.syntax import memref

Pair = tuple[int, int]


def function(arguments: Sequence[tuple[Sequence[int], DType]]) -> FuncOp:
    """`@main` over arrays in dram, with an empty body."""
    func = FuncOp("main", ([memref(shape, dtype, "dram") for shape, dtype in arguments], []))
    func.body.block.add_op(ReturnOp())
    ModuleOp([func])
    return func


def body(func: FuncOp) -> Builder:
    end = func.body.block.last_op
    assert end is not None
    return Builder(InsertPoint.before(end))


def load(build: Builder, source: Operation | SSAValue, spans: Sequence[Span | int]) -> SSAValue:
    """A part of an array in dram, copied to the scratchpad."""
    view = build.insert(ViewOp(source, spans))
    tile = build.insert(AllocOp.of(view, depth=2))
    build.insert(WaitOp(build.insert(CopyOp(view, tile))))
    return tile.result


@dataclass(frozen=True)
class Conv:
    """A convolution of an image [H, W, IC] and how it is tiled: sizes of tiles, in elements."""

    image: tuple[int, int, int]
    channels: int
    kernel: Pair = (3, 3)
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    rows: int = 4
    columns: int = 4
    out_tile: int = 8
    in_tile: int = 0
    """0: the sum over input channels is not cut."""
    dtype: DType = dtypes.i8
    x_zero: int = 0
    w_zero: int = 0
    depthwise: bool = False

    @property
    def out_hw(self) -> Pair:
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        padded = [self.image[i] + self.pads[i] + self.pads[i + 2] for i in (0, 1)]
        rows, columns = (
            (p - r) // s + 1 for p, r, s in zip(padded, reach, self.strides, strict=True)
        )
        return rows, columns

    def span(self, axis: int, tile: int, index: SSAValue) -> Span:
        """The rows or columns of the input that a tile of the output needs."""
        size = (tile - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return Span(size, -self.pads[axis], [(index, tile * self.strides[axis])])

    @property
    def sums(self) -> DType:
        return dtypes.f32 if self.dtype.is_float else dtypes.i32


def trips(size: int, tile: int) -> int:
    return -(-size // tile)


def loops(build: Builder, *counts: int) -> tuple[Builder, list[SSAValue]]:
    """Loops one in the other; gives the innermost body and the indices."""
    indices: list[SSAValue] = []
    for count in counts:
        loop = build.insert(ForOp(count))
        indices.append(loop.index)
        build = loop.builder
    return build, indices


def conv_nest(conv: Conv, kernel: Kernel | None = None) -> FuncOp:
    """The nest (%x, %w, %y): y is the sums, or what `kernel` makes of them."""
    kernel = kernel or Kernel((conv.sums,), (), (), conv.sums)
    rows, columns = conv.out_hw
    depth = [] if conv.depthwise else [conv.image[2]]
    filters = [*conv.kernel, *depth, conv.channels]
    func = function(
        [
            (conv.image, conv.dtype),
            (filters, conv.dtype),
            ((rows, columns, conv.channels), kernel.output),
        ]
    )
    x, w, y = func.args
    build, (i, j, o) = loops(
        body(func),
        trips(rows, conv.rows),
        trips(columns, conv.columns),
        trips(conv.channels, conv.out_tile),
    )
    out_channels = Span(conv.out_tile, 0, [(o, conv.out_tile)])
    view = build.insert(
        ViewOp(
            y,
            [
                Span(conv.rows, 0, [(i, conv.rows)]),
                Span(conv.columns, 0, [(j, conv.columns)]),
                out_channels,
            ],
        )
    )
    out = build.insert(AllocOp.of(view, depth=2))
    acc = build.insert(AllocOp.of(view, "acc", dtype=conv.sums))
    inner, reduction = build, []
    in_channels: Span | int = conv.image[2]
    if conv.in_tile:
        inner, reduction = loops(build, trips(conv.image[2], conv.in_tile))
        in_channels = Span(conv.in_tile, 0, [(reduction[0], conv.in_tile)])
    windows = [conv.span(0, conv.rows, i), conv.span(1, conv.columns, j)]
    cls = DepthwiseConv2DOp if conv.depthwise else Conv2DOp
    image_channels = out_channels if conv.depthwise else in_channels
    depth_spans = [] if conv.depthwise else [in_channels]
    inner.insert(
        cls(
            load(inner, x, [*windows, image_channels]),
            load(inner, w, [*conv.kernel, *depth_spans, out_channels]),
            windows,
            out=out,
            acc=acc,
            kernel=kernel,
            reduction=reduction,
            strides=conv.strides,
            dilations=conv.dilations,
            x_zero=conv.x_zero,
            w_zero=conv.w_zero,
        )
    )
    build.insert(WaitOp(build.insert(CopyOp(out, view))))
    return func


def matmul_nest(m: int, k: int, n: int, tiles: tuple[int, int, int], dtype: DType) -> FuncOp:
    """(%a [m, k], %b [k, n], %y [m, n]) with tiles of (rows, sum, columns)."""
    sums = dtypes.f32 if dtype.is_float else dtypes.i32
    func = function([((m, k), dtype), ((k, n), dtype), ((m, n), sums)])
    a, b, y = func.args
    build, (i, j) = loops(body(func), trips(m, tiles[0]), trips(n, tiles[2]))
    rows, columns = Span(tiles[0], 0, [(i, tiles[0])]), Span(tiles[2], 0, [(j, tiles[2])])
    view = build.insert(ViewOp(y, [rows, columns]))
    out, acc = build.insert(AllocOp.of(view)), build.insert(AllocOp.of(view, "acc"))
    inner, (p,) = loops(build, trips(k, tiles[1]))
    part = Span(tiles[1], 0, [(p, tiles[1])])
    left, right = load(inner, a, [rows, part]), load(inner, b, [part, columns])
    kernel = Kernel((sums,), (), (), sums)
    inner.insert(MatmulOp(left, right, out=out, acc=acc, kernel=kernel, reduction=[p]))
    build.insert(WaitOp(build.insert(CopyOp(out, view))))
    return func


def pool_nest(conv: Conv, kind: str, result: DType, **settings: bool | int) -> FuncOp:
    """(%x, %y) with the windows of `conv`, all channels at once."""
    rows, columns = conv.out_hw
    func = function([(conv.image, conv.dtype), ((rows, columns, conv.image[2]), result)])
    x, y = func.args
    build, (i, j) = loops(body(func), trips(rows, conv.rows), trips(columns, conv.columns))
    windows = [conv.span(0, conv.rows, i), conv.span(1, conv.columns, j)]
    spans = [Span(conv.rows, 0, [(i, conv.rows)]), Span(conv.columns, 0, [(j, conv.columns)])]
    view = build.insert(ViewOp(y, [*spans, conv.image[2]]))
    out = build.insert(AllocOp.of(view))
    tile = load(build, x, [*windows, conv.image[2]])
    build.insert(
        Pool2DOp(
            tile,
            out,
            kind,
            conv.kernel,
            windows,
            strides=conv.strides,
            dilations=conv.dilations,
            **settings,  # pyright: ignore[reportArgumentType]
        )
    )
    build.insert(WaitOp(build.insert(CopyOp(out, view))))
    return func
