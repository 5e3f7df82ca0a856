"""SVDF: a product of low rank with what a filter gave for the last inputs (reference/svdf.h).

    m[f] = m[f, 1:], x . w[f]                  the last results of each filter: the state
    y[u] = sum(m[f] . t[f] for the filters f of unit u) + bias[u]

Of integers, the state is i16 with zero point 0, t is i16, sums are i32 and rescaled with two
roundings. Of floats with 8-bit weights, x is quantized at run time and t dequantized before.
"""

from __future__ import annotations

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat, reshape, transpose
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops import hybrid
from npu_dialect.frontends.tflite.ops.rescaling import (
    is_quantized,
    plain,
    quant_of,
    rescaled,
)
from npu_dialect.frontends.tflite.registry import op


@op("SVDF", options="SVDFOptions")
def svdf(
    b: Builder,
    x: SSAValue,
    features: SSAValue,
    times: SSAValue,
    bias: SSAValue | None = None,
    state: SSAValue | None = None,
    *,
    rank: int,
    fused_activation_function: str,
    asymmetric_quantize_inputs: bool,
) -> SSAValue:
    """x [B, I], features [F, I], times [F, M], bias [F / rank], state [B, F * M]."""
    if state is None:
        raise Misfit("an input that is missing")
    batch, filters, memory = _sizes(x, features, times, state, rank)
    w = transpose(b, features, (1, 0))
    if is_quantized(x):
        new = _integer_product(b, x, w, state)
    elif hybrid.is_hybrid(x, features):
        new = hybrid.matrix_product(b, x, w, None, asymmetric_quantize_inputs)
    else:
        new = b.emit(graph.MatmulOp(x, w))
    kept = along(b, reshape(b, state, (batch, filters, memory)), 2, 1, memory - 1)
    latest = concat(b, [kept, reshape(b, new, (batch, filters, 1))], 2)
    b.updates = [(state, reshape(b, latest, shape_of(state)))]
    if is_quantized(x):
        if fused_activation_function != "RELU":
            raise NotExpressible(f"integers with {fused_activation_function}; TFLite has only RELU")
        return _integer_result(b, x, latest, times, bias, state, rank)
    found = _summed(b, latest, _numbers(b, times), rank)
    found = found if bias is None else b.emit(graph.AddOp(found, bias))
    return hybrid.any_activation(b, found, fused_activation_function)


def _sizes(
    x: SSAValue, features: SSAValue, times: SSAValue, state: SSAValue, rank: int
) -> tuple[int, int, int]:
    """Batch, filters and memory."""
    shapes = [shape_of(v) for v in (x, features, times, state)]
    if any(len(s) != 2 for s in shapes):
        raise Misfit(f"{[list(s) for s in shapes]}")
    (batch, depth), (filters, width), (rows, memory), kept = shapes
    if rank < 1 or filters % rank or depth != width or rows != filters or memory < 2:
        raise Misfit(f"{[list(s) for s in shapes]} of rank {rank}")
    if kept != (batch, filters * memory):
        raise Misfit(f"a state of {list(kept)}")
    return batch, filters, memory


def _numbers(b: Builder, times: SSAValue) -> SSAValue:
    """Weights as floats: scale * stored value."""
    if not is_quantized(times):
        return times
    steps = b.known(times, "a weight").astype(np.float32)
    return b.constant(quant_of(times).scales[0] * steps)


def _summed(b: Builder, state: SSAValue, times: SSAValue, rank: int) -> SSAValue:
    """The products of the state [B, F, M] with `times` [F, M], summed by unit: [B, F / rank]."""
    products = b.emit(graph.MulOp(state, times))
    by_filter = b.emit(graph.ReduceSumOp(products, (2,)))
    batch, filters, _ = shape_of(by_filter)
    by_unit = reshape(b, by_filter, (batch, filters // rank, rank))
    return reshape(b, b.emit(graph.ReduceSumOp(by_unit, (2,))), (batch, filters // rank))


# Integers


def _integer_product(b: Builder, x: SSAValue, w: SSAValue, state: SSAValue) -> SSAValue:
    if dtype_of(x) is not dtypes.i8 or dtype_of(w) is not dtypes.i8 or quant_of(w).zero_point:
        raise NotExpressible(f"products of {element_of(x)} and {element_of(w)}")
    quant = quant_of(state)
    if quant.storage_dtype is not dtypes.i16 or quant.zero_point:
        raise NotExpressible(f"a state of {quant}")
    factor = quant_of(x).scales[0] * quant_of(w).scales[0] / quant.scales[0]
    return rescaled(b, b.emit(graph.MatmulOp(x, w)), [float(factor)], quant)


def _integer_result(
    b: Builder,
    x: SSAValue,
    latest: SSAValue,
    times: SSAValue,
    bias: SSAValue | None,
    state: SSAValue,
    rank: int,
) -> SSAValue:
    """The rescaled sums; the reference kernel leaves out the function of the options."""
    weight = quant_of(times)
    if weight.storage_dtype is not dtypes.i16 or weight.zero_point:
        raise NotExpressible(f"weights of {weight} for a state of 16 bits")
    sums = _summed(b, plain(b, latest), plain(b, times), rank)
    sums = sums if bias is None else b.emit(graph.AddOp(sums, bias))
    factor = quant_of(state).scales[0] * weight.scales[0] / b.quant.scales[0]
    return rescaled(b, sums, [float(factor)], b.quant)
