"""Which products an array makes that leaves out those with weights of zero (`array.zeros`).

The share is counted in parts of `ALL_MADE`: a note on the constant weights at level graph
(`npu.made`), a field of the array's instructions, and what `cost.py` multiplies cycles and energy
by. It is that of all weights of a layer: that some parts of it may have fewer zeros than others,
and keep the array waiting, is left out. Results have the same bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from npu_dialect.codecs import KEPT, QUAD

if TYPE_CHECKING:
    from npu_dialect.target import Zeros

MADE = "npu.made"
"""The attribute of constant weights, and of operations of tile."""
ALL_MADE = 64
"""Parts that the products of a layer are counted in, so that layers of the same shape are mostly
the same problem for the mapper.
"""


def made(weights: npt.NDArray[Any], zeros: Zeros) -> int:
    """The parts of the products that are made of weights [..., K, N] without a zero point."""
    least = math.ceil(ALL_MADE / zeros.speedup)
    if zeros.structure == "any":
        share = np.count_nonzero(weights) / max(1, weights.size)
        return max(least, math.ceil(ALL_MADE * share))
    return least if has_pairs(weights) else ALL_MADE


def has_pairs(weights: npt.NDArray[Any]) -> bool:
    """Whether of every four consecutive input channels [..., K, N] at most two are not zero."""
    *outer, channels, _ = weights.shape
    if channels % QUAD or not weights.size:
        return False
    quads = weights.reshape(*outer, channels // QUAD, QUAD, -1)
    return bool((np.count_nonzero(quads, axis=-2) <= KEPT).all())
