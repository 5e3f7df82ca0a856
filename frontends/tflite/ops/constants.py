"""What shapes and constants determine: FILL, SHAPE, RANK, ZEROS_LIKE, RANGE, WHERE."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import broadcast
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.rescaling import as_result, is_quantized
from npu_dialect.frontends.tflite.registry import op


@op("FILL", options="FillOptions")
def fill(b: Builder, dims: SSAValue, value: SSAValue) -> SSAValue:
    """One value everywhere."""
    del dims
    if shape_of(value):
        raise Misfit(f"a value of shape {list(shape_of(value))}")
    return as_result(b, broadcast(b, value, b.shape))


@op("SHAPE")
def shape(b: Builder, x: SSAValue) -> SSAValue:
    """The sizes of the dimensions."""
    return b.constant(np.array(shape_of(x), b.dtype.numpy))


@op("RANK")
def rank(b: Builder, x: SSAValue) -> SSAValue:
    """The number of dimensions."""
    return b.constant(np.array(len(shape_of(x)), b.dtype.numpy))


@op("ZEROS_LIKE")
def zeros_like(b: Builder, x: SSAValue) -> SSAValue:
    """0 everywhere."""
    if is_quantized(x):
        raise NotExpressible("zeros of a quantized tensor, which TFLite has not either")
    b.reserve(*b.shape, itemsize=b.dtype.itemsize)
    return b.constant(np.zeros(b.shape, b.dtype.numpy))


@op("RANGE")
def range_(b: Builder, start: SSAValue, limit: SSAValue, delta: SSAValue) -> SSAValue:
    """Numbers at equal distances, from known ends."""
    first, _, step = (b.known(v, "an end of a range").reshape(-1)[0] for v in (start, limit, delta))
    if len(b.shape) != 1:
        raise Misfit(f"a range of shape {list(b.shape)}")
    b.reserve(*b.shape)
    count = np.arange(b.shape[0], dtype=b.dtype.numpy)
    return b.constant((first + count * step).astype(b.dtype.numpy))


@op("WHERE")
def where_true(b: Builder, condition: SSAValue) -> SSAValue:
    """The places of what holds, in a constant."""
    return b.constant(np.argwhere(b.known(condition, "a condition")).astype(b.dtype.numpy))
