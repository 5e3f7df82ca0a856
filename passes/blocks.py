"""Joint blocks: operands that are processed together, with as few dimensions as address all of
them.

dims [8, 32, 1, 16], byte strides [512, 16, 16, 1] and [1024, 32, 32, 2]
-> dims [4096], strides [1] and [2]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from npu_dialect.npu.fields import DIM_BITS
from npu_dialect.tile.descriptor import Descriptor

MAX_RANK = 5
"""Dimensions of an operand."""


@dataclass(frozen=True)
class Block:
    """Common extents of several operands, and the byte strides of each: 0 where it has one element
    for all.
    """

    dims: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    """[operand][dimension]."""

    def pieces(self, keep: Sequence[bool]) -> Iterator[tuple[list[int], Block]]:
        """(byte offset of each operand, the block without the outer dimensions), so that the rank
        fits.

        Only dimensions that are not to be kept may be taken apart.
        """
        excess = len(self.dims) - MAX_RANK
        outer = [k for k, kept in enumerate(keep) if not kept][: max(0, excess)]
        inner = [k for k in range(len(self.dims)) if k not in outer]
        rest = Block(
            tuple(self.dims[k] for k in inner),
            tuple(tuple(strides[k] for k in inner) for strides in self.strides),
        )
        for index in product(*(range(self.dims[k]) for k in outer)):
            steps = [tuple(s[k] for k in outer) for s in self.strides]
            yield [sum(i * s for i, s in zip(index, step, strict=True)) for step in steps], rest

    def own_dims(self, number: int) -> tuple[int, ...]:
        """The extents of one operand where a dimension that it repeats counts as 1."""
        return tuple(
            1 if s == 0 else d for d, s in zip(self.dims, self.strides[number], strict=True)
        )


def joint(values: Sequence[Descriptor], dims: Sequence[int], keep_last: bool = False) -> Block:
    """The block of all `values`, which broadcast to `dims`. `keep_last` keeps the last dimension
    apart.
    """
    rows = [
        tuple(0 if n == 1 != d else s for n, d, s in zip(v.dims, dims, v.strides, strict=True))
        for v in values
    ]
    columns = [tuple(row[k] for row in rows) for k in range(len(dims))]
    kept: list[tuple[int, tuple[int, ...]]] = []
    closed = False
    for k in reversed(range(len(dims))):
        is_last = k == len(dims) - 1
        if dims[k] == 1 and not (is_last and keep_last):
            continue
        if kept and not closed and _merges(dims[k], columns[k], *kept[-1]):
            kept[-1] = (dims[k] * kept[-1][0], kept[-1][1])
        else:
            kept.append((dims[k], columns[k]))
        closed = is_last and keep_last
    if not kept:
        kept.append((1, tuple(v.dtype.itemsize for v in values)))
    kept.reverse()
    strides = tuple(tuple(column[i] for _, column in kept) for i in range(len(values)))
    return Block(tuple(d for d, _ in kept), strides)


def _merges(
    outer: int, outer_strides: Sequence[int], inner: int, inner_strides: Sequence[int]
) -> bool:
    """Whether an outer dimension goes on where the inner one ends, in every operand."""
    if outer * inner >= 1 << DIM_BITS:
        return False
    return all(a == b * inner for a, b in zip(outer_strides, inner_strides, strict=True))
