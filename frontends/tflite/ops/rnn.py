"""RNN and UNIDIRECTIONAL_SEQUENCE_RNN of floats, whose weights may have 8 bits (`RnnBatchStep`).

    h = f(b + x W + h R)

The state h is kept from run to run.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import hybrid
from npu_dialect.frontends.tflite.registry import op


def float_product(
    b: Builder, x: SSAValue, w: SSAValue, bias: SSAValue | None, asymmetric: bool
) -> SSAValue:
    """x [M, K] by w [K, N], which may have 8 bits."""
    if dtype_of(x) is not dtypes.f32:
        raise NotExpressible(f"a cell of {element_of(x)}")
    if hybrid.is_hybrid(x, w):
        return hybrid.matrix_product(b, x, w, bias, asymmetric)
    return b.emit(graph.MatmulOp(x, w, bias))


@op("RNN", options="RNNOptions")
def rnn(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    bias: SSAValue,
    h: SSAValue,
    *,
    fused_activation_function: str,
    asymmetric_quantize_inputs: bool,
) -> SSAValue:
    """One step of x [B, I], w [U, I], r [U, U], bias [U], h [B, U]."""
    if len(shape_of(x)) != 2:
        raise Misfit(f"{list(shape_of(x))}")
    x = reshape(b, x, (1, *shape_of(x)))
    found = _sequence(b, x, w, r, bias, h, fused_activation_function, asymmetric_quantize_inputs)
    return reshape(b, found, shape_of(h))


@op("UNIDIRECTIONAL_SEQUENCE_RNN", options="SequenceRNNOptions")
def unidirectional_sequence_rnn(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    bias: SSAValue,
    h: SSAValue,
    *,
    time_major: bool,
    fused_activation_function: str,
    asymmetric_quantize_inputs: bool,
) -> SSAValue:
    """x [B, T, I], or [T, B, I] if it is `time_major`; all states, in that order."""
    if len(shape_of(x)) != 3:
        raise Misfit(f"{list(shape_of(x))}")
    x = transpose(b, x, (1, 0, 2)) if not time_major else x
    found = _sequence(b, x, w, r, bias, h, fused_activation_function, asymmetric_quantize_inputs)
    return transpose(b, found, (1, 0, 2)) if not time_major else found


def _sequence(
    b: Builder,
    x: SSAValue,
    w: SSAValue,
    r: SSAValue,
    bias: SSAValue,
    h: SSAValue,
    activation: str,
    asymmetric: bool,
) -> SSAValue:
    """The states [T, B, U] of x [T, B, I]."""
    steps, batch, depth = shape_of(x)
    units = shape_of(h)[-1]
    if shape_of(w) != (units, depth) or shape_of(r) != (units, units) or shape_of(h)[0] != batch:
        raise Misfit(f"weights of {list(shape_of(w))} and {list(shape_of(r))}")
    first, r = h, transpose(b, r, (1, 0))
    rows = reshape(b, x, (steps * batch, depth))
    outer = float_product(b, rows, transpose(b, w, (1, 0)), bias, asymmetric)
    outer = reshape(b, outer, (steps, batch, units))
    states: list[SSAValue] = []
    for k in range(steps):
        sums = reshape(b, along(b, outer, 0, k, 1), (batch, units))
        sums = b.emit(graph.AddOp(sums, float_product(b, h, r, None, asymmetric)))
        h = hybrid.any_activation(b, sums, activation)
        states.append(reshape(b, h, (1, batch, units)))
    b.updates = [(first, h)]
    return concat(b, states, 0)
