"""How constant weights are stored in fewer bytes than their elements take, block by block.

    i4      two elements in a byte, the first in the low half, in two's complement: -8..7
    i4x32   the same after a byte m without a sign, for every 32 elements: each is its half byte
            times m (so with 16, 64 and 128)
    s2x4    of every four elements at most two are not zero: for eight elements, four bytes, and one
            with their places in two bits each

All blocks of a codec have the same number of elements and of bytes, so that any of them can be
found, and a strided block of elements is a strided block of bytes. What is stored reads back
exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LOW, HIGH = -8, 7
"""The values of half a byte."""

QUAD, KEPT = 4, 2
"""Of so many elements, so many may be other than zero."""

SAMPLE = 1 << 12
"""Elements by which most arrays are seen not to fit."""


@dataclass(frozen=True)
class Codec:
    """A way to store i8 elements. `group` elements share a multiplier; 0: there is none."""

    name: str
    group: int

    @property
    def elements(self) -> int:
        """Elements of a block."""
        return self.group or 2

    @property
    def bytes(self) -> int:
        """Bytes of a block."""
        return 1 + self.group // 2 if self.group else 1

    @property
    def ratio(self) -> float:
        """Bytes for an element."""
        return self.bytes / self.elements

    def size(self, elements: int) -> int:
        """The bytes of so many elements, which are whole blocks."""
        return elements // self.elements * self.bytes

    def fits(self, array: Array) -> bool:
        """Whether i8 elements can be stored, in the order of memory, rows in whole blocks."""
        if array.dtype != np.int8 or not array.size or array.shape[-1] % self.elements:
            return False
        flat = array.reshape(-1)
        head = flat[: SAMPLE // self.elements * self.elements]
        return self._fits(head) and (flat.size <= head.size or self._fits(flat))

    def _fits(self, flat: Array) -> bool:
        return _in_range(flat // self._multipliers(flat).repeat(self.elements))

    def _multipliers(self, flat: Array) -> Array:
        """The greatest number that divides all elements of a block, or 1; 1 without groups."""
        blocks = flat.reshape(-1, self.elements).astype(np.int16)
        if not self.group:
            return np.ones(len(blocks), np.int16)
        return np.maximum(np.gcd.reduce(blocks, axis=1), 1)

    def pack(self, array: Array) -> npt.NDArray[np.uint8]:
        """The bytes of elements that fit."""
        flat = array.reshape(-1)
        multipliers = self._multipliers(flat)
        halves = (flat // multipliers.repeat(self.elements)).astype(np.uint8) & 15
        pairs = (halves[0::2] | halves[1::2] << 4).reshape(len(multipliers), -1)
        if self.group:
            pairs = np.concatenate([multipliers[:, None].astype(np.uint8), pairs], axis=1)
        return np.ascontiguousarray(pairs.reshape(-1), np.uint8)

    def expand(self, data: Array) -> npt.NDArray[np.int8]:
        """The elements of bytes [..., whole blocks]: [..., elements], products modulo 256."""
        *outer, size = data.shape
        count = size // self.bytes
        blocks = data.reshape(*outer, count, self.bytes)
        pairs = blocks[..., 1:] if self.group else blocks
        halves = np.stack([pairs & 15, pairs >> 4], axis=-1)
        values = (halves.reshape(*outer, count, self.elements) ^ 8) - np.uint8(8)
        if self.group:
            values = values * blocks[..., :1]
        return values.view(np.int8).reshape(*outer, count * self.elements)


@dataclass(frozen=True)
class Sparse(Codec):
    """Two of every four elements: the pairs of two fours, then a byte with the place of each, two
    bits, the first ones lowest. The second of a pair is placed last.
    """

    @property
    def elements(self) -> int:
        return 2 * QUAD

    @property
    def bytes(self) -> int:
        return QUAD + 1

    def fits(self, array: Array) -> bool:
        if array.dtype != np.int8 or not array.size or array.shape[-1] % self.elements:
            return False
        flat = array.reshape(-1, QUAD)
        return _has_pairs(flat[:SAMPLE]) and (len(flat) <= SAMPLE or _has_pairs(flat))

    def pack(self, array: Array) -> npt.NDArray[np.uint8]:
        quads = array.reshape(-1, QUAD)
        # those that are not zero first, in their order, then the others; the first two in order
        places = np.sort(np.argsort(quads == 0, axis=1, kind="stable")[:, :KEPT], axis=1)
        kept = np.take_along_axis(quads, places, axis=1).view(np.uint8).reshape(-1, QUAD)
        bits = (places.reshape(-1, QUAD) << (2 * np.arange(QUAD))).sum(axis=1, keepdims=True)
        packed = np.concatenate([kept, bits.astype(np.uint8)], axis=1)
        return np.ascontiguousarray(packed.reshape(-1), np.uint8)

    def expand(self, data: Array) -> npt.NDArray[np.int8]:
        *outer, size = data.shape
        count = size // self.bytes
        blocks = data.reshape(-1, self.bytes)
        kept = blocks[:, :QUAD].reshape(-1, KEPT)
        places = (blocks[:, QUAD:] >> (2 * np.arange(QUAD)) & 3).reshape(-1, KEPT)
        quads = np.zeros((len(kept), QUAD), np.uint8)
        for k in range(KEPT):
            np.put_along_axis(quads, places[:, k : k + 1], kept[:, k : k + 1], axis=1)
        return quads.view(np.int8).reshape(*outer, count * self.elements)


def _has_pairs(quads: Array) -> bool:
    return bool((np.count_nonzero(quads, axis=1) <= KEPT).all())


def _in_range(values: Array) -> bool:
    return bool(values.min() >= LOW and values.max() <= HIGH)


CODECS = {
    name: Codec(name, group)
    for name, group in (("i4", 0), ("i4x16", 16), ("i4x32", 32), ("i4x64", 64), ("i4x128", 128))
} | {"s2x4": Sparse("s2x4", 4)}
"""By name."""


def by_group(group: int) -> Codec | None:
    """The codec whose multipliers are for so many elements; with 0, the one without, with 4, that
    of two in four.
    """
    return next((c for c in CODECS.values() if c.group == group), None)


def smallest(array: Array, names: Iterable[str]) -> Codec | None:
    """Of these codecs, the one that stores i8 weights in the fewest bytes; None where none can."""
    for codec in sorted((CODECS[n] for n in names), key=lambda c: c.ratio):
        if codec.fits(array):
            return codec
    return None


PACKED = "npu.packed"
"""The name under which a constant carries that of the codec by which it is stored."""
STORED = "npu.stored"
"""The name under which a constant that is coded (`npu_dialect/rice.py`) carries the bytes that it
takes in dram at least.
"""
