"""Functions of an 8-bit tensor: the 256 results, one for each stored value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph, numerics
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops import wide_functions
from npu_dialect.frontends.tflite.ops.rescaling import quant_of, quantized_multiplier
from npu_dialect.graph.quant import QuantType


def stored_values(quant: QuantType) -> Array:
    """The 256 values of an 8-bit type, ascending, int64."""
    storage = quant.storage_dtype
    if storage.itemsize > 1:
        raise NotExpressible("a function of a 16-bit tensor")
    return np.arange(storage.low, storage.high + 1, dtype=np.int64)


def steps_of(x: SSAValue) -> Array:
    """The 256 differences from the zero point, int64."""
    quant = quant_of(x)
    return stored_values(quant) - quant.zero_point


def reals_of(x: SSAValue) -> Array:
    """The 256 numbers that the values of an 8-bit tensor stand for, float32."""
    return quant_of(x).scales[0] * steps_of(x).astype(np.float32)


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
    if quant_of(x).storage_dtype.itemsize > 1:
        return wide_functions.real_function(b, x, function)
    with np.errstate(over="ignore"):
        reals = np.array([function(float(v)) for v in reals_of(x)], np.float32)
        steps = reals * (np.float32(1) / b.quant.scales[0])
    return tabled(b, x, away(steps) + b.quant.zero_point)


def rescaled_steps(steps: Array, factor: float) -> Array:
    """Whole numbers times a factor, with the two roundings of TFLite; int64."""
    m, e = quantized_multiplier(factor)
    found = numerics.requantize_fixed(steps.astype(np.int32), m, 31 - e, "double")
    return found.astype(np.int64)
