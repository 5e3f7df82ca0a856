"""What all lowerings of groups share: where tensors lie, loops, loads and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from xdsl.builder import Builder
from xdsl.dialects.builtin import LocationAttr, UnknownLoc
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from npu_dialect import provenance, tile
from npu_dialect.blob import BlobAttr
from npu_dialect.codecs import PACKED
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.passes.mapping.groups import Group
from npu_dialect.passes.mapping.views import NoViewError, Place, place_of, storage
from npu_dialect.target import Target
from npu_dialect.tile.attributes import Span
from npu_dialect.tile.structure import ViewLikeOp
from npu_dialect.tile.syntax import shape_of as buffer_shape
from npu_dialect.tile.syntax import space_of

Index = SSAValue | None
"""A loop index, or None for a loop of one trip that was left out."""


@dataclass
class Lowering:
    """The function being written. `memory` is where each tensor of the graph that has memory of its
    own (`views.storage`) lies.
    """

    target: Target
    builder: Builder
    memory: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    constants: dict[tuple[BlobAttr, Attribute | None], SSAValue] = field(
        default_factory=dict[tuple[BlobAttr, Attribute | None], SSAValue]
    )

    def buffer(
        self, value: SSAValue, location: LocationAttr, shape: Sequence[int] | None = None
    ) -> SSAValue:
        """The memory of a tensor, in its own shape or in another one of as many elements, through
        strides where it lies within another tensor's.

        Raises NoViewError where a dimension of the shape has no single stride.
        """
        return self.at(place_of(value), shape_of(value) if shape is None else shape, location)

    def at(self, place: Place, shape: Sequence[int], location: LocationAttr) -> SSAValue:
        """The memory at a place, in a shape."""
        base = place.storage
        if base not in self.memory:
            assert isinstance(base, OpResult) and base.op.name == "graph.constant"
            self.memory[base] = self.constant(base.op.properties["value"], base.op.location)
        whole = self.memory[base]
        if place.is_whole:
            return self.reshaped(whole, shape, location)
        strides = place.strides(shape)
        if strides is None:
            raise NoViewError(f"the dimensions {list(shape)} must have a stride each")
        view = tile.StridedOp(whole, shape, strides, place.offset, location=location)
        return self.builder.insert(view).result

    def shares(self, one: SSAValue, other: SSAValue) -> bool:
        """Whether two tensors of the graph have the same memory: a state before and after."""
        return one in self.memory and whole(self.memory[one]) is whole(self.memory[other])

    def reshaped(self, buffer: SSAValue, shape: Sequence[int], location: LocationAttr) -> SSAValue:
        """A dense buffer seen in another shape."""
        if buffer_shape(buffer) == tuple(shape):
            return buffer
        return self.builder.insert(tile.ReshapeOp(buffer, shape, location=location)).result

    def constant(
        self, blob: object, location: LocationAttr, codec: Attribute | None = None
    ) -> SSAValue:
        """A constant in dram, by a codec or as it is; equal ones share their memory."""
        assert isinstance(blob, BlobAttr)
        key = (blob, codec)
        if key not in self.constants:
            made = self.builder.insert(tile.ConstantOp(blob, location=location))
            if codec is not None:
                made.attributes[PACKED] = codec
            self.constants[key] = made.result
        return self.constants[key]

    def data(
        self,
        array: npt.NDArray[np.generic],
        location: LocationAttr,
        codec: Attribute | None = None,
    ) -> SSAValue:
        """A constant made by the compiler: transposed weights, parameters, tables."""
        return self.constant(BlobAttr.of(np.asarray(array, order="C")), location, codec)

    def allocate_result(self, group: Group, value: SSAValue, resident: bool) -> SSAValue:
        """Memory for a tensor between groups: its own, or that of the tensor it lies within."""
        base = storage(value)
        if base not in self.memory:
            assert isinstance(base, OpResult)
            owner = group if base.op is group.op else Group(base.op)
            alloc = tile.AllocOp(
                shape_of(base),
                dtype_of(base),
                "spm" if resident else "dram",
                label=owner.name,
                location=owner.location,
            )
            self.memory[base] = self.builder.insert(alloc).result
        return self.memory[base]


@dataclass
class Nest:
    """A point inside a loop nest: a builder and the location that every operation of the nest
    carries.
    """

    builder: Builder
    location: LocationAttr

    def insert(self, op: Operation) -> SSAValue | None:
        """Adds an operation; its result, if it has one."""
        self.builder.insert(op)
        return op.results[0] if op.results else None

    def loop(self, trips: int, always: bool = False) -> tuple[Nest, Index]:
        """The inside of a loop, or this very point when there is one trip only."""
        if trips == 1 and not always:
            return self, None
        op = self.builder.insert(tile.ForOp(trips, location=self.location))
        return Nest(op.builder, self.location), op.index

    def view(self, buffer: SSAValue, spans: Sequence[Span | int]) -> SSAValue:
        """A part of a buffer; the buffer itself when the spans are all of it."""
        whole = all(
            isinstance(s, int) or (s.start == 0 and not s.terms and s.step == 1 and s.size == d)
            for s, d in zip(spans, buffer_shape(buffer), strict=True)
        )
        if whole:
            return buffer
        return self.builder.insert(tile.ViewOp(buffer, spans, location=self.location)).result

    def transpose(self, buffer: SSAValue, permutation: Sequence[int]) -> SSAValue:
        """A permuted view."""
        op = tile.TransposeOp(buffer, permutation, location=self.location)
        return self.builder.insert(op).result

    def reshape(self, buffer: SSAValue, shape: Sequence[int]) -> SSAValue:
        """The same elements in another shape."""
        if buffer_shape(buffer) == tuple(shape):
            return buffer
        return self.builder.insert(tile.ReshapeOp(buffer, shape, location=self.location)).result

    def unfold(self, buffer: SSAValue, size: int, step: int) -> SSAValue:
        """Each `size` columns as the channels of one, so many columns apart."""
        return self.builder.insert(tile.UnfoldOp(buffer, size, step, location=self.location)).result

    def local(
        self, view: SSAValue, depth: int, label: str, space: str = "spm", dtype: DType | None = None
    ) -> SSAValue:
        """A tile buffer of the extents of `view`."""
        op = tile.AllocOp.of(
            view, space, dtype=dtype, depth=depth, label=label, location=self.location
        )
        return self.builder.insert(op).result

    def load(self, view: SSAValue, depth: int, label: str) -> SSAValue:
        """`view` itself where it lies in the scratchpad, else a tile buffer that a copy fills."""
        if space_of(view) == "spm":
            return view
        buffer = self.local(view, depth, label)
        inside = Nest(self.builder, provenance.fuse(self.location, _origin(view)))
        inside.copy(view, buffer)
        return buffer

    def copy(self, source: SSAValue, destination: SSAValue) -> None:
        """A copy that is complete when the next operation starts, as far as the program's meaning
        goes.

        What really overlaps is decided by the schedule, from the memory that operations touch.
        """
        token = self.builder.insert(tile.CopyOp(source, destination, location=self.location))
        self.builder.insert(tile.WaitOp(token.results[0], location=self.location))

    def target_of(self, view: SSAValue, depth: int, label: str) -> SSAValue:
        """Where to compute what shall end in `view`: there where it lies in the scratchpad, else in
        a tile buffer.
        """
        return view if space_of(view) == "spm" else self.local(view, depth, label)

    def store(self, computed: SSAValue, view: SSAValue) -> None:
        """Brings a computed tile to its place."""
        if computed is not view:
            self.copy(computed, view)


def _origin(view: SSAValue) -> LocationAttr:
    """The sources of the constant that a view shows; none for other memory."""
    owner = view.owner
    while isinstance(owner, ViewLikeOp):
        owner = owner.operands[0].owner
    return owner.location if isinstance(owner, tile.ConstantOp) else UnknownLoc()


def whole(buffer: SSAValue) -> SSAValue:
    """The buffer that is seen in another shape."""
    while isinstance(buffer.owner, tile.ReshapeOp):
        buffer = buffer.owner.operands[0]
    return buffer


def along(size: int, index: Index, stride: int, start: int = 0) -> Span:
    """The window of a loop: `size` elements from `start + index * stride`."""
    return Span(size, start, [] if index is None else [(index, stride)])
