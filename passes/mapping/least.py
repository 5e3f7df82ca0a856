"""The plan that takes the least scratchpad, within bounds of time.

The very least would be tiles of single elements. So a plan must not take more than some multiple
of the cycles of the fastest one. Within less scratchpad tiles are smaller, runs of groups at which
much would live become cascades, and copies run ahead less. Where dram that is written is SRAM too
(Ethos-U55 with weights in flash), nothing is spilled: that would take as much of the same memory.
"""

from __future__ import annotations

from math import sqrt

from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Plan, TooLargeError
from npu_dialect.passes.mapping.tiles import ALIGNMENT

SLOWER = {"memory": 2.0, "balanced": 1.15}
"""By objective, cycles that the plan may take, as a multiple of those of the fastest one, as
estimated.
"""
NEAR = 1.06
"""The least scratchpad is found up to this factor."""
SMALLEST = 256
"""What the fastest plan takes, over the least that is tried."""


def least(planner: Planner, slower: float) -> Plan:
    """The plan of the least capacity for which there is one in at most `slower` times the cycles of
    the fastest one, by bisection; the planner has that capacity then. Raises what `Planner.run`
    raises with all of the scratchpad.
    """
    best = planner.run()
    most = slower * planner.estimate(best)
    high = capacity = max(ALIGNMENT, planner.height(best))
    low = high / SMALLEST
    while high > NEAR * low and high > ALIGNMENT:
        middle = max(ALIGNMENT, int(sqrt(low * high)) // ALIGNMENT * ALIGNMENT)
        found = _within(planner, middle, most)
        if found is None:
            low = max(middle, low * NEAR)
            continue
        best = found
        high = capacity = min(middle, planner.height(best))
    planner.limit(capacity)
    return best


def _within(planner: Planner, capacity: int, most: float) -> Plan | None:
    """A plan in so many bytes and cycles; None where none is found."""
    planner.limit(capacity)
    try:
        found = planner.once()
    except (TooLargeError, CompileError):
        return None
    return None if found is None or planner.estimate(found) > most else found
