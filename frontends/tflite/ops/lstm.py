"""LSTM cells, step by step: of floats, of floats with 8-bit weights, of integers.

    i, f, o = sigmoid(norm(x W + h R + p c) + b);  g = tanh(norm(x W + h R) + b)
    c = f c + i g;  h = (o tanh(c)) P + q

The input gate may be coupled (i = 1 - f); peepholes p, layer normalization and the projection P may
be left out. lstm_floats.py and lstm_integers.py have a step. The states are kept from run to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops.lstm_cell import Cell, Step
from npu_dialect.frontends.tflite.ops.lstm_floats import FloatStep
from npu_dialect.frontends.tflite.ops.lstm_integers import IntegerStep
from npu_dialect.frontends.tflite.ops.rescaling import is_quantized, quant_of
from npu_dialect.frontends.tflite.registry import op
from npu_dialect.graph.quant import uniform

LEAST, MOST = 20, 24
"""How many inputs there can be: the last four are of layer normalization."""

ORDER = (0, 1, 3, 2)
"""Input, forget, output and cell gate, of what the operator has in the order i, f, c, o."""


@op("UNIDIRECTIONAL_SEQUENCE_LSTM", options="UnidirectionalSequenceLSTMOptions")
def unidirectional_sequence_lstm(
    b: Builder,
    *values: SSAValue | None,
    fused_activation_function: str,
    cell_clip: float,
    proj_clip: float,
    time_major: bool,
    asymmetric_quantize_inputs: bool,
) -> SSAValue:
    """x [B, T, I], or [T, B, I] if it is `time_major`; all outputs of the cell, in that order."""
    x, h, c = _states(values)
    if fused_activation_function != "TANH":
        raise NotExpressible(f"a cell with {fused_activation_function}")
    clips = max(cell_clip, 0.0), max(proj_clip, 0.0)
    cell = _cell(b, values, clips, asymmetric_quantize_inputs, time_major)
    return _unrolled(b, cell, x, h, c)


@op("LSTM", options="LSTMOptions")
def lstm(
    b: Builder,
    *values: SSAValue | None,
    fused_activation_function: str,
    cell_clip: float,
    proj_clip: float,
    kernel_type: str,
    asymmetric_quantize_inputs: bool,
) -> SSAValue:
    """One step of x [B, I]."""
    if kernel_type != "FULL" or fused_activation_function != "TANH":
        raise NotExpressible(f"a {kernel_type} cell with {fused_activation_function}")
    x, h, c = _states(values)
    clips = max(cell_clip, 0.0), max(proj_clip, 0.0)
    cell = _cell(b, values, clips, asymmetric_quantize_inputs, time_major=True)
    if len(shape_of(x)) != 2:
        raise Misfit(f"{list(shape_of(x))}")
    return reshape(b, _unrolled(b, cell, reshape(b, x, (1, *shape_of(x))), h, c), shape_of(h))


def _unrolled(b: Builder, cell: Cell, x: SSAValue, h: SSAValue, c: SSAValue) -> SSAValue:
    """All outputs of a cell."""
    time_major = cell.time_major
    if len(shape_of(x)) != 3 or (shape_of(h)[1:], shape_of(c)[1:]) != (
        (cell.outputs,),
        (cell.size,),
    ):
        raise Misfit(f"{list(shape_of(x))} and states {list(shape_of(h))} and {list(shape_of(c))}")
    x = transpose(b, x, (1, 0, 2)) if not time_major else x
    step: Step = IntegerStep(b, cell, x, h, c) if is_quantized(x) else FloatStep(b, cell)
    found, after = _sequence(b, step, x, h, c)
    b.updates = list(zip((h, c), after, strict=True))
    return transpose(b, found, (1, 0, 2)) if not time_major else found


def _sequence(
    b: Builder, step: Step, x: SSAValue, h: SSAValue, c: SSAValue
) -> tuple[SSAValue, tuple[SSAValue, SSAValue]]:
    """The outputs [T, B, H] of x [T, B, I], and the last states."""
    count, batch, depth = shape_of(x)
    outer = step.of_inputs(reshape(b, x, (count * batch, depth)))
    width = shape_of(outer)[1]
    outer = reshape(b, outer, (count, batch, width))
    outputs: list[SSAValue] = []
    for k in range(count):
        h, c = step.step(reshape(b, along(b, outer, 0, k, 1), (batch, width)), h, c)
        outputs.append(reshape(b, h, (1, *shape_of(h))))
    return concat(b, outputs, 0), (h, c)


def _states(values: Sequence[SSAValue | None]) -> tuple[SSAValue, SSAValue, SSAValue]:
    if not LEAST <= len(values) <= MOST:
        raise Misfit(f"{len(values)} inputs")
    x, h, c = values[0], values[18], values[19]
    if x is None or h is None or c is None:
        raise Misfit("an input that is missing")
    return x, h, c


def _cell(
    b: Builder,
    values: Sequence[SSAValue | None],
    clips: tuple[float, float],
    asymmetric: bool,
    time_major: bool,
) -> Cell:
    is_coupled = values[1] is None
    order = ORDER[1:] if is_coupled else ORDER
    w, r, biases = (_present(values, k, order) for k in (1, 5, 12))
    norms = [*values[20:24], None, None, None, None]
    peepholes = dict(zip(("input", "forget", "output"), values[9:12], strict=True))
    return Cell(
        w=_beside(b, w),
        r=_beside(b, r),
        biases=tuple(b.known(v, "a bias") for v in biases),
        peepholes={k: v for k, v in peepholes.items() if v is not None},
        norms=_present(norms, 0, order) if norms[1] is not None else (),
        projection=None if values[16] is None else _transposed(b, values[16]),
        projection_bias=values[17],
        is_coupled=is_coupled,
        cell_clip=clips[0],
        proj_clip=clips[1],
        asymmetric=asymmetric,
        time_major=time_major,
    )


def _present(
    values: Sequence[SSAValue | None], first: int, order: Sequence[int]
) -> tuple[SSAValue, ...]:
    """The inputs of the gates, which begin at `first`."""
    found = [values[first + k] for k in order]
    if any(v is None for v in found):
        raise Misfit("a gate without some of its inputs")
    return tuple(v for v in found if v is not None)


def _transposed(b: Builder, w: SSAValue) -> SSAValue:
    """A constant [N, K] as [K, N]."""
    found = np.ascontiguousarray(b.known(w, "a weight").T)
    return b.constant(found, element_of(w))


def _beside(b: Builder, gates: Sequence[SSAValue]) -> SSAValue:
    """Weights [N, K] of the gates as [K, G N]."""
    arrays = [b.known(g, "a weight") for g in gates]
    if any(a.ndim != 2 for a in arrays):
        raise NotExpressible("recurrent weights that are a diagonal")
    if any(a.shape != arrays[0].shape for a in arrays):
        raise Misfit(f"weights of {[list(a.shape) for a in arrays]}")
    array: Array = np.ascontiguousarray(np.concatenate(arrays).T)
    if not is_quantized(gates[0]):
        return b.constant(array)
    quants = [quant_of(g) for g in gates]
    if any(q.zero_point or q.storage_dtype is not dtypes.i8 for q in quants):
        raise NotExpressible(f"weights of {dtype_of(gates[0])} with a zero point, or not of 8 bits")
    scales = np.repeat(np.array([q.scales[0] for q in quants], np.float32), len(arrays[0]))
    return b.constant(array, uniform(dtypes.i8, scales, axis=1))
