"""What layer normalizations of 8 and of 16 bits share: quantize(layer_norm(dequantize(x)))."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point.steps import Array
from npu_dialect.passes.qdq.common import known, one_scale, stored


@dataclass(frozen=True)
class Normalization:
    """A layer normalization of stored values with known scale and bias, which is quantized."""

    x: SSAValue
    quant: QuantType
    """The type of `x`."""
    gain: Array
    """The scale in steps of the result, float64."""
    bias: Array
    """The bias, alike."""
    epsilon: float
    axes: list[int]
    """The dimensions of a row."""
    result: QuantType
    location: LocationAttr

    @property
    def count(self) -> int:
        """The elements of a row."""
        return math.prod(shape_of(self.x)[axis] for axis in self.axes)


def normalization(
    op: graph.QuantizeOp, type_of: Callable[[SSAValue], QuantType | None]
) -> Normalization | None:
    """The one that `op` quantizes; `type_of` gives the type of what can be normalized, or None."""
    inner, result = op.x.owner, one_scale(op.result)
    if not isinstance(inner, graph.LayerNormOp) or result is None:
        return None
    x, gain, bias = stored(inner.x), known(inner.scale), known(inner.bias)
    quant = None if x is None else type_of(x)
    if x is None or quant is None or gain is None or bias is None:
        return None
    in_steps = gain.astype(np.float64) / result.scale, bias.astype(np.float64) / result.scale
    axes = list(range(inner.axis.value.data, len(shape_of(x))))
    return Normalization(
        x, quant, *in_steps, inner.epsilon.value.data, axes, result, inner.location
    )
