"""1 / sqrt(v) of positive i32 numbers: moved to [2**29, 2**31), a table, and a step of Newton's.

    v, p = (v * 2**s, p * 2**(s/2)) where v < 2**(31 - s), for s = 16, 8, 4, 2
    y = table[v / 2**23]                           2**44.5 / sqrt(v), off by 0.4 % at most
    y = y * (3 * 2**28 - v * (y * y / 2**30) / 2**31) / 2**29

The inverse root of what v was at first is y * p / 2**44.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect.passes.fixed_point.steps import BYTE, Array, Steps

BITS = 44.5
"""y * p is 2**BITS / sqrt(v)."""


def error(newton: int = 1) -> float:
    """The relative error after so many of Newton's steps, each of which leaves 3/2 of the square of
    what was there, the table's at first; and the roundings of 28 bits and more.
    """
    left = 1 / 256
    for _ in range(newton):
        left = 1.5 * left**2
    return left + newton * 2.0**-26


ERROR = error()
"""The relative error after one step."""


@dataclass(frozen=True)
class InverseRoot:
    """2**BITS / sqrt(v) as a product of two i32 tensors."""

    root: SSAValue
    """From 2**29 to 2**30."""
    power: SSAValue
    """A power of two."""


def table() -> Array:
    """[256] i32: 2**44.5 / sqrt(v) by v / 2**23, for v from 2**29 on."""
    middles = np.maximum(np.arange(256), 64) * 2.0**23
    return np.rint(2.0**BITS / np.sqrt(middles)).astype(np.int32)


def inverse_root(
    steps: Steps, v: SSAValue, power: SSAValue | None = None, newton: int = 1
) -> InverseRoot:
    """The inverse root of v >= 1, times `power` (1 where there is none), by so many of Newton's
    steps.
    """
    for shift in (16, 8, 4, 2):
        small = steps.less(v, steps.number(2 ** (31 - shift)))
        v = steps.where(small, steps.times(v, steps.number(2**shift)), v)
        factor = steps.number(2 ** (shift // 2))
        if power is None:
            power = steps.where(small, factor, steps.number(1))
        else:
            power = steps.where(small, steps.times(power, factor), power)
    assert power is not None
    y = steps.lookup(steps.right(v, 23, BYTE), table())
    for _ in range(newton):
        square = steps.product(v, steps.product(y, y, 30), 31)
        rest = steps.minus(steps.number(3 * 2**28), square)
        y = steps.product(y, rest, 29)
    return InverseRoot(y, power)
