"""Convolutions and matrix products as problems of mapping, their mappings, and what these move.

The extents of a mapping may be numpy arrays, one element for each of many mappings; then so is what
follows from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from npu_dialect import dtypes, rice
from npu_dialect.codecs import CODECS
from npu_dialect.passes.mapping.tiles import Buffer, trips
from npu_dialect.zeros import ALL_MADE

Order = Literal["weights_outer", "rows_outer"]
Level = Literal["held", "tile", "slice", "stream"]
Taps = Literal["apart", "joined"]


@dataclass(frozen=True)
class Contraction:
    """One convolution or matrix product, in elements. A matrix product has its rows as `oh`, one
    column, one tap.

    `groups` independent contractions of `ic` -> `oc` channels each (`depthwise`: one channel each,
    `oc` channels in all, and `groups` is 1); `batch` repeats with other activations, and with other
    weights where `batched_weights`.
    """

    oh: int
    ow: int
    oc: int
    ic: int
    ih: int
    iw: int
    kh: int = 1
    kw: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    """Rows above and columns to the left of the input."""
    steps: tuple[int, int] = (1, 1)
    """How far apart the rows and columns of the input lie in their tensor. A convolution of one tap
    has its strides here, and what they skip is no part of its input.
    """
    groups: int = 1
    batch: int = 1
    batched_weights: bool = False
    depthwise: bool = False
    x_type: str = "i8"
    w_type: str = "i8"
    out_type: str = "i8"
    sum_type: str = "i32"
    residual_type: str | None = None
    param_rows: int = 0
    table_bytes: int = 0
    kernel_costs: tuple[str, ...] = ()
    w_codec: str | None = None
    """By which weights are stored in dram (`npu_dialect/codecs.py`, `npu_dialect/rice.py`)."""
    made: int = ALL_MADE
    """The parts of the products that the array makes, of `ALL_MADE` (`npu_dialect/zeros.py`)."""
    w_part: float = 1.0
    """The bytes of coded weights in dram for each in the scratchpad."""
    constant_weights: bool = True
    """Whether weights are known, and so lie with output channels outermost."""
    x_resident: bool = False
    w_resident: bool = False
    residual_resident: bool = False
    out_resident: bool = False
    x_strides: tuple[int, ...] | None = None
    """Elements from row to row, column to column and channel to channel of the input in dram; None
    where it lies densely."""
    out_strides: tuple[int, ...] | None = None
    """The same of the result."""
    w_strides: tuple[int, ...] | None = None
    """The same of computed weights, along the sum and along the output channels."""
    dense_columns: bool = True
    """Whether columns of the input, with all channels, lie next to each other in the scratchpad:
    they are loaded, or lie there densely."""
    pixel: int = 0
    """Elements from column to column of the input in the scratchpad, where columns overlap."""
    constants_resident: bool = False
    """Whether parameters and table are in the scratchpad."""
    takes_over: int = 0
    """Cycles of the other engine that makes an input in the scratchpad just before; 0 for none."""
    hands_over: int = 0
    """Cycles of the other engine that reads the result in the scratchpad next."""

    @property
    def may_split_reduction(self) -> bool:
        """Whether input channels may be split over instructions without changing a bit.

        Integer sums wrap, so any order is the same; float sums must ascend over (kh, kw, ic), which
        only a contraction with one tap keeps.
        """
        return not self.depthwise and (
            not self.x_type.startswith(("f", "bf")) or self.kh * self.kw == 1
        )

    @property
    def depth(self) -> int:
        """Input channels that are summed up for one result."""
        return 1 if self.depthwise else self.ic


@dataclass(frozen=True)
class ContractionMapping:
    """Extents of a tile: output rows, columns and channels, and input channels; which loop is
    outermost; and the slots of what is transferred (with one, copies wait for the array).

    `x` and `weights` say at which level what lies in dram is loaded: "held" whole, before the nest;
    "tile" for every tile, with all input channels; "slice" in the loop over input channels, as many
    as an instruction takes. Weights that are not loaded at all ("stream"), nor their parameters,
    are read from dram by every instruction, with all input channels. `taps` says whether those of a
    kernel row are multiplied one by one or as one sum ("joined", `contraction_taps.py`; then tiles
    have all columns and input channels).
    """

    rows: int
    cols: int
    channels: int
    reduction: int
    order: Order = "weights_outer"
    slots: int = 2
    x: Level = "tile"
    weights: Level = "tile"
    taps: Taps = "apart"


def stored_part(p: Contraction) -> float:
    """The bytes of weights in dram for each in the scratchpad."""
    if p.w_codec is None:
        return 1
    return p.w_part if rice.unit(p.w_codec) is not None else CODECS[p.w_codec].ratio


def whole_blocks(p: Contraction, reduction: Any) -> Any:
    """Whether so many input channels of weights are whole blocks of their codec."""
    if p.w_codec is None:
        return True
    if rice.unit(p.w_codec) is None:
        return (reduction % CODECS[p.w_codec].elements == 0) | (reduction == p.ic)
    may_cut = p.kh * p.kw == 1 or p.ic % rice.BLOCK == 0
    return (reduction == p.ic) | (may_cut & (reduction % rice.BLOCK == 0))


def input_extent(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    """Input rows (or columns) that so many output rows need."""
    return (outputs - 1) * stride + (kernel - 1) * dilation + 1


def itemsize(name: str) -> int:
    """Bytes of an element of the storage type of this name."""
    return dtypes.BY_NAME[name].itemsize


@dataclass(frozen=True)
class Tile:
    """Bytes of everything that one array instruction touches."""

    x: int
    w: int
    params: int
    residual: int
    out: int
    acc: int


def tile_bytes(p: Contraction, m: ContractionMapping) -> Tile:
    """The bytes of a tile of these extents, with all of its window."""
    in_rows = input_extent(m.rows, p.kh, p.strides[0], p.dilations[0])
    in_cols = input_extent(m.cols, p.kw, p.strides[1], p.dilations[1])
    depth = m.channels if p.depthwise else m.reduction
    outputs = m.rows * m.cols * m.channels
    return Tile(
        x=in_rows * in_cols * depth * itemsize(p.x_type),
        w=p.kh * p.kw * m.channels * (1 if p.depthwise else m.reduction) * itemsize(p.w_type),
        params=p.param_rows * m.channels * 4,
        residual=outputs * itemsize(p.residual_type) if p.residual_type else 0,
        out=outputs * itemsize(p.out_type),
        acc=outputs * itemsize(p.sum_type),
    )


def input_bytes(p: Contraction) -> int:
    """Bytes of all activations."""
    channels = p.oc if p.depthwise else p.ic * p.groups
    return p.batch * p.ih * p.iw * channels * itemsize(p.x_type)


def weight_bytes(p: Contraction) -> int:
    """Bytes of all weights."""
    sets = p.groups * (p.batch if p.batched_weights else 1)
    return sets * p.kh * p.kw * p.oc * p.depth * itemsize(p.w_type)


def may_stream(p: Contraction) -> bool:
    """Whether an array that reads constants from dram may read the weights there: they are
    constants, and as they are or coded without loss.
    """
    is_loaded = p.constant_weights and not (p.w_resident or p.constants_resident)
    return is_loaded and (p.w_codec is None or rice.unit(p.w_codec) is not None)


@dataclass(frozen=True)
class Trips:
    """How often each loop runs."""

    outer: int
    channels: int
    rows: int
    cols: int
    reduction: int

    @property
    def spatial(self) -> int:
        return self.rows * self.cols

    @property
    def tiles(self) -> int:
        """Tiles of the result."""
        return self.outer * self.channels * self.spatial


def loop_trips(p: Contraction, m: ContractionMapping) -> Trips:
    """The trip counts of a mapping."""
    return Trips(
        p.batch * p.groups,
        trips(p.oc, m.channels),
        trips(p.oh, m.rows),
        trips(p.ow, m.cols),
        1 if p.depthwise else trips(p.ic, m.reduction),
    )


# --- loads ----------------------------------------------------------------------------------------


def weight_loads(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """How often weights are loaded; as often as there are tiles of channels where they are held,
    since then they come piece by piece.
    """
    if m.weights == "stream":
        return 0
    if m.weights == "held":
        return pieces(p.oc * p.groups, n.channels)
    if m.weights == "slice":
        return n.tiles * n.reduction
    if m.order == "rows_outer":
        return n.tiles
    return p.groups * n.channels * (p.batch if p.batched_weights else 1)


def weight_repeats(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """How often every weight is loaded, or read by an instruction as it lies in dram."""
    if m.weights == "held":
        return 1
    if m.weights in ("slice", "stream") or m.order == "rows_outer":
        return n.spatial * (1 if p.batched_weights else p.batch)
    return 1


def param_loads(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """How often parameters are loaded: with the channels."""
    if m.weights == "stream":
        return 0
    if m.weights == "held":
        return 1
    return n.tiles if m.order == "rows_outer" else p.groups * n.channels


def input_loads(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """How often activations are loaded; as often as there are tiles of rows where they are held,
    since then they come piece by piece.
    """
    if m.x == "held":
        return pieces(p.ih, n.rows) if p.batch == 1 else 1
    if m.x == "slice":
        return n.tiles * n.reduction
    return n.tiles if p.depthwise else n.outer * n.spatial * input_repeats(p, m, n)


def input_repeats(p: Contraction, m: ContractionMapping, n: Trips) -> Any:
    """How often the activations of every tile are loaded; those of a depthwise convolution belong
    to tiles of channels.
    """
    if m.x == "held" or p.depthwise:
        return 1
    return 1 if m.x == "tile" and m.order == "rows_outer" else n.channels


def pieces(extent: int, wanted: Any) -> Any:
    """How many pieces of one size cover an extent of which `wanted` shall."""
    return trips(extent, trips(extent, wanted))


# --- buffers --------------------------------------------------------------------------------------


def buffers(p: Contraction, m: ContractionMapping) -> list[Buffer]:
    """The buffers that the nest of this mapping allocates."""
    return [b for b in all_buffers(p, m) if b.size]


def all_buffers(
    p: Contraction, m: ContractionMapping, size: Tile | None = None, n: Trips | None = None
) -> Iterator[Buffer]:
    """The buffers of a mapping, also those of no bytes; `size` and `n` where they are known."""
    size, n = size or tile_bytes(p, m), n or loop_trips(p, m)
    many = slots(m, n.tiles)
    if not p.x_resident:
        yield Buffer("x", *_x_buffer(p, m, n, size))
    if not p.w_resident and m.weights != "stream":
        yield Buffer("weights", *_weights_buffer(p, m, n, size))
    if p.param_rows and not p.constants_resident and m.weights != "stream":
        held = m.weights == "held"
        whole = p.param_rows * p.oc * p.groups * 4
        loads = param_loads(p, m, n)
        yield Buffer("params", whole if held else size.params, 1 if held else slots(m, loads))
    if p.table_bytes and not p.constants_resident:
        yield Buffer("table", p.table_bytes, 1)
    if p.residual_type and not p.residual_resident:
        yield Buffer("residual", size.residual, many)
    if not p.out_resident:
        yield Buffer("out", size.out, many, loaded=False)
    yield Buffer("acc", size.acc * (n.reduction > 1), 1, "acc", loaded=False)


def slots(m: ContractionMapping, loads: Any) -> Any:
    """The slots of what is transferred so often."""
    return 1 + (m.slots - 1) * (loads > 1)


def _x_buffer(p: Contraction, m: ContractionMapping, n: Trips, size: Tile) -> tuple[Any, Any]:
    if m.x == "held":
        return input_bytes(p), 1
    full = size.x if m.x == "slice" or p.depthwise else size.x // m.reduction * p.ic
    return full, slots(m, input_loads(p, m, n))


def _weights_buffer(p: Contraction, m: ContractionMapping, n: Trips, size: Tile) -> tuple[Any, Any]:
    if m.weights == "held":
        return weight_bytes(p), 1
    full = size.w if m.weights == "slice" or p.depthwise else size.w // m.reduction * p.ic
    return full, slots(m, weight_loads(p, m, n))
