"""Arithmetic that changes nothing, and bounds that are one bound together."""

from __future__ import annotations

import math

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.elementwise import BinaryOp
from npu_dialect.graph.pooling import Pool2DOp
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.passes.canonical.moves import same_type
from npu_dialect.passes.rewriting import Rules, discard, rebuild, replace, splat

NEUTRAL: dict[type[Operation], int] = {
    graph.AddOp: 0,
    graph.SubOp: 0,
    graph.MulOp: 1,
    graph.DivOp: 1,
    graph.PowOp: 1,
}
"""x + 0, x - 0, x * 1, x / 1 and x ** 1 are x."""

COMMUTATIVE = (graph.AddOp, graph.MulOp)


def neutral(op: BinaryOp, rewriter: PatternRewriter) -> None:
    """An operand that leaves the other as it is."""
    pairs = [(op.lhs, op.rhs)] + [(op.rhs, op.lhs)] * isinstance(op, COMMUTATIVE)
    for kept, other in pairs:
        if kept.type == op.result.type and splat(other) == NEUTRAL[type(op)]:
            replace(rewriter, op, value=kept)
            return


def broadcast_operand(op: Operation, rewriter: PatternRewriter) -> None:
    """Elementwise operations broadcast by themselves."""
    operands = [_before_broadcast(v) for v in op.operands]
    if operands == list(op.operands):
        return
    plain = rebuild(op, operands)
    if plain is None:
        return
    if plain.results[0].type == op.results[0].type:
        replace(rewriter, op, plain)
    else:
        discard(plain)


def _before_broadcast(value: SSAValue) -> SSAValue:
    return value.owner.x if isinstance(value.owner, graph.BroadcastToOp) else value


def twice_is_none(op: Operation, rewriter: PatternRewriter) -> None:
    """neg(neg(x)) and not(not(x)) are x."""
    inner = op.operands[0].owner
    if isinstance(inner, Operation) and type(inner) is type(op):
        replace(rewriter, op, value=inner.operands[0])


def twice_is_once(op: Operation, rewriter: PatternRewriter) -> None:
    """relu(relu(x)), abs(abs(x)), floor(floor(x)) and the like."""
    inner = op.operands[0].owner
    if isinstance(inner, Operation) and type(inner) is type(op):
        replace(rewriter, op, value=op.operands[0])


def relu_of_nothing_below(op: graph.ReluOp, rewriter: PatternRewriter) -> None:
    """Nothing is stored below the zero point."""
    quant = quant_of(op.x)
    if quant is not None and quant.axis is None and quant.zero_point <= quant.low:
        replace(rewriter, op, value=op.x)


def clamp_nothing(op: graph.ClampOp, rewriter: PatternRewriter) -> None:
    """Bounds that every value keeps."""
    if op.bounds == _range(op.x):
        replace(rewriter, op, value=op.x)


def _range(value: SSAValue) -> tuple[float, float]:
    """The least and the greatest value of a tensor's type."""
    quant, dtype = quant_of(value), dtype_of(value)
    if quant is not None:
        return quant.low, quant.high
    return (-math.inf, math.inf) if dtype.is_float else (dtype.low, dtype.high)


def clamp_twice(op: graph.ClampOp | graph.ReluOp, rewriter: PatternRewriter) -> None:
    """Two bounds, of which relu may be one: one pair of bounds."""
    inner = op.x.owner
    if not isinstance(inner, graph.ClampOp | graph.ReluOp):
        return
    if isinstance(op, graph.ReluOp) and isinstance(inner, graph.ReluOp):
        return
    if _per_axis(op.x):
        return
    first, (low, high) = _bounds(inner), _bounds(op)
    least, greatest = (min(max(bound, low), high) for bound in first)
    replace(rewriter, op, graph.ClampOp(inner.x, least, greatest, location=op.location))


def _per_axis(value: SSAValue) -> bool:
    quant = quant_of(value)
    return quant is not None and quant.axis is not None


def _bounds(op: graph.ClampOp | graph.ReluOp) -> tuple[float, float]:
    if isinstance(op, graph.ClampOp):
        return op.bounds
    quant = quant_of(op.x)
    return (quant.zero_point if quant else 0), _range(op.x)[1]


def reduce_one(op: ReduceOp, rewriter: PatternRewriter) -> None:
    """A reduction over dimensions of 1."""
    if op.x.type == op.result.type and all(shape_of(op.x)[a] == 1 for a in values(op.axes)):
        replace(rewriter, op, value=op.x)


def pool_one(op: Pool2DOp, rewriter: PatternRewriter) -> None:
    """Windows of one element at every position."""
    window = op.window
    one = all(k == 1 for k in (*window["kernel"], *window["strides"]))
    if one and not any(window["pads"]) and op.x.type == op.result.type:
        replace(rewriter, op, value=op.x)


_BINARY = (
    graph.AddOp,
    graph.SubOp,
    graph.MulOp,
    graph.DivOp,
    graph.MaxOp,
    graph.MinOp,
    graph.PowOp,
    graph.AndOp,
    graph.OrOp,
    graph.XorOp,
    graph.EqOp,
    graph.NeOp,
    graph.LtOp,
    graph.LeOp,
    graph.GtOp,
    graph.GeOp,
)
_REDUCTIONS = (
    graph.ReduceSumOp,
    graph.ReduceMeanOp,
    graph.ReduceMaxOp,
    graph.ReduceMinOp,
    graph.ReduceProdOp,
)
_IDEMPOTENT = (graph.AbsOp, graph.FloorOp, graph.CeilOp, graph.RoundOp)

RULES: Rules = {
    **{cls: [neutral] * (cls in NEUTRAL) + [broadcast_operand] for cls in _BINARY},
    **{cls: [reduce_one] for cls in _REDUCTIONS},
    **{cls: [twice_is_none] for cls in (graph.NegOp, graph.NotOp)},
    **{cls: [twice_is_once] for cls in _IDEMPOTENT},
    **{cls: [pool_one] for cls in (graph.MaxPool2DOp, graph.AvgPool2DOp)},
    graph.WhereOp: [broadcast_operand],
    graph.ReluOp: [relu_of_nothing_below, twice_is_once, clamp_twice],
    graph.ClampOp: [clamp_nothing, clamp_twice],
    graph.CastOp: [same_type],
}
