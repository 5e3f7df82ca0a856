"""tile-allocate: gives every buffer its place in its memory.

    %x = tile.alloc like(%v : memref<10x32xi8, "dram">) {depth = 2} : memref<10x32xi8, "spm">

becomes

    %x = tile.alloc like(%v : memref<10x32xi8, "dram">) {depth = 2, offset = 4096} : memref<...>

Buffers whose lifetimes do not meet may share bytes. Where the memory has room, a buffer gets its
place some loop nests before it is used (`lifetimes`), so that copies can run ahead. Offsets are
bytes, on the chip multiples of 16, in dram of 64; the slots of a buffer follow each other, each
rounded up to that.

Dram holds the constants first (each content once). Then, on a target whose dram begins with a part
that is read only behind it, come the states, by name; the functions of a module share both. Then
come the other arguments of a function and its buffers, for each function from the same address:
only one runs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, SSAValue
from xdsl.passes import ModulePass
from xdsl.utils.hints import isa

from npu_dialect.blob import Blob
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.graph.states import INPUT_NAMES, result_arguments, states_of
from npu_dialect.passes.allocation import Buffer, Overflow, allocate
from npu_dialect.passes.allocation_remedies import Occupant, by_layer, live_set, remedies
from npu_dialect.passes.lifetimes import Levels, Life, lifetimes
from npu_dialect.passes.packing import stored
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target
from npu_dialect.tile import AllocOp, ConstantOp
from npu_dialect.tile.syntax import dtype_of, int_attr, shape_of, space_of

ALIGNMENT = 64
"""Bytes that every buffer, slot, constant and argument in dram is aligned to."""
NEAR = 16
"""The same of buffers and slots on the chip."""


@dataclass(frozen=True)
class TileAllocatePass(ModulePass):
    """Give every buffer its offset."""

    name = "tile-allocate"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function, layout in dram_layouts(op).items():
            _allocate(function, layout, target)


def tile_functions(module: ModuleOp) -> Iterator[FuncOp]:
    """The functions of tile operations: those on buffers. Functions of the host are on tensors."""
    for op in module.ops:
        if isinstance(op, FuncOp) and not op.is_declaration and op.sym_visibility is None:
            yield op


def aligned(size: int) -> int:
    """`size` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def slot_stride(alloc: AllocOp) -> int:
    """Bytes from one slot of a buffer to the next."""
    step = _alignment(space_of(alloc.result))
    return -(-alloc.slot_bytes // step) * step


def _alignment(space: str) -> int:
    return ALIGNMENT if space == "dram" else NEAR


@dataclass(frozen=True)
class DramLayout:
    """Addresses of what lies in dram before the intermediate buffers of a function, which start at
    `end`.
    """

    constants: dict[Blob, int]
    """Those of the function; the module may have others."""
    arguments: list[int]
    end: int


def dram_layouts(module: ModuleOp) -> dict[FuncOp, DramLayout]:
    """Where the constants, states and arguments of the tile functions lie: a fact of the module
    alone.
    """
    functions = list(tile_functions(module))
    target = module_target(module)
    constants: dict[Blob, int] = {}
    address = 0
    for blob in (blob for function in functions for blob in _blobs(function)):
        if blob not in constants:
            constants[blob] = address
            address += aligned(len(blob.bytes))
    address = _after_constants(address, target)
    states: dict[str, int] = {}
    for function in functions:
        for name, argument in state_arguments(function).items():
            if name not in states:
                states[name] = address
                address += aligned(bytes_of(argument))
    return {f: _layout(f, constants, states, address) for f in functions}


def _after_constants(end: int, target: Target) -> int:
    """Where what is written begins in dram, whose constants end there. Raises CompileError
    (NPU0304) where they do not fit the part that is read only.
    """
    read_only = target.memories["dram"].read_only
    if not read_only:
        return end
    if end > read_only:
        raise error(
            Code.CAPACITY,
            f"constants must fit in the {read_only} bytes of dram that are read only",
            found=f"{end} bytes",
            remedy="a smaller model, narrower weights, or a target with more of it",
            source="dram",
        )
    return read_only


def _blobs(function: FuncOp) -> list[Blob]:
    found = (stored(op) for op in function.walk() if isinstance(op, ConstantOp))
    return list(dict.fromkeys(found))


def _layout(
    function: FuncOp, constants: dict[Blob, int], states: dict[str, int], address: int
) -> DramLayout:
    held = {argument: states[name] for name, argument in state_arguments(function).items()}
    arguments: list[int] = []
    for argument in function.body.block.args:
        arguments.append(held.get(argument, address))
        if argument not in held:
            address += aligned(bytes_of(argument))
    own = {blob: constants[blob] for blob in _blobs(function)}
    return DramLayout(own, arguments, address)


def state_arguments(function: FuncOp) -> dict[str, BlockArgument]:
    """The arguments of a tile function that are states, by the state's name."""
    states = states_of(function)
    if not states:
        return {}
    arguments = list(function.body.block.args)
    names = function.attributes.get(INPUT_NAMES)
    inputs = len(names) if isa(names, ArrayAttr[StringAttr]) else 0
    places = result_arguments(function, inputs)
    return {
        s.name: arguments[places[cast(int, s.result)] if s.argument is None else s.argument]
        for s in states
    }


def bytes_of(value: SSAValue) -> int:
    """Bytes of a buffer value when it is dense."""
    size = dtype_of(value).itemsize
    for d in shape_of(value):
        size *= d
    return size


# --- placement ------------------------------------------------------------------------------------

ATTEMPTS = 24
"""Placements that are tried before no buffer gets its place early."""


def _allocate(function: FuncOp, layout: DramLayout, target: Target) -> None:
    lives = lifetimes(function)
    for op in function.walk():
        if isinstance(op, AllocOp):
            op.properties["offset"] = int_attr(0)
    for space in ("spm", "acc", "dram"):
        members = [life for life in lives if space_of(life.alloc.result) == space]
        base = layout.end if space == "dram" else 0
        capacity = target.memories[space].size - base
        if capacity < 0:
            raise _too_many_constants(function, target, base)
        offsets = _offsets(members, capacity, space, target)
        for life, offset in zip(members, offsets, strict=True):
            life.alloc.properties["offset"] = int_attr(base + offset)


def _size(life: Life) -> int:
    return life.alloc.slots * slot_stride(life.alloc)


def _offsets(lives: Sequence[Life], capacity: int, space: str, target: Target) -> list[int]:
    """Offsets, with as many buffers as early as fit; in dram none, for the least memory."""
    levels = Levels(lives, [_size(life) for life in lives])
    if space == "dram":
        levels.clear()
    levels.limit(capacity)
    for _ in range(ATTEMPTS):
        if levels.lowest:
            break
        try:
            return _try(levels, capacity, space, effort=0)
        except Overflow as overflow:
            levels.lower([(levels.start(k), lives[k].upper) for k in overflow.over])
    levels.clear()
    try:
        return _try(levels, capacity, space, effort=1)
    except Overflow as overflow:
        raise _error(lives, overflow, space, target) from overflow


def _try(levels: Levels, capacity: int, space: str, effort: int) -> list[int]:
    buffers = [
        Buffer(k, levels.start(k), life.upper, levels.sizes[k], _alignment(space))
        for k, life in enumerate(levels.lives)
    ]
    offsets = allocate(buffers, capacity, effort)
    return [offsets[k] for k in range(len(buffers))]


# --- where it does not fit ------------------------------------------------------------------------


def _error(lives: Sequence[Life], overflow: Overflow, space: str, target: Target) -> CompileError:
    occupants = [Occupant(life, _size(life)) for life in lives]
    live = live_set(occupants)
    ways = remedies(occupants, overflow.capacity, overflow.peak, space, target)
    return error(
        Code.CAPACITY,
        f"the buffers that are live at once must fit in the {overflow.capacity} bytes of {space}",
        found=f"{overflow.reason()}; live at the peak: {by_layer(live)}",
        remedy="; or ".join(ways),
        source=live[0].alloc if live else "",
    )


def _too_many_constants(function: FuncOp, target: Target, needed: int) -> CompileError:
    return error(
        Code.CAPACITY,
        "constants, states, inputs and outputs must fit in "
        f"{target.memories['dram'].size} bytes of dram",
        found=f"{needed} bytes",
        remedy="a smaller model, narrower weights, or a target with more dram",
        source=function.sym_name.data,
    )
