"""Normalizations and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import Builder, NotExpressible, SSAValue, shape_of
from npu_dialect.frontends.onnx.registry import op


@op("BatchNormalization")
def batch_normalization_7(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue,
    mean: SSAValue,
    variance: SSAValue,
    *,
    epsilon: float,
    momentum: float,
    spatial: int = 1,
) -> SSAValue:
    """Up to opset 13: statistics as outputs mean training."""
    del momentum
    if not spatial:
        raise NotExpressible("BatchNormalization with statistics per position")
    return _batch_norm(b, x, (scale, bias, mean, variance), epsilon)


@op("BatchNormalization", since=6)
def batch_normalization_6(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue,
    mean: SSAValue,
    variance: SSAValue,
    *,
    epsilon: float,
    is_test: int,
    momentum: float,
    spatial: int,
) -> SSAValue:
    """Opset 6: inference is an attribute."""
    if not is_test:
        raise NotExpressible("BatchNormalization in training")
    return batch_normalization_7(
        b, x, scale, bias, mean, variance, epsilon=epsilon, momentum=momentum, spatial=spatial
    )


@op("BatchNormalization", since=14)
def batch_normalization(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue,
    mean: SSAValue,
    variance: SSAValue,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> SSAValue:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, per channel."""
    del momentum
    if training_mode:
        raise NotExpressible("BatchNormalization in training")
    return _batch_norm(b, x, (scale, bias, mean, variance), epsilon)


def _batch_norm(
    b: Builder, x: SSAValue, statistics: Sequence[SSAValue], epsilon: float
) -> SSAValue:
    if len(shape_of(x)) < 2 or b.wants(1):
        raise NotExpressible("BatchNormalization without channels, or with statistics as outputs")
    return b.emit(graph.BatchNormOp(x, *statistics, axis=1, epsilon=epsilon))


@op("LayerNormalization")
def layer_normalization(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue | None = None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> SSAValue:
    """`stash_type` is the type of the mean and deviation: f32 here."""
    if b.wants(1) or b.wants(2) or stash_type != 1:
        raise NotExpressible("LayerNormalization with its statistics")
    return layer_norm(b, x, scale, bias, axis, epsilon)


def layer_norm(
    b: Builder, x: SSAValue, scale: SSAValue, bias: SSAValue | None, axis: int, epsilon: float
) -> SSAValue:
    """The layer norm over the dimensions from `axis` on; scale and bias broadcast to them."""
    axis = common.normalize_axis(axis, len(shape_of(x)))
    inner = shape_of(x)[axis:]
    zero = b.constant(np.zeros((), common.dtype_of(x).numpy))
    scale, bias = (common.broadcast(b, v, inner) for v in (scale, bias or zero))
    return b.emit(graph.LayerNormOp(x, scale, bias, axis=axis, epsilon=epsilon))


@op("InstanceNormalization")
def instance_normalization(
    b: Builder, x: SSAValue, scale: SSAValue, bias: SSAValue, *, epsilon: float
) -> SSAValue:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the spatial dimensions."""
    rank = len(shape_of(x))
    axes = tuple(range(2, rank))
    centred = common.sub(b, x, b.emit(graph.ReduceMeanOp(x, axes)))
    variance = b.emit(graph.ReduceMeanOp(common.mul(b, centred, centred), axes))
    variance = common.add(b, variance, b.scalar(epsilon, x))
    normal = common.div(b, centred, b.emit(graph.SqrtOp(variance)))
    ones = [1] * (rank - 2)
    scale, bias = (common.reshape(b, v, (*shape_of(v), *ones)) for v in (scale, bias))
    return common.add(b, common.mul(b, normal, scale), bias)


@op("LRN")
def local_response_normalization(
    b: Builder, x: SSAValue, *, alpha: float, beta: float, bias: float, size: int
) -> SSAValue:
    """x / (bias + alpha / size * sum of squares over `size` channels) ** beta

    The sum is `size` times the average over windows of an image with channels for rows.
    """
    n, c, *spatial = shape_of(x)
    square = common.reshape(b, common.mul(b, x, x), (n, c, 1, prod(spatial)))
    mean = b.emit(
        graph.AvgPool2DOp(
            square, kernel=(size, 1), strides=(1, 1), dilations=(1, 1),
            pads=((size - 1) // 2, 0, size // 2, 0), count_include_pad=True,
        )
    )  # fmt: skip
    mean = common.reshape(b, mean, shape_of(x))
    base = common.add(b, common.scaled(b, mean, alpha), b.scalar(bias, x))
    return common.div(b, x, b.emit(graph.PowOp(base, b.scalar(beta, x))))


@op("LpNormalization")
def lp_normalization(b: Builder, x: SSAValue, *, axis: int, p: int) -> SSAValue:
    """x / norm, and 0 where the norm is."""
    axes = (common.normalize_axis(axis, len(shape_of(x))),)
    size = b.emit(graph.AbsOp(x)) if p == 1 else common.mul(b, x, x)
    norm = b.emit(graph.ReduceSumOp(size, axes))
    norm = norm if p == 1 else b.emit(graph.SqrtOp(norm))
    zero = b.scalar(0, x)
    empty = b.emit(graph.EqOp(norm, zero))
    return common.where(b, empty, zero, common.div(b, x, norm))


@op("Softmax", since=13)
def softmax(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """Along one axis."""
    return _along(b, graph.SoftmaxOp, x, axis)


@op("LogSoftmax", since=13)
def log_softmax(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """Along one axis."""
    return _along(b, graph.LogSoftmaxOp, x, axis)


@op("Softmax")
def softmax_1(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """Over all dimensions from `axis` on together."""
    return _flattened(b, graph.SoftmaxOp, x, axis)


@op("LogSoftmax")
def log_softmax_1(b: Builder, x: SSAValue, *, axis: int) -> SSAValue:
    """Over all dimensions from `axis` on together."""
    return _flattened(b, graph.LogSoftmaxOp, x, axis)


def _along(b: Builder, operation: type[Any], x: SSAValue, axis: int) -> SSAValue:
    return b.emit(operation(x, axis=common.normalize_axis(axis, len(shape_of(x)))))


def _flattened(b: Builder, operation: type[Any], x: SSAValue, axis: int) -> SSAValue:
    """Before opset 13: over all dimensions from `axis` on together."""
    shape = shape_of(x)
    axis = axis + len(shape) if axis < 0 else axis
    flat = common.reshape(b, x, (prod(shape[:axis]), prod(shape[axis:])))
    if axis == len(shape) - 1:
        return _along(b, operation, x, axis)
    return common.reshape(b, _along(b, operation, flat, 1), shape)
