"""tile-pack-constants: constants of weights stay packed where every copy takes whole blocks.

    %w = tile.constant {value = #graph.blob<...>} {npu.packed = "i4x32"} : memref<16x48xi8, "dram">
    %0 = tile.view %w [0 : 16, 0 : 16]
    tile.copy %0, ...

becomes a constant without `npu.packed`, as the copy ends within a block of 32 elements. A constant
of which all copies begin and end with blocks, and that nothing else reads, stays as it is: it lies
in dram in the bytes of its codec, and `tile-to-npu` makes instructions of its copies that expand.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.passes import ModulePass

from npu_dialect.codecs import PACKED
from npu_dialect.passes.packing import codec_of, expansion
from npu_dialect.passes.tile_allocate import tile_functions
from npu_dialect.tile import ConstantOp
from npu_dialect.tile.events import CopyEvent, Event
from npu_dialect.tile.walk import walk


@dataclass(frozen=True)
class TilePackConstantsPass(ModulePass):
    """Unpack the constants that copies do not take in whole blocks."""

    name = "tile-pack-constants"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in tile_functions(op):
            if any(PACKED in each.attributes for each in function.walk()):
                _keep_whole_blocks(function)


def _keep_whole_blocks(function: FuncOp) -> None:
    def visit(event: Event) -> None:
        for constant in _misfits(event):
            constant.attributes.pop(PACKED, None)

    walk(function, visit)


def _misfits(event: Event) -> list[ConstantOp]:
    """The packed constants of which an event reads anything but whole blocks."""
    found: list[ConstantOp] = []
    for value in event.reads:
        codec, owner = codec_of(value), value.buffer.owner
        if codec is None or not isinstance(owner, ConstantOp):
            continue
        if not isinstance(event, CopyEvent) or expansion(event, codec) is None:
            found.append(owner)
    return found
