"""Restarts of searches for offsets that differ, until one finds a solution.

`allocation_beam` compares many states by what is there, `allocation_stacks` few by what must come;
neither solves all that the other one does, so they take turns. What was hard to place in one search
counts more in the next ones of its kind. The work is bounded in cells (2 to 3 ns), not in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu_dialect.passes.allocation_beam import Beam, Manner, Strip
from npu_dialect.passes.allocation_stacks import Cells, Stacks

NARROW, NARROWER = 32, 8
"""The width of most searches: of beams, and of those with stacks."""
NOISE = 0.5
"""Of all searches but the first ones."""


def attempts() -> Iterator[tuple[Manner, int]]:
    """Manners and widths without end.

    Many narrow searches that differ solve more than few wide ones. Widths follow Luby's sequence
    (1, 1, 2, 1, 1, 2, 4, ...): restarts of unknown luck then take at most a logarithm longer than
    with the best width.
    """
    yield Manner(fewest=False, power=0.5), NARROW
    yield Manner(fewest=True), NARROW
    for number in count(1):
        chosen = Manner(
            fewest=number % 4 != 0,
            power=(1.0, 0.5)[number % 2],
            worth=(2.0, 1.0, 4.0)[number % 3],
            grade=(0.5, 0.25)[number // 2 % 2],
            noise=NOISE,
            seed=number,
        )
        yield chosen, NARROW * luby(number)


def luby(number: int) -> int:
    """The `number`-th of 1, 1, 2, 1, 1, 2, 4, 1, ..., counted from 1."""
    length = number.bit_length()
    if number == (1 << length) - 1:
        return 1 << (length - 1)
    return luby(number - (1 << (length - 1)) + 1)


def beam_search(strip: Strip, cells: int) -> list[int] | None:
    """Offsets in bytes below the capacity, looked for with at most about `cells` of work."""
    stacks = _Stacks(strip)
    for number, (manner, width) in enumerate(attempts()):
        beam = Beam(strip, manner, width)
        offsets = beam.run(cells)
        cells -= beam.work
        if offsets is None and number > 0 and cells > 0 and not strip.has_parts:
            offsets = stacks.run(manner, width * NARROWER // NARROW, cells)
            cells -= stacks.work
        if offsets is not None:
            return [int(offset) * strip.unit for offset in offsets]
        if cells <= 0:
            return None
    return None


BLAME = 3.0
"""How much more a buffer counts after a search that died most often in its sections."""
MEMORY = 0.9
"""Part of what counts more that is kept from search to search."""


class _Stacks:
    """Searches with stacks that learn from each other. `work` is that of the last one."""

    def __init__(self, strip: Strip) -> None:
        self.strip = strip
        self.weights = np.ones(strip.count)
        self.work = 0

    @cached_property
    def tables(self) -> Cells:
        return Cells(self.strip)

    def run(self, manner: Manner, width: int, cells: int) -> list[int] | None:
        """The offsets that one search finds."""
        search = Stacks(self.tables, manner, width, self.weights)
        offsets = search.run(cells)
        self.work = search.work
        blame = search.blame / max(1e-9, float(search.blame.max(initial=0)))
        hard: NDArray[np.floating[Any]] = (self.strip.live * blame).max(1, initial=0)
        self.weights = 1 + (self.weights - 1) * MEMORY + BLAME * hard
        return offsets
