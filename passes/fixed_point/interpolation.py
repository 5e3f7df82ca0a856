"""An elementwise function of one 16-bit tensor: a table of some of its results, and lines between.

    quantize(sigmoid(dequantize(x)))  ==>  requantize(interpolate(x, table))

The table has results at 513 values of x, or up to 4097, in i32 with fractional bits of a step. All
65,536 values are tried: a table is taken if none of its results is more than one step from that of
the model's own operations, and the smallest such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import i32

from npu_dialect import graph, numerics
from npu_dialect.graph.attributes import requant_fixed
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point.steps import Array, Steps, exponent
from npu_dialect.passes.qdq.common import one_scale
from npu_dialect.passes.qdq.tables import elementwise_function, results
from npu_dialect.passes.rewriting import location_of

INTERVALS = (9, 10, 11, 12)
"""Powers of two: how many intervals a table may have."""

FARTHEST = 1 << 17
"""Entries beyond so many steps saturate, whatever they are."""

MOST_FRACTION = 13
"""Fractional bits of a step in the entries, at most."""


@dataclass(frozen=True)
class Lines:
    """Entries [2**k + 1] in steps of the result times 2**fraction, without its zero point."""

    table: Array
    fraction: int

    @property
    def shift(self) -> int:
        """Bits of a value that lie between two entries."""
        return 16 - exponent(len(self.table) - 1)

    def evaluate(self, x: Array, result: QuantType) -> Array:
        """What the steps give."""
        ends = (0, result.zero_point, result.low, result.high)
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
    if known is None:
        return None
    real, exact = known
    lines = fitting(real.astype(np.float64) / result.scale, exact, result)
    if lines is None:
        return None
    steps = Steps(location_of(op.x))
    table = steps.constant(lines.table)
    along = steps.add(graph.InterpolateOp(source, table, i32, location=steps.location))
    recipe = requant_fixed(1, lines.fraction)
    steps.add(graph.RequantizeOp(along, recipe, result, location=steps.location))
    return steps


def fitting(real: Array, exact: Array, result: QuantType) -> Lines | None:
    """The smallest table for a function whose values are `real` [65536], in steps; its results must
    be at most one step from `exact`.
    """
    if not np.isfinite(real).all():
        return None
    x = np.arange(-(1 << 15), 1 << 15, dtype=np.int32)
    real = real.clip(-FARTHEST, FARTHEST)
    for count in INTERVALS:
        lines = _through(real, 1 << (16 - count))
        if np.abs(lines.evaluate(x, result) - exact.astype(np.int64)).max() <= 1:
            return lines
    return None


def _through(real: Array, apart: int) -> Lines:
    """Lines between every so many values. The last one goes through the last value, and the entry
    behind it follows.
    """
    nodes = real[::apart]
    last = nodes[-1] + (real[-1] - nodes[-1]) * apart / (apart - 1)
    nodes = np.append(_centred(real, nodes, apart), last)
    fraction = min(MOST_FRACTION, 29 - exponent(max(float(np.abs(nodes).max()), 1.0)))
    return Lines(np.rint(nodes * 2.0**fraction).astype(np.int32), fraction)


def _centred(real: Array, nodes: Array, apart: int) -> Array:
    """The nodes moved by a quarter of what the curve is off the lines in the middles beside them,
    which halves the greatest error where it is bent evenly.
    """
    ends = np.append(nodes[1:], real[-1])
    off = real[apart // 2 :: apart] - (nodes + ends) / 2
    off[-1] = 0
    return nodes + (off + np.concatenate([[0.0], off[:-1]])) / 4
