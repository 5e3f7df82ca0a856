"""Convolutions of few channels: the taps of a kernel row multiplied as one sum.

A dot product over 8 channels of an image of 3 wastes five of them for each tap. But in a row of an
image [H, W, C] the channels of KW neighbouring columns are one run of KW * C elements, and so are
those of the taps of a kernel row [KW, C]. So columns whose windows lie within the image may be
computed as a convolution with one column of taps and KW * C channels, over columns that overlap
(`tile.unfold`); sums keep their order. Of the few columns whose windows reach into the padding,
each is computed with the taps that meet the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from npu_dialect.passes.mapping.contraction_problem import Contraction
from npu_dialect.target import Target


@dataclass(frozen=True)
class Columns:
    """Some columns of the result, and the convolution that they are."""

    start: int
    problem: Contraction
    """`ow` columns from `start` on."""
    first: int
    """The first column of the input that they need."""
    taps: tuple[int, int]
    """The columns of the kernel [start, stop) that meet the image."""
    is_joined: bool = True
    """Whether the taps of a kernel row are one sum there."""


def may_join(target: Target, p: Contraction) -> bool:
    """Whether the taps of a kernel row can be multiplied as one, and the channels alone do not fill
    the array.
    """
    return (
        p.kw > 1
        and p.ic % target.array.macs[p.x_type][2] != 0
        and p.dilations[1] == 1
        and p.groups == 1
        and not p.depthwise
        and p.constant_weights
        and p.dense_columns
        and bool(columns(p))
    )


@lru_cache(4096)
def columns(p: Contraction) -> tuple[Columns, ...]:
    """The columns of a result, those that meet the same taps together. None where some window lies
    in the padding altogether; and of floats where any meets padding, which takes part in a sum as
    zeros.
    """
    met = [_taps(p, column) for column in range(p.ow)]
    if any(start >= stop for start, stop in met):
        return ()
    if p.x_type.startswith(("f", "bf")) and set(met) != {(0, p.kw)}:
        return ()
    runs = [list(run) for _, run in groupby(range(p.ow), met.__getitem__)]
    return tuple(_joined(p, run[0], len(run), met[run[0]]) for run in runs)


@lru_cache(4096)
def whole_columns(p: Contraction) -> tuple[Columns, ...]:
    """The columns of a result with all taps for each of them, as weights that are read in one piece
    have them: those that meet all of them, of which a kernel row is one sum, and beside them those
    that meet fewer, tap by tap. None where no column meets all.
    """
    found = columns(p)
    whole = [part for part in found if part.taps == (0, p.kw)]
    if len(whole) != 1:
        return ()
    (inner,) = whole
    stop = inner.start + inner.problem.ow
    left, right = _apart(p, 0, inner.start), _apart(p, stop, p.ow)
    return (*left, inner, *right)


def _apart(p: Contraction, start: int, stop: int) -> tuple[Columns, ...]:
    """The columns [start, stop) of a result, tap by tap."""
    if start == stop:
        return ()
    first = start * p.strides[1] - p.pads[1]
    end = (stop - 1) * p.strides[1] - p.pads[1] + p.kw
    low = max(0, first)
    problem = replace(
        p, ow=stop - start, iw=min(p.iw, end) - low, pads=(p.pads[0], low - first), pixel=p.ic
    )
    return (Columns(start, problem, low, (0, p.kw), is_joined=False),)


def _taps(p: Contraction, column: int) -> tuple[int, int]:
    """The columns of the kernel that meet the image for a column of the result."""
    start = column * p.strides[1] - p.pads[1]
    return max(0, -start), min(p.kw, p.iw - start)


def _joined(p: Contraction, start: int, count: int, taps: tuple[int, int]) -> Columns:
    problem = replace(
        p, ow=count, iw=count, kw=1, ic=(taps[1] - taps[0]) * p.ic,
        strides=(p.strides[0], 1), pads=(p.pads[0], 0), pixel=p.strides[1] * p.ic,
    )  # fmt: skip
    return Columns(start, problem, start * p.strides[1] - p.pads[1] + taps[0], taps)
