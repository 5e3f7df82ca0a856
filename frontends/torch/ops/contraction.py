"""Matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    Number,
    SSAValue,
    shape_of,
)
from npu_dialect.frontends.torch.registry import op


def turned(b: Builder, x: SSAValue) -> SSAValue:
    """The last two dimensions exchanged."""
    rank = len(shape_of(x))
    return common.transpose(b, x, (*range(rank - 2), rank - 1, rank - 2))


def product(b: Builder, x: SSAValue, y: SSAValue, bias: SSAValue | None = None) -> SSAValue:
    """numpy's matmul, and a bias; sums of nothing are 0."""
    if shape_of(x)[-1] or 0 in b.shape:
        return common.product(b, x, y, bias)
    zeros = b.constant(np.zeros(b.shape, b.dtype.numpy))
    return zeros if bias is None else common.add(b, zeros, bias)


@op("linear")
def linear(b: Builder, input: SSAValue, weight: SSAValue, bias: SSAValue | None) -> SSAValue:
    """x @ w.T + bias"""
    if len(shape_of(weight)) == 1:
        y = product(b, input, weight)
        return y if bias is None else common.add(b, y, bias)
    return product(b, input, turned(b, weight), bias)


@op("matmul")
def matmul(b: Builder, self: SSAValue, other: SSAValue) -> SSAValue:
    """numpy's matmul."""
    return product(b, self, other)


@op("mm", "bmm")
def mm(b: Builder, self: SSAValue, mat2: SSAValue) -> SSAValue:
    """The product of matrices, or of stacks of them."""
    return product(b, self, mat2)


@op("mv")
def mv(b: Builder, self: SSAValue, vec: SSAValue) -> SSAValue:
    """A matrix and a vector."""
    return product(b, self, vec)


@op("dot")
def dot(b: Builder, self: SSAValue, tensor: SSAValue) -> SSAValue:
    """Two vectors."""
    return product(b, self, tensor)


@op("addmm")
def addmm(
    b: Builder, self: SSAValue, mat1: SSAValue, mat2: SSAValue, *, beta: Number, alpha: Number
) -> SSAValue:
    """beta * self + alpha * mat1 @ mat2"""
    if beta == 1 and alpha == 1 and shape_of(self) == shape_of(mat2)[-1:]:
        return product(b, mat1, mat2, self)
    return _plus(b, self, product(b, mat1, mat2), beta, alpha)


@op("baddbmm")
def baddbmm(
    b: Builder, self: SSAValue, batch1: SSAValue, batch2: SSAValue, *, beta: Number, alpha: Number
) -> SSAValue:
    """beta * self + alpha * batch1 @ batch2"""
    return _plus(b, self, product(b, batch1, batch2), beta, alpha)


def _plus(b: Builder, x: SSAValue, y: SSAValue, beta: Number, alpha: Number) -> SSAValue:
    y = common.scaled(b, y, float(alpha))
    return y if beta == 0 else common.add(b, y, common.scaled(b, x, float(beta)))


@op("convolution")
def convolution(
    b: Builder,
    input: SSAValue,
    weight: SSAValue,
    bias: SSAValue | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> SSAValue:
    """A convolution in one to three spatial dimensions, grouped or transposed."""
    rank = len(shape_of(input)) - 2
    stride, padding, dilation = (spread(v, rank) for v in (stride, padding, dilation))
    if transposed:
        return common.conv_transpose(
            b, input, weight, bias, auto_pad="NOTSET", dilations=dilation, group=groups,
            kernel_shape=None, output_padding=spread(output_padding, rank), output_shape=None,
            pads=(*padding, *padding), strides=stride,
        )  # fmt: skip
    taps = shape_of(weight)[2:]
    pads = (*padding, *padding)
    found = common.windows(shape_of(input)[2:], taps, stride, dilation, pads, "NOTSET")
    return common.convolve(b, input, weight, bias, found, groups)


def spread(values: Sequence[int], rank: int) -> tuple[int, ...]:
    """One number for all dimensions, or one for each."""
    return tuple(values) * rank if len(values) == 1 else tuple(values)
