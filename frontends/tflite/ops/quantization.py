"""QUANTIZE, DEQUANTIZE and CAST."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.onnx.ops.common import cast, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import COMPLEX
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    is_quantized,
    plain,
    quant_of,
    recipe,
    rescaled,
    scale_of,
    stored_numbers,
)
from npu_dialect.frontends.tflite.ops.spectra import part
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import QuantType


def away(b: Builder, x: SSAValue) -> SSAValue:
    """Floats rounded to whole numbers, ties away from zero.

    `graph.round` takes ties to the even one; where that is half a step nearer to zero, the next one
    is meant. Both differences are exact.
    """
    even = b.emit(graph.RoundOp(x))
    off = b.emit(graph.SubOp(x, even))
    half = b.scalar(0.5, x)
    sign = b.emit(graph.SignOp(x))
    toward = b.emit(graph.EqOp(b.emit(graph.MulOp(off, sign)), half))
    return where(b, toward, b.emit(graph.AddOp(even, sign)), even)


def stored(b: Builder, x: SSAValue, element: QuantType) -> SSAValue:
    """Whole floats as the steps of a quantized type."""
    bounded = b.emit(graph.ClampOp(x, -(2.0**24), 2.0**24))
    return b.emit(graph.RequantizeOp(cast(b, bounded, dtypes.i32), KEEP, element))


@op("QUANTIZE")
def quantize(b: Builder, x: SSAValue) -> SSAValue:
    """Floats to stored values, ties away from zero; or from one quantization to another."""
    if dtypes.i32 in (dtype_of(x), b.dtype):
        return long_rescaled(b, x)
    if is_quantized(x):
        factor = scale_of(quant_of(x)) / scale_of(b.quant)
        return rescaled(b, x, [factor], b.quant)
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a quantization of {dtype_of(x)}")
    scale = b.constant(np.array(b.quant.scales[0], np.float32))
    return stored(b, away(b, b.emit(graph.DivOp(x, scale))), b.quant)


def long_rescaled(b: Builder, x: SSAValue) -> SSAValue:
    """From i32 to 8 or 16 bits, or from 16 bits to i32, with two roundings."""
    source, result = b.operands[0], b.results[0]
    if source is None or (source.dtype, result.dtype) not in LONG:
        raise NotExpressible(f"a quantization of {dtype_of(x)} to {b.dtype}")
    if source.scales.size != 1 or result.scales.size != 1:
        raise NotExpressible("a quantization of i32 without one scale")
    zero_in, zero_out = (int(t.zeros[0]) for t in (source, result))
    numbers = x if source.quant is None else plain(b, x)
    if source.quant is None and zero_in:
        numbers = b.emit(graph.SubOp(numbers, b.scalar(zero_in, numbers)))
    factor = float(source.scales[0]) / float(result.scales[0])
    found = b.emit(graph.RequantizeOp(numbers, recipe([factor]), result.quant or I32))
    if result.quant is not None or not zero_out:
        return found
    return b.emit(graph.AddOp(found, b.scalar(zero_out, found)))


LONG = ((dtypes.i32, dtypes.i8), (dtypes.i32, dtypes.i16), (dtypes.i16, dtypes.i32))
"""The quantizations of i32 that there are."""


@op("DEQUANTIZE")
def dequantize(b: Builder, x: SSAValue) -> SSAValue:
    """(x - zero point) * scale; 16-bit floats become those of 32 bits."""
    if isinstance(element_of(x), QuantType):
        return b.emit(graph.DequantizeOp(x))
    if not dtype_of(x).is_float:
        raise NotExpressible(f"the real numbers of {dtype_of(x)} without a scale")
    return cast(b, x, dtypes.f32)


@op("CAST")
def cast_to(b: Builder, x: SSAValue) -> SSAValue:
    """The same numbers in another type, which the result's says; of a quantized tensor stored ones.

    Integers wrap. Of a complex number its real part.
    """
    source = b.operands[0]
    if source is not None and source.kind == COMPLEX:
        x = part(b, x, 0)
    numbers = stored_numbers(b, x) if is_quantized(x) else x
    quant = b.results[0].quant
    if quant is None:
        return cast(b, numbers, b.dtype)
    narrow = cast(b, cast(b, cast(b, numbers, dtypes.i32), b.dtype), dtypes.i32)
    steps = b.emit(graph.SubOp(narrow, b.scalar(b.quant.zero_point, narrow)))
    return b.emit(graph.RequantizeOp(steps, KEEP, b.quant))
