"""Where the elements of a resized dimension lie among the old ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np

from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.model import Array

FINE = 10
"""Bits of a weight."""

MOST_BITS = 8
"""Bits of a weight of u8 with which float32, in which TFLite computes it, is exact."""

MOST_PHASES = 64
"""So many different places of results are computed one by one; others by indices."""


@dataclass(frozen=True)
class Run:
    """`count` results of the same weights: of the elements from `low` on, each `step` further."""

    low: int
    count: int
    step: int
    weights: Array

    @property
    def is_pair(self) -> bool:
        """Whether a result lies between two elements."""
        return len(self.weights) > 1


@dataclass(frozen=True)
class Places:
    """Where the elements of a result lie: `part` / 2**bits of the way from `low` to the next one.

    What lies before the first element, or after the last one, is that element.
    """

    size: int
    low: Array
    part: Array
    bits: int

    @property
    def is_same(self) -> bool:
        """Whether each result is the element of its number."""
        return not self.part.any() and np.array_equal(self.low, np.arange(self.size))

    @property
    def repeats(self) -> bool:
        """Whether there are phases."""
        return self.size > 1 and self.phases()[0] > 0

    def reduced(self) -> Places:
        """Without the bits that no part has."""
        if self.size == 1:
            return Places(1, self.low * 0, self.part * 0, 0)
        common = reduce(gcd, (int(p) for p in self.part), 1 << self.bits)
        bits = self.bits - common.bit_length() + 1
        return Places(self.size, self.low, self.part // common, bits)

    def weights(self) -> Array:
        """Of the element before, and of the one behind: [results, 2]."""
        return np.stack([(1 << self.bits) - self.part, self.part], axis=1)

    def runs(self) -> list[Run]:
        """One for each phase, and then the results that are left over."""
        f, step = self.phases() if self.size > 1 else (0, 0)
        if not f:
            return [Run(0, 1, 1, np.ones(1, np.int64))]
        count = len(self.low)
        many = count // f
        weights = self.weights()
        return [
            Run(
                int(self.low[k]), many if k < f else 1, step if k < f else 1,
                weights[k][: 1 + (weights[k][1] > 0)],
            )
            for k in [*range(f), *range(many * f, count)]
        ]  # fmt: skip

    def phases(self) -> tuple[int, int]:
        """After how many results they repeat, so many elements on; (0, 0) where they do not."""
        count = len(self.low)
        for f in range(1, min(count // 2, MOST_PHASES) + 1):
            steps = self.low[f:] - self.low[:-f]
            if (
                steps[0] > 0
                and (steps == steps[0]).all()
                and (self.part[f:] == self.part[:-f]).all()
            ):
                return f, int(steps[0])
        return 0, 0


def same(size: int) -> Places:
    """Those of a dimension that stays as it is."""
    return Places(size, np.arange(size), np.zeros(size, np.int64), 0)


def fixed(old: int, new: int, corners: bool, centers: bool) -> Places:
    """Places in fixed point, of i8."""
    aligned = corners and new > 1
    above, below = (old - 1, new - 1) if aligned else (old, new)
    scale = ((1 << FINE) * above + below // 2) // below
    at = np.arange(new) * scale
    if centers:
        at = at + scale // 2 - (1 << (FINE - 1))
    if (at >> FINE).max() >= old:
        raise NotExpressible(f"{new} pixels of {old}, where TFLite's rounded scale leads outside")
    return Places(old, at >> FINE, at & ((1 << FINE) - 1), FINE)


def real(old: int, new: int, corners: bool, centers: bool) -> Array:
    """Coordinates in float32."""
    aligned = corners and new > 1
    scale = np.float32(old - 1 if aligned else old) / np.float32(new - 1 if aligned else new)
    k = np.arange(new).astype(np.float32)
    return (k + np.float32(0.5)) * scale - np.float32(0.5) if centers else k * scale


def exact(old: int, at: Array) -> Places | None:
    """Coordinates as places, if 8 bits are enough for them: float32 is exact then."""
    steps = at.astype(np.float64) * (1 << MOST_BITS)
    whole = np.floor(steps).astype(np.int64)
    if (whole != steps).any():
        return None
    return Places(old, whole >> MOST_BITS, whole & ((1 << MOST_BITS) - 1), MOST_BITS)
