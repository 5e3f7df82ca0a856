"""Copies and fills as native code: the bytes of the plain tier, and no other byte touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import SIZE, agree

from npu_dialect.dtypes import DType, f32, i8, i16, i64
from npu_dialect.machine import Operand
from npu_dialect.npu.copies import DmaCopyOp, DmaFillOp
from npu_dialect.runtime.compiled.emitters.copies import lower_copy, lower_fill
from npu_dialect.runtime.compiled.host import detect
from npu_dialect.runtime.compiled.records import Call
from npu_dialect.runtime.compiled.translate import Context, NotEmittedError

EXTENTS = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 24, 31, 33, 64, 65, 96, 130, 600)


@st.composite
def blocks(draw: st.DrawFn, *, source: bool) -> tuple[DType, list[int], list[list[int]]]:
    """(type, extents, strides of a destination and maybe of a source), within a memory."""
    dtype = draw(st.sampled_from((i8, i16, f32, i64)))
    room = SIZE // 4 // dtype.itemsize
    dims: list[int] = []
    for _ in range(draw(st.integers(0, 5))):
        fitting = [e for e in EXTENTS if e * max(1, np.prod(dims, dtype=int)) <= room // 8]
        dims.append(draw(st.sampled_from(fitting)))
    return dtype, dims, [draw(strides(dims, dtype, room, s)) for s in (False, True)[: 1 + source]]


@st.composite
def strides(draw: st.DrawFn, dims: list[int], dtype: DType, room: int, source: bool) -> list[int]:
    """Strides in a drawn order of the dimensions, with gaps, some backwards or repeating."""
    found = [0] * len(dims)
    step = 1
    for axis in draw(st.permutations(range(len(dims)))):
        repeats = source and draw(st.integers(0, 9)) == 0
        sign = -1 if draw(st.integers(0, 9)) == 0 else 1
        found[axis] = 0 if repeats else sign * step * dtype.itemsize
        if not repeats:
            grown = step * max(1, dims[axis])
            gap = draw(st.sampled_from((0, 0, 1, 3)))
            step = grown + gap if grown + gap <= room else grown
    return found


def operand(space: str, dtype: DType, dims: list[int], strides: list[int]) -> Operand:
    """A block whose first byte is at 64, or a bit further."""
    placed = Operand(space, 0, dtype, tuple(dims), tuple(strides))
    return placed.moved(64 + dtype.itemsize - placed.interval[0])


@settings(max_examples=150, deadline=None)
@given(blocks(source=True), st.sampled_from(["dram", "spm"]))
def test_copies_of_any_strides(drawn: tuple[DType, list[int], list[list[int]]], space: str):
    dtype, dims, (to, of) = drawn
    source = operand("dram", dtype, dims, of)
    destination = operand(space, dtype, dims, to)
    if space == "dram":
        destination = destination.moved(SIZE // 2)
    agree(DmaCopyOp(source=source, destination=destination))


@settings(max_examples=60, deadline=None)
@given(blocks(source=False), st.integers(0, 2**64 - 1))
def test_fills_of_any_strides(drawn: tuple[DType, list[int], list[list[int]]], bits: int):
    dtype, dims, (to,) = drawn
    agree(DmaFillOp(destination=operand("spm", dtype, dims, to), bits=bits))


@pytest.mark.parametrize("size", [i8, i16, f32, i64])
@pytest.mark.parametrize("few", [2, 3, 4])
@pytest.mark.parametrize("many", [15, 16, 17, 100, 501])
def test_channels_go_first_and_last(size: DType, few: int, many: int):
    item = size.itemsize
    planes, pixels = (item, many * item), (few * item, item)
    for of, to in ((planes, pixels), (pixels, planes)):
        source = Operand("dram", 8, size, (many, few), of)
        agree(DmaCopyOp(source=source, destination=Operand("spm", 16, size, (many, few), to)))


@pytest.mark.parametrize("size", [i8, i16, f32, i64])
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 9), (7, 9), (8, 17), (16, 33), (37, 67), (5, 130), (40, 6)]
)
def test_matrices_are_transposed(size: DType, rows: int, columns: int):
    item = size.itemsize
    source = Operand(
        "dram", 8, size, (2, rows, columns), (rows * columns * item, item, rows * item)
    )
    agree(DmaCopyOp(source=source, destination=Operand.dense("spm", 16, size, (2, rows, columns))))


@pytest.mark.parametrize("run", [*range(1, 70), 100, 511, 512, 513, 1024, 3000])
def test_runs_of_any_length(run: int):
    source = Operand("dram", 3, i8, (6, run), (run + 5, 1))
    destination = Operand("spm", 5, i8, (6, run), (run + 7, 1))
    agree(DmaCopyOp(source=source, destination=destination))


@pytest.mark.parametrize("size", [i8, i16, f32, i64])
@pytest.mark.parametrize("run", [1, 2, 3, 7, 8, 15, 16, 31, 33, 64, 100, 1024, 1025, 3000])
def test_elements_are_repeated(size: DType, run: int):
    item, rows = size.itemsize, 4
    to = (run * item + 3 * item, item)
    block = Operand("spm", 8, size, (rows, run), to)
    agree(DmaFillOp(destination=block, bits=0x0123456789ABCDEF))
    source = Operand("dram", 8, size, (rows, run), (5 * item, 0))
    agree(DmaCopyOp(source=source, destination=block))


def test_a_copy_onto_itself_does_nothing():
    block = Operand("spm", 64, i8, (5, 9), (16, 1))
    agree(DmaCopyOp(source=block, destination=block))


@pytest.mark.parametrize("step", [-17, -3, 1, 5, 16])
def test_a_copy_may_overlap_its_source(step: int):
    block = Operand("spm", 64, i8, (5, 9), (16, 1))
    agree(DmaCopyOp(source=block, destination=block.moved(step)))


def test_a_square_may_be_transposed_in_place():
    block = Operand("spm", 64, f32, (20, 20), (80, 4))
    turned = Operand("spm", 64, f32, (20, 20), (4, 80))
    agree(DmaCopyOp(source=turned, destination=block))


def test_a_destination_that_overlaps_itself_is_left_to_the_plain_tier():
    block = Operand("spm", 64, i8, (5, 9), (8, 1))
    source = Operand.dense("dram", 0, i8, (5, 9))
    with pytest.raises(NotEmittedError, match="overlaps itself"):
        lower_copy(
            DmaCopyOp(source=source, destination=block).values(),
            Context((), detect("plain"), None),
        )


def test_a_fill_is_one_run_where_the_block_is_dense():
    block = Operand("spm", 0, f32, (4, 8, 2), (4, 16, 128))
    call = lower_fill(DmaFillOp(destination=block, bits=7).values(), Context((), detect(), None))
    assert isinstance(call, Call)
    assert call.spec == ("fill_runs", 4, False)
