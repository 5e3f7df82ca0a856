"""An elementwise function of one 16-bit tensor: a table of some of its results, and lines between.

    quantize(sigmoid(dequantize(x)))  ==>  requantize(interpolate(x, table))

Where the function is bent in a small part of the range only, as tanh of a wide tensor, x is
multiplied by a power of two first, and saturates to 16 bits where the function is flat.

The table has results at 513 values of x, or up to 4097, in i32 with fractional bits of a step. All
65,536 values are tried: a table is taken if none of its results is more than one step from that of
the model's own operations, and the smallest such. Where none is, as of 1 / sqrt(x), a table of each
of the 4096 values around zero goes beside one of the others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph, numerics
from npu_dialect.graph.attributes import requant_fixed
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point.steps import Array, Steps, exponent
from npu_dialect.passes.qdq.common import one_scale
from npu_dialect.passes.qdq.tables import elementwise_function, results
from npu_dialect.passes.rewriting import location_of

INTERVALS = (9, 10, 11, 12)
"""Powers of two: how many intervals a table may have."""

ZOOMS = (1, 2, 4, 8, 16)
"""By how much x may be multiplied."""

NEAR = (1 << 15) // ZOOMS[-1]
"""The distance from zero below which there is a table of each value."""

FARTHEST = 1 << 17
"""Entries beyond so many steps saturate, whatever they are."""

MOST_FRACTION = 13
"""Fractional bits of a step in the entries, at most."""


@dataclass(frozen=True)
class Lines:
    """Entries [2**k + 1] in steps of the result times 2**fraction, without its zero point."""

    table: Array
    fraction: int
    zoom: int = 1
    """What the distance of x from `zero` is multiplied by, if not 1."""
    zero: int = 0

    @property
    def shift(self) -> int:
        """Bits of a value that lie between two entries."""
        return 16 - exponent(len(self.table) - 1)

    def with_fraction(self, fraction: int) -> Lines:
        """The same with fewer fractional bits."""
        table = np.rint(self.table * 2.0 ** (fraction - self.fraction)).astype(np.int32)
        return replace(self, table=table, fraction=fraction)

    def evaluate(self, x: Array, result: QuantType) -> Array:
        """What the steps give."""
        ends = (0, result.zero_point, result.low, result.high)
        if self.zoom > 1:
            half = dtypes.i16
            x = numerics.requantize_fixed(
                x, self.zoom, 0, "half_even", self.zero, 0, half.low, half.high
            )
        along = numerics.interpolate(x, self.table, self.shift)
        return numerics.requantize_fixed(along, 1, self.fraction, "half_even", *ends)


def interpolated(op: graph.QuantizeOp) -> Steps | None:
    """The steps of a function of one 16-bit tensor; None where `op` is something else."""
    result, found = one_scale(op.result), elementwise_function(op.x, itemsize=2)
    if result is None or found is None:
        return None
    source, ops = found
    quant = one_scale(source)
    known = None if quant is None or not quant.storage_dtype.low else results(source, [*ops, op])
    if quant is None or known is None:
        return None
    real, exact = known
    in_steps = in_reach(real.astype(np.float64) / result.scale, exact, result)
    steps = Steps(location_of(op.x))
    lines = fitting(in_steps, exact, result, quant.zero_point)
    if lines is not None:
        steps.right(_along(lines, source, steps), lines.fraction, result)
        return steps
    pair = fitting_pair(in_steps, exact, result, quant.zero_point)
    if pair is None:
        return None
    near, far = (_along(each, source, steps) for each in pair)
    distance = steps.distance(source)
    size = steps.larger(distance, steps.minus(steps.number(0), distance))
    chosen = steps.where(steps.less(size, steps.number(NEAR)), near, far)
    steps.right(chosen, pair[0].fraction, result)
    return steps


def _along(lines: Lines, source: SSAValue, steps: Steps) -> SSAValue:
    """What the lines give at a tensor, with their fractional bits."""
    if lines.zoom > 1:
        quant = one_scale(source)
        assert quant is not None, "checked"
        finer = graph.uniform(dtypes.i16, quant.scale / lines.zoom)
        recipe = requant_fixed(lines.zoom, 0)
        source = steps.add(graph.RequantizeOp(source, recipe, finer, location=steps.location))
    table = steps.constant(lines.table)
    return steps.add(graph.InterpolateOp(source, table, i32, location=steps.location))


def in_reach(real: Array, exact: Array, result: QuantType) -> Array:
    """The values of a function in steps; where it has none, those of what it is quantized to."""
    stored = exact.astype(np.float64) - result.zero_point
    return np.where(np.isfinite(real), real, stored).clip(-FARTHEST, FARTHEST)


def fitting_pair(
    real: Array, exact: Array, result: QuantType, zero: int
) -> tuple[Lines, Lines] | None:
    """Every value around zero, and the smallest table for the others, with as many fractional bits;
    their results must be at most one step from `exact`.
    """
    x = np.arange(-(1 << 15), 1 << 15, dtype=np.int32)
    is_near = np.abs(x - zero) < NEAR
    near = _zoomed(real, ZOOMS[-1], ZOOMS[-1], zero)
    for count in INTERVALS:
        far = _through(real, 1 << (16 - count))
        fraction = min(near.fraction, far.fraction)
        pair = near.with_fraction(fraction), far.with_fraction(fraction)
        found = np.where(is_near, *(each.evaluate(x, result) for each in pair))
        if np.abs(found - exact.astype(np.int64)).max() <= 1:
            return pair
    return None


def fitting(real: Array, exact: Array, result: QuantType, zero: int = 0) -> Lines | None:
    """The smallest table of the least zoom for a function whose values are `real` [65536], in
    steps; its results must be at most one step from `exact`.
    """
    x = np.arange(-(1 << 15), 1 << 15, dtype=np.int32)
    for zoom, count in itertools.product(ZOOMS, INTERVALS):
        lines = _zoomed(real, 1 << (16 - count), zoom, zero)
        if np.abs(lines.evaluate(x, result) - exact.astype(np.int64)).max() <= 1:
            return lines
    return None


def _zoomed(real: Array, apart: int, zoom: int, zero: int) -> Lines:
    """Lines between every so many values of x, or of zoom * (x - zero)."""
    if zoom == 1:
        return _through(real, apart)
    half = (1 << 15) // zoom
    seen = real[np.clip(np.arange(-half, half) + zero + (1 << 15), 0, len(real) - 1)]
    return replace(_through(seen, apart // zoom), zoom=zoom, zero=zero)


def _through(real: Array, apart: int) -> Lines:
    """Lines between every so many values. The last one goes through the last value, and the entry
    behind it follows.
    """
    nodes = real[::apart]
    last = nodes[-1] + (real[-1] - nodes[-1]) * apart / max(apart - 1, 1)
    nodes = np.append(_centred(real, nodes, apart), last)
    fraction = min(MOST_FRACTION, 29 - exponent(max(float(np.abs(nodes).max()), 1.0)))
    return Lines(np.rint(nodes * 2.0**fraction).astype(np.int32), fraction)


def _centred(real: Array, nodes: Array, apart: int) -> Array:
    """The nodes moved by a quarter of what the curve is off the lines in the middles beside them,
    which halves the greatest error where it is bent evenly.
    """
    ends = np.append(nodes[1:], real[-1])
    if apart == 1:
        return nodes
    off = real[apart // 2 :: apart] - (nodes + ends) / 2
    off[-1] = 0
    return nodes + (off + np.concatenate([[0.0], off[:-1]])) / 4
