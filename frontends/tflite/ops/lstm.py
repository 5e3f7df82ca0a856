"""UNIDIRECTIONAL_SEQUENCE_LSTM, step by step: of floats, and of integers as lstm_eval.cc has it.

    i, f, o = sigmoid(x W + h R + b);  g = tanh(x W + h R + b)
    c = f c + i g;  h = o tanh(c)

Of integers, gates are i16 with 12 fractional bits, and the state of the cell is i16 with a power of
two for a scale; sigmoid and tanh are gemmlowp's. The states are kept from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops import gemmlowp
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    is_quantized,
    plain,
    quant_of,
    recipe,
    rescaled,
    scale_of,
)
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import QuantType, uniform

GATE = uniform(dtypes.i16, 2.0**-12)
"""The type of a gate before its function."""

ORDER = (0, 1, 3, 2)
"""Input, forget, output and cell gate, of what the operator has in the order i, f, c, o."""

LEAST, MOST = 20, 24
"""How many inputs there can be: the last four are of layer normalization."""


@dataclass(frozen=True)
class Cell:
    """The parameters of a cell, of all four gates side by side."""

    w: SSAValue
    """[I, 4 N]"""
    r: SSAValue
    """[N, 4 N]"""
    bias: SSAValue
    """[4 N]"""
    size: int
    """N."""
    clip: float
    """The bound of the state of the cell; 0 for none."""


@op("UNIDIRECTIONAL_SEQUENCE_LSTM", options="UnidirectionalSequenceLSTMOptions")
def unidirectional_sequence_lstm(
    b: Builder,
    *values: SSAValue | None,
    fused_activation_function: str,
    cell_clip: float,
    time_major: bool,
) -> SSAValue:
    """x [B, T, I], or [T, B, I] if it is `time_major`; all outputs of the cell, in that order."""
    x, h, c = _states(values)
    if fused_activation_function != "TANH":
        raise NotExpressible(f"a cell with {fused_activation_function}")
    if any(v is not None for v in (*values[9:12], *values[16:18], *values[20:])):
        raise NotExpressible("a cell with peepholes, a projection or layer normalization")
    cell = _cell(b, values, x, abs(cell_clip))
    if len(shape_of(x)) != 3 or shape_of(h)[1:] != (cell.size,):
        raise Misfit(f"{list(shape_of(x))} and states of {list(shape_of(h))}")
    x = transpose(b, x, (1, 0, 2)) if not time_major else x
    steps, batch, _ = shape_of(x)
    step = _integer_step if is_quantized(x) else _float_step
    rows = reshape(b, x, (steps * batch, shape_of(x)[2]))
    gates = b.emit(graph.MatmulOp(rows, cell.w, cell.bias))
    if is_quantized(x):
        gates = rescaled(b, gates, _factors(x, cell.w), GATE)
    gates = reshape(b, gates, (steps, batch, 4 * cell.size))
    first = (h, c)
    outputs: list[SSAValue] = []
    for k in range(steps):
        gate = reshape(b, along(b, gates, 0, k, 1), (batch, 4 * cell.size))
        h, c = step(b, gate, h, c, cell)
        outputs.append(reshape(b, h, (1, batch, cell.size)))
    b.updates = list(zip(first, (h, c), strict=True))
    found = concat(b, outputs, 0)
    return transpose(b, found, (1, 0, 2)) if not time_major else found


def _states(values: Sequence[SSAValue | None]) -> tuple[SSAValue, SSAValue, SSAValue]:
    if not LEAST <= len(values) <= MOST:
        raise Misfit(f"{len(values)} inputs")
    x, h, c = values[0], values[18], values[19]
    if x is None or h is None or c is None:
        raise Misfit("an input that is missing")
    return x, h, c


def _cell(b: Builder, values: Sequence[SSAValue | None], x: SSAValue, clip: float) -> Cell:
    gates = [_present(values, k) for k in (*range(1, 9), *range(12, 16))]
    if any(is_quantized(g) != is_quantized(x) for g in gates[:8]):
        raise NotExpressible("floats with weights of 8 bits")
    w, r = _beside(b, gates[:4]), _beside(b, gates[4:8])
    bias = np.concatenate([b.known(gates[8 + k], "a bias") for k in ORDER])
    return Cell(w, r, b.constant(bias), shape_of(r)[0], clip)


def _present(values: Sequence[SSAValue | None], k: int) -> SSAValue:
    found = values[k]
    if found is None:
        raise NotExpressible("a cell whose gates are coupled")
    return found


def _beside(b: Builder, gates: Sequence[SSAValue]) -> SSAValue:
    """Weights [N, K] of four gates as [K, 4 N]."""
    arrays = [b.known(gates[k], "a weight") for k in ORDER]
    if any(a.ndim != 2 or a.shape != arrays[0].shape for a in arrays):
        raise Misfit(f"weights of {[list(a.shape) for a in arrays]}")
    array = np.ascontiguousarray(np.concatenate(arrays).T)
    if not is_quantized(gates[0]):
        return b.constant(array)
    quants = [quant_of(gates[k]) for k in ORDER]
    if any(q.zero_point or q.storage_dtype is not dtypes.i8 for q in quants):
        raise NotExpressible("weights with a zero point")
    scales = np.repeat(np.array([q.scales[0] for q in quants], np.float32), len(arrays[0]))
    return b.constant(array, uniform(dtypes.i8, scales, axis=1))


def _factors(x: SSAValue, w: SSAValue) -> list[float]:
    """What sums are multiplied by; the product of the scales is rounded to float32."""
    element = _element(w)
    return [float(quant_of(x).scales[0] * s) / scale_of(GATE) for s in element.scales]


def _element(w: SSAValue) -> QuantType:
    element = element_of(w)
    assert isinstance(element, QuantType)
    return element


# Floats


def _float_step(
    b: Builder, gate: SSAValue, h: SSAValue, c: SSAValue, cell: Cell
) -> tuple[SSAValue, SSAValue]:
    n = cell.size
    sums = b.emit(graph.AddOp(gate, b.emit(graph.MatmulOp(h, cell.r))))
    open_ = b.emit(graph.SigmoidOp(along(b, sums, 1, 0, 3 * n)))
    i, f, o = (along(b, open_, 1, k * n, n) for k in range(3))
    g = b.emit(graph.TanhOp(along(b, sums, 1, 3 * n, n)))
    kept = b.emit(graph.MulOp(f, c))
    c = b.emit(graph.AddOp(kept, b.emit(graph.MulOp(i, g))))
    if cell.clip:
        c = b.emit(graph.ClampOp(c, -cell.clip, cell.clip))
    return b.emit(graph.MulOp(o, b.emit(graph.TanhOp(c)))), c


# Integers


def _integer_step(
    b: Builder, gate: SSAValue, h: SSAValue, c: SSAValue, cell: Cell
) -> tuple[SSAValue, SSAValue]:
    n, exponent = cell.size, _exponent(c)
    again = b.emit(graph.MatmulOp(h, cell.r))
    again = b.emit(graph.RequantizeOp(again, recipe(_factors(h, cell.r)), I32))
    sums = b.emit(graph.AddOp(plain(b, gate), again))
    sums = plain(b, b.emit(graph.RequantizeOp(sums, KEEP, GATE)))
    open_ = _looked_up(b, along(b, sums, 1, 0, 3 * n), gemmlowp.sigmoid())
    i, f, o = (along(b, open_, 1, k * n, n) for k in range(3))
    g = _looked_up(b, along(b, sums, 1, 3 * n, n), gemmlowp.tanh(3))
    kept = _shifted(b, b.emit(graph.MulOp(f, plain(b, c))), 15)
    new = _shifted(b, b.emit(graph.MulOp(i, g)), 30 + exponent)
    c = b.emit(graph.RequantizeOp(b.emit(graph.AddOp(kept, new)), KEEP, quant_of(c)))
    if cell.clip:
        most = int(min(cell.clip / scale_of(quant_of(c)), dtypes.i16.high))
        c = b.emit(graph.ClampOp(c, -most, most))
    bounded = _looked_up(b, plain(b, c), gemmlowp.tanh(15 + exponent))
    product = b.emit(graph.MulOp(o, bounded))
    return rescaled(b, product, [2.0**-30 / scale_of(quant_of(h))], quant_of(h)), c


def _exponent(c: SSAValue) -> int:
    """The power of two that the scale of the state of the cell is."""
    quant = quant_of(c)
    fraction, exponent = math.frexp(scale_of(quant))
    if fraction != 0.5 or quant.zero_point or dtype_of(c) is not dtypes.i16:
        raise NotExpressible(f"a state of the cell of type {quant}")
    if not -15 <= exponent - 1 <= -9:
        raise NotExpressible(f"a state of the cell of scale {scale_of(quant)}")
    return exponent - 1


def _shifted(b: Builder, x: SSAValue, times: int) -> SSAValue:
    """x / 2**times, ties away from zero."""
    return b.emit(graph.RequantizeOp(x, graph.requant_fixed(1, times, "half_away"), I32))


def _looked_up(b: Builder, x: SSAValue, table: Array) -> SSAValue:
    """The entries of a table of all 16-bit numbers, in i32."""
    rows = b.constant(table.astype(np.int32).reshape(-1, 1))
    index = b.emit(graph.AddOp(x, b.scalar(1 << 15, x)))
    flat = reshape(b, index, (int(np.prod(shape_of(x))),))
    return reshape(b, b.emit(graph.GatherOp(rows, flat)), shape_of(x))
