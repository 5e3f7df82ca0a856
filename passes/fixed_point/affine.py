"""Factors and terms by channel, as a batch normalization has them: one product and one sum.

    quantize(dequantize(x) * factors + terms)  ==>  rescale((x - zero) * a + b)

with a and b the factors and terms in steps of the result, in fixed point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import shape_of
from npu_dialect.passes.fixed_point.steps import COARSEST, Array, Steps, eight_bits, exponent
from npu_dialect.passes.qdq.common import known, one_scale, reach, stored
from npu_dialect.passes.rewriting import location_of

MOST_BITS = 30
"""Bits of the product and of the sum, sign apart."""

MOST_FRACTION = 20
"""Fractional bits of the result before it is rounded, at most."""


@dataclass(frozen=True)
class Line:
    """factor * dequantize(x) + term, both of which broadcast with x, in float64."""

    x: SSAValue
    factor: Array
    term: Array


def affine(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(dequantize(x) * factors + terms); None where `op` is something else."""
    line, result = _line(op.x), one_scale(op.result)
    if line is None or result is None or shape_of(line.x) != shape_of(op.x):
        return None
    quant = eight_bits(line.x)
    if quant is None:
        return None
    factor, term = line.factor * (quant.scale / result.scale), line.term / result.scale
    greatest = reach(quant) * np.abs(factor).max(initial=0) + np.abs(term).max(initial=0)
    if not np.isfinite(greatest):
        return None
    bits = min(MOST_FRACTION, MOST_BITS - 1 - exponent(max(float(greatest), 1.0)))
    if bits < 0 or (reach(quant) + 1) * 2.0 ** -(bits + 1) > COARSEST:
        return None
    steps = Steps(location_of(op.x))
    a, b = (np.rint(v * 2.0**bits).astype(np.int32) for v in (factor, term))
    product = steps.times(steps.distance(line.x), steps.constant(a))
    steps.right(steps.plus(product, steps.constant(b)), bits, result)
    return steps


def _line(value: SSAValue) -> Line | None:
    """What `value` is, seen as a line; None where it is no function of this kind."""
    x = stored(value)
    if x is not None:
        return Line(x, np.ones(()), np.zeros(()))
    op = value.owner
    if isinstance(op, graph.BatchNormOp):
        return _batch_norm(op)
    if not isinstance(op, graph.AddOp | graph.SubOp | graph.MulOp | graph.DivOp):
        return None
    by = known(op.rhs)
    line = _line(op.lhs) if by is not None else None
    if line is None and isinstance(op, graph.AddOp | graph.MulOp):
        by = known(op.lhs)
        line = _line(op.rhs) if by is not None else None
    if line is None or by is None:
        return None
    number = by.astype(np.float64)
    with np.errstate(all="ignore"):
        if isinstance(op, graph.AddOp):
            return Line(line.x, line.factor, line.term + number)
        if isinstance(op, graph.SubOp):
            return Line(line.x, line.factor, line.term - number)
        number = number if isinstance(op, graph.MulOp) else 1 / number
        return Line(line.x, line.factor * number, line.term * number)


def _batch_norm(op: graph.BatchNormOp) -> Line | None:
    line = _line(op.x)
    parts = [known(v) for v in (op.scale, op.bias, op.mean, op.variance)]
    found = [p.astype(np.float64) for p in parts if p is not None]
    if line is None or len(found) != 4:
        return None
    along = [1] * len(shape_of(op.x))
    along[op.axis.value.data] = -1
    scale, bias, mean, variance = (p.reshape(along) for p in found)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + op.epsilon.value.data)
        return Line(line.x, line.factor * factor, (line.term - mean) * factor + bias)
