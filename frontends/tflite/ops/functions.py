"""Elementary functions of one tensor. Those of an 8-bit tensor are tables of their 256 results.

An operator whose reference kernel has no 8-bit form is of floats only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import wide_functions
from npu_dialect.frontends.tflite.ops.fixed_point import inverse_root
from npu_dialect.frontends.tflite.ops.rescaling import is_quantized, quant_of, scale_of
from npu_dialect.frontends.tflite.ops.tables import (
    real_function,
    reals_of,
    rescaled_steps,
    steps_of,
    stored_values,
    tabled,
)
from npu_dialect.frontends.tflite.registry import op


def signed(x: SSAValue) -> bool:
    """Whether a tensor is quantized; NotExpressible for u8, which these kernels do not take."""
    if not is_quantized(x):
        return False
    if dtype_of(x) is dtypes.u8:
        raise NotExpressible("this function of u8, which TFLite has not either")
    return True


def is_wide(x: SSAValue) -> bool:
    """Whether a quantized tensor has 16 bits."""
    return dtype_of(x).itemsize > 1


def floats_only(b: Builder, kind: type[Any], x: SSAValue) -> SSAValue:
    """An operation of floats (or plain integers, where graph has it for them)."""
    if is_quantized(x):
        raise NotExpressible("this function of a quantized tensor, which TFLite has not either")
    return b.emit(kind(x))


@op("ABS")
def absolute(b: Builder, x: SSAValue) -> SSAValue:
    """|x|; a quantized one is rescaled with two roundings."""
    if not signed(x):
        return b.emit(graph.AbsOp(x))
    if is_wide(x):
        return wide_functions.absolute(b, x)
    steps = np.abs(steps_of(x))
    if scale_of(quant_of(x)) != scale_of(b.quant):
        steps = rescaled_steps(steps, float(quant_of(x).scales[0] / b.quant.scales[0]))
    return tabled(b, x, steps + b.quant.zero_point)


@op("NEG")
def neg(b: Builder, x: SSAValue) -> SSAValue:
    """-x; of 8 bits the stored value is negated, whatever its zero point, and wraps."""
    if not signed(x):
        return b.emit(graph.NegOp(x))
    if is_wide(x):
        return wide_functions.negative(b, x)
    return tabled(b, x, (-stored_values(quant_of(x))).astype(np.int8))


@op("EXP")
def exp(b: Builder, x: SSAValue) -> SSAValue:
    """e**x."""
    if not signed(x):
        return b.emit(graph.ExpOp(x))
    return real_function(b, x, lambda v: math.exp(min(v, 700.0)))


@op("LOG")
def log(b: Builder, x: SSAValue) -> SSAValue:
    """The natural logarithm; of 8 bits the least result where x is not positive."""
    if not signed(x):
        return b.emit(graph.LogOp(x))
    least = float(np.float32(b.quant.low - b.quant.zero_point) * b.quant.scales[0])
    return real_function(b, x, lambda v: math.log(v) if v > 0 else least)


@op("SQRT")
def sqrt(b: Builder, x: SSAValue) -> SSAValue:
    """The square root; of 8 bits rounded down, and 0 where x is negative."""
    if not signed(x):
        return b.emit(graph.SqrtOp(x))
    if is_wide(x):
        return wide_functions.root(b, x)
    steps = np.sqrt(np.maximum(reals_of(x), np.float32(0))) / b.quant.scales[0]
    return tabled(b, x, np.trunc(steps) + b.quant.zero_point)


@op("RSQRT")
def rsqrt(b: Builder, x: SSAValue) -> SSAValue:
    """1 / sqrt(x); of 8 bits in fixed point, and the greatest result where x is not positive."""
    if not signed(x):
        return b.emit(graph.RsqrtOp(x))
    if is_wide(x):
        most = float(np.float32(b.quant.high) * b.quant.scales[0])
        return real_function(b, x, lambda v: 1 / math.sqrt(v) if v > 0 else most)
    factor = 1 / float(np.sqrt(quant_of(x).scales[0]) * b.quant.scales[0])
    found = [b.quant.high if n <= 0 else inverse_root(int(n), factor) for n in steps_of(x)]
    zero = np.where(steps_of(x) <= 0, 0, b.quant.zero_point)
    return tabled(b, x, np.array(found, np.int64) + zero)


@op("SQUARE")
def square(b: Builder, x: SSAValue) -> SSAValue:
    """x * x."""
    if is_quantized(x):
        raise NotExpressible("this function of a quantized tensor, which TFLite has not either")
    return b.emit(graph.MulOp(x, x))


@op("SIN")
def sin(b: Builder, x: SSAValue) -> SSAValue:
    """sin(x)."""
    return floats_only(b, graph.SinOp, x)


@op("COS")
def cos(b: Builder, x: SSAValue) -> SSAValue:
    """cos(x)."""
    return floats_only(b, graph.CosOp, x)


@op("FLOOR")
def floor(b: Builder, x: SSAValue) -> SSAValue:
    """The greatest whole number that is not above x."""
    return floats_only(b, graph.FloorOp, x)


@op("CEIL")
def ceil(b: Builder, x: SSAValue) -> SSAValue:
    """The least whole number that is not below x."""
    return floats_only(b, graph.CeilOp, x)


@op("ROUND")
def round_(b: Builder, x: SSAValue) -> SSAValue:
    """The nearest whole number, ties to the even one."""
    return floats_only(b, graph.RoundOp, x)


@op("SIGN")
def sign(b: Builder, x: SSAValue) -> SSAValue:
    """-1, 0 or 1."""
    if dtype_of(x) is not dtypes.i32 or is_quantized(x):
        return floats_only(b, graph.SignOp, x)
    return b.emit(graph.ClampOp(x, -1, 1))
