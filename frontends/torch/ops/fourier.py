"""Discrete Fourier transforms: products with matrices of cosines and sines, one for a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from npu_dialect import dtypes
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    normalize_axis,
    shape_of,
)
from npu_dialect.frontends.torch.ops.complex_numbers import Complex
from npu_dialect.frontends.torch.ops.resizing import along_axis
from npu_dialect.frontends.torch.registry import op

Matrix = NDArray[np.float64]

MAX_ELEMENTS = 1 << 24
"""A larger matrix is more than a program should carry."""


def _factor(normalization: int, count: int) -> float:
    """torch's fft_norm_mode: none, by the root of n, by n."""
    return (1.0, 1 / sqrt(count), 1 / count)[normalization]


def _turns(outputs: int, inputs: int, size: int) -> Matrix:
    """The angles 2 pi j k / size, reduced to one turn first, for they are exact then."""
    if 4 * outputs * inputs > MAX_ELEMENTS:
        raise NotExpressible(f"a Fourier transform of {size} elements")
    steps = np.outer(np.arange(outputs), np.arange(inputs)) % size
    return 2 * np.pi * steps / size


def _halves(b: Builder, x: SSAValue, axis: int) -> Complex:
    """The two halves along an axis as the parts of a complex tensor."""
    count = shape_of(x)[axis] // 2
    return Complex(*(common.along(b, x, axis, k * count, count) for k in (0, 1)))


def _real_to_complex(b: Builder, x: SSAValue, axis: int, outputs: int, factor: float) -> Complex:
    turns = _turns(outputs, shape_of(x)[axis], shape_of(x)[axis])
    matrix = np.concatenate([np.cos(turns), -np.sin(turns)]) * factor
    return _halves(b, along_axis(b, x, axis, matrix.astype(np.float32)), axis)


def _complex_to_complex(b: Builder, x: Complex, axis: int, forward: bool, factor: float) -> Complex:
    size = shape_of(x.real)[axis]
    turns = _turns(size, size, size)
    cos, sin = np.cos(turns), np.sin(turns) * (1 if forward else -1)
    matrix = np.block([[cos, sin], [-sin, cos]]) * factor
    both = common.concat(b, [x.real, x.imag], axis)
    return _halves(b, along_axis(b, both, axis, matrix.astype(np.float32)), axis)


def _complex_to_real(b: Builder, x: Complex, axis: int, size: int, factor: float) -> SSAValue:
    """Of one side of the spectrum: what stands for two conjugates counts twice."""
    count = shape_of(x.real)[axis]
    turns = _turns(size, count, size)
    weights = np.full(count, 2.0)
    weights[0] = 1
    if size % 2 == 0:
        weights[size // 2 :] = 1
    matrix = np.concatenate([np.cos(turns) * weights, -np.sin(turns) * weights], 1) * factor
    both = common.concat(b, [x.real, x.imag], axis)
    return along_axis(b, both, axis, matrix.astype(np.float32))


@op("_fft_r2c")
def real_to_complex(
    b: Builder, self: SSAValue, dim: Sequence[int], normalization: int, onesided: bool
) -> Complex:
    """The last of the dimensions is real; its other side is the conjugate, and may be left out."""
    rank = len(shape_of(self))
    *others, last = (normalize_axis(d, rank) for d in dim)
    x = common.cast(b, self, dtypes.f32)
    factor = _factor(normalization, prod(shape_of(x)[d] for d in (*others, last)))
    made = _real_to_complex(b, x, last, b.shape[last], factor)
    return _transformed(b, made, others, True, 1.0)


@op("_fft_c2c")
def complex_to_complex(
    b: Builder, self: Complex, dim: Sequence[int], normalization: int, forward: bool
) -> Complex:
    """One dimension after the other."""
    rank = len(shape_of(self.real))
    axes = [normalize_axis(d, rank) for d in dim]
    factor = _factor(normalization, prod(shape_of(self.real)[d] for d in axes))
    return _transformed(b, self, axes, forward, factor)


def _transformed(
    b: Builder, x: Complex, axes: Sequence[int], forward: bool, factor: float
) -> Complex:
    for k, axis in enumerate(axes):
        x = _complex_to_complex(b, x, axis, forward, 1.0 if k else factor)
    return x


@op("_fft_c2r")
def complex_to_real(
    b: Builder, self: Complex, dim: Sequence[int], normalization: int, last_dim_size: int
) -> SSAValue:
    """Backwards, to a real tensor; the last of the dimensions has one side of the spectrum."""
    rank = len(shape_of(self.real))
    *others, last = (normalize_axis(d, rank) for d in dim)
    count = prod(shape_of(self.real)[d] for d in others) * last_dim_size
    x = _transformed(b, self, others, False, 1.0)
    return _complex_to_real(b, x, last, last_dim_size, _factor(normalization, count))
