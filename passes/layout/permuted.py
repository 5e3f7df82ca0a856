"""An operation on operands before their transposition: op(transpose(x)) is transpose(op'(x)).

A function of `PERMUTED` gives op' for an operation, a permutation and the operands before it, or
None where there is none. Dimension i of the old operand is dimension permutation[i] of the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.graph.attributes import integer, integers, values
from npu_dialect.graph.base import dtype_of, quant_of, shape_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.reduction import AxisOp, ReduceOp
from npu_dialect.passes import kernels
from npu_dialect.passes.rewriting import rebuild

Order = Sequence[int]
Permute = Callable[[Any, Order, Sequence[SSAValue]], Operation | None]


def scatter(entries: Sequence[int], order: Order) -> tuple[int, ...]:
    """Entries by old dimension, by new dimension."""
    found = [0] * len(order)
    for old, new in enumerate(order):
        found[new] = entries[old]
    return tuple(found)


def elementwise(op: Operation, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """Elements do not care where they are."""
    return rebuild(op, operands)


def quantize(op: graph.QuantizeOp, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """Scales along a dimension move with it."""
    quant = quant_of(op.result)
    assert quant is not None, "verified"
    return graph.QuantizeOp(operands[0], _moved(quant, order), location=op.location)


def _moved(quant: QuantType, order: Order) -> QuantType:
    return quant if quant.axis is None else quant.with_axis(order[quant.axis])


def requantize(
    op: graph.RequantizeOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """Multipliers by channel need the last dimension where it is."""
    if op.recipe.data.channels > 1 and order[-1] != len(order) - 1:
        return None
    element = op.type.element_type
    return graph.RequantizeOp(operands[0], op.recipe, element, location=op.location)


def interpolate(
    op: graph.InterpolateOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """The same table for values in another order."""
    return graph.InterpolateOp(operands[0], op.table, op.type.element_type, location=op.location)


def lookup(op: graph.LookupOp, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """The table stays as it is."""
    return graph.LookupOp(operands[0], op.table, op.type.element_type, location=op.location)


def reduction(op: ReduceOp, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """Floats are added in the same order only when the reduced dimensions keep theirs."""
    axes = [order[a] for a in values(op.axes)]
    ordered = isinstance(op, graph.ReduceMaxOp | graph.ReduceMinOp) or not dtype_of(op.x).is_float
    if axes != sorted(axes) and not ordered:
        return None
    return _with(op, operands, {"axes": integers(sorted(axes))})


def axis(
    op: AxisOp | graph.ConcatOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """What is along one dimension moves with it."""
    return _with(op, operands, {"axis": integer(order[op.axis.value.data])})


def batch_norm(
    op: graph.BatchNormOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """The parameters belong to one dimension."""
    moved = {"axis": integer(order[op.axis.value.data])}
    return _with(op, [operands[0], *op.operands[1:]], moved)


def layer_norm(
    op: graph.LayerNormOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """The normalized dimensions are the last ones, in their order."""
    first = op.axis.value.data
    if any(order[i] != i for i in range(first, len(order))):
        return None
    return rebuild(op, [operands[0], *op.operands[1:]])


def sliced(op: graph.SliceOp, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """Bounds by dimension."""
    return _scattered(op, order, operands, ("starts", "sizes", "strides"))


def padded(op: graph.PadOp, order: Order, operands: Sequence[SSAValue]) -> Operation | None:
    """Widths by dimension."""
    return _scattered(op, order, operands, ("low", "high"))


def broadcast(
    op: graph.BroadcastToOp, order: Order, operands: Sequence[SSAValue]
) -> Operation | None:
    """Sizes by dimension."""
    shape = shape_of(op.result)
    if len(shape) != len(order):
        return None
    return graph.BroadcastToOp(operands[0], scatter(shape, order), location=op.location)


def _scattered(
    op: Operation, order: Order, operands: Sequence[SSAValue], names: Sequence[str]
) -> Operation | None:
    return _with(
        op, operands, {n: integers(scatter(values(op.properties[n]), order)) for n in names}
    )


def _with(
    op: Operation, operands: Sequence[SSAValue], properties: Mapping[str, Any]
) -> Operation | None:
    """`op` with other operands and some other properties."""
    changed = op.clone()
    changed.properties.update(properties)
    new = rebuild(changed, operands)
    changed.erase()
    return new


PERMUTED: Mapping[type[Operation], Permute] = {
    **dict.fromkeys(kernels.EMITTERS, elementwise),
    graph.QuantizeOp: quantize,
    graph.RequantizeOp: requantize,
    graph.LookupOp: lookup,
    graph.InterpolateOp: interpolate,
    graph.ReduceSumOp: reduction,
    graph.ReduceMeanOp: reduction,
    graph.ReduceMaxOp: reduction,
    graph.ReduceMinOp: reduction,
    graph.ReduceProdOp: reduction,
    graph.SoftmaxOp: axis,
    graph.LogSoftmaxOp: axis,
    graph.ConcatOp: axis,
    graph.BatchNormOp: batch_norm,
    graph.LayerNormOp: layer_norm,
    graph.SliceOp: sliced,
    graph.PadOp: padded,
    graph.BroadcastToOp: broadcast,
}
"""op' by class of op."""

FIRST_ONLY = (graph.LookupOp, graph.InterpolateOp, graph.BatchNormOp, graph.LayerNormOp)
"""Operations of which only the first operand has the dimensions of the result."""
