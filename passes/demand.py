"""The order in which tasks are asked for: each result of a program, one after the other, asks for
what it needs and for nothing else, depth first.

    program    a0 a1 a2 a3  b0 b1 b2 b3  c0 c1 c2 c3        (b0 needs a0, c0 needs b0, ...)
    demand     a0 b0 c0  a1 b1 c1  a2 b2 c2  a3 b3 c3

So layers whose tiles are of the same rows go in stripes, whatever the order of their loop nests.
Where a result needs all of a layer (the keys of attention), that layer is complete before. By this
order of preference one engine is at work on the next stripe while another one has this one; by the
length of the way to the end, all tiles of a layer come before the first of the next layer.
"""

from __future__ import annotations

from collections.abc import Sequence


def demand_ranks(before: Sequence[Sequence[int]]) -> list[int]:
    """By task, its place in the order of demand; `before` has the tasks that each one follows, all
    of them earlier in the program.
    """
    is_read = [False] * len(before)
    for found in before:
        for task in found:
            is_read[task] = True
    ranks = [-1] * len(before)
    place = 0
    for last in range(len(before)):
        stack = [] if is_read[last] else [last]
        while stack:
            task = stack[-1]
            missing = [p for p in before[task] if ranks[p] < 0]
            if missing and ranks[task] < 0:
                stack += sorted(missing, reverse=True)
                continue
            stack.pop()
            if ranks[task] < 0:
                ranks[task], place = place, place + 1
    return ranks
