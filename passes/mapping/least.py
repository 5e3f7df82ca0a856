"""The plan that takes the least scratchpad, within bounds of time.

The very least would be tiles of single elements. So a plan must not take more than twice the
cycles of the fastest one.
"""

from __future__ import annotations

from collections.abc import Callable

from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.segments import Plan, TooLargeError
from npu_dialect.passes.mapping.tiles import ALIGNMENT

SLOWER = 2.0
"""Cycles that the plan may take, as a multiple of those of the fastest one, as estimated."""
STEPS = 16
"""The least scratchpad is found to this part of what the fastest plan takes."""


def least(make: Callable[[int | None], Planner]) -> tuple[Planner, Plan]:
    """The planner and plan of the least capacity for which there is one, by bisection; `make` makes
    a planner for a capacity. Raises what `Planner.run` raises with all of the scratchpad.
    """
    planner = make(None)
    plan = planner.run()
    high = planner.height(plan)
    most = SLOWER * planner.estimate(plan)
    best = planner, plan
    step = max(ALIGNMENT, high // STEPS // ALIGNMENT * ALIGNMENT)
    low = 0
    while high - low > step:
        capacity = (low + high) // 2 // ALIGNMENT * ALIGNMENT
        planner = make(capacity)
        try:
            found = planner.once()
        except (TooLargeError, CompileError):
            found = None
        if found is None or planner.estimate(found) > most:
            low = capacity
            continue
        plan = found
        best = planner, plan
        high = min(capacity, planner.height(plan))
    return best
