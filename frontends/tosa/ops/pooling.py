"""AVG_POOL2D and MAX_POOL2D."""

from __future__ import annotations

from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, functional, graph
from npu_dialect.frontends.onnx.builder import Array, dtype_of, is_quantized, shape_of
from npu_dialect.frontends.onnx.errors import NotExpressible
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.contractions import Ints, graph_pads
from npu_dialect.frontends.tosa.ops.rescaling import as_zero
from npu_dialect.frontends.tosa.registry import op
from npu_dialect.graph.quant import QuantType, uniform


@op("max_pool2d")
def max_pool2d(
    b: Builder, input: SSAValue, *, kernel: Ints, stride: Ints, pad: Ints, nan_mode: str
) -> SSAValue:
    """The greatest of each window."""
    propagates(input, nan_mode)
    return b.emit(graph.MaxPool2DOp(input, kernel, stride, graph_pads(pad)))


def propagates(x: SSAValue, nan_mode: str) -> None:
    """Refuse comparisons of floats that pass NaN over."""
    if dtype_of(x).is_float and nan_mode != "PROPAGATE":
        raise NotExpressible(f"floats of which NaN is passed over ({nan_mode})")


def reciprocal_scale(count: int) -> tuple[int, int]:
    """(multiplier, shift) of a division by `count`: `reciprocal_scale` of the specification."""
    k = (count - 1).bit_length()
    return (((1 << 30) + 1) << k) // count, 30 + k


@op("avg_pool2d")
def avg_pool2d(
    b: Builder,
    input: SSAValue,
    input_zp: SSAValue,
    output_zp: SSAValue,
    *,
    kernel: Ints,
    stride: Ints,
    pad: Ints,
    acc_type: Any,
) -> SSAValue:
    """The sum of what is inside, times a reciprocal in fixed point, rounded once."""
    pads = graph_pads(pad)
    if not is_quantized(input):
        if str(acc_type) != "f32":
            raise NotExpressible(f"sums in {acc_type}")
        return b.emit(graph.AvgPool2DOp(input, kernel, stride, pads))
    x = as_zero(b, input, int(b.number(input_zp, "input_zp")))
    target: Any = b.element
    assert isinstance(target, QuantType)
    zero = int(b.number(output_zp, "output_zp"))
    if zero != target.zero_point:
        target = uniform(target.storage_dtype, target.scales[0], zero)
    if dtype_of(x).itemsize > 1:
        sums = _wide_sums(b, x, kernel, stride, pads)
    else:
        sums = b.emit(graph.SumPool2DOp(x, kernel, stride, pads))
    counts = _counts(shape_of(x)[1:3], kernel, stride, pads)
    pairs = {n: reciprocal_scale(n) for n in np.unique(counts).tolist()}
    if len(pairs) == 1:
        multiplier, shift = next(iter(pairs.values()))
        made = graph.requant_fixed(multiplier, shift, "half_up")
        return b.emit(graph.RequantizeOp(sums, made, target))
    most = max(shift for _, shift in pairs.values())
    lifted, factors = np.ones_like(counts), np.ones_like(counts)
    for count, (multiplier, shift) in pairs.items():
        lifted[counts == count] = 1 << (most - shift)
        factors[counts == count] = multiplier
    if (lifted > 1).any():
        sums = b.emit(graph.MulOp(sums, b.i32(lifted)))
    return b.emit(graph.RescaleOp(sums, b.i32(factors), most, target, "half_up"))


def _counts(size: tuple[int, ...], kernel: Ints, stride: Ints, pads: Ints) -> Array:
    """The positions of each window that lie inside: [1, OH, OW, 1]."""
    ones = np.ones((1, *size, 1), np.int8)
    top, left, bottom, right = pads
    return functional.sum_pool2d(
        ones, kernel=(kernel[0], kernel[1]), strides=(stride[0], stride[1]),
        pads=(top, left, bottom, right), dilations=(1, 1), x_zero=0,
    )  # fmt: skip


def _wide_sums(b: Builder, x: SSAValue, kernel: Ints, stride: Ints, pads: Ints) -> SSAValue:
    """Sums of windows of 16 bits, by a convolution with ones."""
    if dtype_of(x) is not dtypes.i16:
        raise NotExpressible(f"the mean of {dtype_of(x)}")
    channels = shape_of(x)[3]
    ones = np.ones((*kernel, 1, channels), np.int8)
    w = b.constant(ones, uniform(dtypes.i8, 1.0))
    return b.emit(graph.Conv2DOp(x, w, None, stride, pads, (1, 1), channels, sums="i32"))
