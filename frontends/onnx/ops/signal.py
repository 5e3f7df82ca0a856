"""Fourier transforms: products with a matrix of cosines and sines, computed when compiling."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
    shape_of,
)
from npu_dialect.frontends.onnx.ops.convolution import convolve, windows
from npu_dialect.frontends.onnx.registry import op

Floats = NDArray[np.float64]


def _waves(size: int, count: int, parts: int, sign: int = -1) -> Floats:
    """[size, parts, count, 2]: what a real (and an imaginary) number at a time gives to the real
    and the imaginary part at each of `count` frequencies; angles in float64.
    """
    turns = np.outer(np.arange(size), np.arange(count)) % max(size, 1)
    angle = sign * 2 * np.pi * turns / size
    real = np.stack([np.cos(angle), np.sin(angle)], -1)
    imaginary = np.stack([-np.sin(angle), np.cos(angle)], -1)
    return np.stack([real, imaginary][:parts], 1)


def _parts(x: SSAValue) -> int:
    """1 for real numbers, 2 for complex ones: the extent of the last dimension."""
    shape = shape_of(x)
    if len(shape) < 2 or shape[-1] not in (1, 2):
        raise Misfit(f"numbers of {shape[-1] if shape else 0} parts")
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a Fourier transform of {dtype_of(x)}")
    return shape[-1]


@op("DFT")
def dft_17(
    b: Builder,
    x: SSAValue,
    length: SSAValue | None = None,
    *,
    axis: int,
    inverse: int,
    onesided: int,
) -> SSAValue:
    """The axis as an attribute."""
    return _transformed(b, x, length, axis, inverse, onesided)


@op("DFT", since=20)
def dft(
    b: Builder,
    x: SSAValue,
    length: SSAValue | None = None,
    axis: SSAValue | None = None,
    *,
    inverse: int,
    onesided: int,
) -> SSAValue:
    """The axis as an input."""
    place = -2 if axis is None else b.ints(axis, "axis")[0]
    return _transformed(b, x, length, place, inverse, onesided)


def _transformed(
    b: Builder, x: SSAValue, length: SSAValue | None, axis: int, inverse: int, onesided: int
) -> SSAValue:
    """Along one axis; the signal is cut, or filled with zeros, to a stated length."""
    parts, rank = _parts(x), len(shape_of(x))
    axis = common.normalize_axis(axis, rank)
    if inverse or axis == rank - 1 or (onesided and parts == 2):
        raise NotExpressible("a Fourier transform that is inverse, or one-sided of complex numbers")
    size = shape_of(x)[axis] if length is None else b.ints(length, "the length")[0]
    if size < 1:
        raise Misfit(f"a Fourier transform of {size} elements")
    return fourier(b, x, axis, size, onesided=bool(onesided))


def fourier(
    b: Builder, x: SSAValue, axis: int, size: int, *, onesided: bool, inverse: bool = False
) -> SSAValue:
    """The transform of `size` elements of an axis, cut or filled with zeros: [.., 2].

    The last dimension of `x` has real numbers (1), or their real and imaginary parts (2). The
    inverse is not divided by the number of elements.
    """
    parts, rank = _parts(x), len(shape_of(x))
    missing = [size - shape_of(x)[axis] if k == axis else 0 for k in range(rank)]
    x = common.pad(b, x, [0] * rank, missing)
    count = size // 2 + 1 if onesided else size
    b.reserve(size * parts, count * 2)
    waves = _waves(size, count, parts, 1 if inverse else -1)
    matrix = waves.reshape(size * parts, count * 2)
    order = [k for k in range(rank) if k not in (axis, rank - 1)] + [axis, rank - 1]
    moved = common.transpose(b, x, order)
    outer = shape_of(moved)[:-2]
    rows = common.reshape(b, moved, (prod(outer), size * parts))
    found = b.emit(graph.MatmulOp(rows, b.constant(matrix.astype(np.float32))))
    found = common.reshape(b, found, (*outer, count, 2))
    return common.transpose(b, found, [int(k) for k in np.argsort(order)])


@op("STFT")
def short_time_transform(
    b: Builder,
    signal: SSAValue,
    step: SSAValue,
    window: SSAValue | None = None,
    length: SSAValue | None = None,
    *,
    onesided: int,
) -> SSAValue:
    """A convolution: its output channels are the frequencies, its stride the step."""
    parts = _parts(signal)
    if len(shape_of(signal)) != 3 or (onesided and parts == 2):
        raise NotExpressible("a one-sided transform of complex numbers")
    size = _frame(b, window, length)
    count = size // 2 + 1 if onesided else size
    b.reserve(size * parts, count * 2)
    waves = _waves(size, count, parts).astype(np.float32)
    kernel = b.constant(np.ascontiguousarray(waves.transpose(2, 3, 1, 0).reshape(-1, parts, size)))
    if window is not None:
        kernel = common.mul(b, kernel, window)
    x = common.channels_first(b, signal)
    stride = b.ints(step, "the step")
    found = windows(shape_of(x)[2:], (size,), stride, None, None, "NOTSET")
    y = common.channels_last(b, convolve(b, x, kernel, None, found, 1))
    return common.reshape(b, y, (*shape_of(y)[:2], count, 2))


def _frame(b: Builder, window: SSAValue | None, length: SSAValue | None) -> int:
    """The elements of a frame, which the window has, too."""
    if window is None and length is None:
        raise Misfit("neither a window nor the length of a frame")
    stated = None if length is None else b.ints(length, "the length of a frame")[0]
    size = stated if window is None else shape_of(window)[0]
    if size is None or size < 1 or stated not in (None, size):
        raise Misfit(f"a frame of {stated} elements and a window of {size}")
    return size
