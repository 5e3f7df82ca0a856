"""RFFT2D, and what becomes of complex numbers: two floats each, in a last dimension of their own.

    Y[k] = sum(x[n] * exp(-2 pi i k n / N))     a product with a matrix of cosines and sines

The matrices are made in float64 and rounded once; sums are in float32.
"""

from __future__ import annotations

from math import prod

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, mul, pad, reshape, transpose, window
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import COMPLEX, Array
from npu_dialect.frontends.tflite.registry import op

SPECTRAL = (
    "RFFT2D", "REAL", "IMAG", "COMPLEX_ABS", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS",
)  # fmt: skip
"""The operators that take complex numbers or make them."""


@op("RFFT2D")
def rfft2d(b: Builder, x: SSAValue, sizes: SSAValue) -> SSAValue:
    """The spectrum of the last two dimensions, which are cut or padded to the given sizes."""
    found = b.ints(sizes, "the size of a spectrum")
    shape = shape_of(x)
    if len(found) != 2 or min(found) < 1 or len(shape) < 2:
        raise Misfit(f"a spectrum of {list(found)} of {list(shape)}")
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a spectrum of {dtype_of(x)}")
    count, height, width = prod(shape[:-2]), *found
    kept = [min(n, size) for n, size in zip(shape[-2:], found, strict=True)]
    x = window(b, reshape(b, x, (count, *shape[-2:])), (0, 0, 0), (count, *kept))
    x = pad(b, x, (0, 0, 0), (0, height - kept[0], width - kept[1]), 0)
    half = width // 2 + 1
    b.reserve(width, 2 * half)
    made = b.constant(_waves(width, half))
    y = b.emit(graph.MatmulOp(reshape(b, x, (count * height, width)), made))
    if height > 1:
        y = _of_columns(b, y, count, height, half)
    return reshape(b, y, (*shape[:-2], height, half, 2))


def _of_columns(b: Builder, y: SSAValue, count: int, height: int, half: int) -> SSAValue:
    """The spectra of columns of complex numbers."""
    b.reserve(2 * height, 2 * height)
    matrix = _waves(height, height).reshape(height, height, 2)
    turned = np.stack([-matrix[..., 1], matrix[..., 0]], -1)
    whole = np.stack([matrix, turned], 1).reshape(2 * height, 2 * height)
    columns = transpose(b, reshape(b, y, (count, height, half, 2)), (0, 2, 1, 3))
    rows = reshape(b, columns, (count * half, 2 * height))
    found = b.emit(graph.MatmulOp(rows, b.constant(whole)))
    return transpose(b, reshape(b, found, (count, half, height, 2)), (0, 2, 1, 3))


def _waves(size: int, count: int) -> Array:
    """exp(-2 pi i k n / size) as [n, k, cosine or sine]: float32 [size, 2 * count]."""
    turns = np.outer(np.arange(size), np.arange(count)) % size
    angles = turns * (-2 * np.pi / size)
    return np.stack([np.cos(angles), np.sin(angles)], -1).reshape(size, -1).astype(np.float32)


def part(b: Builder, x: SSAValue, which: int) -> SSAValue:
    """The real parts of complex numbers, or the imaginary ones."""
    shape = shape_of(x)
    return reshape(b, along(b, x, len(shape) - 1, which, 1), shape[:-1])


def _complex(b: Builder, x: SSAValue) -> SSAValue:
    source = b.operands[0]
    if source is None or source.kind != COMPLEX:
        raise NotExpressible(f"a part of {dtype_of(x)}")
    return x


@op("REAL")
def real(b: Builder, x: SSAValue) -> SSAValue:
    """The real parts."""
    return part(b, _complex(b, x), 0)


@op("IMAG")
def imaginary(b: Builder, x: SSAValue) -> SSAValue:
    """The imaginary parts."""
    return part(b, _complex(b, x), 1)


@op("COMPLEX_ABS")
def magnitude(b: Builder, x: SSAValue) -> SSAValue:
    """The root of the sum of the squares of both parts."""
    x = _complex(b, x)
    total = b.emit(graph.ReduceSumOp(mul(b, x, x), (len(shape_of(x)) - 1,)))
    return reshape(b, b.emit(graph.SqrtOp(total)), shape_of(x)[:-1])
