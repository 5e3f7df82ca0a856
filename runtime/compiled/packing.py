"""The second operand of a product, rearranged once for the routine that reads it.

Whatever the type of the arithmetic, the routine takes four bytes of the input at a time, a *group*:
four u8, two i16, one i32 or one f32. Weights lie as panels of `width` output channels, the last one
narrower: [panel][group][channel][elements of the group]. Input elements that follow one another in
memory for a window form a *run*; the groups of a run are filled up with zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npu_dialect.dtypes import DType
from npu_dialect.machine import Array

GROUP_BYTES = 4


@dataclass(frozen=True)
class Arithmetic:
    """A way to compute sums of products."""

    name: str
    element: np.dtype[np.generic]
    """What the input is converted to."""
    weight: np.dtype[np.generic]
    group: int
    """Products per 32-bit lane and step."""

    @property
    def is_float(self) -> bool:
        return self.name == "f32"

    @property
    def sum_dtype(self) -> str:
        """Storage type of the sums."""
        return "f32" if self.is_float else "i32"


U8S8 = Arithmetic("u8s8", np.dtype(np.uint8), np.dtype(np.int8), 4)
I16 = Arithmetic("i16", np.dtype(np.int16), np.dtype(np.int16), 2)
I32 = Arithmetic("i32", np.dtype(np.int32), np.dtype(np.int32), 1)
F32 = Arithmetic("f32", np.dtype(np.float32), np.dtype(np.float32), 1)
ARITHMETICS = {a.name: a for a in (U8S8, I16, I32, F32)}


Range = tuple[int, int]
"""The least and the greatest value."""


def limits(dtype: DType) -> Range:
    """The range of an integer type, or bool."""
    return (0, 1) if dtype.kind == "bool" else (dtype.low, dtype.high)


def bias(dtype: DType) -> int:
    """What is added to an 8-bit input to make it a u8."""
    return 128 if limits(dtype)[0] < 0 else 0


def choose(dtype: DType, x_zero: int, weights: Range, dot4: bool) -> Arithmetic:
    """The fastest arithmetic that is exact for whole inputs of `dtype` less `x_zero`, and weights
    of the given range, their zero point subtracted.
    """
    low, high = limits(dtype)
    if dot4 and dtype.itemsize == 1 and weights[0] >= -128 and weights[1] <= 127:
        return U8S8
    return I16 if _fits((low - x_zero, high - x_zero)) and _fits(weights) else I32


def _fits(values: Range) -> bool:
    return values[0] >= -(2**15) and values[1] < 2**15


@dataclass(frozen=True)
class Runs:
    """How a window [KH, KW, C] is read: `count` runs of `length` elements each."""

    count: int
    length: int

    def groups(self, arithmetic: Arithmetic) -> int:
        """Groups per run."""
        return -(-self.length // arithmetic.group)


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights for a product."""

    data: Array
    start: Array
    """What the sums start from, one word per channel; zeros but for u8s8."""
    lanes: int
    channels: int

    @cached_property
    def padded_channels(self) -> int:
        """Channels with those that fill up the last vector."""
        return -(-self.channels // self.lanes) * self.lanes


def pack(
    weights: Array, runs: Runs, arithmetic: Arithmetic, lanes: int, width: int, x_zero: int
) -> Packed:
    """Weights [K, N] with their zero point subtracted, in panels of `width` channels (a multiple of
    `lanes`). `x_zero` is the input's zero point as the routine sees it.
    """
    channels = weights.shape[1]
    padded = -(-channels // lanes) * lanes
    groups, group = runs.groups(arithmetic), arithmetic.group
    filled = np.zeros((runs.count, groups * group, padded), arithmetic.weight)
    filled[:, : runs.length, :channels] = weights.reshape(runs.count, runs.length, channels)
    steps = filled.reshape(runs.count * groups, group, padded).transpose(0, 2, 1)
    parts = [
        np.ascontiguousarray(steps[:, n : n + width]).reshape(-1) for n in range(0, padded, width)
    ]
    start = np.zeros(padded, np.float32 if arithmetic.is_float else np.int32)
    if arithmetic is U8S8:
        sums = weights.astype(np.int64).sum(axis=0) * -x_zero
        start[:channels] = sums.astype(np.int32)
    return Packed(np.concatenate(parts), start, lanes, channels)


def pack_depthwise(weights: Array, arithmetic: Arithmetic, lanes: int) -> Array:
    """Weights [taps, C] for the depthwise routine: a row of vectors per tap (of pairs for i16)."""
    taps, channels = weights.shape
    if arithmetic is not I16:
        padded = -(-channels // lanes) * lanes
        plain = np.zeros((taps, padded), arithmetic.weight)
        plain[:, :channels] = weights
        return plain
    wide = 2 * lanes
    padded = -(-channels // wide) * wide
    filled = np.zeros((taps + taps % 2, padded), np.int16)
    filled[:taps, :channels] = weights
    pairs = filled.reshape(-1, 2, padded // wide, wide)[..., interleaving(lanes)]
    return np.ascontiguousarray(pairs.transpose(0, 2, 3, 1)).reshape(len(pairs), -1)


def pack_stacked(weights: Array, lanes: int, x_zero: int) -> Packed:
    """Weights [KH, KW, C] of s8 for the routine `stacked`: per four rows of a window and column,
    a vector of groups of one channel each. `x_zero` is the input's zero point as it sees it.
    """
    kh, kw, channels = weights.shape
    padded = -(-channels // lanes) * lanes
    stacks = -(-kh // GROUP_BYTES)
    filled = np.zeros((stacks * GROUP_BYTES, kw, padded), np.int8)
    filled[:kh, :, :channels] = weights
    groups = filled.reshape(stacks, GROUP_BYTES, kw, padded).transpose(0, 2, 3, 1)
    start = np.zeros(padded, np.int32)
    start[:channels] = weights.astype(np.int64).sum(axis=(0, 1)) * -x_zero
    return Packed(np.ascontiguousarray(groups).reshape(-1), start, lanes, channels)


def interleaving(lanes: int) -> list[int]:
    """The order in which the unpack instructions, which work on 16 bytes each, put 2 * `lanes`
    channels into two vectors of pairs.
    """
    low = [8 * half + i for half in range(lanes // 4) for i in range(4)]
    return low + [i + 4 for i in low]
