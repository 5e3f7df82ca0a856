"""Moves that move nothing, or that are one move together."""

from __future__ import annotations

import math

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import quant_of, shape_of
from npu_dialect.passes.rewriting import Rules, is_view_transpose, rebuild, replace


def same_type(op: Operation, rewriter: PatternRewriter) -> None:
    """A reshape, broadcast or cast to the type that its operand has."""
    if op.operands[0].type == op.results[0].type:
        replace(rewriter, op, value=op.operands[0])


def transpose_nothing(op: graph.TransposeOp, rewriter: PatternRewriter) -> None:
    """The identity, or a transposition that keeps the order of the elements: a reshape."""
    order = values(op.permutation)
    if order == tuple(range(len(order))):
        replace(rewriter, op, value=op.x)
    elif is_view_transpose(shape_of(op.x), order):
        view = reshaped(op.x, op)
        if view is not None:
            replace(rewriter, op, view)


def reshaped(value: SSAValue, op: Operation) -> graph.ReshapeOp | None:
    """`value` in the shape of the result of `op`; None where the type would be another."""
    try:
        view = graph.ReshapeOp(value, shape_of(op.results[0]), location=op.location)
    except ValueError:  # a reshape must keep the dimension of the scales
        return None
    return view if view.type == op.results[0].type else None


def transpose_twice(op: graph.TransposeOp, rewriter: PatternRewriter) -> None:
    """transpose(transpose(x)) is one transposition."""
    inner = op.x.owner
    if isinstance(inner, graph.TransposeOp):
        first = values(inner.permutation)
        order = [first[i] for i in values(op.permutation)]
        replace(rewriter, op, graph.TransposeOp(inner.x, order, location=op.location))


def reshape_twice(op: graph.ReshapeOp, rewriter: PatternRewriter) -> None:
    """reshape(reshape(x)) is one reshape."""
    inner = op.x.owner
    if isinstance(inner, graph.ReshapeOp):
        view = reshaped(inner.x, op)
        if view is not None:
            replace(rewriter, op, view)


def slice_all(op: graph.SliceOp, rewriter: PatternRewriter) -> None:
    """A slice of everything."""
    if op.x.type == op.result.type and all(s == 1 for s in values(op.strides)):
        replace(rewriter, op, value=op.x)


def slice_twice(op: graph.SliceOp, rewriter: PatternRewriter) -> None:
    """slice(slice(x)) is one slice."""
    inner = op.x.owner
    if not isinstance(inner, graph.SliceOp):
        return
    steps = values(inner.strides)
    first = zip(values(inner.starts), values(op.starts), steps, strict=True)
    starts = [a + b * step for a, b, step in first]
    strides = [a * b for a, b in zip(steps, values(op.strides), strict=True)]
    joined = graph.SliceOp(inner.x, starts, values(op.sizes), strides, location=op.location)
    replace(rewriter, op, joined)


def pad_nothing(op: graph.PadOp, rewriter: PatternRewriter) -> None:
    """Padding of no width."""
    if not any(values(op.low)) and not any(values(op.high)):
        replace(rewriter, op, value=op.x)


def pad_twice(op: graph.PadOp, rewriter: PatternRewriter) -> None:
    """pad(pad(x)) with one value is one padding."""
    inner = op.x.owner
    if isinstance(inner, graph.PadOp) and inner.value == op.value:
        low, high = (
            [a + b for a, b in zip(values(x), values(y), strict=True)]
            for x, y in ((inner.low, op.low), (inner.high, op.high))
        )
        value = op.value.value.data
        replace(rewriter, op, graph.PadOp(inner.x, low, high, value, location=op.location))


def pad_into_convolution(op: graph.Conv2DOp, rewriter: PatternRewriter) -> None:
    """Padding height and width with the real number 0 is what a convolution does itself."""
    pad = op.x.owner
    if not isinstance(pad, graph.PadOp) or not _pads_zero(pad):
        return
    low, high = values(pad.low), values(pad.high)
    if any((low[0], low[3], high[0], high[3])):
        return
    added = (low[1], low[2], high[1], high[2])
    pads = [a + b for a, b in zip(values(op.pads), added, strict=True)]
    joined = graph.Conv2DOp(
        pad.x,
        op.w,
        op.bias,
        strides=values(op.strides),
        pads=pads,
        dilations=values(op.dilations),
        groups=op.groups.value.data,
        location=op.location,
    )
    replace(rewriter, op, joined)


def _pads_zero(pad: graph.PadOp) -> bool:
    quant = quant_of(pad.x)
    if quant is not None and quant.axis is not None:
        return False
    return pad.value.value.data == (quant.zero_point if quant else 0)


def concat_one(op: graph.ConcatOp, rewriter: PatternRewriter) -> None:
    """Empty operands add nothing; one operand alone is the result."""
    full = [v for v in op.inputs if math.prod(shape_of(v))]
    if len(full) == 1 and full[0].type == op.result.type:
        replace(rewriter, op, value=full[0])
    elif full and len(full) < len(op.inputs):
        fewer = rebuild(op, full)
        if fewer is not None:
            replace(rewriter, op, fewer)


def concat_twice(op: graph.ConcatOp, rewriter: PatternRewriter) -> None:
    """A concat that only another along the same dimension uses is part of it."""
    flat: list[SSAValue] = []
    for value in op.inputs:
        inner = value.owner
        if isinstance(inner, graph.ConcatOp) and inner.axis == op.axis and value.has_one_use():
            flat += inner.inputs
        else:
            flat.append(value)
    if len(flat) > len(op.inputs):
        joined = rebuild(op, flat)
        if joined is not None:
            replace(rewriter, op, joined)


TRANSPOSES: Rules = {
    graph.TransposeOp: [transpose_nothing, transpose_twice],
    graph.ReshapeOp: [same_type, reshape_twice],
}
"""The rules by which transpositions cancel."""

RULES: Rules = {
    **TRANSPOSES,
    graph.SliceOp: [slice_all, slice_twice],
    graph.PadOp: [pad_nothing, pad_twice],
    graph.BroadcastToOp: [same_type],
    graph.ConcatOp: [concat_one, concat_twice],
    graph.Conv2DOp: [pad_into_convolution],
}
