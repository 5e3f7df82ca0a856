"""HARD_SWISH: x * min(max(x + 3, 0), 6) / 6; of 8 bits, the table of reference/hard_swish.h."""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.gemmlowp import HIGH, LOW, halved, times
from npu_dialect.frontends.tflite.ops.rescaling import (
    is_quantized,
    quant_of,
    quantized_multiplier,
)
from npu_dialect.frontends.tflite.ops.tables import steps_of, tabled
from npu_dialect.frontends.tflite.registry import op

FINE = 7
"""Fractional bits of the steps of x that are computed with."""

REACH = np.float32(3) / np.float32(32768)
"""The scale at which 3 is the greatest number of 16 bits, nearly."""


@op("HARD_SWISH")
def hard_swish(b: Builder, x: SSAValue) -> SSAValue:
    """x * min(max(x + 3, 0), 6) / 6."""
    if not is_quantized(x):
        return b.emit(graph.HardSwishOp(x))
    fine = np.float32(1 / 128) * quant_of(x).scales[0]
    steps = steps_of(x) << FINE
    factor, exponent = _multiplier(fine / b.quant.scales[0])
    gate = _gate(steps, *_multiplier(fine / REACH))
    product = gate * times(steps, factor)
    high = np.where(product >= 0, product >> 15, -(-product >> 15))
    found = halved(high, -exponent) if exponent < 0 else high << exponent
    return tabled(b, x, found + b.quant.zero_point)


def _multiplier(factor: np.float32) -> tuple[int, int]:
    """A multiplier of 15 bits, and the power of two."""
    m, e = quantized_multiplier(float(factor))
    return (HIGH if m >= 0x7FFFFFFF - (1 << 15) else (m + (1 << 15)) >> 16), e


def _gate(steps: Array, factor: int, exponent: int) -> Array:
    """(x + 3) / 6 of 15 fractional bits, between 0 and 1."""
    x = steps
    if exponent > 0:
        x = np.clip(x << (exponent - 1), LOW, HIGH)
    x = times(x, factor)
    if exponent > 0:
        x = np.clip(x << 1, LOW, HIGH)
    if exponent < 0:
        x = halved(x, -exponent)
    return (x + (1 << 15)) >> 1
