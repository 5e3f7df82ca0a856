"""Sparse constants, written out: values at places that are stored dimension by dimension.

    shape [4, 4], blocks of 1 x 2 columns, values 1 2 3 4
    dimension 0   dense, 4
    dimension 1   sparse: segments 0 1 1 2 2, indices 0 1    // row 0 block 0, row 2 block 1
    its block     dense, 2
                                    1 2 0 0
    ->                              0 0 0 0
                                    0 0 3 4
                                    0 0 0 0

`SparsityParameters` of the schema: the dimensions in the order in which they are stored, those of
blocks last; `block_map` says which dimension a block is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Dimension:
    """A stored dimension."""

    size: int
    """Of a dense one."""
    segments: Array | None = None
    """Of a sparse one: where the indices of each index of the dimensions before begin, and end."""
    indices: Array | None = None


@dataclass(frozen=True)
class Sparsity:
    """Where the values of a sparse tensor are."""

    order: tuple[int, ...]
    """The dimensions as they are stored; those from the rank on are blocks."""
    blocks: tuple[int, ...]
    """The dimension of each block."""
    dimensions: tuple[Dimension, ...]

    def dense(self, values: Array, shape: Sequence[int]) -> Array:
        """The tensor, zero where nothing is stored. Raises ValueError for what does not fit."""
        rank, count = len(shape), len(self.dimensions)
        if sorted(self.order) != list(range(count)) or count != rank + len(self.blocks):
            raise ValueError(f"the sparse dimensions {list(self.order)} of {list(shape)}")
        if any(not 0 <= axis < rank for axis in self.blocks):
            raise ValueError(f"blocks of the dimensions {list(self.blocks)} of {list(shape)}")
        places = self._places(len(values), shape)
        found = np.zeros(shape, values.dtype)
        if any(((p < 0) | (p >= n)).any() for p, n in zip(places, shape, strict=True)):
            raise ValueError(f"sparse values outside of {list(shape)}")
        found[tuple(places)] = values
        return found

    def _places(self, count: int, shape: Sequence[int]) -> list[Array]:
        """The index of each value in each dimension."""
        stored = self._stored(count, prod(shape))
        places = [stored[axis] for axis in range(len(shape))]
        for k, axis in enumerate(self.blocks):
            block = len(shape) + k
            size = self.dimensions[self.order.index(block)].size
            places[axis] = places[axis] * size + stored[block]
        return places

    def _stored(self, count: int, most: int) -> dict[int, Array]:
        """The same of the dimensions as they are stored, blocks apart; `most` is the size of the
        tensor.
        """
        found: dict[int, Array] = {}
        items = 1
        for axis, dimension in zip(self.order, self.dimensions, strict=True):
            repeats, index = _expanded(dimension, items, most)
            found = {k: np.repeat(places, repeats) for k, places in found.items()}
            found[axis], items = index, len(index)
        if items != count:
            raise ValueError(f"{count} sparse values, where {items} are stated")
        return found


def _expanded(dimension: Dimension, items: int, most: int) -> tuple[Any, Array]:
    """How often each item is repeated, and the index of each of what they become."""
    if dimension.segments is None or dimension.indices is None:
        if dimension.size < 0 or items * dimension.size > most:
            raise ValueError(f"{items} times {dimension.size} sparse values, of {most}")
        return dimension.size, np.tile(np.arange(dimension.size), items)
    segments, indices = dimension.segments, dimension.indices
    lengths = np.diff(segments)
    fits = len(segments) == items + 1 and segments[0] == 0 and segments[-1] == len(indices)
    if not fits or (lengths < 0).any() or len(indices) > most:
        raise ValueError(f"sparse segments that do not fit {len(indices)} indices of {items} items")
    return lengths, indices


def read(table: Any, shape: Sequence[int]) -> Sparsity:
    """The sparsity that a table of the schema states. Raises ValueError."""
    order, blocks = (_ints(a) for a in (table.TraversalOrderAsNumpy(), table.BlockMapAsNumpy()))
    if table.DimMetadataLength() != len(order) or len(order) > 2 * len(shape):
        raise ValueError(f"{table.DimMetadataLength()} sparse dimensions of {list(shape)}")
    dimensions = [_dimension(table.DimMetadata(k)) for k in range(len(order))]
    return Sparsity(order, blocks, tuple(dimensions))


def _dimension(table: Any) -> Dimension:
    if not table.Format():
        return Dimension(int(table.DenseSize()))
    parts = ((table.ArraySegments(), table.ArraySegmentsType()),
             (table.ArrayIndices(), table.ArrayIndicesType()))  # fmt: skip
    segments, indices = (_vector(*part) for part in parts)
    return Dimension(0, segments, indices)


def _vector(table: Any, kind: int) -> Array:
    """The numbers of an Int32Vector, Uint16Vector or Uint8Vector."""
    from npu_dialect.frontends.tflite.package import names, schema

    name = names("SparseIndexVector").get(kind, "NONE")
    if table is None or name == "NONE":
        return np.zeros(0, np.int64)
    vector = getattr(schema(), name)()
    vector.Init(table.Bytes, table.Pos)
    return np.array(_ints(vector.ValuesAsNumpy()), np.int64)


def _ints(array: Any) -> tuple[int, ...]:
    return () if isinstance(array, int) else tuple(int(n) for n in array)
