"""Functions of two numbers, and comparisons."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import f32, i1, i8, i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.ranges import RULES
from npu_dialect.tosa_export.emitter import Emitter, Refused, element_of
from npu_dialect.tosa_export.ops.exactness import exact_quotient, exact_reciprocal, is_power_of_two
from npu_dialect.tosa_export.ops.movement import broadcast
from npu_dialect.tosa_export.ops.rescaling import multiplied, whole
from npu_dialect.tosa_export.ops.wrapping import power_of_two, shifted_left, wrapped_sum
from npu_dialect.tosa_export.registry import rule

Binary = graph.AddOp | graph.SubOp | graph.MulOp
I32 = dtypes.i32


def both(e: Emitter, op: graph.GraphOp) -> tuple[SSAValue, SSAValue]:
    """The operands, integers as i32."""
    return plain(e, op.operands[0]), plain(e, op.operands[1])


def plain(e: Emitter, value: SSAValue) -> SSAValue:
    """A tosa value of floats or truth values, or the i32 numbers of integers."""
    dtype = dtype_of(value)
    return e.value(value) if dtype.is_float or dtype is dtypes.bool_ else whole(e, value)


def fits(e: Emitter, op: graph.GraphOp) -> None:
    """Refuse what may leave 32 bits, where TOSA says nothing of the result."""
    if dtype_of(op.results[0]).is_float:
        return
    if not is_within(e, op):
        low, high = RULES[type(op)](e.ranges, op)
        raise Refused(f"results from {low} to {high}, which 32 bits cannot hold")


def is_within(e: Emitter, op: graph.GraphOp) -> bool:
    """Whether a result of integers is proved to fit 32 bits."""
    low, high = RULES[type(op)](e.ranges, op)
    return I32.low <= low and high <= I32.high


@rule(graph.AddOp, graph.SubOp)
def add(e: Emitter, op: graph.AddOp | graph.SubOp) -> SSAValue:
    """The same, of floats and of i32 that cannot overflow; else of halves, which wraps."""
    if dtype_of(op.result) is dtypes.i32 and not is_within(e, op):
        return wrapped_sum(e, *both(e, op), negates=isinstance(op, graph.SubOp))
    fits(e, op)
    return e.spread(op.name.removeprefix("graph."), *both(e, op))


@rule(graph.MulOp)
def mul(e: Emitter, op: graph.MulOp) -> SSAValue:
    """The same, without a shift; a power of two is one to the left, which wraps."""
    if dtype_of(op.result) is dtypes.i32 and not is_within(e, op):
        for value, factor in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            owner = factor.owner
            found = power_of_two(owner.array) if isinstance(owner, graph.ConstantOp) else None
            if found is not None:
                return broadcast(e, shifted_left(e, e.value(value), found), shape_of(op.result))
    fits(e, op)
    return multiplied(e, *both(e, op))


@rule(graph.DivOp)
def div(e: Emitter, op: graph.DivOp) -> SSAValue:
    """Of integers the same, and 0 for a divisor of 0; of floats the product with a reciprocal."""
    a, b = both(e, op)
    if dtype_of(op.result).is_float:
        return _float_div(e, op, a, b)
    least, most = e.ranges.of(op.rhs)
    if e.ranges.of(op.lhs)[0] == I32.low and least <= -1 <= most:
        raise Refused("a quotient of -2**31 and possibly -1")
    if least <= 0 <= most:
        is_zero = e.spread("equal", b, e.like(0, b), element=i1)
        found = e.spread("intdiv", a, e.spread("select", is_zero, e.like(1, b), b))
        return e.spread("select", is_zero, e.like(0, found), found)
    return e.spread("intdiv", a, b)


def _float_div(e: Emitter, op: graph.DivOp, a: SSAValue, b: SSAValue) -> SSAValue:
    first, second = (v.owner for v in op.operands)
    if isinstance(second, graph.ConstantOp):
        with np.errstate(all="ignore"):
            inverse = np.float32(1) / second.array
        if is_power_of_two(second.array) or not _is_exact(e):
            return multiplied(e, a, e.const(inverse, f32))
        return exact_quotient(e, a, b)
    if isinstance(first, graph.ConstantOp) and bool((first.array == 1).all()):
        return broadcast(e, inverted(e, b), shape_of(op.result))
    if _is_exact(e):
        return exact_quotient(e, a, b)
    return multiplied(e, a, e.same("reciprocal", b))


def _is_exact(e: Emitter) -> bool:
    """Whether a quotient must be the nearest float; else it is noted that it may not be."""
    if e.is_deciding and not e.is_open:
        return True
    e.open("a quotient as the product with a reciprocal")
    return False


def inverted(e: Emitter, x: SSAValue) -> SSAValue:
    """1 / x, rounded once where integers depend on it."""
    if e.is_deciding and not e.is_open:
        return exact_reciprocal(e, x)
    e.open("a reciprocal, right to 1 unit in the last place")
    return e.same("reciprocal", x)


@rule(graph.ReciprocalOp)
def reciprocal(e: Emitter, op: graph.ReciprocalOp) -> SSAValue:
    """The same."""
    return inverted(e, e.value(op.x))


@rule(graph.MaxOp, graph.MinOp)
def extreme(e: Emitter, op: graph.MaxOp | graph.MinOp) -> SSAValue:
    """The same."""
    name = "maximum" if isinstance(op, graph.MaxOp) else "minimum"
    return e.spread(name, *both(e, op))


@rule(graph.PowOp)
def power(e: Emitter, op: graph.PowOp) -> SSAValue:
    """The same."""
    e.open("pow")
    return e.spread("pow", *both(e, op))


@rule(graph.AndOp, graph.OrOp, graph.XorOp)
def bits(e: Emitter, op: graph.AndOp | graph.OrOp | graph.XorOp) -> SSAValue:
    """The same of truth values and of i32."""
    dtype = dtype_of(op.result)
    if dtype not in (dtypes.bool_, dtypes.i32):
        raise Refused(f"bits of {dtype}")
    kind = "logical" if dtype is dtypes.bool_ else "bitwise"
    return e.spread(f"{kind}_{op.name.removeprefix('graph.')}", *both(e, op))


COMPARISONS = {
    graph.EqOp: ("equal", False, False), graph.NeOp: ("equal", False, True),
    graph.GtOp: ("greater", False, False), graph.LtOp: ("greater", True, False),
    graph.GeOp: ("greater_equal", False, False), graph.LeOp: ("greater_equal", True, False),
}  # fmt: skip
"""The comparison of TOSA, whether operands change places, whether the result is negated."""


@rule(*COMPARISONS)
def compare(e: Emitter, op: graph.EqOp) -> SSAValue:
    """The same, with operands in the order that TOSA has."""
    name, swaps, negates = COMPARISONS[type(op)]
    a, b = both(e, op)
    if element_of(a) == i1:
        a, b = e.cast(e.cast(a, i8), i32), e.cast(e.cast(b, i8), i32)
    found = e.spread(name, *((b, a) if swaps else (a, b)), element=i1)
    return e.same("logical_not", found) if negates else found
