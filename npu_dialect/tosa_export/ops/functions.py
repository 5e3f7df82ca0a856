"""Functions of one number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from xdsl.dialects.builtin import FloatAttr, f32, i1
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import dtype_of, quant_of
from npu_dialect.tosa_export.emitter import Emitter, Refused, bound, element_of, offset
from npu_dialect.tosa_export.ops.arithmetic import plain
from npu_dialect.tosa_export.ops.rescaling import bounded, multiplied
from npu_dialect.tosa_export.registry import rule

OPEN = {
    graph.ExpOp: "exp", graph.LogOp: "log", graph.TanhOp: "tanh", graph.SigmoidOp: "sigmoid",
    graph.ErfOp: "erf", graph.SinOp: "sin", graph.CosOp: "cos", graph.RsqrtOp: "rsqrt",
}  # fmt: skip
"""Functions that TOSA has, right to a few units in the last place."""


@rule(*OPEN)
def function(e: Emitter, op: graph.ExpOp) -> SSAValue:
    """The same, right to a few units in the last place."""
    return named(e, OPEN[type(op)], e.value(op.x))


def named(e: Emitter, name: str, x: SSAValue) -> SSAValue:
    """A function whose bits TOSA leaves open."""
    e.open(name)
    return e.same(name, x)


@rule(graph.FloorOp, graph.CeilOp)
def floor(e: Emitter, op: graph.FloorOp | graph.CeilOp) -> SSAValue:
    """The same."""
    return e.same(op.name.removeprefix("graph."), e.value(op.x))


@rule(graph.AbsOp)
def absolute(e: Emitter, op: graph.AbsOp) -> SSAValue:
    """The same."""
    if not dtype_of(op.x).is_float and e.ranges.of(op.x)[0] == dtypes.i32.low:
        raise Refused("|x| of what may be -2**31")
    return e.same("abs", plain(e, op.x))


@rule(graph.NegOp)
def negative(e: Emitter, op: graph.NegOp) -> SSAValue:
    """The same."""
    if not dtype_of(op.x).is_float and e.ranges.of(op.x)[0] == dtypes.i32.low:
        raise Refused("-x of what may be -2**31")
    return negated(e, plain(e, op.x))


def negated(e: Emitter, x: SSAValue) -> SSAValue:
    """-x."""
    zero = e.fill(0, element_of(x))
    return e.op("negate", (x, zero, zero), x.type)


@rule(graph.NotOp)
def opposite(e: Emitter, op: graph.NotOp) -> SSAValue:
    """The same."""
    return e.same("logical_not", e.value(op.x))


@rule(graph.SqrtOp)
def root(e: Emitter, op: graph.SqrtOp) -> SSAValue:
    """1 / rsqrt(x)."""
    e.open("a root as the reciprocal of rsqrt")
    return e.same("reciprocal", e.same("rsqrt", e.value(op.x)))


@rule(graph.ReluOp)
def relu(e: Emitter, op: graph.ReluOp) -> SSAValue:
    """The greater of x and zero; of stored values, of the zero point."""
    quant = quant_of(op.x)
    x = e.value(op.x)
    if quant is not None:
        top = quant.storage_dtype.high - offset(quant.storage_dtype)
        return bounded(e, x, e.zero_of(op.x), top)
    if not dtype_of(op.x).is_float:
        x = plain(e, op.x)
        return e.spread("maximum", x, e.like(0, x))
    return positive(e, x)


def positive(e: Emitter, x: SSAValue) -> SSAValue:
    """max(x, 0) of floats."""
    return e.same("clamp", x, min_val=FloatAttr(0.0, f32), max_val=FloatAttr(float("inf"), f32))


@rule(graph.ClampOp)
def clamp(e: Emitter, op: graph.ClampOp) -> SSAValue:
    """The same; of i32, the smaller of the greater."""
    low, high = op.bounds
    dtype = dtype_of(op.x)
    if dtype.is_float:
        x = e.value(op.x)
        return e.same("clamp", x, min_val=bound(low, f32), max_val=bound(high, f32))
    if dtype.itemsize <= 2 and dtype is not dtypes.u16:
        return bounded(e, e.value(op.x), int(low) - offset(dtype), int(high) - offset(dtype))
    x = plain(e, op.x)
    x = e.spread("maximum", x, e.like(int(low), x))
    return e.spread("minimum", x, e.like(int(high), x))


@rule(graph.SignOp)
def sign(e: Emitter, op: graph.SignOp) -> SSAValue:
    """1, -1, or x itself: 0, and NaN."""
    x = e.value(op.x)
    zero, one, less = e.like(0.0, x), e.like(1.0, x), e.like(-1.0, x)
    up = e.spread("greater", x, zero, element=i1)
    down = e.spread("greater", zero, x, element=i1)
    none = e.spread("add", x, zero)
    return e.spread("select", up, one, e.spread("select", down, less, none))


@rule(graph.RoundOp)
def nearest(e: Emitter, op: graph.RoundOp) -> SSAValue:
    """floor(|x|) or one more, the even one at a half, with the sign of x."""
    x = e.value(op.x)
    size = e.same("abs", x)
    below = e.same("floor", size)
    rest = e.spread("sub", size, below)
    half = e.like(0.5, x)
    halved = multiplied(e, below, half)
    is_odd = e.spread("greater", halved, e.same("floor", halved), element=i1)
    is_tie = e.spread("equal", rest, half, element=i1)
    is_up = e.spread(
        "logical_or",
        e.spread("greater", rest, half, element=i1),
        e.spread("logical_and", is_tie, is_odd),
    )
    found = e.spread("select", is_up, e.spread("add", below, e.like(1.0, x)), below)
    is_negative = e.spread("greater", e.like(0.0, x), x, element=i1)
    signed = e.spread("select", is_negative, negated(e, found), found)
    is_whole = e.spread("equal", rest, e.like(0.0, x), element=i1)
    return e.spread("select", is_whole, x, signed)


Formula = Callable[[Emitter, SSAValue], SSAValue]


def _scaled(e: Emitter, x: SSAValue, factor: float) -> SSAValue:
    return multiplied(e, x, e.like(float(np.float32(factor)), x))


@rule(graph.SiluOp)
def silu(e: Emitter, op: graph.SiluOp) -> SSAValue:
    """x * sigmoid(x)."""
    x = e.value(op.x)
    return multiplied(e, x, named(e, "sigmoid", x))


@rule(graph.GeluOp)
def gelu(e: Emitter, op: graph.GeluOp) -> SSAValue:
    """x * (1 + erf(x / sqrt(2))) / 2."""
    x = e.value(op.x)
    inner = named(e, "erf", _scaled(e, x, 0.5**0.5))
    return multiplied(e, _scaled(e, x, 0.5), e.spread("add", inner, e.like(1.0, x)))


@rule(graph.HardSwishOp)
def hard_swish(e: Emitter, op: graph.HardSwishOp) -> SSAValue:
    """x * clamp(x + 3, 0, 6) / 6."""
    e.open("a quotient as the product with a reciprocal")
    x = e.value(op.x)
    moved = e.spread("add", x, e.like(3.0, x))
    held = e.same("clamp", moved, min_val=bound(0.0, f32), max_val=bound(6.0, f32))
    return _scaled(e, multiplied(e, x, held), 1 / 6)


@rule(graph.HardSigmoidOp)
def hard_sigmoid(e: Emitter, op: graph.HardSigmoidOp) -> SSAValue:
    """clamp(alpha * x + beta, 0, 1)."""
    x = e.value(op.x)
    line = e.spread("add", _scaled(e, x, op.alpha.value.data), e.like(op.beta.value.data, x))
    return e.same("clamp", line, min_val=bound(0.0, f32), max_val=bound(1.0, f32))


@rule(graph.SoftplusOp)
def softplus(e: Emitter, op: graph.SoftplusOp) -> SSAValue:
    """max(x, 0) + log(1 + exp(-|x|))."""
    x = e.value(op.x)
    small = named(e, "exp", negated(e, e.same("abs", x)))
    rest = named(e, "log", e.spread("add", small, e.like(1.0, x)))
    return e.spread("add", positive(e, x), rest)


@rule(graph.LeakyReluOp)
def leaky_relu(e: Emitter, op: graph.LeakyReluOp) -> SSAValue:
    """x, or alpha * x below 0."""
    x = e.value(op.x)
    is_negative = e.spread("greater", e.like(0.0, x), x, element=i1)
    return e.spread("select", is_negative, _scaled(e, x, op.alpha.value.data), x)


@rule(graph.EluOp)
def elu(e: Emitter, op: graph.EluOp) -> SSAValue:
    """x, or alpha * (exp(x) - 1) below 0."""
    x = e.value(op.x)
    is_negative = e.spread("greater", e.like(0.0, x), x, element=i1)
    less = e.spread("sub", named(e, "exp", x), e.like(1.0, x))
    return e.spread("select", is_negative, _scaled(e, less, op.alpha.value.data), x)
