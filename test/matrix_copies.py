"""Cases of the dma's instructions, for the matrix of `instruction_matrix`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from instruction_matrix import LAYOUTS, SHAPES, WRITABLE, Build, Rows, Sheet, generates

from npu_dialect import dtypes, rice
from npu_dialect.codecs import CODECS, Codec
from npu_dialect.dtypes import DType
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp, DmaDecodeOp, DmaExpandOp, DmaFillOp


@generates(DmaCopyOp)
def copies() -> Rows:
    spaces = [("dram", "spm"), ("spm", "dram"), ("spm", "spm"), ("dram", "dram")]
    for dtype in dtypes.ALL:
        for number, (name, dims) in enumerate(SHAPES.items()):
            yield dtype.name, name, _copy(dtype, dims, "dense", "dense", *spaces[number % 4])
        for number, of in enumerate(LAYOUTS):
            to, other = WRITABLE[number % len(WRITABLE)], WRITABLE[-1 - number % len(WRITABLE)]
            ends = spaces[number % 4]
            yield dtype.name, f"{of} to {to}", _copy(dtype, (2, 3, 1, 4, 3), of, to, *ends)
            yield dtype.name, f"{of} to {other}", _copy(dtype, (3, 4, 5), of, other, *ends)
        yield dtype.name, "to itself", _copied_to_itself(dtype, 0)
        yield dtype.name, "shifted", _copied_to_itself(dtype, 3)
        yield dtype.name, "at the ends", _copied_at_the_ends(dtype)


def _copy(
    dtype: DType, dims: Sequence[int], of: str, to: str, source: str, destination: str
) -> Build:
    def build(sheet: Sheet) -> Instruction:
        return DmaCopyOp(
            source=sheet.given(dtype, dims, of, source),
            destination=sheet.space(dtype, dims, to, destination),
        )

    return build


def _copied_to_itself(dtype: DType, shift: int) -> Build:
    def build(sheet: Sheet) -> Instruction:
        source = sheet.given(dtype, (6, 9))
        return DmaCopyOp(source=source, destination=source.moved(shift * dtype.itemsize))

    return build


def _copied_at_the_ends(dtype: DType) -> Build:
    def build(sheet: Sheet) -> Instruction:
        source = sheet.fill(sheet.last(dtype, (37,)))
        return DmaCopyOp(source=source, destination=sheet.last(dtype, (37,), "dram"))

    return build


@generates(DmaExpandOp)
def expansions() -> Rows:
    for codec in CODECS.values():
        for number, outer in enumerate(((), (1,), (5,), (3, 4), (2, 1, 3), (2, 3, 1, 4))):
            for blocks in (1, 3, 16, 33):
                name = f"{list(outer)} x {blocks}"
                yield codec.name, name, _expanded(codec, outer, blocks, number % 3)
        yield codec.name, "nothing", _expanded(codec, (0, 3), 2, 0)


def _expanded(codec: Codec, outer: tuple[int, ...], blocks: int, gap: int) -> Build:
    """Rows of whole blocks, some bytes apart on both sides."""

    def build(sheet: Sheet) -> Instruction:
        size, elements = blocks * codec.bytes, blocks * codec.elements
        of = sheet.given(dtypes.u8, (*outer, size + gap), "dense", "dram")
        to = sheet.space(dtypes.i8, (*outer, elements + 2 * gap))
        return DmaExpandOp(
            source=Operand("dram", of.address, of.dtype, (*outer, size), of.strides),
            destination=Operand("spm", to.address, to.dtype, (*outer, elements), to.strides),
            group=codec.group,
        )

    return build


@generates(DmaDecodeOp)
def decodings() -> Rows:
    for dtype in dtypes.ALL:
        for elements, row in ((1, 1), (63, 64), (200, 70), (129, 1), (260, 260), (0, 5)):
            name = f"{elements} by {row}"
            yield dtype.name, name, _decoded(dtype, elements, row)
            yield dtype.name, f"{name}, any bytes", _decoded(dtype, elements, row, 150)
    for size in (0, 1, 3, 5, 20):
        yield "i8", f"{size} bytes", _decoded(dtypes.i8, 70, 70, size)


def _decoded(dtype: DType, elements: int, row: int, size: int | None = None) -> Build:
    """Of values of different magnitudes; with a size, of any bytes."""

    def build(sheet: Sheet) -> Instruction:
        if size is None:
            bits = sheet.rng.integers(0, 1 << 63, elements) >> sheet.rng.integers(0, 64, elements)
            array = bits.astype(f"u{dtype.itemsize}")
            data = rice.encode(array, row, rice.centres(array))
        else:
            data = sheet.rng.integers(0, 256, size).astype(np.uint8)
            data[2:3] = 0
        source = sheet.given(dtypes.u8, data.shape, "dense", "dram", data)
        return DmaDecodeOp(source=source, destination=sheet.space(dtype, (elements,)), row=row)

    return build


@generates(DmaFillOp)
def fills() -> Rows:
    for dtype in dtypes.ALL:
        for number, (name, dims) in enumerate(SHAPES.items()):
            yield dtype.name, name, _fill(dtype, dims, "dense", ("dram", "spm")[number % 2])
        for layout in WRITABLE:
            yield dtype.name, layout, _fill(dtype, (3, 4, 5), layout, "spm")
            yield dtype.name, f"{layout}, rank 5", _fill(dtype, (2, 3, 1, 4, 3), layout, "dram")


def _fill(dtype: DType, dims: Sequence[int], layout: str, space: str) -> Build:
    def build(sheet: Sheet) -> Instruction:
        if dtype.kind == "bool":
            bits = int(sheet.rng.integers(2))
        else:
            bits = int(sheet.rng.integers(1 << 64, dtype=np.uint64)) >> int(sheet.rng.integers(2))
        return DmaFillOp(destination=sheet.space(dtype, dims, layout, space), bits=bits)

    return build
