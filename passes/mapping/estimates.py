"""What a mapped group is estimated to cost, and what a mapping is chosen by.

All numbers may be numpy arrays, one element for each of many mappings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from npu_dialect.target import Target

SHARED_DMA = 0.1
"""What a cycle of transfer counts that the layer's own computation hides: other layers could load.
Of 0, 0.1 and 0.25 the best on twelve programs."""
SHARED_ENGINE = 0.1
"""What a cycle of computation counts that the layer's own transfer hides: other layers could
compute."""


@dataclass(frozen=True)
class Estimate:
    """Cycles of a mapped group: what its engine and the dma are busy, and what cannot be hidden."""

    compute: Any
    transfer: Any
    exposed: Any
    handover: Any = 0.0
    """Cycles for which neighbours on other engines wait for single tiles."""
    gap: float = 0.0
    """How much less any mapping could cost, as a share of `in_place`: 0 where none does."""
    alternative: tuple[Any, float] | None = None
    """The best mapping of another kind, and what it costs more, as a share of `in_place`."""

    @property
    def cycles(self) -> Any:
        """Of the layer."""
        return np.maximum(self.compute, self.transfer) + self.exposed

    @property
    def in_place(self) -> Any:
        """Of the layer between its neighbours: what a mapping is chosen by."""
        shared = SHARED_DMA * self.transfer + SHARED_ENGINE * self.compute
        return self.cycles + self.handover + shared


def dram_bytes(target: Target, size: Any, run: Any) -> Any:
    """What a transfer of `size` bytes in runs of `run` occupies dram for, in bytes."""
    burst = target.memories["dram"].burst
    return size / run * (-(-run // burst) * burst)


def dram_cycles(target: Target, size: Any, run: Any, transfers: Any = 1) -> Any:
    """Cycles of so many transfers that move `size` bytes together, in runs of `run`."""
    width = target.memories["dram"].ports["dma"]
    return target.dma.startup * transfers + dram_bytes(target, size, run) / width
