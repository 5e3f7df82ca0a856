"""Transpositions move down, until they meet their inverse or something that needs them."""

from __future__ import annotations

import math

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph, provenance
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import shape_of
from npu_dialect.graph.shapes import same_elements
from npu_dialect.passes import kernels
from npu_dialect.passes.layout.permuted import FIRST_ONLY, PERMUTED, Order, scatter
from npu_dialect.passes.rewriting import (
    Array,
    Rules,
    constant,
    constant_like,
    discard,
    inverse,
    is_view_transpose,
    location_of,
    replace,
)


def sink(op: Operation, rewriter: PatternRewriter) -> None:
    """op(transpose(x)) becomes transpose(op'(x))."""
    across = op.operands[:1] if isinstance(op, FIRST_ONLY) else op.operands
    moved = next((v.owner for v in across if isinstance(v.owner, graph.TransposeOp)), None)
    if moved is None or len(shape_of(op.results[0])) != len(shape_of(moved.result)):
        return
    order = values(moved.permutation)
    undone = _all_undo(op, order)
    parts = [_before(v, order, pull=bool(undone)) for v in across]
    known = [p for p in parts if p is not None]
    made = [made for _, made in known if made is not None]
    new = None
    if len(known) == len(parts):
        new = PERMUTED[type(op)](op, order, [value for value, _ in known])
    if new is None:
        discard(*made)
        return
    if undone:
        provenance.carry(op, [*made, new])
        rewriter.insert([*made, new])
        for user in undone:
            replace(rewriter, user, value=new.results[0])
    else:
        back = graph.TransposeOp(new.results[0], order, location=moved.location)
        replace(rewriter, op, *made, new, back)


def _all_undo(op: Operation, order: Order) -> list[Operation]:
    """What uses the result, where all of it undoes the transposition; else nothing."""
    users = list(dict.fromkeys(use.operation for use in op.results[0].uses))
    undo = inverse(order)
    undone = [
        u for u in users if isinstance(u, graph.TransposeOp) and values(u.permutation) == undo
    ]
    return list[Operation](undone) if len(undone) == len(users) else []


Before = tuple[SSAValue, Operation | None]


def _before(value: SSAValue, order: Order, pull: bool) -> Before | None:
    """The tensor whose transposition `value` is, and the operation to make it, if any.

    None where that would be another transposition of data, unless `pull` says that those below go
    away for it.
    """
    owner, shape = value.owner, shape_of(value)
    if isinstance(owner, graph.TransposeOp) and values(owner.permutation) == tuple(order):
        return owner.x, None
    if math.prod(shape) == 1 and len(shape) <= 1:
        return value, None
    full = (1,) * (len(order) - len(shape)) + shape
    array = constant(value)
    if array is not None:
        return _made(constant_like(value, _undone(array.reshape(full), order)))
    if is_view_transpose(full, inverse(order)):
        return _view(value, scatter(full, order))
    if pull and len(shape) == len(order):
        return _made(graph.TransposeOp(value, inverse(order), location=location_of(value)))
    return None


def _undone(array: Array, order: Order) -> Array:
    return array.transpose(inverse(order)).copy()


def _view(value: SSAValue, shape: tuple[int, ...]) -> Before | None:
    try:
        return _made(graph.ReshapeOp(value, shape, location=location_of(value)))
    except ValueError:  # scales along a dimension that the reshape does not keep
        return None


def _made(op: graph.ConstantOp | graph.ReshapeOp | graph.TransposeOp) -> Before:
    return op.result, op


def sink_past_reshape(op: graph.ReshapeOp, rewriter: PatternRewriter) -> None:
    """reshape(transpose(x)) becomes transpose(reshape'(x)), where the dimensions that the reshape
    joins lie side by side in x.
    """
    moved = op.x.owner
    if not isinstance(moved, graph.TransposeOp):
        return
    order, shape = values(moved.permutation), shape_of(op.result)
    if not math.prod(shape):
        return
    parts = _reshaped_parts(order, shape_of(moved.result), shape)
    if parts is None:
        return
    try:
        flat = [k for part in parts for k in part]
        new = graph.ReshapeOp(moved.x, [shape[k] for k in flat], location=op.location)
        back = graph.TransposeOp(new, [flat.index(k) for k in range(len(shape))],
                                 location=moved.location)  # fmt: skip
    except ValueError:  # scales along a dimension that the reshape does not keep
        return
    if back.type == op.type:
        replace(rewriter, op, new, back)


def _reshaped_parts(order: Order, before: Order, after: Order) -> list[list[int]] | None:
    """The dimensions of `after` that each run of dimensions becomes, in the order of the tensor
    before its transposition; None where a run is not one there. Dimensions of 1 stay with what is
    before them, since repeats come after what they repeat.
    """
    axes = [p for p, d in zip(order, before, strict=True) if d != 1]
    rank = {p: k for k, p in enumerate(sorted(axes))}
    long = [k for k, d in enumerate(after) if d != 1]
    ends = [*long[1:], len(after)]
    parts: list[tuple[int, list[int]]] = [(-1, list(range(long[0] if long else len(after))))]
    for old, new in same_elements([d for d in before if d != 1], [after[k] for k in long]):
        own = [rank[axes[a]] for a in old]
        if own != list(range(own[0], own[0] + len(own))):
            return None
        parts.append((own[0], list(range(long[new[0]], ends[new[-1]]))))
    return [new for _, new in sorted(parts)]


def sink_past_view(op: Operation, rewriter: PatternRewriter) -> None:
    """op(reshape(transpose(x))) of one operand becomes reshape(transpose(op(x)))."""
    view = op.operands[0].owner
    if len(op.operands) != 1 or not isinstance(view, graph.ReshapeOp):
        return
    moved = view.x.owner
    if not isinstance(moved, graph.TransposeOp) or not _same_everywhere(op):
        return
    order = values(moved.permutation)
    new = PERMUTED[type(op)](op, order, [moved.x])
    if new is not None:
        back = graph.TransposeOp(new.results[0], order, location=moved.location)
        again = graph.ReshapeOp(back, shape_of(op.results[0]), location=view.location)
        replace(rewriter, op, new, back, again)


def _same_everywhere(op: Operation) -> bool:
    """Whether every element is treated the same."""
    if isinstance(op, graph.RequantizeOp):
        return op.recipe.data.channels == 1
    types = (op.operands[0].type, op.results[0].type)
    return not any(getattr(_element(t), "axis", None) is not None for t in types)


def _element(found: object) -> object:
    return getattr(found, "element_type", None)


def flatten_into_weights(op: graph.MatmulOp, rewriter: PatternRewriter) -> None:
    """matmul(reshape(transpose(x)), weights) permutes the rows of constant weights instead."""
    view = op.a.owner
    moved = view.x.owner if isinstance(view, graph.ReshapeOp) else None
    if not isinstance(view, graph.ReshapeOp) or not isinstance(moved, graph.TransposeOp):
        return
    order, dims = values(moved.permutation), shape_of(moved.x)
    if order[0] != 0 or not _flattens(shape_of(op.a), dims):
        return
    weights = _permuted_rows(op.b, order, dims)
    if weights is None:
        return
    flat = graph.ReshapeOp(moved.x, shape_of(op.a), location=view.location)
    new = graph.MatmulOp(flat, weights[-1].results[0], op.bias, location=op.location)
    replace(rewriter, op, flat, *weights, new)


def _flattens(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    """Whether a reshape to `shape` joins all but the first of `dims`."""
    return shape[-1] == math.prod(dims[1:]) and math.prod(shape[:-1]) == dims[0]


def _permuted_rows(
    weights: SSAValue, order: Order, dims: tuple[int, ...]
) -> list[Operation] | None:
    """Constant weights [K, N] (or their dequantize) with the rows in the order of `dims`."""
    if len(shape_of(weights)) != 2:
        return None
    if isinstance(weights.owner, graph.DequantizeOp):
        stored = _permuted_rows(weights.owner.x, order, dims)
        if stored is None:
            return None
        real = graph.DequantizeOp(stored[-1], location=weights.owner.location)
        return [*stored, real]
    array, quant = constant(weights), getattr(_element(weights.type), "axis", None)
    if array is None or quant == 0:
        return None
    split = array.reshape([dims[d] for d in order[1:]] + [array.shape[1]])
    back = [i - 1 for i in inverse(order)[1:]]
    rows = split.transpose([*back, len(back)]).reshape(array.shape).copy()
    return [constant_like(weights, rows)]


def hoist_above_dequantize(op: graph.TransposeOp, rewriter: PatternRewriter) -> None:
    """What is left moves stored bytes rather than floats."""
    real = op.x.owner
    if isinstance(real, graph.DequantizeOp) and op.x.has_one_use():
        moved = graph.TransposeOp(real.x, values(op.permutation), location=op.location)
        replace(rewriter, op, moved, graph.DequantizeOp(moved, location=real.location))


SINK: Rules = {
    **{cls: [sink] for cls in PERMUTED},
    **{cls: [sink, sink_past_view] for cls in kernels.EMITTERS},
    graph.MatmulOp: [flatten_into_weights],
    graph.ReshapeOp: [sink_past_reshape],
}

HOIST: Rules = {graph.TransposeOp: [hoist_above_dequantize]}
