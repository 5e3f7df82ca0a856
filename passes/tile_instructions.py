"""Events of a tile function as machine instructions: one instruction or a few for each, with
physical operands.

    copy to alloc x (offset 0x400, slot 1 of 640 bytes) -> npu.dma_copy to <spm, 0x680, ...>

Dimensions that lie densely in every operand are merged, so that operands have as few as can be;
what still has more than the machine's descriptors takes is cut into several instructions along the
outer dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, BlockArgument

from npu_dialect import dtypes
from npu_dialect.codecs import Codec
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import ArrayInstruction, Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp, DmaDecodeOp, DmaExpandOp, DmaFillOp
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.indexed import DmaGatherOp, DmaScatterOp, ScatterOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorOp
from npu_dialect.passes.blocks import MAX_RANK, Block, joint
from npu_dialect.passes.host_work import HostWork
from npu_dialect.passes.packing import (
    Coded,
    codec_of,
    coding_of,
    decoded_strides,
    expansion,
    stored,
)
from npu_dialect.passes.tile_allocate import DramLayout, slot_stride
from npu_dialect.tile import contraction, events
from npu_dialect.tile.descriptor import BufferKey, Descriptor
from npu_dialect.tile.memory import AllocOp, ConstantOp
from npu_dialect.tile.syntax import values_of
from npu_dialect.zeros import MADE


class Addresses:
    """Where buffers lie."""

    def __init__(self, layout: DramLayout) -> None:
        self.layout = layout
        self._bases: dict[BufferKey, int] = {}

    def base(self, key: BufferKey) -> int:
        """The address of a buffer's first byte."""
        owner = key.owner
        if isinstance(owner, BlockArgument):
            return self.layout.arguments[owner.index]
        if isinstance(owner, ConstantOp):
            return self.layout.constants[stored(owner)]
        assert isinstance(owner, AllocOp)
        short = BufferKey(owner, 0, key.slot)
        found = self._bases.get(short)
        if found is None:
            assert owner.offset is not None
            offset = cast(Any, owner.offset).value.data
            found = self._bases[short] = offset + key.slot * slot_stride(owner)
        return found

    def operand(self, value: Descriptor) -> Operand:
        """The block as it is, no dimension changed."""
        address = self.base(value.buffer) + value.byte_offset
        return Operand(value.space, address, value.dtype, value.dims, value.strides)


@dataclass
class Tables:
    """What instructions name by number; the programs of a module share it."""

    kernels: dict[Kernel, int] = field(default_factory=dict[Kernel, int])
    host_functions: dict[str, int] = field(default_factory=dict[str, int])


class Selector:
    """Turns events into instructions; collects kernels and host functions as they are used."""

    def __init__(
        self, addresses: Addresses, functions: dict[str, FuncOp], tables: Tables | None = None
    ) -> None:
        self.addresses = addresses
        self.functions = functions
        self.tables = tables or Tables()
        self.work: dict[str, HostWork] = {}

    def select(self, event: events.Event) -> list[Instruction]:
        """The instructions of one event; none for what only orders or reserves."""
        return list(_SELECT[type(event)](self, event))

    # --- moves

    def copy(self, event: events.CopyEvent) -> Iterator[Instruction]:
        values = (event.source, event.destination)
        codec = codec_of(event.source)
        if isinstance(codec, Coded):
            yield self.decode(event, codec)
            return
        if codec is not None:
            yield from self.expand(event, codec)
            return
        for source, destination in self.blocks(event.destination, values, repeat=True):
            yield DmaCopyOp(source=source, destination=destination, location=event.op.location)

    def expand(self, event: events.CopyEvent, codec: Codec) -> Iterator[Instruction]:
        """A copy from a packed constant."""
        block = expansion(event, codec)
        assert block is not None, "tile-pack-constants"
        base = self.addresses.base(event.source.buffer)
        *outer, count = block.dims
        for offsets, piece in block.pieces([False] * len(outer) + [True]):
            first = base + codec.size(event.source.byte_offset + offsets[0])
            strides = tuple(codec.size(s) for s in piece.strides[0][:-1])
            dims = (*piece.dims[:-1], codec.size(count))
            yield DmaExpandOp(
                source=Operand("dram", first, dtypes.u8, dims, (*strides, 1)),
                destination=self.part(event.destination, offsets[1], piece.dims, piece.strides[1]),
                group=codec.group,
                location=event.op.location,
            )

    def decode(self, event: events.CopyEvent, codec: Coded) -> Instruction:
        """A copy from a coded constant."""
        piece, owner = codec.piece(event), event.source.buffer.owner
        assert piece is not None and isinstance(owner, ConstantOp), "tile-pack-constants"
        start, size = coding_of(owner).places[piece]
        first = self.addresses.base(event.source.buffer) + start
        elements, item = event.destination.elements, event.destination.dtype.itemsize
        return DmaDecodeOp(
            source=Operand.dense("dram", first, dtypes.u8, (size,)),
            destination=self.part(event.destination, 0, (elements,), (item,)),
            row=piece.row,
            location=event.op.location,
        )

    def fill(self, event: events.FillEvent) -> Iterator[Instruction]:
        dtype = event.destination.dtype
        pattern = np.array(event.value).astype(dtype.numpy).tobytes()
        bits = int.from_bytes(pattern, "little")
        for (destination,) in self.blocks(event.destination, (event.destination,)):
            yield DmaFillOp(destination=destination, bits=bits, location=event.op.location)

    # --- the array

    def array(self, event: events.ArrayEvent) -> Iterator[Instruction]:
        x_zero, w_zero = event.op.zero_points
        instruction, fields = _array_kind(event)
        yield instruction(
            location=event.op.location,
            input=self.addresses.operand(event.x),
            **self.weights(event.w),
            partial=self.maybe(event.acc),
            residual=self.maybe(event.residual),
            output=self.maybe(event.out),
            accumulate=int(event.accumulate),
            x_zero=x_zero,
            w_zero=w_zero,
            made=_made(event),
            **self.kernel_fields(event),
            **fields,
        )

    def weights(self, value: Descriptor) -> dict[str, Any]:
        """The weights of an array instruction, which decodes those that are coded."""
        codec, owner = codec_of(value), value.buffer.owner
        if codec is None:
            return {"weights": self.addresses.operand(value)}
        assert isinstance(codec, Coded) and isinstance(owner, ConstantOp), "tile-pack-constants"
        piece = codec.weights(value)
        assert piece is not None, "tile-pack-constants"
        start, size = coding_of(owner).places[piece]
        first = self.addresses.base(value.buffer) + start
        decoded = Operand("dram", first, value.dtype, value.dims, decoded_strides(value))
        return {"weights": decoded, "stream": size, "row": piece.row}

    # --- the vector unit

    def vector(self, event: events.VectorEvent) -> Iterator[Instruction]:
        keep = event.params is not None
        fields = self.kernel_fields(event)
        for *inputs, output in self.blocks(event.out, (*event.tensors, event.out), keep):
            named = dict(zip("abc", inputs, strict=False))
            yield VectorOp(output=output, **named, **fields, location=event.op.location)

    def reduce(self, event: events.ReduceEvent) -> Iterator[Instruction]:
        keep = event.params is not None
        fields = self.kernel_fields(event)
        op: Any = event.op
        for axes, source, output in self.reductions(event, keep):
            yield ReduceOp(
                input=source,
                output=output,
                kind=op.kind.data,
                axes=axes,
                x_zero=op.x_zero.value.data,
                location=event.op.location,
                **fields,
            )

    def reductions(
        self, event: events.ReduceEvent, keep: bool
    ) -> Iterator[tuple[int, Operand, Operand]]:
        """(mask of reduced dimensions, input, output), dimensions merged among reduced and among
        kept ones.
        """
        block = joint((event.x, event.out), event.x.dims, keep)
        if not any(s == 0 for s in block.strides[1]):  # what is reduced has one element
            block = Block((1, *block.dims), tuple((0, *s) for s in block.strides))
        reduced = [s == 0 for s in block.strides[1]]
        held = [r or (keep and k == len(reduced) - 1) for k, r in enumerate(reduced)]
        for (of_x, of_out), piece in block.pieces(held):
            axes = sum(1 << k for k, s in enumerate(piece.strides[1]) if s == 0)
            source = self.part(event.x, of_x, piece.dims, piece.strides[0])
            yield axes, source, self.part(event.out, of_out, piece.own_dims(1), piece.strides[1])

    def pool(self, event: events.PoolEvent) -> Iterator[Instruction]:
        op: Any = event.op
        size, strides, dilations = map(_integers, (op.size, op.strides, op.dilations))
        yield Pool2DOp(
            input=self.addresses.operand(event.x),
            output=self.addresses.operand(event.out),
            kind=op.kind.data,
            size=size,
            strides=strides,
            dilations=dilations,
            pads=_all_pads(event, size, strides, dilations),
            x_zero=op.x_zero.value.data,
            count_include_pad=int(op.count_include_pad is not None),
            location=event.op.location,
            **self.kernel_fields(event),
        )

    # --- rows by indices

    def gather(self, event: events.GatherEvent) -> Iterator[Instruction]:
        source, indices, destination = map(
            self.addresses.operand, (event.x, event.indices, event.out)
        )
        yield DmaGatherOp(
            source=source, indices=indices, destination=destination, location=event.op.location
        )

    def scatter(self, event: events.ScatterEvent) -> Iterator[Instruction]:
        if event.op.by_dma:
            yield DmaScatterOp(
                source=self.addresses.operand(event.updates),
                indices=self.addresses.operand(event.indices),
                destination=self.addresses.operand(event.out),
                first=event.first,
                location=event.op.location,
            )
            return
        yield ScatterOp(
            indices=self.addresses.operand(event.indices),
            updates=self.addresses.operand(event.updates),
            output=self.addresses.operand(event.out),
            kind=event.op.kind.data,
            first=event.first,
            location=event.op.location,
        )

    # --- the host

    def host(self, event: events.HostEvent) -> Iterator[Instruction]:
        name = event.op.function
        if name not in self.work:
            self.work[name] = HostWork.of(self.functions[name])
        number = self.tables.host_functions.setdefault(name, len(self.tables.host_functions))
        yield HostOp(
            place=event.op.engine.data,
            function=number,
            inputs=[self.whole(v) for v in event.inputs],
            outputs=[self.whole(v) for v in event.outputs],
            macs=self.work[name].macs,
            elements=self.work[name].elements,
            location=event.op.location,
        )

    def nothing(self, event: events.Event) -> Iterator[Instruction]:
        return iter(())

    # --- operands

    def maybe(self, value: Descriptor | None) -> Operand | None:
        return None if value is None else self.addresses.operand(value)

    def whole(self, value: Descriptor) -> Operand:
        """A whole array: its own dimensions, or fewer where they are too many for an operand."""
        operand = self.addresses.operand(value)
        return operand if len(value.dims) <= MAX_RANK else flattened(operand)

    def kernel_fields(self, event: events.ArrayEvent | events.KernelEvent) -> dict[str, Any]:
        if event.kernel is None:
            return {}
        kernels = self.tables.kernels
        number = kernels.setdefault(event.kernel, len(kernels))
        params, table = self.maybe(event.params), self.maybe(event.table)
        return {"kernel": number, "params": params, "table": table}

    def blocks(
        self,
        output: Descriptor,
        values: Sequence[Descriptor],
        keep_last: bool = False,
        repeat: bool = False,
    ) -> Iterator[tuple[Operand, ...]]:
        """The operands of one or more instructions that together process all of `values`.

        `repeat` gives all operands the same extents, with a stride of 0 where they repeat.
        """
        if output.elements == 0:
            return
        block = joint(values, output.dims, keep_last)
        keep = [False] * len(block.dims)
        keep[-1] = keep_last
        for offsets, piece in block.pieces(keep):
            yield tuple(
                self.part(v, offset, piece.dims if repeat else piece.own_dims(k), piece.strides[k])
                for k, (v, offset) in enumerate(zip(values, offsets, strict=True))
            )

    def part(
        self, value: Descriptor, offset: int, dims: tuple[int, ...], strides: tuple[int, ...]
    ) -> Operand:
        address = self.addresses.base(value.buffer) + value.byte_offset + offset
        return Operand(value.space, address, value.dtype, dims, strides)


def _made(event: events.ArrayEvent) -> int | None:
    """The parts of the products that the array makes; None for all."""
    found = event.op.attributes.get(MADE)
    return found.value.data if isinstance(found, IntegerAttr) else None


def _array_kind(event: events.ArrayEvent) -> tuple[type[ArrayInstruction], dict[str, Any]]:
    """The instruction of an array event, and the fields that only this one has."""
    op = event.op
    if isinstance(op, contraction.MatmulOp):
        return MatmulOp, {}
    assert isinstance(op, contraction.WindowedOp)
    fields = {
        "pads": event.pads,
        "strides": _integers(op.strides),
        "dilations": _integers(op.dilations),
    }
    return (Conv2DOp if isinstance(op, contraction.Conv2DOp) else DepthwiseConv2DOp), fields


def _integers(attribute: Attribute) -> tuple[int, ...]:
    return values_of(cast(DenseArrayBase[Any], attribute))


def _all_pads(
    event: events.PoolEvent, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, int, int, int]:
    """Rows above, columns to the left, rows below, columns to the right."""
    ends = [
        max(0, (out - 1) * s + (k - 1) * d + 1 - n - before)
        for out, n, k, s, d, before in zip(
            event.out.dims, event.x.dims, size, strides, dilations, event.pads, strict=False
        )
    ]
    return (*event.pads, ends[0], ends[1])


def flattened(operand: Operand) -> Operand:
    """A dense operand with its leading dimensions merged, so that it has few enough."""
    extra = len(operand.dims) - MAX_RANK
    first = 1
    for d in operand.dims[: extra + 1]:
        first *= d
    dims = (first, *operand.dims[extra + 1 :])
    return Operand.dense(operand.space, operand.address, operand.dtype, dims)


_SELECT: dict[type[events.Event], Callable[[Any, Any], Iterator[Instruction]]] = {
    events.AllocEvent: Selector.nothing,
    events.WaitEvent: Selector.nothing,
    events.CopyEvent: Selector.copy,
    events.FillEvent: Selector.fill,
    events.ArrayEvent: Selector.array,
    events.VectorEvent: Selector.vector,
    events.ReduceEvent: Selector.reduce,
    events.PoolEvent: Selector.pool,
    events.GatherEvent: Selector.gather,
    events.ScatterEvent: Selector.scatter,
    events.HostEvent: Selector.host,
}
