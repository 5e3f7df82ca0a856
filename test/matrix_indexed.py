"""Cases of the instructions with an index stream, for the matrix of `instruction_matrix`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from instruction_matrix import LAYOUTS, WRITABLE, Build, Rows, Sheet, generates

from npu_dialect import dtypes
from npu_dialect.dtypes import DType, i32, i64
from npu_dialect.functional.indexing import SCATTERS
from npu_dialect.machine import Operand
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.indexed import DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.target import VALUE_TYPES

SHAPES = {
    "one element": (5, 1, 9),
    "rows": (6, 13, 17),
    "one row": (1, 7, 3),
    "wide": (9, 40, 4),
    "no indices": (4, 5, 0),
    "rows of nothing": (4, 0, 3),
}
"""(rows, elements, indices), by name."""
SPACES = (("dram", "spm"), ("spm", "dram"), ("spm", "spm"), ("dram", "dram"))


def _indices(sheet: Sheet, dtype: DType, rows: int, count: int, space: str = "spm") -> Operand:
    """Indices of rows, some of them negative, a few far outside."""
    index = sheet.rng.integers(-rows - 2, rows + 2, count)
    far = sheet.rng.choice([-(1 << 31), (1 << 31) - 1], count)
    index = np.where(sheet.rng.random(count) < 0.1, far, index).astype(dtype.numpy)
    return sheet.given(dtype, (count,), "padded", space, index)


def _moves_of_rows(move: Callable[..., Build]) -> Rows:
    """All types, shapes, spaces and layouts of `move`, one of the two below."""
    for number, dtype in enumerate(dtypes.ALL):
        index = (i32, i64)[number % 2]
        for k, name in enumerate(SHAPES):
            yield dtype.name, name, move(dtype, name, index, SPACES[k % 4])
        for k, layout in enumerate(LAYOUTS):
            to = WRITABLE[k % len(WRITABLE)]
            build = move(dtype, "rows", index, SPACES[k % 4], layout, to)
            yield dtype.name, f"{layout} to {to}", build


@generates(DmaGatherOp)
def gathers() -> Rows:
    yield from _moves_of_rows(_gather)


def _gather(
    dtype: DType,
    shape: str,
    index: DType,
    spaces: tuple[str, str],
    of: str = "dense",
    to: str = "dense",
) -> Build:
    rows, elements, count = SHAPES[shape]

    def build(sheet: Sheet) -> Instruction:
        return DmaGatherOp(
            source=sheet.given(dtype, (rows, elements), of, spaces[0]),
            indices=_indices(sheet, index, rows, count, spaces[1]),
            destination=sheet.space(dtype, (count, elements), to, spaces[1]),
        )

    return build


@generates(DmaScatterOp)
def dma_scatters() -> Rows:
    yield from _moves_of_rows(_dma_scatter)


def _dma_scatter(
    dtype: DType,
    shape: str,
    index: DType,
    spaces: tuple[str, str],
    of: str = "dense",
    to: str = "dense",
) -> Build:
    rows, elements, count = SHAPES[shape]

    def build(sheet: Sheet) -> Instruction:
        return DmaScatterOp(
            source=sheet.given(dtype, (count, elements), of, spaces[0]),
            indices=_indices(sheet, index, rows, count, spaces[0]),
            destination=sheet.given(dtype, (rows, elements), to, spaces[1]),
            first=int(sheet.rng.integers(2)),
        )

    return build


@generates(ScatterOp)
def scatters() -> Rows:
    for number, dtype in enumerate(dtypes.ALL):
        kinds = SCATTERS if dtype.name in VALUE_TYPES else ("set",)
        for kind in kinds:
            index = (i32, i64)[number % 2]
            for name in SHAPES:
                yield f"{dtype.name} {kind}", name, _scatter(dtype, kind, name, index)
            for layout in WRITABLE:
                build = _scatter(dtype, kind, "rows", index, layout)
                yield f"{dtype.name} {kind}", layout, build


def _scatter(dtype: DType, kind: str, shape: str, index: DType, layout: str = "dense") -> Build:
    rows, elements, count = SHAPES[shape]

    def build(sheet: Sheet) -> Instruction:
        return ScatterOp(
            indices=_indices(sheet, index, rows, count),
            updates=sheet.given(dtype, (count, elements), layout),
            output=sheet.given(dtype, (rows, elements), layout),
            kind=kind,
            first=int(sheet.rng.integers(2)),
        )

    return build
