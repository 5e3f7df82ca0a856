"""What the lowerings of convolutions share: windows over an input, and its image in scratch."""

from __future__ import annotations

from dataclasses import dataclass

from npu_dialect.machine import Operand
from npu_dialect.npu.base import Values
from npu_dialect.runtime.compiled.images import IMAGE
from npu_dialect.runtime.compiled.packing import U8S8, Arithmetic, bias
from npu_dialect.runtime.compiled.records import Address, Word
from npu_dialect.runtime.compiled.translate import separate


@dataclass(frozen=True)
class Window:
    """A contraction as a convolution: input [H, W, C], weights [KH, KW, C, N]."""

    input: Operand
    weights: Operand
    positions: tuple[int, int]
    """Rows and columns of the output."""
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weights.dims[0], self.weights.dims[1]

    @property
    def channels(self) -> int:
        return self.input.dims[2]

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns of the padded input that windows reach over."""
        (rows, columns), (sh, sw), (high, wide) = self.positions, self.strides, self.span
        return (rows - 1) * sh + high, (columns - 1) * sw + wide


def output_of(values: Values) -> Operand:
    """Where the results go: the output, or the partial sums."""
    return values["output"] if "output" in values else values["partial"]


def check_overlap(values: Values) -> None:
    """Refuses a result that overlaps what is still read; a residual may lie where it goes."""
    inputs = [values[n] for n in ("input", "weights", "params", "table") if n in values]
    same = [values["residual"]] if "residual" in values else []
    separate(output_of(values), *inputs, same=same)


def has_padding(window: Window) -> bool:
    """Whether windows reach beyond the input."""
    height, width, _ = window.input.dims
    rows, columns = window.extent
    return window.pads != (0, 0) or rows > height or columns > width


def image_record_of(
    window: Window, values: Values, arithmetic: Arithmetic, columns: int, pitch: int
) -> list[Word]:
    """The record of the routine that brings the input into scratch, as an image of `columns`
    pixels and `pitch` bytes a row.
    """
    source = window.input
    height, width, channels = source.dims
    x_zero = values["x_zero"]
    padding = x_zero + bias(source.dtype) if arithmetic is U8S8 else 0
    return IMAGE.pack(
        source=Address.of(source),
        height=height,
        width=width,
        channels=channels,
        row_stride=source.strides[0],
        column_stride=source.strides[1],
        channel_stride=source.strides[2],
        pad_top=window.pads[0],
        pad_left=window.pads[1],
        columns=columns,
        pitch=pitch,
        zero=x_zero,
        fill=padding,
    )


def round_up(size: int) -> int:
    """Bytes to the next multiple of a cache line."""
    return -(-size // 64) * 64


def layout(source: Operand) -> str:
    """What is contiguous in an input: see `images`."""
    size, channels = source.dtype.itemsize, source.dims[2]
    if channels > 1 and source.strides[2] != size:
        return "nothing"
    return "rows" if source.strides[1] == channels * size else "pixels"
