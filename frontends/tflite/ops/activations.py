"""Functions of one tensor. Those of an 8-bit tensor are tables of their 256 results."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph, numerics
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import (
    activated,
    is_quantized,
    quant_of,
    quantized_multiplier,
    rescaled,
    scale_of,
)
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import QuantType


def stored_values(quant: QuantType) -> Array:
    """The 256 values of an 8-bit type, ascending, int64."""
    storage = quant.storage_dtype
    if storage.itemsize > 1:
        raise NotExpressible("a function of a 16-bit tensor")
    return np.arange(storage.low, storage.high + 1, dtype=np.int64)


def away(x: Array) -> Array:
    """Rounded to whole numbers, ties away from zero."""
    return np.copysign(np.floor(np.abs(x.astype(np.float64)) + 0.5), x)


def tabled(b: Builder, x: SSAValue, stored: Array) -> SSAValue:
    """A table of stored results, one for each stored value of `x`."""
    element = b.quant
    low, high = element.low, element.high
    table = np.clip(stored, low, high).astype(element.storage_dtype.numpy)
    return b.emit(graph.LookupOp(x, b.constant(table), element))


def real_function(b: Builder, x: SSAValue, function: Callable[[float], float]) -> SSAValue:
    """The table of a function of real numbers, as LUTPopulate of lut.h makes it: in float32."""
    quant = quant_of(x)
    values = quant.scales[0] * (stored_values(quant) - quant.zero_point).astype(np.float32)
    reals = np.array([function(float(v)) for v in values], np.float32)
    steps = reals * (np.float32(1) / b.quant.scales[0])
    return tabled(b, x, away(steps) + b.quant.zero_point)


def function(b: Builder, kind: type[Any], x: SSAValue, real: Callable[[float], float]) -> SSAValue:
    """An operation of floats, or the table of it."""
    if is_quantized(x):
        return real_function(b, x, real)
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a function of {dtype_of(x)}")
    return b.emit(kind(x))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@op("LOGISTIC")
def logistic(b: Builder, x: SSAValue) -> SSAValue:
    """1 / (1 + exp(-x))."""
    return function(b, graph.SigmoidOp, x, _sigmoid)


@op("TANH")
def tanh(b: Builder, x: SSAValue) -> SSAValue:
    """tanh(x)."""
    return function(b, graph.TanhOp, x, math.tanh)


def relu_of(b: Builder, x: SSAValue, activation: str) -> SSAValue:
    """A bounded x; a quantized one is rescaled to its result first."""
    if not is_quantized(x):
        return activated(b, x, activation)
    if quant_of(x) != b.quant:
        x = rescaled(b, x, [scale_of(quant_of(x)) / scale_of(b.quant)], b.quant)
    return activated(b, x, activation)


@op("RELU")
def relu(b: Builder, x: SSAValue) -> SSAValue:
    """max(x, 0)."""
    return relu_of(b, x, "RELU")


@op("RELU6")
def relu6(b: Builder, x: SSAValue) -> SSAValue:
    """min(max(x, 0), 6)."""
    return relu_of(b, x, "RELU6")


@op("RELU_N1_TO_1")
def relu_n1_to_1(b: Builder, x: SSAValue) -> SSAValue:
    """min(max(x, -1), 1)."""
    return relu_of(b, x, "RELU_N1_TO_1")


def floats_only(b: Builder, kind: type[Any], x: SSAValue) -> SSAValue:
    """An operation of floats (or plain integers, where graph has it for them)."""
    if is_quantized(x):
        raise NotExpressible("this function of a quantized tensor")
    return b.emit(kind(x))


@op("SQRT")
def sqrt(b: Builder, x: SSAValue) -> SSAValue:
    """The square root."""
    return floats_only(b, graph.SqrtOp, x)


@op("RSQRT")
def rsqrt(b: Builder, x: SSAValue) -> SSAValue:
    """1 / sqrt(x)."""
    return floats_only(b, graph.RsqrtOp, x)


@op("SQUARE")
def square(b: Builder, x: SSAValue) -> SSAValue:
    """x * x."""
    if is_quantized(x):
        raise NotExpressible("this function of a quantized tensor")
    return b.emit(graph.MulOp(x, x))


@op("NEG")
def neg(b: Builder, x: SSAValue) -> SSAValue:
    """-x."""
    return floats_only(b, graph.NegOp, x)


@op("ABS")
def absolute(b: Builder, x: SSAValue) -> SSAValue:
    """|x|."""
    return floats_only(b, graph.AbsOp, x)


@op("EXP")
def exp(b: Builder, x: SSAValue) -> SSAValue:
    """e**x."""
    return floats_only(b, graph.ExpOp, x)


@op("LOG")
def log(b: Builder, x: SSAValue) -> SSAValue:
    """The natural logarithm."""
    return floats_only(b, graph.LogOp, x)


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


@op("LEAKY_RELU", options="LeakyReluOptions")
def leaky_relu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x, times alpha where it is negative."""
    if not is_quantized(x):
        return b.emit(graph.LeakyReluOp(x, alpha))
    steps = (stored_values(quant_of(x)) - quant_of(x).zero_point).astype(np.int32)
    scale, result = quant_of(x).scales[0], b.quant.scales[0]
    same = _rescaled(steps, float(scale) / float(result))
    less = _rescaled(steps, float(scale * np.float32(alpha) / result))
    return tabled(b, x, np.where(steps >= 0, same, less) + b.quant.zero_point)


def _rescaled(steps: Array, factor: float) -> Array:
    m, e = quantized_multiplier(factor)
    return numerics.requantize_fixed(steps, m, 31 - e, "double").astype(np.int64)
