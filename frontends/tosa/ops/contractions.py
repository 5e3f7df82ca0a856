"""Convolutions and the product of matrices: exact sums, then what the model says of them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, is_quantized, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape, transpose
from npu_dialect.frontends.onnx.ops.common import pad as common_pad
from npu_dialect.frontends.onnx.ops.convolution import spread
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.ops.rescaling import as_zero
from npu_dialect.frontends.tosa.registry import op

Ints = tuple[int, ...]


def operands(
    b: Builder, x: SSAValue, w: SSAValue, x_zero: SSAValue, w_zero: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """Both operands with the zero points that they are read with."""
    if not is_quantized(x):
        if dtype_of(x) is not dtypes.f32 or dtype_of(w) is not dtypes.f32:
            raise NotExpressible(f"products of {dtype_of(x)} and {dtype_of(w)}")
        for zero in (x_zero, w_zero):
            if b.number(zero, "a zero point") != 0:
                raise Misfit("floats with a zero point")
        return x, w
    first, second = (int(b.number(z, "a zero point")) for z in (x_zero, w_zero))
    return as_zero(b, x, first), as_zero(b, w, second)


def bias_of(b: Builder, bias: SSAValue, channels: int, acc_type: Any) -> SSAValue | None:
    """The bias of each channel, None where it is 0."""
    array = b.array(bias)
    if array is None:
        if shape_of(bias) != (channels,):
            raise NotExpressible("a bias of one element that is computed at run time")
        return bias
    if array.size not in (1, channels):
        raise Misfit(f"a bias of {array.size} for {channels} channels")
    if not array.any() and not np.signbit(array.astype(np.float64)).any():
        return None
    width = str(acc_type)
    if width == "i48":
        array = array.astype(np.int64)
    return b.constant(np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (channels,))))


def _sums(x: SSAValue, acc_type: Any) -> None:
    found = str(acc_type)
    if dtype_of(x).is_float and found != "f32":
        raise NotExpressible(f"sums in {found}")


@op("conv2d")
def conv2d(
    b: Builder,
    input: SSAValue,
    weight: SSAValue,
    bias: SSAValue,
    input_zp: SSAValue,
    weight_zp: SSAValue,
    *,
    pad: Ints,
    stride: Ints,
    dilation: Ints,
    acc_type: Any,
) -> SSAValue:
    """Weights [OC, KH, KW, IC]; of one position, a product of matrices."""
    x, w = operands(b, input, weight, input_zp, weight_zp)
    _sums(x, acc_type)
    channels, *kernel, depth = shape_of(w)
    made = bias_of(b, bias, channels, acc_type)
    n, height, width, found = shape_of(x)
    if found != depth:
        raise Misfit(f"{found} channels for weights of {depth}")
    if (height, width, *kernel) == (1, 1, 1, 1) and not any(pad):
        columns = reshape(b, transpose(b, w, (1, 2, 3, 0)), (depth, channels))
        return reshape(
            b, b.emit(graph.MatmulOp(reshape(b, x, (n, depth)), columns, made)), (n, 1, 1, channels)
        )
    w = transpose(b, w, (1, 2, 3, 0))
    return b.emit(graph.Conv2DOp(x, w, made, stride, graph_pads(pad), dilation))


@op("conv3d")
def conv3d(
    b: Builder,
    input: SSAValue,
    weight: SSAValue,
    bias: SSAValue,
    input_zp: SSAValue,
    weight_zp: SSAValue,
    *,
    pad: Ints,
    stride: Ints,
    dilation: Ints,
    acc_type: Any,
) -> SSAValue:
    """Weights [OC, KD, KH, KW, IC]: one convolution of the planes that a window touches."""
    x, w = operands(b, input, weight, input_zp, weight_zp)
    _sums(x, acc_type)
    channels, taps, *kernel, depth = shape_of(w)
    made = bias_of(b, bias, channels, acc_type)
    if shape_of(x)[4] != depth:
        raise Misfit(f"{shape_of(x)[4]} channels for weights of {depth}")
    front, back, *rest = pad
    filler = _zero(x) if is_quantized(x) else 0
    x = common_pad(b, x, (0, front, 0, 0, 0), (0, back, 0, 0, 0), filler)
    n, planes, height, width, _ = shape_of(x)
    count = (planes - 1 - (taps - 1) * dilation[0]) // stride[0] + 1
    if count < 1:
        raise Misfit(f"{taps} planes of {planes}")
    parts = [along(b, x, 1, k * dilation[0], count, stride[0]) for k in range(taps)]
    x = reshape(b, concat(b, parts, 4), (n * count, height, width, taps * depth))
    w = reshape(b, transpose(b, w, (2, 3, 1, 4, 0)), (*kernel, taps * depth, channels))
    pads = graph_pads(tuple(rest))
    found = b.emit(graph.Conv2DOp(x, w, made, stride[1:], pads, dilation[1:]))
    return reshape(b, found, (n, count, *shape_of(found)[1:]))


def graph_pads(pad: Ints) -> Ints:
    """top, bottom, left, right as top, left, bottom, right."""
    top, bottom, left, right = pad
    return top, left, bottom, right


@op("depthwise_conv2d")
def depthwise_conv2d(
    b: Builder,
    input: SSAValue,
    weight: SSAValue,
    bias: SSAValue,
    input_zp: SSAValue,
    weight_zp: SSAValue,
    *,
    pad: Ints,
    stride: Ints,
    dilation: Ints,
    acc_type: Any,
) -> SSAValue:
    """Weights [KH, KW, C, M]; a window of ones sums."""
    x, w = operands(b, input, weight, input_zp, weight_zp)
    _sums(x, acc_type)
    kh, kw, channels, each = shape_of(w)
    if shape_of(x)[3] != channels:
        raise Misfit(f"{shape_of(x)[3]} channels for weights of {channels}")
    made = bias_of(b, bias, channels * each, acc_type)
    array = b.array(w)
    is_sum = array is not None and bool((array == 1).all()) and each == 1 and is_quantized(w)
    if is_sum and made is None and dtype_of(x).itemsize == 1 and _zero(w) == 0:
        return b.emit(graph.SumPool2DOp(x, (kh, kw), stride, graph_pads(pad), dilation))
    w = reshape(b, w, (kh, kw, 1, channels * each))
    return b.emit(graph.Conv2DOp(x, w, made, stride, graph_pads(pad), dilation, channels))


def _zero(w: SSAValue) -> int:
    element: Any = element_of(w)
    return element.zero_point


@op("transpose_conv2d")
def transpose_conv2d(
    b: Builder,
    input: SSAValue,
    weight: SSAValue,
    bias: SSAValue,
    input_zp: SSAValue,
    weight_zp: SSAValue,
    *,
    out_pad: Ints,
    stride: Ints,
    acc_type: Any,
) -> SSAValue:
    """Zeros between the elements, then a convolution with the weights turned round."""
    x, w = operands(b, input, weight, input_zp, weight_zp)
    _sums(x, acc_type)
    channels, kh, kw, depth = shape_of(w)
    made = bias_of(b, bias, channels, acc_type)
    x = _apart(b, x, stride)
    top, bottom, left, right = (
        n - 1 + p for n, p in zip((kh, kh, kw, kw), out_pad, strict=True)
    )  # fmt: skip
    if min(top, bottom, left, right) < 0:
        raise NotExpressible(f"a result without {list(out_pad)} of its border")
    if shape_of(x)[3] != depth:
        raise Misfit(f"{shape_of(x)[3]} channels for weights of {depth}")
    turned = b.emit(
        graph.SliceOp(w, (0, kh - 1, kw - 1, 0), shape_of(w), (1, -1, -1, 1))
    )  # fmt: skip
    turned = transpose(b, turned, (1, 2, 3, 0))
    return b.emit(graph.Conv2DOp(x, turned, made, (1, 1), (top, left, bottom, right)))


def _apart(b: Builder, x: SSAValue, stride: Ints) -> SSAValue:
    """[N, H, W, C] with stride - 1 zeros between elements."""
    if is_quantized(x):
        return _apart_stored(b, x, stride)
    x = spread(b, transpose(b, x, (0, 3, 1, 2)), stride)
    return transpose(b, x, (0, 2, 3, 1))


def _apart_stored(b: Builder, x: SSAValue, stride: Ints) -> SSAValue:
    zero = _zero(x)
    for axis, step in ((1, stride[0]), (2, stride[1])):
        shape = shape_of(x)
        if step == 1:
            continue
        before, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
        x = reshape(b, x, (before * size, 1, inner))
        x = b.emit(graph.PadOp(x, (0, 0, 0), (0, step - 1, 0), zero))
        x = reshape(b, x, (before, size * step, inner))
        last = (size - 1) * step + 1
        x = b.emit(graph.SliceOp(x, (0, 0, 0), (before, last, inner)))
        x = reshape(b, x, (*shape[:axis], last, *shape[axis + 1 :]))
    return x


@op("matmul")
def matmul(b: Builder, a: SSAValue, b_: SSAValue, a_zp: SSAValue, b_zp: SSAValue) -> SSAValue:
    """[N, H, C] times [N, C, W]."""
    left, right = operands(b, a, b_, a_zp, b_zp)
    if len(shape_of(left)) != 3 or shape_of(left)[::2][0] != shape_of(right)[0]:
        raise Misfit(f"{list(shape_of(left))} times {list(shape_of(right))}")
    if shape_of(left)[0] == 1 and b.array(right) is not None:
        right = reshape(b, right, shape_of(right)[1:])
    return b.emit(graph.MatmulOp(left, right))
