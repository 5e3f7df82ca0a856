"""Descriptors: where the elements of a buffer value lie, once all loop indices are known; and what
views do to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from xdsl.ir import BlockArgument, Operation

from npu_dialect.dtypes import DType
from npu_dialect.graph.shapes import same_elements
from npu_dialect.tile.memory import AllocOp


@dataclass(frozen=True, slots=True)
class BufferKey:
    """One buffer of an execution.

    `owner` is the `tile.alloc` or `tile.constant` that made it, or the function's argument. Each
    execution of an alloc makes another `instance` (0, 1, ...), which lies in `slot` instance %
    depth of the alloc's memory.
    """

    owner: Operation | BlockArgument
    instance: int = 0
    slot: int = 0

    def __str__(self) -> str:
        if isinstance(self.owner, BlockArgument):
            return f"argument {self.owner.index}"
        if isinstance(self.owner, AllocOp):
            label = "" if self.owner.label is None else f" {self.owner.label.data}"
            return f"alloc{label} #{self.instance}"
        return "constant"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Elements of a buffer: `dims` of them, the first at `byte_offset`, `strides` bytes apart.

    A stride may be 0 (a broadcast) or negative (a reversed view). `cut` counts, per dimension, the
    elements that clamping removed in front of the first; it does not take part in comparisons.
    """

    buffer: BufferKey
    space: str
    byte_offset: int
    dtype: DType
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    cut: tuple[int, ...] = field(compare=False)

    @property
    def elements(self) -> int:
        return prod(self.dims)

    @property
    def interval(self) -> tuple[int, int]:
        """The half-open range of the buffer's bytes that encloses all elements; empty when there is
        none.
        """
        if 0 in self.dims:
            return (self.byte_offset, self.byte_offset)
        low = high = self.byte_offset
        for size, stride in zip(self.dims, self.strides, strict=True):
            reach = (size - 1) * stride
            low, high = (low, high + reach) if reach >= 0 else (low + reach, high)
        return (low, high + self.dtype.itemsize)

    def __str__(self) -> str:
        dims, strides = list(self.dims), list(self.strides)
        return (
            f"{self.buffer} + {self.byte_offset} ({self.dtype}{dims} by {strides} in {self.space})"
        )


def dense(
    buffer: BufferKey, space: str, dtype: DType, like: Descriptor | Sequence[int]
) -> Descriptor:
    """A whole buffer with the extents of `like`, row-major without gaps. A descriptor's cuts carry
    over.
    """
    dims, cut = (like.dims, like.cut) if isinstance(like, Descriptor) else (tuple(like), None)
    return Descriptor(
        buffer, space, 0, dtype, dims, dense_strides(dims, dtype.itemsize), cut or (0,) * len(dims)
    )


def dense_strides(dims: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Byte strides of a row-major array without gaps."""
    strides: list[int] = []
    step = itemsize
    for size in reversed(dims):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def transposed(source: Descriptor, permutation: Sequence[int]) -> Descriptor:
    """The dimensions in another order."""
    return _like(
        source,
        [source.dims[p] for p in permutation],
        [source.strides[p] for p in permutation],
        [source.cut[p] for p in permutation],
    )


def broadcast(source: Descriptor, shape: Sequence[int]) -> Descriptor:
    """Dimensions of static size 1 repeated to `shape`, and leading ones added."""
    missing = len(shape) - len(source.dims)
    dims, strides = list(shape[:missing]), [0] * missing
    for size, found, stride in zip(shape[missing:], source.dims, source.strides, strict=True):
        repeats = found == 1 and size != 1
        dims.append(size if repeats else found)
        strides.append(0 if repeats else stride)
    return _like(source, dims, strides, [0] * len(dims))


def reshaped(source: Descriptor, before: Sequence[int], after: Sequence[int]) -> Descriptor:
    """The same elements, of static shape `before`, as `after`.

    Raises ValueError where merged dimensions are not dense, or clamped ones cannot be split.
    """
    if 0 in before:
        return _like(source, after, dense_strides(after, source.dtype.itemsize), [0] * len(after))
    dims: list[int] = []
    strides: list[int] = []
    for run, others in same_elements(before, after):
        old, new = slice(run.start, run.stop), slice(others.start, others.stop)
        actual, steps = source.dims[old], source.strides[old]
        group_dims, step = _regrouped(actual, before[old], steps, after[new], source.dtype.itemsize)
        dims += group_dims
        strides += [step * s for s in dense_strides(group_dims, 1)]
    return _like(source, dims, strides, [0] * len(dims))


def by_strides(
    source: Descriptor, offset: int, shape: Sequence[int], strides: Sequence[int]
) -> Descriptor:
    """Elements of a dense buffer: the first number `offset`, then so many apart."""
    size = source.dtype.itemsize
    return Descriptor(
        source.buffer,
        source.space,
        source.byte_offset + offset * size,
        source.dtype,
        tuple(shape),
        tuple(s * size for s in strides),
        (0,) * len(shape),
    )


def unfolded(source: Descriptor, size: int, step: int) -> Descriptor:
    """Each `size` columns of [.., W, C] as one, the next one `step` columns further.

    Raises ValueError where columns do not lie densely.
    """
    *_, columns, channels = source.dims
    *_, apart, inner = source.strides
    inner = apart if channels == 1 else inner
    if apart != channels * inner:
        raise ValueError(f"columns {apart} bytes apart, of {channels} channels {inner} bytes apart")
    dims = [*source.dims[:-2], max(0, (columns - size) // step + 1), size * channels]
    strides = [*source.strides[:-2], step * apart, inner]
    return _like(source, dims, strides, [*source.cut[:-2], 0, 0])


def _like(
    source: Descriptor, dims: Sequence[int], strides: Sequence[int], cut: Sequence[int]
) -> Descriptor:
    return Descriptor(
        source.buffer,
        source.space,
        source.byte_offset,
        source.dtype,
        tuple(dims),
        tuple(strides),
        tuple(cut),
    )


def _regrouped(
    actual: Sequence[int],
    before: Sequence[int],
    strides: Sequence[int],
    after: Sequence[int],
    itemsize: int,
) -> tuple[list[int], int]:
    """(extents of the new dimensions, byte stride of the innermost element) of one group of
    dimensions.
    """
    kept = [(n, s) for n, s in zip(actual, strides, strict=True) if n != 1]
    step = kept[-1][1] if kept else itemsize
    expected = step
    for size, stride in reversed(kept):
        if stride != expected:
            raise ValueError(f"dimensions {list(actual)} with byte strides {list(strides)}")
        expected *= size
    if tuple(actual) == tuple(before):
        return list(after), step
    # Clamped: the first of the new dimensions shrinks, the others stay whole.
    inner = prod(after[1:])
    splits_clamped = len(after) > 1 and tuple(actual[1:]) != tuple(before[1:])
    if splits_clamped or prod(actual) % inner:
        raise ValueError(f"extents {list(actual)} of {list(before)}, to {list(after)}")
    return [prod(actual) // inner, *after[1:]], step
