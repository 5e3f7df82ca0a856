"""TRANSPOSE_CONV: convolutions of stride 1, one for each place of a result within a stride.

With stride 2 and a kernel of 3, of a row:

    y[2 q]     = x[q] * w[0] + x[q - 1] * w[2]          y[2 q + 1] = x[q] * w[1]

So no zeros are multiplied, and none are put between the elements of x.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import window
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.contractions import check, convolved, weight
from npu_dialect.frontends.tflite.ops.hybrid import is_hybrid
from npu_dialect.frontends.tflite.ops.windows import interleaved, pads_of
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.custom import Call
from npu_dialect.graph.quant import QuantType

MOST_PHASES = 256
"""Places of a result within the strides, each of which is a convolution."""

OPTIONS = struct.Struct("<iii")
"""The padding and the strides of columns and rows, as TfLiteTransposeConvParams begins."""

PADDINGS = {1: "SAME", 2: "VALID"}


@dataclass(frozen=True)
class Phase:
    """Results q * stride + r of one dimension, for q from 0: sums over a window of x.

    taps     which elements of the kernel, in the order of x; none where nothing reaches the result
    low      zeros before x, or elements of it to leave out
    high     the same behind it
    """

    taps: tuple[int, ...]
    low: int
    high: int


def phases(size: int, count: int, kernel: int, stride: int, pad: int) -> list[Phase]:
    """Those of `count` results of `size` elements; all of them have as many results."""
    each = -(-count // stride)
    found: list[Phase] = []
    for r in range(stride):
        first, last = (r + pad) % stride, (r + pad) // stride
        taps = tuple(range(first, kernel, stride))[::-1]
        width = max(len(taps), 1)
        found.append(Phase(taps, width - 1 - last, each + last - size))
    return found


@op("TRANSPOSE_CONV", options="TransposeConvOptions")
def transpose_conv(
    b: Builder,
    shape: SSAValue,
    w: SSAValue,
    x: SSAValue,
    bias: SSAValue | None = None,
    *,
    padding: str,
    stride_h: int,
    stride_w: int,
    fused_activation_function: str,
    quantized_bias_type: str,
) -> SSAValue:
    """x [N, H, W, C], w [OC, KH, KW, C]; the shape of the result is stated."""
    del shape
    if len(shape_of(x)) != 4 or len(shape_of(w)) != 4 or len(b.shape) != 4:
        raise Misfit(f"{list(shape_of(x))} and {list(shape_of(w))}")
    if is_hybrid(x, w):
        raise NotExpressible("floats and quantized weights, which TFLite does not have here")
    narrow = check(x, w, bias, quantized_bias_type)
    if stride_h * stride_w > MOST_PHASES:
        raise NotExpressible(f"strides of {stride_h} and {stride_w}")
    kernel = shape_of(w)[1:3]
    pads = pads_of(b.shape[1:3], kernel, (stride_h, stride_w), (1, 1), padding)
    sizes = zip(shape_of(x)[1:3], b.shape[1:3], kernel, (stride_h, stride_w), pads[:2], strict=True)
    rows, columns = (phases(*each) for each in sizes)
    w = weight(b, w, (1, 2, 3, 0))
    values = b.known(w, "a weight of a transposed convolution")

    def strip(row: Phase) -> SSAValue:
        sums = [_sums(b, x, w, values, bias, row, column, narrow) for column in columns]
        parts = [convolved(b, s, x, w, fused_activation_function) for s in sums]
        return interleaved(b, parts, 2)

    strips = [strip(row) for row in rows]
    return window(b, interleaved(b, strips, 1), (0, 0, 0, 0), b.shape)


def with_bias(
    b: Builder, call: Call, x: SSAValue, w: SSAValue, bias: SSAValue | None = None
) -> SSAValue:
    """MediaPipe's Convolution2DTransposeBias: the same, with options in 12 bytes, of floats."""
    if len(call.data) < OPTIONS.size:
        raise Misfit(f"{len(call.data)} bytes of options")
    padding, stride_w, stride_h = OPTIONS.unpack_from(call.data)
    if padding not in PADDINGS or min(stride_w, stride_h) < 1:
        raise Misfit(f"padding {padding}, strides of {stride_h} and {stride_w}")
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"products of {dtype_of(x)}, which MediaPipe has not either")
    return transpose_conv(
        b, x, w, x, bias, padding=PADDINGS[padding], stride_h=stride_h, stride_w=stride_w,
        fused_activation_function="NONE", quantized_bias_type="FLOAT32",
    )  # fmt: skip


def _sums(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    values: Array,
    bias: SSAValue | None,
    row: Phase,
    column: Phase,
    narrow: str | None,
) -> SSAValue:
    """The convolution of one phase."""
    both = (row, column)
    n, *space, channels = shape_of(x)
    starts = [max(-p.low, 0) for p in both]
    ends = [size - max(-p.high, 0) for p, size in zip(both, space, strict=True)]
    sizes = [end - start for start, end in zip(starts, ends, strict=True)]
    if min(sizes) < 0:
        raise Misfit(f"a result of {list(b.shape)} from {list(shape_of(x))}")
    part = window(b, x, (0, *starts, 0), (n, *sizes, channels))
    element = element_of(w)
    taps = values[list(row.taps)][:, list(column.taps)]
    if not taps.size:
        zero = element.zero_point if isinstance(element, QuantType) and element.axis is None else 0
        lengths = [max(len(p.taps), 1) for p in both]
        taps = np.full((*lengths, *values.shape[2:]), zero, values.dtype)
    pads = [max(n, 0) for n in (row.low, column.low, row.high, column.high)]
    kept = b.constant(np.ascontiguousarray(taps), element)
    top, left, bottom, right = pads
    return b.emit(
        graph.Conv2DOp(part, kept, bias, (1, 1), (top, left, bottom, right), (1, 1), 1, narrow)
    )
