"""tile-pack-constants: constants of weights stay packed where every copy takes whole blocks.

    %w = tile.constant {value = #graph.blob<...>} {npu.packed = "i4x32"} : memref<16x48xi8, "dram">
    %0 = tile.view %w [0 : 16, 0 : 16]
    tile.copy %0, ...

becomes a constant without `npu.packed`, as the copy ends within a block of 32 elements. A constant
of which all copies begin and end with blocks, and that nothing else reads, stays as it is: it lies
in dram in the bytes of its codec, and `tile-to-npu` makes instructions of its copies that expand.

One that is coded without loss (`npu.packed = "rice"`) gets the blocks of its streams, one for each
block that copies take:

    %p = tile.constant {value = ...} {npu.packed = "rice"} : memref<3x48xi32, "dram">
    %0 = tile.view %p [0 : 3, 0 : 24]
    tile.copy %0, ...

becomes a constant with `npu.streams = [array<i64: 0, 24, 3, 24, 48, 1>, ...]`: from element 0, in
rows of 24 elements, 3 x 24 of them, 48 and 1 apart. Where the streams take no fewer bytes than the
elements, the constant stays as it is. Weights that the array reads in dram have streams too;
parameters that it reads there stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from npu_dialect.codecs import PACKED
from npu_dialect.passes.packing import STREAMS, Coded, Piece, codec_of, expansion, streams_of
from npu_dialect.passes.packing import stored as stored_of
from npu_dialect.passes.tile_allocate import tile_functions
from npu_dialect.tile import ConstantOp
from npu_dialect.tile.descriptor import Descriptor
from npu_dialect.tile.events import ArrayEvent, CopyEvent, Event
from npu_dialect.tile.walk import walk


@dataclass(frozen=True)
class TilePackConstantsPass(ModulePass):
    """Unpack the constants that are not taken in whole blocks; say which streams others
    have.
    """

    name = "tile-pack-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in tile_functions(op):
            if any(PACKED in each.attributes for each in function.walk()):
                _keep_whole_blocks(function)


def _keep_whole_blocks(function: FuncOp) -> None:
    pieces: dict[ConstantOp, dict[Piece, None]] = {}

    def visit(event: Event) -> None:
        for value in event.reads:
            owner = value.buffer.owner
            if not isinstance(owner, ConstantOp) or PACKED not in owner.attributes:
                continue
            found = _piece(event, value)
            if found is None:
                owner.attributes.pop(PACKED)
            elif isinstance(found, Piece):
                pieces.setdefault(owner, {})[found] = None

    walk(function, visit)
    for constant, found in pieces.items():
        if PACKED in constant.attributes:
            _code(constant, list(found))


def _piece(event: Event, value: Descriptor) -> Piece | bool | None:
    """What an event reads of a packed constant: the block of a stream, or True for whole blocks of
    another codec; None where it reads anything else.
    """
    codec = codec_of(value)
    assert codec is not None, "it is packed"
    if isinstance(event, ArrayEvent) and value is event.w and isinstance(codec, Coded):
        return codec.weights(value)
    if not isinstance(event, CopyEvent) or event.destination.space != "spm":
        return None
    if isinstance(codec, Coded):
        return codec.piece(event)
    return True if expansion(event, codec) is not None else None


def _code(constant: ConstantOp, pieces: list[Piece]) -> None:
    """Gives a constant its streams, if they take fewer bytes than it."""
    constant.attributes[STREAMS] = streams_of(pieces)
    if stored_of(constant).array.size < constant.value.data.array.nbytes:
        return
    del constant.attributes[STREAMS], constant.attributes[PACKED]
