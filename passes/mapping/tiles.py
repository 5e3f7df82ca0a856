"""Sizes of tiles: candidates, how often each occurs, and the scratchpad that buffers take.

The functions of sizes take numpy arrays as well, and then answer for each of their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 16
"""Bytes; every buffer slot in the scratchpad starts at a multiple of this."""


def aligned(size: int) -> int:
    """`size` rounded up to whole units of alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Buffer:
    """A tile buffer: `depth` rotating slots of `size` bytes."""

    label: str
    size: int
    depth: int
    space: str = "spm"
    loaded: bool = True
    """Filled from dram, so that it may be filled ahead of time."""

    @property
    def total(self) -> int:
        return aligned(self.size) * self.depth


PIPELINED = 8
"""Tiles of a layer from which on a neighbour on another engine hardly waits for the first one."""


def handover(cycles: Any, passes: Any, rows: Any, neighbour: int) -> Any:
    """Cycles for which a layer and a neighbour of so many cycles on another engine wait for each
    other: what both take, less the longer one.

    The layer goes over its rows in so many tiles, in each of `passes`. Only one pass goes on while
    the neighbour is at work: the first one after a neighbour, the last one before one.
    """
    tiles = np.clip(rows, 1.0, PIPELINED)
    one = cycles / passes
    both = cycles - one + np.maximum(neighbour + one / tiles, neighbour / tiles + one)
    return both - np.maximum(cycles, neighbour)


def spm_bytes(buffers: list[Buffer]) -> int:
    """Scratchpad that the buffers of a group take together."""
    return sum(b.total for b in buffers if b.space == "spm")


def split(extent: int, tile: int) -> list[tuple[int, int]]:
    """(tile size, how many) when `extent` is cut into tiles of `tile`, the last one smaller."""
    whole, rest = divmod(extent, tile)
    return [(size, count) for size, count in ((tile, whole), (rest, int(rest > 0))) if count]


def trips(extent: int, tile: int) -> int:
    """How many tiles cover `extent`."""
    if isinstance(tile, np.ndarray):  # floats are divided in a tenth of the time, and exact here
        return np.ceil(extent / tile).astype(np.int64)  # type: ignore[return-value]
    return -(-extent // tile)


def candidates(extent: int, step: int = 1) -> list[int]:
    """Tile sizes worth trying, greatest first: the extent cut into 1, 2, 3, ... nearly equal parts,
    in multiples of `step`.

    Beyond eight parts their number grows by a quarter each time, down to tiles of one step.
    """
    steps = trips(extent, step)
    sizes: dict[int, None] = {}
    parts = 1
    while parts <= steps:
        sizes[min(extent, trips(steps, parts) * step)] = None
        parts += max(1, parts // 4) if parts >= 8 else 1
    sizes[min(extent, step)] = None
    return list(sizes)
