"""What a walk reports: one event per executed operation, with every buffer resolved to a
descriptor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from npu_dialect.kernel import Kernel
from npu_dialect.tile.compute import HostOp, Pool2DOp, ReduceOp, VectorOp
from npu_dialect.tile.contraction import ArrayOp
from npu_dialect.tile.descriptor import Descriptor
from npu_dialect.tile.indexed import GatherOp, ScatterOp
from npu_dialect.tile.memory import AllocOp, CopyOp, FillOp, WaitOp

Pair = tuple[int, int]
Descriptors = tuple[Descriptor, ...]


def present(*values: Descriptor | None) -> Descriptors:
    """Those that are there."""
    return tuple(v for v in values if v is not None)


@dataclass(frozen=True, slots=True)
class Event:
    """An executed operation. `ivs` gives the value of every enclosing loop's index; it must not be
    changed.
    """

    op: Operation
    ivs: Mapping[SSAValue, int]

    @property
    def reads(self) -> Descriptors:
        """What the operation reads."""
        return ()

    @property
    def writes(self) -> Descriptors:
        """What the operation writes."""
        return ()


@dataclass(frozen=True, slots=True)
class AllocEvent(Event):
    """A new instance of a buffer; what its slot held is lost."""

    op: AllocOp
    result: Descriptor


@dataclass(frozen=True, slots=True)
class CopyEvent(Event):
    """A copy has been started; `token` numbers the copies of a walk."""

    op: CopyOp
    source: Descriptor
    destination: Descriptor
    token: int

    @property
    def reads(self) -> Descriptors:
        return (self.source,)

    @property
    def writes(self) -> Descriptors:
        return (self.destination,)


@dataclass(frozen=True, slots=True)
class WaitEvent(Event):
    """The copies with these tokens are done from here on."""

    op: WaitOp
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FillEvent(Event):
    """Every element of `destination` becomes `value`."""

    op: FillOp
    destination: Descriptor
    value: float

    @property
    def writes(self) -> Descriptors:
        return (self.destination,)


@dataclass(frozen=True, slots=True)
class ArrayEvent(Event):
    """One tile of a convolution or matrix product; images are [H, W, C].

    Only what takes part now is there: `acc` where sums are read (`accumulate`) or left there (no
    kernel runs); `kernel`, `out`, `params`, `table` and `residual` where the kernel runs, that is
    where `last` and the operation has a kernel. `pads` are the rows above and columns to the left
    ((0, 0) for a matrix product).
    """

    op: ArrayOp
    x: Descriptor
    w: Descriptor
    pads: Pair
    accumulate: bool
    last: bool
    acc: Descriptor | None
    out: Descriptor | None
    kernel: Kernel | None
    params: Descriptor | None
    table: Descriptor | None
    residual: Descriptor | None

    @property
    def target(self) -> Descriptor:
        """What is written: `out` where the kernel runs, `acc` otherwise."""
        target = self.acc if self.out is None else self.out
        assert target is not None
        return target

    @property
    def reads(self) -> Descriptors:
        acc = self.acc if self.accumulate else None
        return present(self.x, self.w, acc, self.params, self.table, self.residual)

    @property
    def writes(self) -> Descriptors:
        return (self.target,)


@dataclass(frozen=True, slots=True)
class KernelEvent(Event):
    """Shape shared by the vector unit's events."""

    out: Descriptor
    kernel: Kernel | None
    params: Descriptor | None
    table: Descriptor | None

    @property
    def inputs(self) -> Descriptors:
        """The tensors that are read."""
        return ()

    @property
    def reads(self) -> Descriptors:
        return (*self.inputs, *present(self.params, self.table))

    @property
    def writes(self) -> Descriptors:
        return (self.out,)


@dataclass(frozen=True, slots=True)
class VectorEvent(KernelEvent):
    """A kernel over `tensors`, which broadcast to `out`."""

    op: VectorOp
    tensors: Descriptors

    @property
    def inputs(self) -> Descriptors:
        return self.tensors


@dataclass(frozen=True, slots=True)
class ReduceEvent(KernelEvent):
    """A reduction of `x` over `axes`."""

    op: ReduceOp
    x: Descriptor
    axes: tuple[int, ...]

    @property
    def inputs(self) -> Descriptors:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class PoolEvent(KernelEvent):
    """A pool of `x` [H, W, C] with `pads` rows above and columns to the left."""

    op: Pool2DOp
    x: Descriptor
    pads: Pair

    @property
    def inputs(self) -> Descriptors:
        return (self.x,)


@dataclass(frozen=True, slots=True)
class GatherEvent(Event):
    """Rows of `x` in the order of `indices` become those of `out`."""

    op: GatherOp
    x: Descriptor
    indices: Descriptor
    out: Descriptor

    @property
    def reads(self) -> Descriptors:
        return (self.x, self.indices)

    @property
    def writes(self) -> Descriptors:
        return (self.out,)


@dataclass(frozen=True, slots=True)
class ScatterEvent(Event):
    """The rows of `updates` go into those of `out` that `indices` name, of which `first` is the
    first.
    """

    op: ScatterOp
    indices: Descriptor
    updates: Descriptor
    out: Descriptor
    first: int

    @property
    def reads(self) -> Descriptors:
        return (self.indices, self.updates, self.out)

    @property
    def writes(self) -> Descriptors:
        return (self.out,)


@dataclass(frozen=True, slots=True)
class HostEvent(Event):
    """A function run by the host or the io engine."""

    op: HostOp
    inputs: Descriptors
    outputs: Descriptors

    @property
    def reads(self) -> Descriptors:
        return self.inputs

    @property
    def writes(self) -> Descriptors:
        return self.outputs
