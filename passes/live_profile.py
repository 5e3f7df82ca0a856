"""Bytes that are live at each of a row of positions, changed and asked for by ranges."""

from __future__ import annotations

from collections.abc import Sequence


class LiveProfile:
    """A row of sums; a change of a range and the greatest of a range take O(log n)."""

    def __init__(self, sums: Sequence[int]) -> None:
        leaves = 1
        while leaves < len(sums):
            leaves *= 2
        self.leaves = leaves
        self.greatest = [0] * leaves + list(sums) + [0] * (leaves - len(sums))
        """By node, the greatest sum below it, without what is pending above."""
        self.pending = [0] * leaves
        """By inner node, what every sum below it is to be raised by."""
        for node in range(leaves - 1, 0, -1):
            self.greatest[node] = max(self.greatest[2 * node : 2 * node + 2])

    def add(self, first: int, past: int, change: int) -> None:
        """Adds to the sums at the positions [first, past)."""
        if first >= past:
            return
        leaves, greatest, pending = self.leaves, self.greatest, self.pending
        low, high = first + leaves, past + leaves
        ends = low, high - 1
        while low < high:
            if low & 1:
                greatest[low] += change
                if low < leaves:
                    pending[low] += change
                low += 1
            if high & 1:
                high -= 1
                greatest[high] += change
                if high < leaves:
                    pending[high] += change
            low >>= 1
            high >>= 1
        for node in ends:
            node >>= 1
            while node:
                a, b = greatest[2 * node], greatest[2 * node + 1]
                greatest[node] = (a if a > b else b) + pending[node]
                node >>= 1

    def most(self, first: int, past: int) -> int:
        """The greatest sum at the positions [first, past), which must not be empty."""
        greatest, pending = self.greatest, self.pending
        low, high = first + self.leaves, past - 1 + self.leaves
        left, right = greatest[low], greatest[high]
        while low ^ high > 1:
            if not low & 1 and greatest[low + 1] > left:
                left = greatest[low + 1]
            if high & 1 and greatest[high - 1] > right:
                right = greatest[high - 1]
            low >>= 1
            high >>= 1
            left += pending[low]
            right += pending[high]
        found = max(left, right)
        node = low >> 1
        while node:
            found += pending[node]
            node >>= 1
        return found
