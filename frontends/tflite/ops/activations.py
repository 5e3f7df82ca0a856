"""Activations. Those of an 8-bit tensor are tables of their 256 results."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import where
from npu_dialect.frontends.onnx.ops.fused import fast_gelu
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import wide_functions
from npu_dialect.frontends.tflite.ops.rescaling import (
    activated,
    is_quantized,
    plain,
    quant_of,
    rescaled,
)
from npu_dialect.frontends.tflite.ops.tables import (
    real_function,
    rescaled_steps,
    steps_of,
    tabled,
)
from npu_dialect.frontends.tflite.registry import op


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
    if is_quantized(x) and dtype_of(x) is dtypes.i16:
        return wide_functions.sigmoid(b, x)
    return function(b, graph.SigmoidOp, x, _sigmoid)


@op("TANH")
def tanh(b: Builder, x: SSAValue) -> SSAValue:
    """tanh(x)."""
    if is_quantized(x) and dtype_of(x) is dtypes.i16:
        return wide_functions.tanh(b, x)
    return function(b, graph.TanhOp, x, math.tanh)


def relu_of(b: Builder, x: SSAValue, activation: str) -> SSAValue:
    """A bounded x; a quantized one is rescaled to its result first."""
    if not is_quantized(x):
        return activated(b, x, activation)
    if quant_of(x) != b.quant:
        x = rescaled(b, x, [float(quant_of(x).scales[0] / b.quant.scales[0])], b.quant)
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


@op("RELU_0_TO_1")
def relu_0_to_1(b: Builder, x: SSAValue) -> SSAValue:
    """min(max(x, 0), 1)."""
    return relu_of(b, x, "RELU_0_TO_1")


@op("ELU")
def elu(b: Builder, x: SSAValue) -> SSAValue:
    """x, or exp(x) - 1 where it is negative."""
    if is_quantized(x):
        return real_function(b, x, lambda v: math.expm1(v) if v < 0 else v)
    return b.emit(graph.EluOp(x, 1.0))


SQRT_HALF, SQRT_2_PI = np.float32(math.sqrt(0.5)), np.float32(math.sqrt(2 / math.pi))


def _gelu(x: float) -> float:
    v = np.float32(x)
    return float(np.float32(0.5) * v * np.float32(math.erfc(v * -SQRT_HALF)))


def _gelu_by_tanh(x: float) -> float:
    v = np.float32(x)
    inner = SQRT_2_PI * (v + np.float32(0.044715) * v * v * v)
    return float(np.float32(0.5) * v * (np.float32(1) + np.float32(math.tanh(inner))))


@op("GELU", options="GeluOptions")
def gelu(b: Builder, x: SSAValue, *, approximate: bool) -> SSAValue:
    """x times the normal distribution's cumulative function, or what is close to it."""
    if not approximate:
        return function(b, graph.GeluOp, x, _gelu)
    if is_quantized(x):
        return real_function(b, x, _gelu_by_tanh)
    return fast_gelu(b, x)


@op("PRELU")
def prelu(b: Builder, x: SSAValue, alpha: SSAValue) -> SSAValue:
    """x, times alpha where it is negative; the product of quantized ones is rescaled by itself."""
    if not is_quantized(x):
        zero = b.scalar(0.0, x)
        negative = b.emit(graph.LtOp(x, zero))
        return where(b, negative, b.emit(graph.MulOp(x, alpha)), x)
    if dtype_of(x) is dtypes.i16:
        raise NotExpressible("a slope of 16 bits, whose factors the reference kernel leaves unset")
    if dtype_of(alpha) is not dtype_of(x):
        raise NotExpressible(f"a slope of {dtype_of(alpha)} for {dtype_of(x)}")
    scale, slope = quant_of(x).scales[0], quant_of(alpha).scales[0]
    numbers = plain(b, x)
    products = b.emit(graph.MulOp(numbers, plain(b, alpha)))
    less = rescaled(b, products, [float(scale * slope / b.quant.scales[0])], b.quant)
    same = rescaled(b, numbers, [float(scale / b.quant.scales[0])], b.quant)
    negative = b.emit(graph.LtOp(numbers, b.scalar(0, numbers)))
    return where(b, negative, less, same)


@op("LEAKY_RELU", options="LeakyReluOptions")
def leaky_relu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x, times alpha where it is negative."""
    if not is_quantized(x):
        return b.emit(graph.LeakyReluOp(x, alpha))
    if dtype_of(x) is dtypes.i16:
        return wide_functions.leaky_relu(b, x, alpha)
    steps = steps_of(x)
    scale, result = quant_of(x).scales[0], b.quant.scales[0]
    same = rescaled_steps(steps, float(scale / result))
    slope = float(scale * np.float32(alpha) / result)
    less = rescaled_steps(steps if slope >= 0 else -steps, abs(slope))
    return tabled(b, x, np.where(steps >= 0, same, less) + b.quant.zero_point)
