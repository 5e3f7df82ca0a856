"""RFFT2D, and what becomes of complex numbers: two floats each, in a dimension of their own."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, mul, reshape
from npu_dialect.frontends.onnx.ops.signal import fourier
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import COMPLEX
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
    rank = len(shape)
    y = fourier(b, reshape(b, x, (*shape, 1)), rank - 1, found[1], onesided=True)
    if shape[-2] == found[0] == 1:
        return y
    return fourier(b, y, rank - 2, found[0], onesided=False)


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
