"""Constants that are stored packed: what their bytes are, and which copies expand them.

A `tile.constant` with `npu.packed` is read element by element at level tile, and lies in dram as
the bytes of its codec; a copy from it is an instruction that expands.

What is coded (`rice`, see `npu_dialect/rice.py`) has a stream for each of the blocks that copies
take, or that the array reads as weights, in the order in which they take them first: `npu.streams`
of the constant. Elements that the array reads come in the order in which they lie in the constant.
`rice72` means that blocks begin and end with units of 72 elements (the weights of some output
channels), so that the streams of all units together do not depend on how they are cut; `rice` any
blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, product

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, StringAttr, i64
from xdsl.ir import Attribute

from npu_dialect import rice
from npu_dialect.blob import Blob
from npu_dialect.codecs import CODECS, PACKED, Codec
from npu_dialect.npu.fields import DIM_BITS
from npu_dialect.passes.blocks import Block, joint
from npu_dialect.tile import ConstantOp
from npu_dialect.tile.descriptor import Descriptor
from npu_dialect.tile.events import CopyEvent
from npu_dialect.tile.syntax import values_of

STREAMS = "npu.streams"
"""Where a coded constant has the blocks of its streams."""


def codec_of(value: Descriptor) -> Codec | Coded | None:
    """The codec of the constant that a block is a part of; None for other memory."""
    owner = value.buffer.owner
    return codec_named(owner) if isinstance(owner, ConstantOp) else None


def codec_named(op: ConstantOp) -> Codec | Coded | None:
    """The codec that a constant names."""
    name = op.attributes.get(PACKED)
    if not isinstance(name, StringAttr):
        return None
    unit = rice.unit(name.data)
    return CODECS[name.data] if unit is None else Coded(unit)


def stored(op: ConstantOp) -> Blob:
    """The content of a constant as it lies in dram."""
    codec = codec_named(op)
    if codec is None:
        return op.value.data
    if isinstance(codec, Coded):
        return coding_of(op).blob
    return _packed(op.value.data, codec)


@lru_cache(4096)
def _packed(blob: Blob, codec: Codec) -> Blob:
    return Blob(codec.pack(blob.array))


def expansion(event: CopyEvent, codec: Codec) -> Block | None:
    """The block of a copy from a packed constant, its last dimension dense on both sides and of
    whole blocks of the codec; None where it has none.
    """
    source, destination = event.source, event.destination
    block = joint((source, destination), destination.dims)
    *outer, last = block.strides[0]
    whole = (source.byte_offset, block.dims[-1], *outer)
    dense = last == block.strides[1][-1] == 1
    return block if dense and not any(n % codec.elements for n in whole) else None


# --- streams --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A block of a constant that one copy or array instruction takes, in elements. Runs of
    `dims[-1]` lie next to each other; blocks of the code begin anew every `row`.
    """

    offset: int
    row: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    def numbers(self) -> tuple[int, ...]:
        """As `of_numbers` reads it."""
        return (self.offset, self.row, *self.dims, *self.strides)

    @staticmethod
    def of_numbers(numbers: Sequence[int]) -> Piece:
        offset, row, *rest = numbers
        rank = len(rest) // 2
        return Piece(offset, row, tuple(rest[:rank]), tuple(rest[rank:]))

    def of(self, blob: Blob) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """The elements of the block."""
        flat, item = blob.array.reshape(-1), blob.array.itemsize
        steps = tuple(item * s for s in self.strides)
        return np.ndarray(self.dims, flat.dtype, flat.data, item * self.offset, steps)

    def starts(self) -> Iterator[int]:
        """Where its runs begin."""
        ranges = (range(d) for d in self.dims[:-1])
        for index in product(*ranges):
            yield self.offset + sum(i * s for i, s in zip(index, self.strides, strict=False))


@dataclass(frozen=True)
class Coded:
    """The codec `rice`, with blocks of units of so many elements; 0: any blocks."""

    unit: int

    def piece(self, event: CopyEvent) -> Piece | None:
        """The block of a copy; None where it has no stream."""
        source, destination = event.source, event.destination
        block = joint((source, destination), destination.dims)
        item = source.dtype.itemsize
        if not 0 < destination.elements < 1 << DIM_BITS or not _is_dense(block, item):
            return None
        strides = block.strides[0]
        steps = tuple(s // item for s in strides)
        if strides[-1] != item or any(s % item for s in (source.byte_offset, *strides)):
            return None
        piece = Piece(source.byte_offset // item, block.dims[-1], block.dims, steps)
        return piece if not self.unit else self._in_units(piece, source)

    def weights(self, value: Descriptor) -> Piece | None:
        """The block of a constant that the array reads; None where it has no stream."""
        item = value.dtype.itemsize
        dims, strides = _in_memory(value)
        if not 0 < value.elements < 1 << DIM_BITS or strides[-1] != item:
            return None
        if any(s % item for s in (value.byte_offset, *strides)):
            return None
        steps = tuple(s // item for s in strides)
        piece = Piece(value.byte_offset // item, dims[-1], dims, steps)
        return piece if not self.unit else self._in_units(piece, value)

    def _in_units(self, piece: Piece, value: Descriptor) -> Piece | None:
        owner = value.buffer.owner
        assert isinstance(owner, ConstantOp)
        unit, run, total = self.unit, piece.dims[-1], owner.value.data.array.size
        starts = np.array(list(piece.starts()))
        if len(starts) == 1 and not starts[0] % unit:
            ends = starts[0] + run
            return None if ends % unit and ends != total else _by(piece, unit)
        within = starts % unit
        aligned = not (within % rice.BLOCK).any() and not (within + run > unit).any()
        whole = run % rice.BLOCK == 0 or bool((within + run == unit).all())
        return piece if aligned and whole else None


def _by(piece: Piece, row: int) -> Piece:
    return Piece(piece.offset, row, piece.dims, piece.strides)


def _in_memory(value: Descriptor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents and strides of a block, the longest stride first; what lies dense is merged."""
    pairs = zip(value.strides, value.dims, strict=True)
    kept: list[tuple[int, int]] = []
    for stride, extent in sorted((s, d) for s, d in pairs if d != 1):
        if kept and stride == kept[-1][0] * kept[-1][1]:
            kept[-1] = (kept[-1][0], extent * kept[-1][1])
        else:
            kept.append((stride, extent))
    strides, dims = zip(*reversed(kept or [(value.dtype.itemsize, 1)]), strict=True)
    return dims, strides


def decoded_strides(value: Descriptor) -> tuple[int, ...]:
    """Strides in bytes of a block's elements once they are decoded: dense, in the order in which
    they lie in the constant.
    """
    step, found = value.dtype.itemsize, [0] * len(value.dims)
    for k in sorted(range(len(value.dims)), key=lambda k: (value.strides[k], -k)):
        found[k] = step
        step *= value.dims[k]
    return tuple(found)


def _is_dense(block: Block, item: int) -> bool:
    """Whether the destination of a copy is dense."""
    size = item
    for extent, stride in zip(reversed(block.dims), reversed(block.strides[1]), strict=True):
        if stride != size:
            return False
        size *= extent
    return True


@dataclass(frozen=True)
class Coding:
    """The streams of a constant."""

    blob: Blob
    """One after the other."""
    places: dict[Piece, tuple[int, int]]
    """(first byte, bytes) of each."""


def coding_of(op: ConstantOp) -> Coding:
    """The streams of a coded constant."""
    streams = op.attributes.get(STREAMS)
    codec = codec_named(op)
    assert streams is not None and isinstance(codec, Coded), "tile-pack-constants"
    return _coding(op.value.data, streams)


def streams_of(pieces: Sequence[Piece]) -> Attribute:
    """The attribute that says which streams a constant has."""
    return ArrayAttr([DenseArrayBase.from_list(i64, p.numbers()) for p in pieces])


@lru_cache(4096)
def _coding(blob: Blob, streams: ArrayAttr[DenseArrayBase]) -> Coding:
    pieces = [Piece.of_numbers(values_of(each)) for each in streams]
    centres = rice.centres(blob.array)
    data = [rice.encode(p.of(blob), p.row, centres) for p in pieces]
    ends = list(accumulate(len(d) for d in data))
    places = {p: (end - len(d), len(d)) for p, d, end in zip(pieces, data, ends, strict=True)}
    return Coding(Blob(np.concatenate(data)), places)
