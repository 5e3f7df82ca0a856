"""Convolutions and matrix products as calls of the product routine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from npu_dialect.machine import Array, Operand
from npu_dialect.npu.arrays import Conv2DOp, MatmulOp
from npu_dialect.npu.base import Values, kernel_of
from npu_dialect.runtime.compiled import packing, products
from npu_dialect.runtime.compiled.emitters import winograd
from npu_dialect.runtime.compiled.emitters.finish import lower_finish
from npu_dialect.runtime.compiled.emitters.wide import is_wide, lower_wide
from npu_dialect.runtime.compiled.emitters.windows import (
    Window,
    check_overlap,
    has_padding,
    image_record_of,
    layout,
    output_of,
    round_up,
)
from npu_dialect.runtime.compiled.images import SLACK
from npu_dialect.runtime.compiled.library import Spec
from npu_dialect.runtime.compiled.packing import F32, I16, U8S8, Arithmetic, Packed, Runs
from npu_dialect.runtime.compiled.products import PRODUCT, Tile
from npu_dialect.runtime.compiled.records import Address, Call, Code, Data, Here, Word
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError, lowers
from npu_dialect.runtime.compiled.weights import lower_packing

IMAGE_BYTES = 192 << 10
"""Bytes of a strip's image: it stays in a second-level cache with the weights of a panel."""
SUMS_BYTES = 256 << 10
"""Bytes of the sums of a block."""
BLOCK = 48
"""Positions of a block at most: weights are read from the cache once per block."""


@lowers(Conv2DOp)
def lower_conv2d(values: Values, context: Context) -> list[Call]:
    """A convolution of one tile."""
    if is_wide(values, context):
        return lower_wide(values, context, lower_conv2d)
    rows, columns, _ = output_of(values).dims
    window = Window(
        values["input"],
        values["weights"],
        (rows, columns),
        values["strides"],
        values["dilations"],
        values["pads"],
    )
    return lower(window, values, context)


@lowers(MatmulOp)
def lower_matmul(values: Values, context: Context) -> list[Call]:
    """A matrix product as a convolution of a column of pixels with a 1 x 1 window."""
    if is_wide(values, context):
        return lower_wide(values, context, lower_matmul)
    a, b = values["input"], values["weights"]
    pixels = replace(a, dims=(a.dims[0], 1, a.dims[1]), strides=(a.strides[0], 0, a.strides[1]))
    filters = replace(b, dims=(1, 1, *b.dims), strides=(0, 0, *b.strides))
    window = Window(pixels, filters, (a.dims[0], 1), (1, 1), (1, 1), (0, 0))
    return lower(window, values, context)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The input of a product as it lies in memory, or as an image in scratch."""

    pitch: int
    """Bytes from row to row, and from pixel to pixel."""
    pixel: int
    offsets: Array
    """Where each run of a window begins."""
    down: int
    """Rows from the window of one output row to the next one's."""
    span: int
    """Rows of a window."""

    @staticmethod
    def of(window: Window, arithmetic: Arithmetic, runs: Runs, *, in_place: bool) -> Geometry:
        """The geometry of an input that is read where it lies, or as an image of its elements."""
        if in_place:
            pitch, pixel, _ = window.input.strides
        else:
            pixel = window.channels * arithmetic.element.itemsize
            pitch = window.extent[1] * pixel
        (kh, kw), (dh, dw) = window.kernel, window.dilations
        columns = range(kw) if runs.count != kh else (0,)
        offsets = [y * dh * pitch + x * dw * pixel for y in range(kh) for x in columns]
        # Elements of depthwise windows are taken in pairs: the last one meets a zero weight.
        offsets += offsets[-1:] * (len(offsets) % 2)
        words = np.array(offsets, np.int64)
        return Geometry(pitch, pixel, words, window.strides[0], window.span[0])

    def strip(self, window: Window) -> int:
        """Positions whose input is brought into scratch at a time: whole rows of the output."""
        rows = (IMAGE_BYTES // self.pitch - self.span) // self.down + 1
        return max(1, min(rows, window.positions[0])) * window.positions[1]

    def bytes(self, window: Window, strip: int) -> int:
        """Bytes of a strip's image; a strip may begin and end within a row."""
        rows = min(strip // window.positions[1] + 1, window.positions[0])
        return ((rows - 1) * self.down + self.span) * self.pitch


@dataclass(frozen=True, eq=False)
class Plan:
    """How a contraction is computed."""

    routine: Spec
    arithmetic: Arithmetic
    runs: Runs
    geometry: Geometry
    image: tuple[Spec, list[Word]] | None
    """The routine that brings input into scratch, and its record; None: it is read where it lies.
    """
    rows: int
    """Positions of a register tile."""
    padded: int
    """Channels, filled up to whole vectors."""
    weights: Word
    start: Word


def image_of(
    window: Window, values: Values, arithmetic: Arithmetic, geometry: Geometry
) -> tuple[Spec, list[Word]]:
    """The routine that brings an input into the type of the arithmetic, and its record."""
    columns = window.extent[1]
    record = image_record_of(window, values, arithmetic, columns, geometry.pitch)
    source = window.input
    return ("image", source.dtype.name, arithmetic.name, layout(source)), record


def lower(window: Window, values: Values, context: Context) -> list[Call]:
    """The calls of a contraction."""
    known = begin(window, values, context)
    arithmetic = arithmetic_of(window, values, known, context.host.dot4)
    if known is not None and arithmetic is I16 and winograd.suits(window, values, known):
        return [winograd.lower(window, values, context, known)]
    in_place = reads_in_place(window, arithmetic, values)
    runs = _runs(window, in_place)
    tile = Tile.of(context.host, window.positions[0] * window.positions[1])
    lanes = context.host.lanes
    panels = (runs, arithmetic, lanes, tile.vectors * lanes)
    zero = _seen_zero(window, arithmetic, values)
    before: list[Call] = []
    if known is None:
        call, data, start = lower_packing(window.weights, *panels, values["w_zero"], zero)
        before.append(call)
    else:
        packed = _packed(known, values, panels, zero, context)
        data, start = Data(packed.data), Data(packed.start)
    padded = -(-window.weights.dims[3] // lanes) * lanes
    routine = products.spec(arithmetic.name, tile, bool(values["accumulate"]))
    geometry = Geometry.of(window, arithmetic, runs, in_place=in_place)
    image = None if in_place else image_of(window, values, arithmetic, geometry)
    plan = Plan(routine, arithmetic, runs, geometry, image, tile.rows, padded, data, start)
    return [*before, call_of(window, values, context, plan)]


def begin(window: Window, values: Values, context: Context) -> Array | None:
    """The weights where they are known. Raises NotEmittedError for what no routine does."""
    check_overlap(values)
    if not (window.input.elements and window.weights.elements):
        raise NotEmittedError("it has an operand without elements")
    x, w = window.input.dtype, window.weights.dtype
    if x.is_float != w.is_float:
        raise NotEmittedError("one operand is float and the other is not")
    if x.is_float and (values["x_zero"] or values["w_zero"]):
        raise NotEmittedError("its float operands have zero points")
    if "f64" in (x.name, w.name):
        raise NotEmittedError("it computes in f64")
    return context.known(values["weights"])


def arithmetic_of(window: Window, values: Values, known: Array | None, dot4: bool) -> Arithmetic:
    """The fastest exact arithmetic for the types and, where they are known, the weights."""
    x, w = window.input.dtype, window.weights.dtype
    if x.is_float:
        return F32
    low, high = packing.limits(w) if known is None else (int(known.min()), int(known.max()))
    x_zero, w_zero = values["x_zero"], values["w_zero"]
    padding = x_zero + packing.bias(x) if has_padding(window) else 0
    span = (low - w_zero, high - w_zero)
    return packing.choose(x, x_zero, span, dot4 and 0 <= padding <= 255)


def _seen_zero(window: Window, arithmetic: Arithmetic, values: Values) -> int:
    """The input's zero point as the routine sees it: only bytes still contain it."""
    if arithmetic is not U8S8:
        return 0
    return values["x_zero"] + packing.bias(window.input.dtype)


def reads_in_place(window: Window, arithmetic: Arithmetic, values: Values) -> bool:
    """Whether the input can be read where it lies."""
    source = window.input
    storable = source.dtype.numpy == arithmetic.element
    unshifted = arithmetic in (F32, U8S8) or values["x_zero"] == 0
    contiguous = window.channels == 1 or source.strides[2] == source.dtype.itemsize
    return storable and unshifted and contiguous and not has_padding(window)


def _runs(window: Window, in_place: bool) -> Runs:
    """How a window is read: by rows where the pixels of a row touch."""
    (kh, kw), channels = window.kernel, window.channels
    touch = not in_place or window.input.strides[1] == channels * window.input.dtype.itemsize
    if kw == 1 or (window.dilations[1] == 1 and touch):
        return Runs(kh, kw * channels)
    return Runs(kh * kw, channels)


def centered(known: Array, zero: int, arithmetic: Arithmetic) -> Array:
    """Weights without their zero point."""
    if arithmetic is F32:
        return known.astype(np.float32)
    return (known.astype(np.int64) - zero).astype(np.int32)


def _packed(
    known: Array,
    values: Values,
    panels: tuple[Runs, Arithmetic, int, int],
    zero: int,
    context: Context,
) -> Packed:
    """The known weights, packed once for all instructions that use the same."""
    key = (known.tobytes(), known.dtype.char, known.shape, values["w_zero"], panels, zero)
    found = context.shared.get(key)
    if found is None:
        flat = centered(known, values["w_zero"], panels[1]).reshape(-1, known.shape[-1])
        found = context.shared[key] = packing.pack(flat, *panels, zero)
    return cast(Packed, found)


def call_of(window: Window, values: Values, context: Context, plan: Plan) -> Call:
    """The call of a plan's routine."""
    rows, columns = window.positions
    geometry = plan.geometry
    strip = geometry.strip(window) if plan.image else rows * columns
    block = max(1, min(BLOCK, SUMS_BYTES // (4 * plan.padded)) // plan.rows) * plan.rows
    offsets_at = round_up(4 * plan.padded * block + SLACK)
    image_at = round_up(offsets_at + 8 * block)
    finish, tail = lower_finish(
        values,
        kernel_of(context.kernels, values) if "kernel" in values else None,
        plan.arithmetic.sum_dtype,
        output_of(values),
        rows=rows,
        columns=columns,
        channels=output_of(values).dims[-1],
        sums_stride=4 * plan.padded,
        context=context,
    )
    image, image_record, image_bytes = 0, 0, 0
    if plan.image:
        routine, record = plan.image
        image, image_record = Code(routine), Here(PRODUCT.size + len(tail))
        tail = [*tail, *record]
        image_bytes = geometry.bytes(window, strip) + SLACK
    words = PRODUCT.pack(
        tail,
        positions=rows * columns,
        columns=columns,
        strip=strip,
        block=block,
        image=image,
        image_record=image_record,
        input=Address.of(window.input),
        image_row=geometry.down,
        image_span=geometry.span,
        row_step=geometry.pitch * geometry.down,
        column_step=geometry.pixel * window.strides[1],
        runs=plan.runs.count,
        run_offsets=Data(geometry.offsets),
        groups=plan.runs.groups(plan.arithmetic),
        weights=plan.weights,
        start=plan.start,
        padded=plan.padded,
        finish=Code(finish),
        scratch_sums=0,
        scratch_offsets=offsets_at,
        scratch_image=image_at,
        **_partial(values),
    )
    return Call(plan.routine, words, image_at + image_bytes)


def _partial(values: Values) -> dict[str, Any]:
    """Where the sums come from that the products are added to."""
    if not values["accumulate"]:
        return {"partial": 0, "partial_row": 0, "partial_column": 0}
    operand: Operand = values["partial"]
    if operand.strides[-1] != 4 and operand.dims[-1] > 1:
        raise NotEmittedError("its partial sums are not contiguous")
    row, column = operand.strides[0], operand.strides[1] if len(operand.dims) == 3 else 0
    return {"partial": Address.of(operand), "partial_row": row, "partial_column": column}
