"""Quantize and dequantize as PT2E writes them: the quantized types of `graph`, as those of ONNX.

A weight stays in its integers, followed by `graph.dequantize`; `graph-fold-qdq` makes an operator
between both into one on integers. Parameters of run time (dynamic quantization) are arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.ir import BlockArgument

from npu_dialect import dtypes, graph
from npu_dialect.dtypes import DType
from npu_dialect.frontends.onnx.ops import quantization as qdq
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import Builder, Number, SSAValue, dtype_of, shape_of
from npu_dialect.frontends.torch.registry import op

LIBRARY = "quantized_decomposed"
"""The namespace of the operators, of `torch.ao` and of torchao."""

Parameter = SSAValue | Number


def _constant(b: Builder, x: Parameter, dtype: DType) -> SSAValue:
    """A parameter as a tensor of `dtype`; one of a single element without dimensions."""
    if not isinstance(x, SSAValue):
        return b.constant(np.array(x, dtype.numpy))
    x = common.cast(b, _unwidened(x, dtype), dtype)
    return common.reshape(b, x, ()) if shape_of(x) == (1,) else x


def _unwidened(x: SSAValue, dtype: DType) -> SSAValue:
    """An f32 that was made f64, as torch has the scales that it chooses, before that."""
    owner = x.owner
    if not isinstance(owner, graph.CastOp) or dtype_of(x) is not dtypes.f64:
        return x
    return owner.operands[0] if dtype_of(owner.operands[0]) is dtype else x


def _number(b: Builder, x: Parameter) -> int:
    """A bound, which is a number or a constant."""
    return b.ints(x, "a bound of quantization")[0] if isinstance(x, SSAValue) else int(x)


def _quantized(
    b: Builder, x: SSAValue, scale: Parameter, zero: Parameter, low: Parameter, high: Parameter,
    axis: int = 0,
) -> SSAValue:  # fmt: skip
    """clamp(round(x / scale) + zero, low, high)"""
    storage = b.dtype
    s, z = _constant(b, scale, dtypes.f32), _constant(b, zero, storage)
    bounds = _number(b, low), _number(b, high)
    if bounds == (storage.low, storage.high):
        return qdq.quantize_linear(b, x, s, z, axis=axis)
    array = b.array(x)
    if array is None:
        return qdq.quantize_linear(b, _within(b, x, s, z, bounds), s, z, axis=axis)
    found = qdq.quantize_linear(b, x, s, z, axis=axis)
    return b.constant(np.clip(b.known(found, "it"), *bounds), common.element_of(found))


def _within(
    b: Builder, x: SSAValue, scale: SSAValue, zero: SSAValue, bounds: tuple[int, int]
) -> SSAValue:
    """Numbers whose integers are within bounds that are narrower than their type."""
    if shape_of(scale):
        raise common.NotExpressible(f"integers by channel between {bounds[0]} and {bounds[1]}")
    s, z = float(b.known(scale, "a scale")), int(b.known(zero, "a zero point"))
    low, high = ((bound - z) * s for bound in bounds)
    return b.emit(graph.ClampOp(x, low, high))


def _dequantized(
    b: Builder, x: SSAValue, scale: Parameter, zero: Parameter | None, axis: int = 0
) -> SSAValue:
    """(x - zero) * scale"""
    s = _constant(b, scale, dtypes.f32)
    z = None if zero is None else _constant(b, zero, dtype_of(x))
    if isinstance(x, BlockArgument):
        x = _as_quantized(b, x, s, z, axis)
    return qdq.dequantize_linear(b, x, s, z, axis=axis)


def _as_quantized(
    b: Builder, x: SSAValue, scale: SSAValue, zero: SSAValue | None, axis: int
) -> SSAValue:
    """An input of integers in its quantized type, which the input itself does not get: other
    operators may use it too.
    """
    try:
        element = qdq.quant_type(b, dtype_of(x), scale, zero, len(shape_of(x)), axis)
        return qdq.renumbered(b, x, element)
    except (common.NotExpressible, ValueError):
        return x


@op(*(f"{LIBRARY}::quantize_per_tensor{kind}" for kind in ("", ".tensor", ".tensor2")))
def quantize_per_tensor(
    b: Builder,
    input: SSAValue,
    scale: Parameter,
    zero_point: Parameter,
    quant_min: Parameter,
    quant_max: Parameter,
    dtype: Any,
) -> SSAValue:
    """With one scale."""
    return _quantized(b, input, scale, zero_point, quant_min, quant_max)


@op(*(f"{LIBRARY}::dequantize_per_tensor{kind}" for kind in ("", ".tensor", ".tensor2")))
def dequantize_per_tensor(
    b: Builder,
    input: SSAValue,
    scale: Parameter,
    zero_point: Parameter,
    quant_min: Parameter,
    quant_max: Parameter,
    dtype: Any,
    *,
    out_dtype: Any,
) -> SSAValue:
    """With one scale."""
    return _dequantized(b, input, scale, zero_point)


@op(f"{LIBRARY}::quantize_per_channel")
def quantize_per_channel(
    b: Builder,
    input: SSAValue,
    scales: SSAValue,
    zero_points: SSAValue,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
) -> SSAValue:
    """With a scale for each element along one dimension."""
    return _quantized(b, input, scales, zero_points, quant_min, quant_max, axis)


@op(f"{LIBRARY}::dequantize_per_channel")
def dequantize_per_channel(
    b: Builder,
    input: SSAValue,
    scales: SSAValue,
    zero_points: SSAValue | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    *,
    out_dtype: Any,
) -> SSAValue:
    """With a scale for each element along one dimension."""
    return _dequantized(b, input, scales, zero_points, axis)


@op(f"{LIBRARY}::choose_qparams.tensor")
def choose_qparams(
    b: Builder, input: SSAValue, quant_min: int, quant_max: int, eps: float, dtype: Any
) -> list[SSAValue]:
    """The scale and zero point with which the range of the values, and 0, fits the integers."""
    low, high = _range(b, input)
    steps = quant_max - quant_min
    scale = common.div(b, common.sub(b, high, low), b.scalar(steps, low))
    scale = b.emit(graph.MaxOp(scale, b.scalar(eps, scale)))
    zero = b.emit(graph.RoundOp(common.div(b, low, scale)))
    zero = common.sub(b, b.scalar(quant_min, zero), zero)
    zero = b.emit(graph.ClampOp(zero, float(quant_min), float(quant_max)))
    return [common.reshape(b, v, (1,)) for v in (scale, zero)]


@op(f"{LIBRARY}::choose_qparams_symmetric.tensor")
def choose_qparams_symmetric(
    b: Builder, input: SSAValue, quant_min: int, quant_max: int, eps: float, dtype: Any
) -> list[SSAValue]:
    """The scale with which the greatest magnitude fits half of the integers; zero point 0 (128 of
    unsigned ones).
    """
    low, high = _range(b, input)
    most = b.emit(graph.MaxOp(b.emit(graph.NegOp(low)), high))
    scale = common.div(b, most, b.scalar((quant_max - quant_min) / 2, most))
    scale = b.emit(graph.MaxOp(scale, b.scalar(eps, scale)))
    zero = b.constant(np.array([128 if str(dtype) == "torch.uint8" else 0], np.int64))
    return [common.reshape(b, scale, (1,)), zero]


def _range(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """The least and the greatest of the values and 0."""
    axes = tuple(range(len(shape_of(x))))
    low = common.reduce(b, graph.ReduceMinOp, x, axes, 0)
    high = common.reduce(b, graph.ReduceMaxOp, x, axes, 0)
    zero = b.scalar(0, low)
    return b.emit(graph.MinOp(low, zero)), b.emit(graph.MaxOp(high, zero))
