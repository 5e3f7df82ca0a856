"""FFT2D and RFFT2D: products with matrices of cosines and sines, columns after rows."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import dtypes
from npu_dialect.frontends.onnx.builder import dtype_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape
from npu_dialect.frontends.onnx.ops.signal import fourier
from npu_dialect.frontends.tosa.builder import Builder
from npu_dialect.frontends.tosa.registry import op


@op("rfft2d")
def rfft2d(b: Builder, input_real: SSAValue) -> list[SSAValue]:
    """The spectrum of real images [N, H, W]: [N, H, W / 2 + 1], real and imaginary parts."""
    x = _column(b, input_real)
    height, width = shape_of(x)[1:3]
    x = fourier(b, x, 2, width, onesided=True)
    return _parts(b, fourier(b, x, 1, height, onesided=False))


@op("fft2d")
def fft2d(
    b: Builder, input_real: SSAValue, input_imag: SSAValue, *, inverse: bool
) -> list[SSAValue]:
    """The spectrum of complex images [N, H, W], real and imaginary parts; or back, times H * W."""
    x = concat(b, [_column(b, input_real), _column(b, input_imag)], 3)
    height, width = shape_of(x)[1:3]
    x = fourier(b, x, 2, width, onesided=False, inverse=inverse)
    return _parts(b, fourier(b, x, 1, height, onesided=False, inverse=inverse))


def _column(b: Builder, x: SSAValue) -> SSAValue:
    """[N, H, W] as [N, H, W, 1]."""
    if len(shape_of(x)) != 3:
        raise Misfit(f"images of {list(shape_of(x))}")
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a spectrum of {dtype_of(x)}")
    return reshape(b, x, (*shape_of(x), 1))


def _parts(b: Builder, x: SSAValue) -> list[SSAValue]:
    return [reshape(b, along(b, x, 3, k, 1), shape_of(x)[:3]) for k in range(2)]
