"""Choice and conversion."""

from __future__ import annotations

from xdsl.dialects.builtin import i1, i8, i32
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.base import dtype_of
from npu_dialect.tosa_export.emitter import Emitter, Refused, offset, stored_as
from npu_dialect.tosa_export.ops.functions import negated
from npu_dialect.tosa_export.ops.rescaling import kept, whole
from npu_dialect.tosa_export.registry import rule


@rule(graph.WhereOp)
def where(e: Emitter, op: graph.WhereOp) -> SSAValue:
    """The same."""
    return e.spread("select", *(e.value(v) for v in op.operands))


@rule(graph.CastOp)
def cast(e: Emitter, op: graph.CastOp) -> SSAValue:
    """The same numbers; floats are truncated before TOSA, which rounds, converts them."""
    source, target = dtype_of(op.x), dtype_of(op.result)
    x = e.value(op.x)
    if source is target:
        return x
    if source.is_float:
        return _from_float(e, op, x)
    if target.is_float:
        return e.cast(x if source is dtypes.bool_ else whole(e, op.x), stored_as(target))
    if source is dtypes.bool_:
        return _to_storage(e, e.cast(e.cast(x, i8), i32), target)
    number = whole(e, op.x)
    if target is dtypes.bool_:
        return e.same("logical_not", e.spread("equal", number, e.like(0, number), element=i1))
    low, high = e.ranges.of(op.x)
    if low < target.low or high > target.high:
        number = _modulo(e, number, target)
    return _to_storage(e, number, target)


def _to_storage(e: Emitter, number: SSAValue, target: dtypes.DType) -> SSAValue:
    if offset(target):
        return kept(e, number, i8, 0, -offset(target))
    return e.cast(number, stored_as(target))


def _modulo(e: Emitter, number: SSAValue, target: dtypes.DType) -> SSAValue:
    """i32 numbers modulo the range of a type."""
    if target.itemsize > 2:
        raise Refused(f"more than 32 bits as {target}")
    half, mask = -target.low, (1 << 8 * target.itemsize) - 1
    low = e.spread("bitwise_and", number, e.like(mask, number))
    if not half:
        return low
    sign = e.spread("bitwise_and", low, e.like(half, number))
    return e.spread("sub", low, e.spread("add", sign, sign))


def _from_float(e: Emitter, op: graph.CastOp, x: SSAValue) -> SSAValue:
    target = dtype_of(op.result)
    if target.is_float:
        return e.cast(x, stored_as(target))
    if target is dtypes.bool_:
        return e.same("logical_not", e.spread("equal", x, e.like(0.0, x), element=i1))
    if not _is_whole(op.x):
        size = e.same("floor", e.same("abs", x))
        is_negative = e.spread("greater", e.like(0.0, x), x, element=i1)
        x = e.spread("select", is_negative, negated(e, size), size)
    if target is dtypes.i64:
        raise Refused("floats as whole numbers of 64 bits")
    number = e.cast(x, i32)
    if target is dtypes.i32:
        return number
    number = e.spread("maximum", number, e.like(target.low, number))
    number = e.spread("minimum", number, e.like(target.high, number))
    return _to_storage(e, number, target)


def _is_whole(value: SSAValue) -> bool:
    """Whether floats are whole numbers by how they were made."""
    owner = value.owner
    if isinstance(owner, graph.RoundOp | graph.FloorOp | graph.CeilOp | graph.SignOp):
        return True
    if isinstance(owner, graph.ConstantOp):
        return bool((owner.array == owner.array.round()).all())
    if isinstance(owner, graph.ClampOp):
        return _is_whole(owner.x) and all(b == round(b) for b in owner.bounds)
    if isinstance(owner, graph.AddOp | graph.SubOp):
        return _is_whole(owner.lhs) and _is_whole(owner.rhs)
    if isinstance(owner, graph.WhereOp):
        return _is_whole(owner.a) and _is_whole(owner.b)
    return False
