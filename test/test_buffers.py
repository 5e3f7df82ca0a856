"""What lies in the scratchpad when."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npu_programs import convolve_and_pool, copy, dense, fill, program, waits

from npu_dialect.dtypes import i8
from npu_dialect.machine import Operand
from npu_dialect.runtime import profile
from npu_dialect.runtime.buffers import Buffer

SIZE = 48
"""Bytes of scratchpad that random programs use."""


def named(found: list[Buffer]) -> dict[str, Buffer]:
    return {b.name: b for b in found}


def test_a_buffer_lasts_from_its_writer_to_its_last_reader():
    # dma: 288 B are 9 x 32 / 3.75 = 77 cycles + 16 to start, 256 B are 69 + 16. The convolution
    # waits for the second, [0 + 93 + 85 + 500 latency = 678, 856), complete 8 later; the pooling
    # follows
    found = profile.of(convolve_and_pool())
    weights, image, conv, pool = found.buffers
    assert (weights.begin, weights.end) == (0, 864)
    assert (image.begin, image.end) == (93, 864)
    assert (conv.begin, conv.end) == (678, int(found.timing.end[3]))
    assert (pool.begin, pool.end) == (864, found.cycles)


def test_a_buffer_has_the_name_of_what_it_holds():
    found = profile.of(convolve_and_pool()).buffers
    expected = [("c0", "weights"), ("image", "input"), ("conv", "result"), ("pool", "result")]
    assert [(b.name, b.kind) for b in found] == expected


def test_a_buffer_has_the_addresses_of_its_operand():
    _, image, *_ = profile.of(convolve_and_pool()).buffers
    assert (image.low, image.high, image.size) == (1024, 1024 + 256, 256)


def test_what_was_stored_and_comes_back_is_reloaded():
    ops = [
        fill("spm", 0, 64),
        copy(dense("spm", 0, i8, [64]), dense("dram", 4096, i8, [64])),
        copy(dense("dram", 4096, i8, [64]), dense("spm", 256, i8, [64])),
    ]
    found = profile.of(program(ops, layers=["a", "a", "b"])).buffers
    assert [(b.name, b.kind) for b in found] == [("a", "result"), ("a", "reloaded")]


def test_a_result_in_the_place_of_its_operand_is_not_counted_twice():
    place = dense("spm", 0, i8, [64])
    found = profile.of(program([fill("spm", 0, 64), copy(place, place, waits=waits(dma=1))]))
    assert found.occupancy.peak == 64


def test_the_inside_of_a_padded_border_is_not_counted_twice():
    row = dense("spm", 0, i8, [64])
    ops = [
        fill("spm", 0, 64),
        copy(dense("dram", 0, i8, [48]), dense("spm", 8, i8, [48])),
        copy(row, dense("dram", 4096, i8, [64])),
    ]
    assert profile.of(program(ops)).occupancy.peak == 64


@st.composite
def blocks(draw: st.DrawFn) -> Operand:
    """A block of up to two dimensions, its rows apart."""
    rows, row = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    stride = draw(st.integers(row, 8))
    last = SIZE - (rows - 1) * stride - row
    return Operand("spm", draw(st.integers(0, last)), i8, (rows, row), (stride, 1))


def addresses(o: Operand) -> set[int]:
    return {o.address + sum(i * s for i, s in zip(at, o.strides, strict=True))
            for at in np.ndindex(*o.dims)}  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), blocks()), min_size=1, max_size=12))
def test_readers_are_those_of_the_bytes_written(steps: list[tuple[bool, Operand]]):
    """Against a table of the latest writer of every byte."""
    ops, owner, expected = [], {}, {}
    for i, (writes, block) in enumerate(steps):
        outside = Operand("dram", 0, i8, block.dims, (block.dims[1], 1))
        ops.append(copy(outside, block) if writes else copy(block, outside))
        if writes:
            owner |= dict.fromkeys(addresses(block), i)
            expected[i] = set()
        else:
            for writer in {owner[a] for a in addresses(block) if a in owner}:
                expected[writer].add(i)
    found = profile.of(program(ops)).buffers
    assert {b.writer: set(b.readers) for b in found} == expected
