"""One choice for each of many, at the least cost within a budget: the multiple-choice knapsack.

Solved by dynamic programming over the budget in `STEPS` steps. What a choice takes is rounded up to
whole steps, so what is found keeps the budget, and costs no more than any that would keep it with
as many steps left over as there are items. Of choices that are alike the last one is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STEPS = 20_000


def cheapest(
    takes: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float
) -> list[int] | None:
    """For each item the number of its choice, such that what they take sums to at most `budget` at
    the least sum of costs; None where no choices fit. Infinite costs are never chosen.
    """
    best = np.full(STEPS + 1, np.inf)
    best[0] = 0
    chosen: list[npt.NDArray[np.int16]] = []
    steps = [[_steps(take, budget) for take in item] for item in takes]
    for item, prices in zip(steps, costs, strict=True):
        new, choice = np.full_like(best, np.inf), np.full(STEPS + 1, -1, np.int16)
        for k, (taken, price) in enumerate(zip(item, prices, strict=True)):
            if taken > STEPS or not np.isfinite(price):
                continue
            with_it = np.full_like(best, np.inf)
            with_it[taken:] = best[: STEPS + 1 - taken] + price
            better = with_it <= new
            new[better], choice[better] = with_it[better], k
        best = new
        chosen.append(choice)
    left = int(np.argmin(best))
    if not np.isfinite(best[left]):
        return None
    found: list[int] = []
    for item, choice in zip(reversed(steps), reversed(chosen), strict=True):
        k = int(choice[left])
        found.append(k)
        left -= item[k]
    return found[::-1]


def _steps(take: float, budget: float) -> int:
    if take <= 0:
        return 0
    return STEPS + 1 if take > budget else int(np.ceil(take / budget * STEPS))
