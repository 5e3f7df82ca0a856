"""Merging of dimensions: the fewest loops that still address every operand of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Collapsed:
    """`dims` of the whole, and the same dimensions as each operand has them (1 where it broadcasts
    or is reduced).
    """

    dims: Dims
    operands: tuple[Dims, ...]


def align(dims: Sequence[int], rank: int) -> Dims:
    """`dims` with leading ones up to `rank`."""
    return (1,) * (rank - len(dims)) + tuple(dims)


def collapse(
    dims: Sequence[int],
    operands: Sequence[Sequence[int]],
    keep_last: bool,
    apart: frozenset[int] = frozenset(),
) -> Collapsed:
    """Merges neighbouring dimensions that every operand has whole, or that every operand has as 1.

    `keep_last` keeps the last dimension apart, for what is given per channel; `apart` are
    dimensions that do not lie right inside the one before.
    """
    rank = max(1, len(dims))
    whole = align(dims, rank)
    rows = [align(o, rank) for o in operands]
    kept: list[int] = []
    merged: list[list[int]] = [[] for _ in rows]
    last_pattern: tuple[bool, ...] | None = None
    at = 0
    for axis in range(rank):
        d = whole[axis]
        is_last = axis == rank - 1
        if d == 1 and not (is_last and (keep_last or not kept)):
            continue
        pattern = tuple(row[axis] == d for row in rows)
        separate = last_pattern is None or pattern != last_pattern or (keep_last and is_last)
        separate = separate or any(a in apart for a in range(at + 1, axis + 1))
        if separate:
            kept.append(d)
            for out, row in zip(merged, rows, strict=True):
                out.append(row[axis])
        else:
            kept[-1] *= d
            for out, row in zip(merged, rows, strict=True):
                out[-1] *= row[axis]
        last_pattern, at = pattern, axis
    return Collapsed(tuple(kept), tuple(tuple(m) for m in merged))
