"""The mean or the sum over dimensions of the product of two 8-bit tensors: exact integers.

    quantize(mean(dequantize(a) * dequantize(b)))  ==>  requantize(sum((a - zero) * (b - zero)))

A square is read from a table of 16 bits, so that what is summed is half as wide.
"""

from __future__ import annotations

import math

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.attributes import requant_f32, values
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point.steps import Steps, eight_bits, stored_values
from npu_dialect.passes.qdq.common import one_scale, reach, stored


def mean_of_products(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(reduce_mean(a * b)), or of the sum; None where `op` is another."""
    total, result = op.x.owner, one_scale(op.result)
    if not isinstance(total, graph.ReduceMeanOp | graph.ReduceSumOp) or result is None:
        return None
    product = total.x.owner
    if not isinstance(product, graph.MulOp):
        return None
    a, b = (stored(v) for v in product.operands)
    if a is None or b is None:
        return None
    x, y = eight_bits(a), eight_bits(b)
    axes = values(total.axes)
    count = math.prod(shape_of(product.result)[k] for k in axes)
    if x is None or y is None or not 0 < count * reach(x) * reach(y) < 2**31:
        return None
    steps = Steps(total.location)
    sums = steps.total(_products(a, b, x, steps), list(axes))
    divisor = count if isinstance(total, graph.ReduceMeanOp) else 1
    recipe = requant_f32(np.float32(x.scale * y.scale / (divisor * result.scale)))
    steps.add(graph.RequantizeOp(sums, recipe, result, location=op.location))
    return steps


def _products(a: SSAValue, b: SSAValue, quant: QuantType, steps: Steps) -> SSAValue:
    if a is not b:
        return steps.times(steps.distance(a), steps.distance(b))
    distance = np.clip(stored_values(quant), quant.low, quant.high) - quant.zero_point
    return steps.lookup(a, (distance**2).astype(np.uint16))
