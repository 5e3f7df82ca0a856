"""Operators that onnxruntime's optimizer makes of several: each is imported as those again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import Ints, check_kernel, convolve, windows
from npu_dialect.frontends.onnx.ops.linear import gemm, turned_product
from npu_dialect.frontends.onnx.ops.normalization import layer_norm, softmax
from npu_dialect.frontends.onnx.ops.pooling import ceiled, pooled, pooling_windows
from npu_dialect.frontends.onnx.registry import MICROSOFT, op

Activation = Callable[[Builder, SSAValue, Sequence[float]], SSAValue]

ACTIVATIONS: dict[str, tuple[Activation, tuple[float, ...]]] = {
    "Clip": (lambda b, x, p: b.emit(graph.ClampOp(x, p[0], p[1])), (-np.inf, np.inf)),
    "HardSigmoid": (lambda b, x, p: b.emit(graph.HardSigmoidOp(x, p[0], p[1])), (0.2, 0.5)),
    "LeakyRelu": (lambda b, x, p: b.emit(graph.LeakyReluOp(x, p[0])), (0.01,)),
    "Relu": (lambda b, x, p: b.emit(graph.ReluOp(x)), ()),
    "Sigmoid": (lambda b, x, p: b.emit(graph.SigmoidOp(x)), ()),
    "Tanh": (lambda b, x, p: b.emit(graph.TanhOp(x)), ()),
}
"""Activations by name, with the defaults of their parameters."""


def activated(
    b: Builder, x: SSAValue, name: str | None, parameters: Sequence[float | None]
) -> SSAValue:
    """The activation `name` of x; parameters that are not given have their defaults."""
    if not name:
        return x
    if name not in ACTIVATIONS:
        raise NotExpressible(f"the activation {name}")
    function, defaults = ACTIVATIONS[name]
    given = [*parameters, *[None] * len(defaults)]
    return function(b, x, [d if g is None else g for g, d in zip(given, defaults, strict=False)])


@op("FusedConv", domain=MICROSOFT)
def fused_conv(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    z: SSAValue | None = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> SSAValue:
    """activation(conv(x, w) + bias + z)"""
    taps = check_kernel(w, kernel_shape)
    found = windows(shape_of(x)[2:], taps, strides, dilations, pads, auto_pad)
    y = convolve(b, x, w, bias, found, group)
    y = y if z is None else common.add(b, y, z)
    return activated(b, y, activation, activation_params)


@op("NhwcConv", "NhwcFusedConv", domain=MICROSOFT)
def nhwc_fused_conv(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    bias: SSAValue | None = None,
    z: SSAValue | None = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> SSAValue:
    """The same with channels last in the data (N H W C) and in the weights (O H W I)."""
    x, w = common.channels_first(b, x), common.channels_first(b, w)
    z = None if z is None else common.channels_first(b, z)
    y = fused_conv(
        b, x, w, bias, z, activation=activation, activation_params=activation_params,
        auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads,
        strides=strides,
    )  # fmt: skip
    return common.channels_last(b, y)


@op("NhwcMaxPool", domain=MICROSOFT, storage=True)
def nhwc_max_pool(
    b: Builder,
    x: SSAValue,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> SSAValue:
    """Channels last."""
    x = common.channels_first(b, x)
    found = pooling_windows(x, kernel_shape, strides, dilations, pads, auto_pad)
    found = ceiled(found, shape_of(x)[2:], ceil_mode)
    found.counts(shape_of(x)[2:])
    return common.channels_last(b, pooled(b, graph.MaxPool2DOp, x, found))


@op("FusedGemm", domain=MICROSOFT)
def fused_gemm(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    c: SSAValue | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> SSAValue:
    """activation(alpha * x @ y + beta * c)"""
    del activation_gamma
    product = gemm(b, x, y, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return activated(b, product, activation, (activation_alpha, activation_beta))


@op("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> SSAValue:
    """alpha * x @ y, either transposed."""
    x, y = _batch_last(b, x, transBatchA), _batch_last(b, y, transBatchB)
    return common.scaled(b, turned_product(b, x, y, transA, transB), alpha)


def _batch_last(b: Builder, x: SSAValue, turn: int) -> SSAValue:
    """Of [M, batch, K] the product is with [batch, M, K]."""
    rank = len(shape_of(x))
    if not turn:
        return x
    if rank < 3:
        raise Misfit(f"a transposed batch of {list(shape_of(x))}")
    return common.transpose(b, x, (*range(1, rank - 1), 0, rank - 1))


@op("FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul_activation(
    b: Builder,
    x: SSAValue,
    y: SSAValue,
    *,
    activation: str,
    activation_alpha: float | None = None,
    activation_axis: int | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> SSAValue:
    """activation(alpha * x @ y)"""
    del activation_axis, activation_gamma
    product = fused_matmul(
        b, x, y, alpha=alpha, transA=transA, transB=transB,
        transBatchA=transBatchA, transBatchB=transBatchB,
    )  # fmt: skip
    return activated(b, product, activation, (activation_alpha, activation_beta))


# Activations


@op("Gelu", domain=MICROSOFT)
def gelu(b: Builder, x: SSAValue) -> SSAValue:
    """By erf."""
    return b.emit(graph.GeluOp(x))


@op("BiasGelu", domain=MICROSOFT)
def bias_gelu(b: Builder, x: SSAValue, bias: SSAValue) -> SSAValue:
    """gelu(x + bias)"""
    return b.emit(graph.GeluOp(common.add(b, x, bias)))


@op("FastGelu", domain=MICROSOFT)
def fast_gelu(b: Builder, x: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    """v / 2 * (1 + tanh(sqrt(2 / pi) * (v + 0.044715 v**3))) of v = x + bias"""
    v = x if bias is None else common.add(b, x, bias)
    cube = common.scaled(b, common.mul(b, common.mul(b, v, v), v), 0.044715)
    inner = common.scaled(b, common.add(b, v, cube), float(np.sqrt(2 / np.pi)))
    factor = common.add(b, b.emit(graph.TanhOp(inner)), b.scalar(1, v))
    return common.mul(b, common.scaled(b, v, 0.5), factor)


@op("GemmFastGelu", domain=MICROSOFT)
def gemm_fast_gelu(b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    """fast_gelu(x @ w + bias)"""
    return fast_gelu(b, turned_product(b, x, w, 0, 0), bias)


@op("QuickGelu", domain=MICROSOFT)
def quick_gelu(b: Builder, x: SSAValue, *, alpha: float = 1.702) -> SSAValue:
    """x * sigmoid(alpha * x)"""
    return common.mul(b, x, b.emit(graph.SigmoidOp(common.scaled(b, x, alpha))))


@op("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(b: Builder, x: SSAValue, bias: SSAValue) -> SSAValue:
    """The first half of the channels of x + bias, times gelu of the other."""
    total = common.add(b, x, bias)
    axis = len(shape_of(total)) - 1
    half = shape_of(total)[axis] // 2
    left, right = (common.along(b, total, axis, k * half, half) for k in (0, 1))
    return common.mul(b, left, b.emit(graph.GeluOp(right)))


@op("BiasSoftmax", domain=MICROSOFT)
def bias_softmax(
    b: Builder, x: SSAValue, bias: SSAValue, *, axis: int = 1, is_inner_broadcast: int
) -> SSAValue:
    """softmax(x + bias) along the last axis; the bias repeats in the dimensions after its own."""
    shape, rank = shape_of(x), len(shape_of(x))
    if common.normalize_axis(axis, rank) != rank - 1:
        raise NotExpressible("BiasSoftmax over several dimensions")
    if not is_inner_broadcast:
        raise NotExpressible("BiasSoftmax whose bias repeats inside")
    return softmax(b, common.add(b, x, common.broadcast(b, bias, shape)), axis=-1)


@op("BiasAdd", domain=MICROSOFT)
def bias_add(b: Builder, x: SSAValue, bias: SSAValue, skip: SSAValue) -> SSAValue:
    """x + bias + skip"""
    return common.add(b, common.add(b, x, bias), skip)


# Normalizations of sums


@op("SkipLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(
    b: Builder,
    x: SSAValue,
    skip: SSAValue,
    gamma: SSAValue,
    beta: SSAValue | None = None,
    bias: SSAValue | None = None,
    *,
    epsilon: float = 1e-12,
) -> list[SSAValue | None]:
    """The layer norm of x + skip + bias, and as output 3 that sum."""
    total = _skipped(b, x, skip, bias)
    return [layer_norm(b, total, gamma, beta, -1, epsilon), None, None, total]


@op("SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_simplified_layer_normalization(
    b: Builder,
    x: SSAValue,
    skip: SSAValue,
    gamma: SSAValue,
    bias: SSAValue | None = None,
    *,
    epsilon: float = 1e-12,
) -> list[SSAValue | None]:
    """The root-mean-square norm of x + skip + bias, and as output 3 that sum."""
    total = _skipped(b, x, skip, bias)
    return [_rms(b, total, gamma, -1, epsilon)[0], None, None, total]


def _skipped(b: Builder, x: SSAValue, skip: SSAValue, bias: SSAValue | None) -> SSAValue:
    if b.wants(1) or b.wants(2):
        raise NotExpressible("a normalization with its statistics")
    total = common.add(b, x, skip)
    return total if bias is None else common.add(b, total, bias)


@op("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_normalization(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> list[SSAValue]:
    """x / sqrt(mean(x * x) + epsilon) * scale"""
    del stash_type
    return _rms(b, x, scale, axis, epsilon)


@op("LayerNormalization", domain=MICROSOFT)
def early_layer_normalization(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> SSAValue:
    """As in ONNX, in operator sets before it had the operator."""
    del stash_type
    return layer_norm(b, x, scale, bias, axis, epsilon)


@op("GroupNormalization", domain=MICROSOFT)
def group_normalization_18(
    b: Builder,
    x: SSAValue,
    scale: SSAValue,
    bias: SSAValue,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
) -> SSAValue:
    """As in the operator sets 18 to 20: one scale and bias for each group."""
    n, c, *size = shape_of(x)
    if num_groups < 1 or c % num_groups:
        raise Misfit(f"{num_groups} groups of {c} channels")
    rows = common.reshape(b, x, (n, num_groups, c // num_groups * prod(size)))
    mean = b.emit(graph.ReduceMeanOp(rows, (2,)))
    centred = common.sub(b, rows, mean)
    variance = b.emit(graph.ReduceMeanOp(common.mul(b, centred, centred), (2,)))
    deviation = b.emit(graph.SqrtOp(common.add(b, variance, b.scalar(epsilon, x))))
    normal = common.div(b, centred, deviation)
    scale, bias = (common.reshape(b, v, (num_groups, 1)) for v in (scale, bias))
    result = common.add(b, common.mul(b, normal, scale), bias)
    return common.reshape(b, result, shape_of(x))


def _rms(b: Builder, x: SSAValue, scale: SSAValue, axis: int, epsilon: float) -> list[SSAValue]:
    rank = len(shape_of(x))
    axes = tuple(range(common.normalize_axis(axis, rank), rank))
    mean = b.emit(graph.ReduceMeanOp(common.mul(b, x, x), axes))
    inverse = b.emit(graph.RsqrtOp(common.add(b, mean, b.scalar(epsilon, x))))
    return [common.mul(b, common.mul(b, x, inverse), scale), inverse]
