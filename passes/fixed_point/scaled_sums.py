"""Factors behind a matrix product or convolution, as attention scales its scores.

    quantize(cast(sums) * scales / c)  ==>  requantize(sums) by scales / c / scale of the result

with multipliers of 31 significant bits.
"""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.attributes import requant_fixed
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.fixed_point.steps import Array, Steps
from npu_dialect.passes.qdq.common import Accumulator, accumulator, fixed, known, one_scale
from npu_dialect.passes.rewriting import location_of

LEAST, MOST = 2.0**-31, 2.0**30
"""The magnitudes of multipliers that a recipe can have, with all of their bits."""


def scaled_sums(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(sums * scales * factors); None where `op` is something else."""
    found, result = _scaled(op.x), one_scale(op.result)
    if found is None or result is None or accumulator(op.x) is not None:
        return None
    if shape_of(found.sums) != shape_of(op.x):
        return None
    factors = found.scales.astype(np.float64) / result.scale
    if factors.ndim > 1 or not _representable(factors):
        return None
    recipes = [fixed(float(factor)).data for factor in factors.ravel()]
    recipe = requant_fixed(
        np.concatenate([r.multiplier for r in recipes]), np.concatenate([r.shift for r in recipes])
    )
    steps = Steps(location_of(op.x))
    steps.add(graph.RequantizeOp(found.sums, recipe, result, location=steps.location))
    return steps


def _representable(factors: Array) -> bool:
    with np.errstate(invalid="ignore"):
        size = np.abs(factors[factors != 0])
    return bool(((size >= LEAST) & (size < MOST)).all())


def _scaled(value: SSAValue) -> Accumulator | None:
    """The sums that `value` is a multiple of, and the factors by channel, in float64."""
    found = accumulator(value)
    if found is not None:
        return Accumulator(found.sums, found.scales.astype(np.float64))
    op = value.owner
    if not isinstance(op, graph.MulOp | graph.DivOp):
        return None
    by, inner = known(op.rhs), op.lhs
    if by is None and isinstance(op, graph.MulOp):
        by, inner = known(op.lhs), op.rhs
    line = None if by is None else _scaled(inner)
    channels = shape_of(value)[-1:]
    if line is None or by is None or by.size not in (1, *channels) or by.shape[-1:] != by.shape:
        return None
    with np.errstate(all="ignore"):
        number = by.astype(np.float64).ravel()
        factor = line.scales.ravel() * (number if isinstance(op, graph.MulOp) else 1 / number)
    return Accumulator(line.sums, factor)
