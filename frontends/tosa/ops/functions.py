"""Functions of one number."""

from __future__ import annotations

from typing import Any

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, is_quantized
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.elementwise import plain
from npu_dialect.frontends.tosa.ops.pooling import propagates
from npu_dialect.frontends.tosa.ops.rescaling import as_zero, quant_of, stored
from npu_dialect.frontends.tosa.registry import op
from npu_dialect.graph.quant import QuantType


def _unary(name: str, kind: type[Any]) -> None:
    @op(name)
    def emit(b: Builder, input1: SSAValue) -> SSAValue:
        if dtype_of(input1) not in (dtypes.f32, dtypes.i32, dtypes.bool_):
            raise NotExpressible(f"tosa.{name} of {dtype_of(input1)}")
        return b.emit(kind(input1))

    emit.__doc__ = f"`{kind.name}`."


for _name, _kind in {
    "erf": graph.ErfOp, "sigmoid": graph.SigmoidOp, "tanh": graph.TanhOp, "exp": graph.ExpOp,
    "log": graph.LogOp, "cos": graph.CosOp, "sin": graph.SinOp, "floor": graph.FloorOp,
    "ceil": graph.CeilOp, "abs": graph.AbsOp, "reciprocal": graph.ReciprocalOp,
    "rsqrt": graph.RsqrtOp, "logical_not": graph.NotOp,
}.items():  # fmt: skip
    _unary(_name, _kind)


@op("clamp")
def clamp(
    b: Builder, input: SSAValue, *, min_val: float, max_val: float, nan_mode: str
) -> SSAValue:
    """min(max(x, min_val), max_val)."""
    propagates(input, nan_mode)
    if is_quantized(input):
        x = as_zero(b, input, quant_of(input).zero_point)
        low, high = dtype_of(x).low, dtype_of(x).high
        if (min_val, max_val) == (low, high):
            return x
        return b.emit(graph.ClampOp(x, min_val, max_val))
    if (min_val, max_val) == (0.0, float("inf")):
        return b.emit(graph.ReluOp(input))
    return b.emit(graph.ClampOp(input, min_val, max_val))


@op("negate")
def negate(
    b: Builder, input1: SSAValue, input1_zp: SSAValue, output_zp: SSAValue
) -> SSAValue:  # fmt: skip
    """-(x - input1_zp) + output_zp, saturated."""
    zero_in, zero_out = b.number(input1_zp, "input1_zp"), b.number(output_zp, "output_zp")
    if not is_quantized(input1):
        if zero_in or zero_out:
            raise Misfit(f"zero points of {dtype_of(input1)}")
        return b.emit(graph.NegOp(input1))
    numbers = plain(b, input1)
    total = b.i32(int(zero_in) + int(zero_out))
    found = b.emit(graph.SubOp(total, numbers))
    target: Any = b.element
    assert isinstance(target, QuantType)
    limits = target.storage_dtype
    return stored(b, b.emit(graph.ClampOp(found, limits.low, limits.high)), target)
