"""Weights of 4 bits in memory: what is packed reads back, and what does not fit is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect.codecs import CODECS, Codec, Sparse, smallest
from npu_dialect.dtypes import i8, u8
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.copies import DmaExpandOp
from npu_dialect.target import load_target

EVERY = [c for c in CODECS.values() if not isinstance(c, Sparse)]
"""Of 4 bits."""
NAMES = [c.name for c in EVERY]


def test_half_bytes_lie_with_the_first_one_low() -> None:
    packed = CODECS["i4"].pack(np.array([1, -2, 7, -8], np.int8))
    assert packed.tolist() == [0xE1, 0x87]


def test_the_multiplier_of_a_group_comes_before_it() -> None:
    group = np.zeros(16, np.int8)
    group[:4] = [112, -128, 16, -16]
    assert CODECS["i4x16"].pack(group).tolist() == [16, 0x87, 0xF1, *[0] * 6]


@settings(deadline=None)
@given(
    codec=st.sampled_from(EVERY),
    rows=st.integers(1, 5),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 1 << 30),
)
def test_what_is_packed_expands_to_itself(codec: Codec, rows: int, blocks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-8, 8, (rows, blocks, codec.elements))
    if codec.group:
        values *= rng.integers(1, 17, (rows, blocks, 1))
    array = np.clip(values, -128, 127)[:, :, :].astype(np.int8).reshape(rows, -1)
    if not codec.fits(array):  # 127 is no multiple of 16: -8 * 16 fits, 8 * 16 was never drawn
        assert (values > 127).any()
        return
    packed = codec.pack(array)
    assert packed.size == codec.size(array.size)
    assert np.array_equal(codec.expand(packed.reshape(rows, -1)), array)


@pytest.mark.parametrize("codec", EVERY, ids=NAMES)
def test_every_byte_expands_as_the_instruction_states(codec: Codec) -> None:
    """Against plain Python: the half bytes in two's complement, times the byte before the group."""
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (256, codec.bytes)).astype(np.uint8)
    expected: list[list[int]] = []
    for block in data.tolist():
        factor = block.pop(0) if codec.group else 1
        halves = [h for byte in block for h in (byte & 15, byte >> 4)]
        signed = [(h - 16 if h > 7 else h) * factor for h in halves]
        expected.append([(v + 128) % 256 - 128 for v in signed])
    assert codec.expand(data).tolist() == expected
    machine = Machine(load_target("edge256"), 1 << 17)
    source = Operand.dense("dram", 64, u8, data.shape)
    machine.view(source)[...] = data
    destination = Operand.dense("spm", 0, i8, (256, codec.elements))
    op = DmaExpandOp(source=source, destination=destination, group=codec.group)
    op.verify()
    op.execute(machine, op.values())
    assert machine.view(destination).tolist() == expected


@pytest.mark.parametrize("codec", EVERY, ids=NAMES)
def test_one_value_that_has_not_4_bits_is_found(codec: Codec) -> None:
    array = np.ones((4, 4096), np.int8)
    assert codec.fits(array)
    array[3, 4000] = 9
    assert not codec.fits(array)


def test_rows_must_be_whole_blocks() -> None:
    assert not CODECS["i4"].fits(np.ones((4, 3), np.int8))
    assert not CODECS["i4x32"].fits(np.ones((4, 48), np.int8))


def test_the_codec_of_the_fewest_bytes_is_taken() -> None:
    array = np.tile(np.array([16, 32, -48, 0], np.int8), (2, 32))
    assert smallest(array // 16, NAMES) is CODECS["i4"]
    assert smallest(array, NAMES) is CODECS["i4x128"]
    array[:, :64] //= 16
    array[0, 0] = 7
    array[:, 64:] *= 2
    found = smallest(array, NAMES)
    assert found is CODECS["i4x64"]
    assert smallest(array, ["i4", "i4x16"]) is CODECS["i4x16"]
    assert smallest(np.arange(-128, 128, dtype=np.int8).reshape(1, -1), NAMES) is None


def test_the_cost_of_an_expansion_is_that_of_its_bytes() -> None:
    target = load_target("edge256")
    source = Operand.dense("dram", 0, u8, (64, 272))
    destination = Operand.dense("spm", 0, i8, (64, 512))
    cost = DmaExpandOp(source=source, destination=destination, group=32).cost(target, ())
    assert cost.reads == {"dram": 64 * 272} and cost.writes == {"spm": 64 * 512}
    assert cost.cycles == target.dma.startup + -(-64 * 272 * 4 // 15)


# --- two of four ----------------------------------------------------------------------------------

PAIRS = CODECS["s2x4"]


def sparse(rows: int, blocks: int, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], Any]:
    """Bytes [rows, 8 * blocks] of which two of every four are zero, at least."""
    values = rng.integers(-128, 128, (rows, 2 * blocks, 4))
    keys = rng.random(values.shape)
    values[keys < np.sort(keys)[..., 1:2]] = 0
    values[keys == np.sort(keys)[..., 1:2]] = 0
    return values.astype(np.int8).reshape(rows, -1)


def test_pairs_lie_before_their_places() -> None:
    packed = PAIRS.pack(np.array([0, -1, 0, 5, 7, 0, 0, 0], np.int8))
    assert packed.tolist() == [255, 5, 7, 0, 0b01_00_11_01]


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 1 << 30))
def test_pairs_expand_to_what_was_packed(rows: int, blocks: int, seed: int) -> None:
    array = sparse(rows, blocks, np.random.default_rng(seed))
    assert PAIRS.fits(array)
    packed = PAIRS.pack(array)
    assert packed.size == PAIRS.size(array.size) == array.size * 5 // 8
    assert np.array_equal(PAIRS.expand(packed.reshape(rows, -1)), array)


def test_every_byte_of_places_expands_as_the_instruction_states() -> None:
    """Against plain Python: two bytes at their places in zeros, the second last."""
    data = np.random.default_rng(4).integers(1, 256, (256, 5)).astype(np.uint8)
    data[:, 4] = np.arange(256)
    expected: list[list[int]] = []
    for *kept, places in data.tolist():
        row = [0] * 8
        for k, value in enumerate(kept):
            row[4 * (k // 2) + (places >> 2 * k & 3)] = value - 256 if value > 127 else value
        expected.append(row)
    assert PAIRS.expand(data).tolist() == expected


def test_three_of_four_do_not_fit() -> None:
    array = sparse(4, 900, np.random.default_rng(5))
    assert PAIRS.fits(array)
    array[3, 7000:7004] = (1, 2, 3, 0)
    assert not PAIRS.fits(array)
    assert not PAIRS.fits(np.zeros((4, 12), np.int8))
