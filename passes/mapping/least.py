"""The plans that take the least scratchpad, within bounds of time, and of the best balance of both.

The very least would be tiles of single elements. So a plan must not take more than some multiple
of the cycles of the fastest one. Within less scratchpad tiles are smaller, runs of groups at which
much would live become cascades, and copies run ahead less. Where dram that is written is SRAM too
(Ethos-U55 with weights in flash), nothing is spilled: that would take as much of the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        middle = _aligned(sqrt(low * high))
        found = _within(planner, middle)
        if found is None or planner.estimate(found) > most:
            low = max(middle, low * NEAR)
            continue
        best, high = found, min(middle, planner.height(found))
        capacity = high if planner.estimate(found, high) <= most else middle
    planner.limit(capacity)
    return best


def within(planner: Planner) -> Plan:
    """The best plan in what the planner has, where that is less than there is on the machine: room
    decides. Only what fits in no other way is spilled into dram that is SRAM too. Raises what
    `Planner.run` raises.
    """
    if not planner.target.memories["dram"].read_only:
        return planner.run()
    planner.limit(planner.capacity)
    try:
        return planner.run()
    except TooLargeError:
        planner.ways.may_spill = True
        return planner.run()


def balance(planner: Planner, slower: float = SLOWER) -> Plan:
    """The plan whose bytes times the square of its cycles are least, of those in at most `slower`
    times the cycles of the fastest one: half the room is worth 1.41 times the cycles. Raises what
    `Planner.run` raises with all of the scratchpad.
    """
    plan = planner.run()
    fastest, taken = planner.estimate(plan), max(ALIGNMENT, planner.height(plan))
    best = _Balance(plan, planner.capacity, inf)
    most, size, failed = slower * fastest, min(planner.capacity, AHEAD * taken), 0
    low = 0
    while failed < PATIENCE:
        found = _balanced(planner, size, most)
        failed = 0 if found.price < inf else failed + 1
        if found.price < best.price:
            best, low = found, 0
        low = low or (size if size < best.capacity else 0)
        if size == ALIGNMENT:
            break
        size = _aligned(STEP * size)
    while (size := _aligned(sqrt(low * best.capacity)) + ALIGNMENT) < best.capacity:
        found = _balanced(planner, size, most)
        if found.price < best.price:
            best = found
        else:
            low = size
    planner.limit(best.capacity)
    return best.plan


@dataclass(frozen=True)
class _Balance:
    """A plan, the bytes that it may use, and bytes times squared cycles."""

    plan: Plan
    capacity: int
    price: float


def _balanced(planner: Planner, capacity: int, most: float) -> _Balance:
    """A plan in so many bytes: copies run ahead in all of them or, where that is a better balance,
    in no more than the plan takes itself. The price is infinite beyond `most` cycles, and where
    there is no plan.
    """
    found = _within(planner, capacity)
    if found is None:
        return _Balance(Plan(), capacity, inf)
    best = _Balance(found, capacity, inf)
    for size in (capacity, planner.height(found)):
        cycles = planner.estimate(found, size)
        if cycles <= most and size * cycles**2 < best.price:
            best = _Balance(found, size, size * cycles**2)
    return best


def _aligned(size: float) -> int:
    """A size rounded down, to one step of alignment at least."""
    return max(ALIGNMENT, int(size) // ALIGNMENT * ALIGNMENT)


def _within(planner: Planner, capacity: int) -> Plan | None:
    """A plan in so many bytes; None where none is found."""
    planner.limit(capacity)
    try:
        return planner.once()
    except (TooLargeError, CompileError):
        return None
