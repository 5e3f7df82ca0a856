"""Constants coded without loss: what is coded reads back, by a decoder of its own too."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_dialect import rice

Array = npt.NDArray[Any]
TYPES = ("i1", "u1", "i2", "i4", "f4", "i8")


def decoded(data: bytes, elements: int, row: int, itemsize: int) -> bytes:
    """The bytes of elements, bit by bit, as the head of `npu_dialect/rice.py` has it."""
    text = "".join(f"{byte:08b}" for byte in data)

    def bits(at: int, count: int) -> int:
        return int(text[at : at + count].ljust(count, "0") or "0", 2)

    found = bytearray(elements * itemsize)
    rows = [(r, min(row, elements - r)) for r in range(0, elements, row)]
    places = [
        (start, plane, first, min(64, count - first))
        for start, count in rows
        for plane in range(itemsize)
        for first in range(0, count, 64)
    ]
    modes = 8 * (3 + itemsize)
    codes = modes + 3 * len(places)
    low = 8 * int.from_bytes((data + bytes(3))[:3], "little")
    for start, plane, first, count in places:
        mode = bits(modes, 3)
        modes += 3
        for k in range(start + first, start + first + count):
            q = 0
            if 0 < mode < 7:
                while bits(codes, 1):
                    q, codes = q + 1, codes + 1
                codes += 1
            width = {0: 0, 1: min(q, 7), 7: 8}.get(mode, mode)
            z = bits(low, width) + ((1 << min(q, 8)) - 1 if mode == 1 else q << mode)
            low += width
            v = z % 256 // 2 if z % 2 == 0 else -(z % 256 + 1) // 2
            centre = (data + bytes(3 + itemsize))[3 + plane]
            found[k * itemsize + plane] = (v + centre) % 256
        low += -low % 8
    return bytes(found)


def check(array: Array, row: int) -> npt.NDArray[np.uint8]:
    """Codes elements and compares what both decoders make of the stream."""
    centres = rice.centres(array)
    stream = rice.encode(array, row, centres)
    size = array.itemsize
    assert rice.decode(stream, array.size, row, size).tobytes() == array.tobytes()
    assert decoded(stream.tobytes(), array.size, row, size) == array.tobytes()
    assert rice.length(stream, array.size, row, size) == stream.size
    assert rice.size(array, row, centres) <= stream.size <= rice.size(array, row, centres) + 2
    return stream


@settings(deadline=None)
@given(
    kind=st.sampled_from(TYPES),
    count=st.integers(1, 300),
    row=st.integers(1, 310),
    spread=st.floats(-1, 9),
    centre=st.integers(-200, 200),
    seed=st.integers(0, 1 << 30),
)
def test_what_is_coded_reads_back(
    kind: str, count: int, row: int, spread: float, centre: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(centre, 10**spread, count)
    limits = np.iinfo(np.int64) if kind != "f4" else np.finfo(np.float32)
    values = np.clip(values, float(limits.min) / 2, float(limits.max) / 2)
    check(values.astype(np.int64 if kind != "f4" else np.float32).astype(kind), row)


@pytest.mark.parametrize("value", [0, 1, -1, 127, -128])
def test_elements_that_are_all_the_same_take_three_bits_in_64(value: int) -> None:
    stream = check(np.full(6400, value, np.int8), 640)
    assert stream.size == 3 + 1 + -(-3 * 100 // 8)


def test_bytes_without_order_take_three_bits_in_64_more() -> None:
    data = np.random.default_rng(1).integers(0, 256, 64 * 50).astype(np.uint8)
    assert check(data, data.size).size <= 3 + 1 + data.size + -(-3 * 50 // 8)


def test_every_number_has_a_code_in_every_mode() -> None:
    """A block of one z, in the mode that its neighbours ask for."""
    for others in (0, 1, 6, 12, 24, 48, 96, 200):
        array = np.full((256, 8), others, np.uint8)
        array[:, 7] = np.arange(256)
        check(array.reshape(-1), 8)


@settings(deadline=None)
@given(
    data=st.binary(max_size=90),
    elements=st.integers(0, 150),
    row=st.integers(1, 160),
    size=st.sampled_from([1, 2, 4]),
)
def test_any_bytes_have_the_meaning_that_is_stated(
    data: bytes, elements: int, row: int, size: int
) -> None:
    stream = np.frombuffer(data, np.uint8)
    found = rice.decode(stream, elements, row, size)
    assert found.tobytes() == decoded(data, elements, row, size)


@settings(deadline=None)
@given(
    units=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    unit=st.integers(64, 200),
    seed=st.integers(0, 1 << 30),
)
def test_units_take_as_many_bits_together_as_apart(units: list[int], unit: int, seed: int) -> None:
    """So the bytes that weights take in dram at least do not depend on how they are cut."""
    array = np.random.default_rng(seed).normal(0, 20, sum(units) * unit).astype(np.int8)
    centres = rice.centres(array)
    ends = np.cumsum(units) * unit
    parts = np.split(array, ends[:-1])
    bits = [rice.bits(part, unit, centres) for part in parts]
    assert sum(bits) == rice.bits(array, unit, centres)
    streams = [rice.encode(part, unit, centres) for part in parts]
    assert sum(s.size for s in streams) >= rice.size(array, unit, centres)


def test_weights_of_a_bell_shape_come_near_their_entropy() -> None:
    """Within 4 % of the entropy of bytes drawn from a normal distribution, for several spreads."""
    rng = np.random.default_rng(2)
    for spread in (5, 10, 20, 30):
        array = np.clip(np.rint(rng.normal(0, spread, 1 << 16)), -128, 127).astype(np.int8)
        share = np.bincount(array.view(np.uint8), minlength=256) / array.size
        entropy = -(share[share > 0] * np.log2(share[share > 0])).sum() * array.size / 8
        assert entropy < rice.size(array, array.size, rice.centres(array)) < 1.04 * entropy


@pytest.mark.parametrize(
    ("name", "unit"), [("rice", 0), ("rice72", 72), ("i4", None), ("rice-", None)]
)
def test_names_of_units(name: str, unit: int | None) -> None:
    assert rice.unit(name) == unit
