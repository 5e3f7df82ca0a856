"""Dequantize goes down and quantize goes up through what moves values, or only compares them.

    relu(dequantize(q))   ==>  dequantize(relu(q))         max with the zero point
    quantize(reshape(x))  ==>  reshape(quantize(x))
    quantize(where(c, 1.0, dequantize(q)))  ==>  where(c, quantize(1.0), requantize(q))
    quantize(dequantize(q))  ==>  q, or requantize(q) where the parameters differ

All of it is exact: dequantize and quantize never decrease, and 0 maps to the zero point.
"""

from __future__ import annotations

import numpy as np
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, numerics
from npu_dialect.graph.attributes import requant_f32, values
from npu_dialect.graph.base import dtype_of, type_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.qdq.common import known, one_scale, stored
from npu_dialect.passes.rewriting import Rules, discard, location_of, rebuild, replace


def sink(op: Operation, rewriter: PatternRewriter) -> None:
    """An operation that moves or selects stored values comes before dequantize."""
    source = stored(op.operands[0])
    if source is None or not _has_inside_windows(op):
        return
    _finish_sink(op, rebuild(op, [source]), rewriter)


def _finish_sink(op: Operation, moved: Operation | None, rewriter: PatternRewriter) -> None:
    if moved is not None:
        real = graph.DequantizeOp(moved, location=location_of(op.operands[0]))
        replace(rewriter, op, moved, real)


def _has_inside_windows(op: Operation) -> bool:
    """Whether every window of a pooling touches the input, so that padding is never the result."""
    if not isinstance(op, graph.MaxPool2DOp):
        return True
    window = op.window
    sizes = [(k - 1) * d + 1 for k, d in zip(window["kernel"], window["dilations"], strict=True)]
    return all(pad < sizes[i % 2] for i, pad in enumerate(window["pads"]))


def sink_pad(op: graph.PadOp, rewriter: PatternRewriter) -> None:
    """Padding with a value that the quantized type has exactly."""
    source = stored(op.x)
    if source is None or (quant := one_scale(source)) is None:
        return
    value = op.value.value.data
    fill = stored_value(value, quant)
    if numerics.dequantize(np.asarray(fill), quant.scale, quant.zero_point) != np.float32(value):
        return
    low, high = values(op.low), values(op.high)
    _finish_sink(op, graph.PadOp(source, low, high, fill, location=op.location), rewriter)


def stored_value(value: float, quant: QuantType) -> int:
    """What quantize makes of one number."""
    real = np.asarray(value, np.float32)
    found = numerics.quantize(real, quant.scale, quant.zero_point, quant.storage_dtype)
    return int(np.clip(int(found), quant.low, quant.high))


def sink_gather(op: graph.GatherOp, rewriter: PatternRewriter) -> None:
    """Rows are copied as they are stored."""
    source = stored(op.x)
    if source is not None:
        _finish_sink(op, rebuild(op, [source, op.indices]), rewriter)


def sink_concat(op: graph.ConcatOp, rewriter: PatternRewriter) -> None:
    """Tensors of one quantized type are joined as they are stored."""
    sources = [stored(v) for v in op.inputs]
    found = [s for s in sources if s is not None]
    if len(found) == len(sources) and len({type_of(s).element_type for s in found}) == 1:
        _finish_sink(op, rebuild(op, found), rewriter)


def hoist(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """quantize comes before an operation that moves or selects values and that only it uses."""
    moved = op.x.owner
    quant = one_scale(op.result)
    if quant is None or not isinstance(moved, HOISTED) or not op.x.has_one_use():
        return
    inner = [graph.QuantizeOp(v, quant, location=op.location) for v in moved.operands]
    outer = _on_stored(moved, [v.result for v in inner], quant)
    if outer is not None and _has_inside_windows(moved):
        replace(rewriter, op, *inner, *outer)
    else:
        discard(*inner, *(outer or ()))


def hoist_where(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """quantize comes before a choice between numbers that are known or were quantized."""
    choice, quant = op.x.owner, one_scale(op.result)
    if quant is None or not isinstance(choice, graph.WhereOp) or not op.x.has_one_use():
        return
    sides = (choice.a, choice.b)
    if _has_floats(choice.condition):
        return
    if all(known(v) is not None or stored(v) is not None for v in sides):
        inner = [graph.QuantizeOp(v, quant, location=op.location) for v in sides]
        chosen = graph.WhereOp(choice.condition, *inner, location=choice.location)
        replace(rewriter, op, *inner, chosen)


def _has_floats(value: SSAValue) -> bool:
    """Whether a condition compares floats: then all may be a function of one tensor (`tables`)."""
    op = value.owner
    return isinstance(op, Operation) and any(dtype_of(v).is_float for v in op.operands)


def _on_stored(op: Operation, operands: list[SSAValue], quant: QuantType) -> list[Operation] | None:
    """`op` on quantized operands: [] where it changes nothing, None where it cannot be."""
    if isinstance(op, graph.ReluOp) and quant.zero_point <= quant.low:
        return []
    if isinstance(op, graph.ClampOp):
        return _clamp(op, operands[0], quant)
    if isinstance(op, graph.PadOp):
        fill = stored_value(op.value.value.data, quant)
        low, high = values(op.low), values(op.high)
        return [graph.PadOp(operands[0], low, high, fill, location=op.location)]
    moved = rebuild(op, operands)
    return None if moved is None else [moved]


def _clamp(op: graph.ClampOp, x: SSAValue, quant: QuantType) -> list[Operation] | None:
    low, high = (stored_value(bound, quant) for bound in op.bounds)
    if (low, high) == (quant.low, quant.high):
        return []
    if quant.storage_dtype.itemsize > 2:
        return None
    return [graph.ClampOp(x, low, high, location=op.location)]


def pair(op: graph.QuantizeOp, rewriter: PatternRewriter) -> None:
    """quantize(dequantize(q)) is q, or q rescaled by f32(scale of q / scale of the result)."""
    source = stored(op.x)
    if source is None:
        return
    if type_of(source) == op.type:
        replace(rewriter, op, value=source)
        return
    a, b = one_scale(source), one_scale(op.result)
    if a is not None and b is not None and reach_is_exact(a):
        recipe = requant_f32(a.scales / b.scales)
        replace(rewriter, op, graph.RequantizeOp(source, recipe, b, location=op.location))


def reach_is_exact(quant: QuantType) -> bool:
    """Whether every difference from the zero point is exact in f32."""
    return quant.storage_dtype.itemsize <= 2


HOISTED = (
    graph.ReshapeOp,
    graph.TransposeOp,
    graph.BroadcastToOp,
    graph.ConcatOp,
    graph.PadOp,
    graph.MaxPool2DOp,
    graph.ReduceMaxOp,
    graph.ReduceMinOp,
    graph.ReluOp,
    graph.ClampOp,
)
"""What quantize moves before."""

RULES: Rules = {
    graph.ReshapeOp: [sink],
    graph.TransposeOp: [sink],
    graph.SliceOp: [sink],
    graph.BroadcastToOp: [sink],
    graph.MaxPool2DOp: [sink],
    graph.ReduceMaxOp: [sink],
    graph.ReduceMinOp: [sink],
    graph.ReluOp: [sink],
    graph.PadOp: [sink_pad],
    graph.ConcatOp: [sink_concat],
    graph.GatherOp: [sink_gather],
    graph.QuantizeOp: [pair, hoist, hoist_where],
}
