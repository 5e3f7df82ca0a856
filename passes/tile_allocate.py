"""tile-allocate: gives every buffer its place in its memory.

    %x = tile.alloc like(%v : memref<10x32xi8, "dram">) {depth = 2} : memref<10x32xi8, "spm">

becomes

    %x = tile.alloc like(%v : memref<10x32xi8, "dram">) {depth = 2, offset = 4096} : memref<10x32xi8, "spm">

Time is the number of the top-level operation. A buffer inside a loop nest lives as long as the nest, one of the function
from its first use to its last. One that is filled from dram lives from the loop nest or computation before, where the
memory has room for that, so that it can be filled while the one before still computes. Offsets are bytes, multiples of
64; the slots of a buffer follow each other, each rounded up to 64.

Dram holds the constants first (each content once), then the arguments of the function, then its buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass

from npu_dialect import provenance
from npu_dialect.blob import Blob
from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.passes.allocation import Buffer, Overflow, allocate
from npu_dialect.passes.targets import module_target
from npu_dialect.target import Target
from npu_dialect.tile import AllocOp, ConstantOp, CopyOp, ForOp, HostOp, KernelOp
from npu_dialect.tile.structure import ViewLikeOp
from npu_dialect.tile.syntax import dtype_of, int_attr, shape_of, space_of

ALIGNMENT = 64
"""Bytes that every buffer, slot, constant and argument is aligned to."""


@dataclass(frozen=True)
class TileAllocatePass(ModulePass):
    """Give every buffer its offset."""

    name = "tile-allocate"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        target = module_target(op)
        for function in tile_functions(op):
            _allocate(function, target)


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
    return aligned(alloc.slot_bytes)


@dataclass(frozen=True)
class DramLayout:
    """Addresses of what lies in dram before the intermediate buffers, which start at `end`."""

    constants: dict[Blob, int]
    arguments: list[int]
    end: int


def dram_layout(function: FuncOp) -> DramLayout:
    """Where the constants and arguments of a function lie: a fact of the function alone."""
    address = 0
    constants: dict[Blob, int] = {}
    for op in function.walk():
        if isinstance(op, ConstantOp) and op.value.data not in constants:
            constants[op.value.data] = address
            address += aligned(len(op.value.data.bytes))
    arguments: list[int] = []
    for argument in function.body.block.args:
        arguments.append(address)
        address += aligned(bytes_of(argument))
    return DramLayout(constants, arguments, address)


def bytes_of(value: SSAValue) -> int:
    """Bytes of a buffer value when it is dense."""
    size = dtype_of(value).itemsize
    for d in shape_of(value):
        size *= d
    return size


# --- lifetimes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Live:
    """A buffer, the top-level operations [lower, upper) that use it, and where it could be filled ahead."""

    alloc: AllocOp
    lower: int
    upper: int
    ahead: int

    @property
    def size(self) -> int:
        return self.alloc.slots * slot_stride(self.alloc)

    def buffer(self, number: int, ahead: bool) -> Buffer:
        return Buffer(number, self.ahead if ahead else self.lower, self.upper, self.size, ALIGNMENT)


def _lifetimes(function: FuncOp) -> list[_Live]:
    body = function.body.block
    number = {op: k for k, op in enumerate(body.ops)}
    before = _steps_before(body)
    found: list[_Live] = []
    for op in function.walk():
        if isinstance(op, AllocOp):
            users = list(_users(op.result))
            times = [number[_top(user, body)] for user in users]
            if times:
                lower, upper = min(times), max(times) + 1
                ahead = before[lower] if _is_loaded(op, users) else lower
                found.append(_Live(op, lower, upper, ahead))
    return found


def _steps_before(body: Block) -> list[int]:
    """For each top-level operation, the last loop nest or computation before it (itself where there is none)."""
    result: list[int] = []
    last: int | None = None
    for k, op in enumerate(body.ops):
        result.append(k if last is None else last)
        if isinstance(op, ForOp | KernelOp | HostOp):
            last = k
    return result


def _users(value: SSAValue) -> Iterator[Operation]:
    """The operations that read or write a buffer, also through views."""
    for use in value.uses:
        op = use.operation
        if isinstance(op, ViewLikeOp):
            yield from _users(op.result)
        elif not isinstance(op, AllocOp):
            yield op


def _top(op: Operation, body: Block) -> Operation:
    """The top-level operation that `op` is or is part of."""
    while op.parent is not body:
        parent = op.parent_op()
        assert parent is not None
        op = parent
    return op


def _is_loaded(alloc: AllocOp, users: Sequence[Operation]) -> bool:
    """Whether the buffer is filled from dram."""
    return any(
        isinstance(user, CopyOp)
        and _base(user.destination) is alloc.result
        and space_of(user.source) == "dram"
        for user in users
    )


def _base(value: SSAValue) -> SSAValue:
    """The buffer that a view shows."""
    while isinstance(value.owner, ViewLikeOp):
        value = value.owner.source
    return value


# --- placement ------------------------------------------------------------------------------------------------------


def _allocate(function: FuncOp, target: Target) -> None:
    layout = dram_layout(function)
    lives = _lifetimes(function)
    for op in function.walk():
        if isinstance(op, AllocOp):
            op.properties["offset"] = int_attr(0)
    for space in ("spm", "acc", "dram"):
        members = [live for live in lives if space_of(live.alloc.result) == space]
        base = layout.end if space == "dram" else 0
        capacity = target.memories[space].size - base
        if capacity < 0:
            raise _too_many_constants(function, target, base)
        for live, offset in zip(members, _offsets(members, capacity, space), strict=True):
            live.alloc.properties["offset"] = int_attr(base + offset)


def _offsets(lives: Sequence[_Live], capacity: int, space: str) -> list[int]:
    """Offsets, with as many buffers filled ahead as fit."""
    if space == "dram":
        lives = [replace(live, ahead=live.lower) for live in lives]
    ahead = {k for k, live in enumerate(lives) if live.ahead < live.lower}
    while ahead:
        try:
            return _try(lives, ahead, capacity, effort=0)
        except Overflow as overflow:
            excess = _in_the_way(lives, ahead, overflow)
            ahead -= excess
    try:
        return _try(lives, ahead, capacity, effort=1)
    except Overflow as overflow:
        raise _error(lives, overflow, space) from overflow


def _try(lives: Sequence[_Live], ahead: set[int], capacity: int, effort: int) -> list[int]:
    buffers = [live.buffer(k, k in ahead) for k, live in enumerate(lives)]
    offsets = allocate(buffers, capacity, effort)
    return [offsets[k] for k in range(len(lives))]


def _in_the_way(lives: Sequence[_Live], ahead: set[int], overflow: Overflow) -> set[int]:
    """The buffers that are no longer filled ahead: the greatest half of those live where it overflowed."""
    moments = [(lives[k].ahead if k in ahead else lives[k].lower, lives[k].upper) for k in overflow.over]
    near = [
        k
        for k in ahead
        if any(lives[k].ahead < upper and lives[k].lower > lower for lower, upper in moments)
    ]
    near = sorted(near or ahead, key=lambda k: (-lives[k].size, k))
    return set(near[: (len(near) + 1) // 2])


# --- where it does not fit ------------------------------------------------------------------------------------------


def _error(lives: Sequence[_Live], overflow: Overflow, space: str) -> CompileError:
    shown = [lives[b.id] for b in overflow.live]
    parts = ", ".join(map(_describe, shown[:8]))
    more = f" and {len(shown) - 8} smaller" if len(shown) > 8 else ""
    largest = _name(shown[0].alloc) if shown else "the layer"
    return error(
        Code.CAPACITY,
        f"the buffers that are live at once must fit in the {overflow.capacity} bytes of {space}",
        found=f"{overflow.reason()}; live at the peak: {parts}{more}",
        remedy=f"smaller tiles for {largest}, fewer slots (depth), tensors in dram instead of {space}, "
        f"or a target with a larger {space}",
        source=shown[0].alloc if shown else "",
    )


def _describe(live: _Live) -> str:
    slots = f" in {live.alloc.slots} slots" if live.alloc.slots > 1 else ""
    return f"{_name(live.alloc)} ({live.size} bytes{slots})"


def _name(alloc: AllocOp) -> str:
    label = alloc.label.data if alloc.label is not None else "buffer"
    return " of ".join([label, *provenance.sources(alloc)[:1]])


def _too_many_constants(function: FuncOp, target: Target, needed: int) -> CompileError:
    return error(
        Code.CAPACITY,
        f"constants, inputs and outputs must fit in the {target.memories['dram'].size} bytes of dram",
        found=f"{needed} bytes",
        remedy="a smaller model, narrower weights, or a target with more dram",
        source=function.sym_name.data,
    )
