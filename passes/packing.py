"""Constants that are stored packed: what their bytes are, and which copies expand them.

A `tile.constant` with `npu.packed` is read element by element at level tile, and lies in dram as
the bytes of its codec; a copy from it is an instruction that expands.
"""

from __future__ import annotations

from functools import lru_cache

from xdsl.dialects.builtin import StringAttr

from npu_dialect.blob import Blob
from npu_dialect.codecs import CODECS, PACKED, Codec
from npu_dialect.passes.blocks import Block, joint
from npu_dialect.tile import ConstantOp
from npu_dialect.tile.descriptor import Descriptor
from npu_dialect.tile.events import CopyEvent


def codec_of(value: Descriptor) -> Codec | None:
    """The codec of the constant that a block is a part of; None for other memory."""
    owner = value.buffer.owner
    return codec_named(owner) if isinstance(owner, ConstantOp) else None


def codec_named(op: ConstantOp) -> Codec | None:
    """The codec that a constant names."""
    name = op.attributes.get(PACKED)
    return CODECS[name.data] if isinstance(name, StringAttr) else None


def stored(op: ConstantOp) -> Blob:
    """The content of a constant as it lies in dram."""
    codec = codec_named(op)
    return op.value.data if codec is None else _packed(op.value.data, codec)


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
