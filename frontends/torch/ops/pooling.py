"""Pooling over windows, and to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from npu_dialect import graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    Windows,
    shape_of,
)
from npu_dialect.frontends.torch.ops.contraction import spread
from npu_dialect.frontends.torch.registry import op

Ints = Sequence[int]


def _batched(b: Builder, x: SSAValue, rank: int) -> SSAValue:
    """With a batch dimension, which torch lets a caller leave out."""
    shape = shape_of(x)
    return common.reshape(b, x, (1, *shape)) if len(shape) == rank + 1 else x


def _windows(
    x: SSAValue, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> Windows:
    size = shape_of(x)[2:]
    rank = len(size)
    pads = spread(padding, rank) * 2
    strides = spread(stride or kernel, rank)
    found = common.windows(
        size, spread(kernel, rank), strides, spread(dilation, rank), pads, "NOTSET"
    )
    return common.ceiled(found, size, ceil_mode)


@op("max_pool1d")
def max_pool1d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> SSAValue:
    """The greatest value of each window of a sequence."""
    return _maximum(b, self, 1, (kernel_size, stride, padding, dilation), ceil_mode)[0]


@op("max_pool2d")
def max_pool2d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> SSAValue:
    """The greatest value of each window of an image."""
    return _maximum(b, self, 2, (kernel_size, stride, padding, dilation), ceil_mode)[0]


@op("max_pool3d")
def max_pool3d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> SSAValue:
    """The greatest value of each window of a volume."""
    return _maximum(b, self, 3, (kernel_size, stride, padding, dilation), ceil_mode)[0]


@op("max_pool2d_with_indices")
def max_pool2d_with_indices(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> list[SSAValue]:
    """The same, and the position of it in its image."""
    how = (kernel_size, stride, padding, dilation)
    return _maximum(b, self, 2, how, ceil_mode, with_places=b.wants(1))


@op("max_pool3d_with_indices")
def max_pool3d_with_indices(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
) -> list[SSAValue]:
    """The same, and the position of it in its volume."""
    how = (kernel_size, stride, padding, dilation)
    return _maximum(b, self, 3, how, ceil_mode, with_places=b.wants(1))


def _maximum(
    b: Builder,
    x: SSAValue,
    rank: int,
    how: tuple[Ints, Ints, Ints, Ints],
    ceil_mode: bool,
    with_places: bool = False,
) -> list[SSAValue]:
    """The greatest value of each window, and where it is if that is wanted."""
    x = _batched(b, x, rank)
    found = _windows(x, *how, ceil_mode)
    found.counts(shape_of(x)[2:])
    if not with_places:
        return [common.reshape(b, common.pooled(b, graph.MaxPool2DOp, x, found), b.shape)]
    best, place = common.max_of_taps(b, x, found)
    size = prod(shape_of(x)[2:])
    first = np.arange(prod(shape_of(x)[:2]), dtype=np.int64) * size
    first = first.reshape(*shape_of(x)[:2], *[1] * rank)
    place = common.sub(b, place, b.constant(first))
    return [common.reshape(b, v, b.shape) for v in (best, place)]


@op("avg_pool1d")
def avg_pool1d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> SSAValue:
    """The mean of each window of a sequence."""
    return _average(b, self, 1, kernel_size, stride, padding, ceil_mode, count_include_pad)


@op("avg_pool2d")
def avg_pool2d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> SSAValue:
    """The mean of each window of an image, or its sum over a number."""
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _quotient(b, self, 2, how, divisor_override)


@op("avg_pool3d")
def avg_pool3d(
    b: Builder,
    self: SSAValue,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> SSAValue:
    """The mean of each window of a volume, or its sum over a number."""
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _quotient(b, self, 3, how, divisor_override)


How = tuple[Ints, Ints, Ints, bool, bool]


def _quotient(b: Builder, x: SSAValue, rank: int, how: How, divisor: int | None) -> SSAValue:
    if divisor is None:
        return _average(b, x, rank, *how)
    kernel, stride, padding, ceil_mode, _ = how
    x = _batched(b, x, rank)
    found = _windows(x, kernel, stride, padding, (1,), ceil_mode)
    low, high = (0, 0, *found.low), (0, 0, *found.high)
    x, none = common.pad(b, x, low, high), (0,) * rank
    mean = common.average(b, x, replace(found, low=none, high=none), 0, 0)
    return common.reshape(b, common.scaled(b, mean, prod(found.kernel) / divisor), b.shape)


def _average(
    b: Builder,
    x: SSAValue,
    rank: int,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> SSAValue:
    x = _batched(b, x, rank)
    found = _windows(x, kernel, stride, padding, (1,), False)
    y = common.average(b, x, found, int(ceil_mode), int(count_include_pad))
    return common.reshape(b, y, b.shape)


@op("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
@op("adaptive_avg_pool3d", "_adaptive_avg_pool3d")
def adaptive_avg_pool(b: Builder, self: SSAValue, output_size: Sequence[int | None]) -> SSAValue:
    """Over everything, over equal windows, or over parts along one axis after the other."""
    rank = len(output_size)
    x = _batched(b, self, rank)
    size = shape_of(x)[2:]
    outs = [n if n is not None else s for n, s in zip(output_size, size, strict=True)]
    if all(n == 1 for n in outs):
        y = common.reduce(b, graph.ReduceMeanOp, x, range(2, 2 + rank), 1)
    elif all(s % n == 0 for s, n in zip(size, outs, strict=True)):
        kernel = [s // n for s, n in zip(size, outs, strict=True)]
        found = common.windows(size, kernel, kernel, None, None, "NOTSET")
        y = common.average(b, x, found, 0, 0)
    else:
        y = x
        for k, n in enumerate(outs):
            y = _parts(b, y, 2 + k, n, graph.ReduceMeanOp)
    return common.reshape(b, y, b.shape)


def _parts(b: Builder, x: SSAValue, axis: int, count: int, operation: type[Any]) -> SSAValue:
    """A reduction of each of `count` parts along one axis, which may overlap."""
    if shape_of(x)[axis] == count:
        return x
    parts = [common.along(b, x, axis, start, end - start)
             for start, end in _bounds(shape_of(x)[axis], count)]  # fmt: skip
    return common.concat(b, [common.reduce(b, operation, part, (axis,), 1) for part in parts], axis)


def _bounds(size: int, out: int) -> list[tuple[int, int]]:
    """Where each of `out` parts of `size` elements begins and ends."""
    return [(k * size // out, -(-(k + 1) * size // out)) for k in range(out)]


@op("adaptive_max_pool1d")
def adaptive_max_pool1d(b: Builder, self: SSAValue, output_size: Ints) -> list[SSAValue]:
    """The greatest values of parts of a sequence."""
    return _adaptive_maximum(b, self, output_size)


@op("adaptive_max_pool2d")
def adaptive_max_pool2d(b: Builder, self: SSAValue, output_size: Ints) -> list[SSAValue]:
    """The greatest values of parts of an image."""
    return _adaptive_maximum(b, self, output_size)


@op("adaptive_max_pool3d")
def adaptive_max_pool3d(b: Builder, self: SSAValue, output_size: Ints) -> list[SSAValue]:
    """The greatest values of parts of a volume."""
    return _adaptive_maximum(b, self, output_size)


def _adaptive_maximum(b: Builder, x: SSAValue, outs: Ints) -> list[SSAValue]:
    """Over equal windows; else along one dimension after the other, without the positions."""
    rank = len(outs)
    size = shape_of(x)[-rank:]
    if not any(s % n for s, n in zip(size, outs, strict=True)):
        kernel = [s // n for s, n in zip(size, outs, strict=True)]
        how = (kernel, kernel, (0,) * rank, (1,) * rank)
        return _maximum(b, x, rank, how, False, with_places=b.wants(1))
    if b.wants(1):
        raise NotExpressible(f"the positions of maxima of {list(size)} in {list(outs)} parts")
    for axis, n in enumerate(outs, len(shape_of(x)) - rank):
        x = _parts(b, x, axis, n, graph.ReduceMaxOp)
    return [x]
