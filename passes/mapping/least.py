"""The plans that take the least scratchpad, within bounds of time, and of the best balance of both.

The very least would be tiles of single elements. So a plan must not take more than some multiple
of the cycles of the fastest one. Within less scratchpad tiles are smaller, runs of groups at which
much would live become cascades, and copies run ahead less. Where dram that is written is SRAM too
(Ethos-U55 with weights in flash), nothing is spilled: that would take as much of the same memory.
"""

from __future__ import annotations

from math import inf, sqrt

from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Plan, TooLargeError
from npu_dialect.passes.mapping.tiles import ALIGNMENT

FRUGAL = ("memory", "balanced")
"""The objectives for which a plan takes less than all of the scratchpad."""
SLOWER = 2.0
"""Cycles that such a plan may take, as a multiple of those of the fastest one, as estimated."""
NEAR = 1.06
"""The least scratchpad is found up to this factor."""
SMALLEST = 256
"""What the fastest plan takes, over the least that is tried."""
STEP = 0.84
"""What is tried next for a balance, as a part of the bytes tried before."""
AHEAD = 4
"""What is tried first for a balance, over what the fastest plan takes: copies run ahead in it."""
PATIENCE = 3
"""Capacities one after the other without a plan after which a balance is found."""


def least(planner: Planner, slower: float = SLOWER) -> Plan:
    """The plan of the least capacity for which there is one in at most `slower` times the cycles of
    the fastest one, by bisection; the planner has that capacity then. Raises what `Planner.run`
    raises with all of the scratchpad.
    """
    best = planner.run()
    most = slower * planner.estimate(best)
    capacity = planner.capacity
    high = max(ALIGNMENT, planner.height(best))
    low = high / SMALLEST
    while high > NEAR * low and high > ALIGNMENT:
        middle = max(ALIGNMENT, int(sqrt(low * high)) // ALIGNMENT * ALIGNMENT)
        found = _within(planner, middle)
        if found is None or planner.estimate(found) > most:
            low = max(middle, low * NEAR)
            continue
        best, high = found, min(middle, planner.height(found))
        capacity = high if planner.estimate(found, high) <= most else middle
    planner.limit(capacity)
    return best


def balance(planner: Planner, slower: float = SLOWER) -> Plan:
    """The plan whose bytes times the square of its cycles are least, of those in at most `slower`
    times the cycles of the fastest one: half the room is worth 1.41 times the cycles. Raises what
    `Planner.run` raises with all of the scratchpad.
    """
    best = planner.run()
    fastest, taken = planner.estimate(best), max(ALIGNMENT, planner.height(best))
    capacity = planner.capacity
    high, score, failed = min(capacity, AHEAD * taken), inf, 0
    while failed < PATIENCE:
        found = _within(planner, high)
        priced = () if found is None else _priced(planner, found, high, slower * fastest)
        failed = 0 if priced else failed + 1
        for price, size in priced:
            if found is not None and price < score:
                best, capacity, score = found, size, price
        if high == ALIGNMENT:
            break
        high = max(ALIGNMENT, int(STEP * high) // ALIGNMENT * ALIGNMENT)
    planner.limit(capacity)
    return best


def _priced(planner: Planner, plan: Plan, capacity: int, most: float) -> list[tuple[float, int]]:
    """(bytes times the square of cycles, bytes) of a plan where copies run ahead in all that it was
    made for, and in no more than it takes itself; those beyond `most` cycles are left out.
    """
    sizes = dict.fromkeys((planner.height(plan), capacity))
    both = ((planner.estimate(plan, size), size) for size in sizes)
    return [(cycles**2 * size, size) for cycles, size in both if cycles <= most]


def _within(planner: Planner, capacity: int) -> Plan | None:
    """A plan in so many bytes; None where none is found."""
    planner.limit(capacity)
    try:
        return planner.once()
    except (TooLargeError, CompileError):
        return None
