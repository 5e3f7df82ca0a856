"""Layer normalization of gates of 16 bits (`PortableApplyLayerNorm` of portable_tensor_utils.cc).

    m = sum(x) * 1024 / N;  v = (sum(x * x) * (2**20 / N) - m * m) / 2**20     rounded toward zero
    y = ((1024 * x - m) / sqrt(v) * w + b) / 1024 * scale * 2**12

The inverse root is a multiplier of 31 bits by Newton's method and a power of two
(`GetInvSqrtQuantizedMultiplierExp` of internal/common.h). Sums of squares take 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.ops.common import cast, reshape, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.rescaling import I32, quantized_multiplier
from npu_dialect.graph.quant import QuantType

FINE = 10
"""Fractional bits of a mean."""

SHIFTS = (8, 4, 2, 1)
"""Pairs of bits that a variance is shifted left by, as often as it is below 2**27."""

STEPS = 5
"""Steps of Newton's method."""

HALF_ROOT = 1518500250
"""sqrt(2) / 2 with 31 fractional bits."""

MOST = 12
"""The greatest power of two of an inverse root."""


@dataclass(frozen=True)
class Norm:
    """The parameters of a gate's normalization."""

    weights: Array
    """Stored values of 16 bits [N]."""
    scale: float
    biases: Array
    """[N], of 32 bits."""

    @property
    def guard(self) -> int:
        """What a variance of 0 is taken for."""
        return max(1, int(np.float32(10000) * np.float32(self.scale)))


def normalized(b: Builder, gates: SSAValue, norms: Sequence[Norm], element: QuantType) -> SSAValue:
    """The gates [B, G N], in i32, each normalized by itself; of type `element`."""
    batch, width = shape_of(gates)
    count, size = len(norms), width // len(norms)
    x = reshape(b, gates, (batch, count, size))
    mean = _mean(b, x, size)
    variance = _variance(b, x, mean, size)
    guards = b.constant(np.array([[n.guard] for n in norms], np.int32))
    is_zero = b.emit(graph.LtOp(variance, b.scalar(1, variance)))
    multiplier, power = inverse_root(b, where(b, is_zero, guards, variance))
    fine = b.emit(graph.MulOp(x, b.scalar(1 << FINE, x)))
    off = b.emit(graph.SubOp(fine, mean))
    steps = b.emit(graph.RescaleOp(off, multiplier, 31, I32, "half_up"))
    steps = b.emit(graph.RescaleOp(steps, power, MOST, I32, "half_away"))
    weights = b.constant(np.stack([n.weights.astype(np.int32) for n in norms]))
    biases = b.constant(np.stack([n.biases for n in norms]))
    found = b.emit(graph.AddOp(b.emit(graph.MulOp(steps, weights)), biases))
    found = b.emit(graph.RequantizeOp(found, graph.requant_fixed(1, FINE, "half_away"), I32))
    pairs = [quantized_multiplier(n.scale) for n in norms for _ in range(size)]
    shifts = [31 - MOST - e for _, e in pairs]
    made = graph.requant_fixed([m for m, _ in pairs], shifts, "double")
    return b.emit(graph.RequantizeOp(reshape(b, found, (batch, width)), made, element))


def _mean(b: Builder, x: SSAValue, size: int) -> SSAValue:
    """The means along the last dimension, with 10 fractional bits."""
    total = cast(b, b.emit(graph.ReduceSumOp(x, (2,))), dtypes.i64)
    fine = b.emit(graph.MulOp(total, b.scalar(1 << FINE, total)))
    return cast(b, b.emit(graph.DivOp(fine, b.scalar(size, fine))), dtypes.i32)


def _variance(b: Builder, x: SSAValue, mean: SSAValue, size: int) -> SSAValue:
    squares = cast(b, b.emit(graph.MulOp(x, x)), dtypes.i64)
    total = b.emit(graph.ReduceSumOp(squares, (2,)))
    share = b.emit(graph.MulOp(total, b.scalar((1 << (2 * FINE)) // size, total)))
    wide = cast(b, mean, dtypes.i64)
    found = b.emit(graph.SubOp(share, b.emit(graph.MulOp(wide, wide))))
    return cast(b, b.emit(graph.DivOp(found, b.scalar(1 << (2 * FINE), found))), dtypes.i32)


def inverse_root(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """A multiplier of 31 bits and a power of two, over 2**12, of positive numbers below 2**31."""
    one = b.scalar(1, x)
    is_large = b.emit(graph.GeOp(x, b.scalar(1 << 29, x)))
    quarter = b.emit(graph.DivOp(x, b.scalar(4, x)))
    mantissa = where(b, is_large, quarter, x)
    power = where(b, is_large, one, b.scalar(2, x))
    for pairs in SHIFTS:
        is_small = b.emit(graph.LtOp(mantissa, b.scalar(1 << (29 - 2 * pairs), x)))
        shifted = b.emit(graph.MulOp(mantissa, b.scalar(1 << (2 * pairs), x)))
        mantissa = where(b, is_small, shifted, mantissa)
        power = where(b, is_small, b.emit(graph.MulOp(power, b.scalar(1 << pairs, x))), power)
    more = where(
        b, _below(b, x, 8), b.scalar(4, x), where(b, _below(b, x, 32), b.scalar(2, x), one)
    )
    found = b.emit(graph.MulOp(_newton(b, mantissa), more))
    power = b.emit(graph.MinOp(power, b.scalar(1 << MOST, x)))
    is_one = b.emit(graph.LeOp(x, one))
    greatest = b.scalar(dtypes.i32.high, x)
    return where(b, is_one, greatest, found), where(b, is_one, b.scalar(1 << MOST, x), power)


def _below(b: Builder, x: SSAValue, bound: int) -> SSAValue:
    return b.emit(graph.LtOp(x, b.scalar(bound, x)))


def _newton(b: Builder, mantissa: SSAValue) -> SSAValue:
    """1 / sqrt(2 x) of x with 29 fractional bits, between 1/4 and 1; with 28 of them."""
    half = b.emit(graph.DivOp(mantissa, b.scalar(2, mantissa)))
    quarter = b.emit(graph.RequantizeOp(half, graph.requant_fixed(1, 1, "half_away"), I32))
    x: SSAValue = b.constant(np.full(shape_of(mantissa), 1 << 28, np.int32))
    middle = b.scalar((1 << 28) + (1 << 27), x)
    for _ in range(STEPS):
        cube = _shifted(b, _high(b, _high(b, x, x), x), 6)
        step = b.emit(graph.SubOp(_high(b, x, middle), _high(b, quarter, cube)))
        x = _shifted(b, step, 3)
    return _high(b, x, b.scalar(HALF_ROOT, x))


def _high(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The rounding doubling high half of a product."""
    return b.emit(graph.RescaleOp(x, y, 31, I32, "half_up"))


def _shifted(b: Builder, x: SSAValue, bits: int) -> SSAValue:
    """x * 2**bits, saturated."""
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1 << bits, 0, "half_up"), I32))
