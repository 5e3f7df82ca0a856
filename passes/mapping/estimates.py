"""What a mapped group is estimated to cost, and what a mapping is chosen by.

All numbers may be numpy arrays, one element for each of many mappings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_dialect.passes.mapping.tiles import trips
from npu_dialect.target import Target

SHARED_DMA = 0.1
"""What a cycle of transfer counts that the layer's own computation hides: other layers could load.
Of 0, 0.1 and 0.25 the best on twelve programs."""
SHARED_ENGINE = 0.4
"""What a cycle of computation counts that the layer's own transfer hides: other layers could
compute. Of 0.1, 0.25 and 0.4 the best on thirteen programs."""


@dataclass(frozen=True)
class Estimate:
    """Cycles of a mapped group: what its engine and the dma are busy, and what cannot be hidden."""

    compute: Any
    transfer: Any
    exposed: Any
    handover: Any = 0.0
    """Cycles for which neighbours on other engines wait for single tiles."""
    streamed: Any = 0.0
    """Cycles for which the engine reads dram itself, so that nothing is copied."""
    gap: float = 0.0
    """How much less any mapping could cost, as a share of `in_place`: 0 where none does."""
    alternative: tuple[Any, float] | None = None
    """The best mapping of another kind, and what it costs more, as a share of `in_place`."""

    @property
    def cycles(self) -> Any:
        """Of the layer."""
        return np.maximum(self.compute, self.transfer + self.streamed) + self.exposed

    @property
    def in_place(self) -> Any:
        """Of the layer between its neighbours: what a mapping is chosen by."""
        shared = SHARED_DMA * (self.transfer + self.streamed) + SHARED_ENGINE * self.compute
        return self.cycles + self.handover + shared


def whole_accesses(target: Target, run: Any) -> Any:
    """The bytes that a run of bytes occupies dram for."""
    burst = target.memories["dram"].burst
    if isinstance(run, np.ndarray):
        return np.ceil(run / burst) * burst
    return -(-run // burst) * burst


def cut_accesses(target: Target, extent: Any, tile: Any, itemsize: float) -> Any:
    """The bytes that so many elements in a row occupy dram for when they go tile by tile."""
    count = trips(extent, tile)
    last = whole_accesses(target, (extent - (count - 1) * tile) * itemsize)
    return (count - 1) * whole_accesses(target, tile * itemsize) + last


def dram_width(target: Target, *, constants: bool = False) -> float:
    """Bytes per cycle of copies from and to dram; its constants may lie in a slower part."""
    dram = target.memories["dram"]
    return dram.width("dma", 0 if constants else dram.read_only)


def copy_cycles(
    target: Target, occupied: Any, transfers: Any = 1, *, constants: bool = False
) -> Any:
    """Cycles of so many transfers that occupy dram for so many bytes."""
    width = dram_width(target, constants=constants)
    return target.dma.startup * transfers + occupied / width


def dram_cycles(
    target: Target, size: Any, run: Any, transfers: Any = 1, *, constants: bool = False
) -> Any:
    """Cycles of so many transfers that move `size` bytes together, in runs of `run`."""
    occupied = size / run * whole_accesses(target, run)
    return copy_cycles(target, occupied, transfers, constants=constants)
