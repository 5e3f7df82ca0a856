"""Products of floats with 8-bit weights: the floats are quantized at run time, symmetrically.

    range = max(|x|)                     of each row, or each image
    q = round(x * (127 / range))         ties away from zero; i8
    y = sum(q * w) * (range / 127 * scale of w) + bias

(`SymmetricQuantizeFloats` of internal/reference/portable_tensor_utils.cc, `EvalHybrid` of
fully_connected.cc and conv.cc.) Where all of x is 0, so is q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import cast, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.quantization import away, stored
from npu_dialect.frontends.tflite.ops.rescaling import is_quantized, quant_of
from npu_dialect.graph.quant import uniform

STEPS = 127.0
"""The greatest quantized value."""

WHOLE = uniform(dtypes.i8, 1.0)
"""The type of the quantized values, whose scale is known at run time only."""


def is_hybrid(x: SSAValue, w: SSAValue) -> bool:
    """Whether a product is one of floats and quantized weights."""
    return dtype_of(x) is dtypes.f32 and is_quantized(w)


def product(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None,
    axes: Sequence[int],
    sums: Callable[[SSAValue], SSAValue],
) -> SSAValue:
    """The products of `x`, quantized along `axes` together; `sums` makes those of its integers."""
    if dtype_of(w) is not dtypes.i8 or getattr(element_of(w), "axis", None) is not None:
        raise NotExpressible("products of floats and weights that are not i8 of one scale")
    quant = quant_of(w)
    if quant.zero_point:
        raise NotExpressible("products of floats and weights with a zero point")
    greatest = b.emit(graph.ReduceMaxOp(b.emit(graph.AbsOp(x)), tuple(axes)))
    steps, zero = b.scalar(STEPS, x), b.scalar(0.0, x)
    reach = where(b, b.emit(graph.EqOp(greatest, zero)), steps, greatest)
    inverse = b.emit(graph.DivOp(steps, reach))
    q = stored(b, away(b, b.emit(graph.MulOp(x, inverse))), WHOLE)
    scale = b.emit(graph.DivOp(reach, steps))
    factor = b.emit(graph.MulOp(scale, b.scalar(float(quant.scales[0]), scale)))
    found = b.emit(graph.MulOp(cast(b, sums(q), dtypes.f32), factor))
    return found if bias is None else b.emit(graph.AddOp(found, bias))
