"""Rows that a list of indices names: reading them, and writing or accumulating into them."""

from __future__ import annotations

import numpy as np

from npu_dialect import numerics
from npu_dialect.functional.windows import Array

SCATTERS = ("set", "add", "mul", "max", "min")
"""What becomes of a row: the update itself, or a function of the row and the update."""


def gather(data: Array, indices: Array) -> Array:
    """Row `indices[k]` of `data` [rows, elements] as row k.

    A negative index counts from the last row. One that is outside still means the nearest row.
    """
    index = indices.astype(np.int64)
    last = len(data) - 1
    index = np.where(index < 0, index + len(data), index)
    return data[np.clip(index, 0, last)]


def scatter(kind: str, data: Array, indices: Array, updates: Array, first: int = 0) -> None:
    """Writes or accumulates row k of `updates` into row `indices[k] - first` of `data`, in place.

    Rows are taken in ascending order of k, so that the last of those that name one row is written
    last. An index outside of `data`, negative ones among them, writes nothing.
    """
    index = indices.astype(np.int64) - first
    inside = np.flatnonzero((index >= 0) & (index < len(data)))
    for turn in _turns(index[inside]):
        at = inside[turn]
        rows = index[at]
        data[rows] = _combined(kind, data[rows], updates[at])


def _combined(kind: str, old: Array, new: Array) -> Array:
    return new if kind == "set" else numerics.BINARY[kind](old, new)


def _turns(rows: Array) -> list[Array]:
    """Positions in `rows`, cut so that no part names a row twice and equal rows keep their
    order.
    """
    if not rows.size:
        return []
    order = np.argsort(rows, kind="stable")
    counts = np.unique(rows, return_counts=True)[1]
    before = np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts)
    by_turn = order[np.argsort(before, kind="stable")]
    return np.split(by_turn, np.cumsum(np.bincount(before))[:-1])
