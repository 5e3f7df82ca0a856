"""Normalizations and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import Builder, NotExpressible, SSAValue, shape_of
from npu_dialect.frontends.torch.registry import op


def _or_ones(b: Builder, x: SSAValue | None, shape: Sequence[int], value: float = 1) -> SSAValue:
    return x if x is not None else b.constant(np.full(tuple(shape), value, np.float32))


@op("_native_batch_norm_legit_no_training")
def batch_norm(
    b: Builder,
    input: SSAValue,
    weight: SSAValue | None,
    bias: SSAValue | None,
    running_mean: SSAValue,
    running_var: SSAValue,
    momentum: float,
    eps: float,
) -> list[SSAValue | None]:
    """(x - mean) / sqrt(variance + eps) * weight + bias, per channel."""
    channels = shape_of(input)[1:2]
    weight, bias = _or_ones(b, weight, channels), _or_ones(b, bias, channels, 0)
    made = graph.BatchNormOp(input, weight, bias, running_mean, running_var, axis=1, epsilon=eps)
    return [b.emit(made), None, None]


@op("_native_batch_norm_legit.no_stats")
def batch_norm_of_batch(
    b: Builder,
    input: SSAValue,
    weight: SSAValue | None,
    bias: SSAValue | None,
    training: bool,
    momentum: float,
    eps: float,
) -> list[SSAValue | None]:
    """(x - mean) / sqrt(variance + eps) * weight + bias, per channel, of this batch."""
    y, mean, variance = _of_batch(b, input, weight, bias, eps)
    root = b.emit(graph.RsqrtOp(common.add(b, variance, b.scalar(eps, variance))))
    return [y, mean, root]


def _of_batch(
    b: Builder, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None, eps: float
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """The normalized batch, its mean and its variance, per channel."""
    axes = [k for k in range(len(shape_of(x))) if k != 1]
    mean = common.reduce(b, graph.ReduceMeanOp, x, axes, 1)
    centred = common.sub(b, x, mean)
    square = common.mul(b, centred, centred)
    variance = common.reduce(b, graph.ReduceMeanOp, square, axes, 1)
    root = b.emit(graph.RsqrtOp(common.add(b, variance, b.scalar(eps, variance))))
    y = _per_channel(b, common.mul(b, centred, root), weight, bias)
    channels = shape_of(x)[1:2]
    return y, common.reshape(b, mean, channels), common.reshape(b, variance, channels)


@op("_native_batch_norm_legit_functional")
def batch_norm_functional(
    b: Builder,
    input: SSAValue,
    weight: SSAValue | None,
    bias: SSAValue | None,
    running_mean: SSAValue,
    running_var: SSAValue,
    training: bool,
    momentum: float,
    eps: float,
) -> list[SSAValue | None]:
    """By the running statistics; or by those of the batch, towards which the running ones move."""
    if not training:
        y = batch_norm(b, input, weight, bias, running_mean, running_var, momentum, eps)[0]
        none = b.constant(np.zeros(0, np.float32))  # torch has no statistics of the batch here
        return [y, none, none, running_mean, running_var]
    y, mean, variance = _of_batch(b, input, weight, bias, eps)
    root = b.emit(graph.RsqrtOp(common.add(b, variance, b.scalar(eps, variance))))
    count = prod(shape_of(input)) // shape_of(input)[1]
    unbiased = common.scaled(b, variance, count / (count - 1) if count > 1 else float("nan"))
    pairs = ((running_mean, mean), (running_var, unbiased))
    moved = [common.add(b, common.scaled(b, old, 1 - momentum), common.scaled(b, new, momentum))
             for old, new in pairs]  # fmt: skip
    return [y, mean, root, *moved]


@op("layer_norm")
def layer_norm(
    b: Builder,
    input: SSAValue,
    normalized_shape: Sequence[int],
    weight: SSAValue | None,
    bias: SSAValue | None,
    eps: float,
    cudnn_enable: bool,
) -> SSAValue:
    """Over the last dimensions."""
    weight = _or_ones(b, weight, normalized_shape)
    bias = _or_ones(b, bias, normalized_shape, 0)
    axis = len(shape_of(input)) - len(normalized_shape)
    return b.emit(graph.LayerNormOp(input, weight, bias, axis=axis, epsilon=eps))


@op("native_layer_norm")
def native_layer_norm(
    b: Builder,
    input: SSAValue,
    normalized_shape: Sequence[int],
    weight: SSAValue | None,
    bias: SSAValue | None,
    eps: float,
) -> list[SSAValue | None]:
    """The same, the mean, and one over the root of the variance."""
    y = layer_norm(b, input, normalized_shape, weight, bias, eps, False)
    rank = len(shape_of(input))
    return [y, *_statistics(b, input, range(rank - len(normalized_shape), rank), eps)]


def _statistics(
    b: Builder, x: SSAValue, axes: Sequence[int], eps: float
) -> tuple[SSAValue | None, SSAValue | None]:
    """The mean, and 1 / sqrt(variance + eps), if anything uses them."""
    if not b.wants(1) and not b.wants(2):
        return None, None
    mean = common.reduce(b, graph.ReduceMeanOp, x, axes, 1)
    centred = common.sub(b, x, mean)
    square = common.reduce(b, graph.ReduceMeanOp, common.mul(b, centred, centred), axes, 1)
    return mean, b.emit(graph.RsqrtOp(common.add(b, square, b.scalar(eps, square))))


@op("group_norm")
def group_norm(
    b: Builder,
    input: SSAValue,
    num_groups: int,
    weight: SSAValue | None,
    bias: SSAValue | None,
    eps: float,
    cudnn_enabled: bool,
) -> SSAValue:
    """A layer normalization of each group of channels, then a factor and an offset per channel."""
    shape = shape_of(input)
    inner = prod(shape[1:]) // num_groups
    flat = common.reshape(b, input, (shape[0], num_groups, inner))
    ones, zeros = _or_ones(b, None, (inner,)), _or_ones(b, None, (inner,), 0)
    normal = b.emit(graph.LayerNormOp(flat, ones, zeros, axis=2, epsilon=eps))
    return _per_channel(b, common.reshape(b, normal, shape), weight, bias)


def _per_channel(
    b: Builder, x: SSAValue, weight: SSAValue | None, bias: SSAValue | None
) -> SSAValue:
    ones = [1] * (len(shape_of(x)) - 2)
    if weight is not None:
        x = common.mul(b, x, common.reshape(b, weight, (*shape_of(weight), *ones)))
    if bias is not None:
        x = common.add(b, x, common.reshape(b, bias, (*shape_of(bias), *ones)))
    return x


@op("native_group_norm")
def native_group_norm(
    b: Builder,
    input: SSAValue,
    weight: SSAValue | None,
    bias: SSAValue | None,
    N: int,  # noqa: N803
    C: int,  # noqa: N803
    HxW: int,  # noqa: N803
    group: int,
    eps: float,
) -> list[SSAValue | None]:
    """The same, the means of the groups, and one over the roots of their variances."""
    y = group_norm(b, input, group, weight, bias, eps, False)
    inner = prod(shape_of(input)[1:]) // group
    flat = common.reshape(b, input, (shape_of(input)[0], group, inner))
    found = _statistics(b, flat, [2], eps)
    return [y, *(v and common.squeeze(b, v, [2]) for v in found)]


@op("instance_norm")
def instance_norm(
    b: Builder,
    input: SSAValue,
    weight: SSAValue | None,
    bias: SSAValue | None,
    running_mean: SSAValue | None,
    running_var: SSAValue | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> SSAValue:
    """A group normalization with as many groups as channels."""
    if not use_input_stats:
        raise NotExpressible("instance_norm with running statistics")
    return group_norm(b, input, shape_of(input)[1], weight, bias, eps, False)


@op("rms_norm")
def rms_norm(
    b: Builder,
    input: SSAValue,
    normalized_shape: Sequence[int],
    weight: SSAValue | None,
    eps: float | None,
) -> SSAValue:
    """x / sqrt(mean of x * x + eps) * weight"""
    rank = len(shape_of(input))
    axes = tuple(range(rank - len(normalized_shape), rank))
    square = b.emit(graph.ReduceMeanOp(common.mul(b, input, input), axes))
    epsilon = float(np.finfo(np.float32).eps) if eps is None else eps
    root = b.emit(graph.RsqrtOp(common.add(b, square, b.scalar(epsilon, square))))
    normal = common.mul(b, input, root)
    return normal if weight is None else common.mul(b, normal, weight)


@op("_softmax")
def softmax(b: Builder, self: SSAValue, dim: int, half_to_float: bool) -> SSAValue:
    """Along one dimension."""
    return _along(b, graph.SoftmaxOp, self, dim)


@op("_log_softmax")
def log_softmax(b: Builder, self: SSAValue, dim: int, half_to_float: bool) -> SSAValue:
    """Along one dimension."""
    return _along(b, graph.LogSoftmaxOp, self, dim)


def _along(
    b: Builder, operation: type[graph.SoftmaxOp | graph.LogSoftmaxOp], x: SSAValue, dim: int
) -> SSAValue:
    x = common.cast(b, x, dtypes.f32)
    shape = shape_of(x)
    if not shape:
        return common.reshape(b, _along(b, operation, common.reshape(b, x, (1,)), 0), ())
    return b.emit(operation(x, axis=common.normalize_axis(dim, len(shape))))
