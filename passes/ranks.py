"""Operations on tensors of more dimensions than the machine counts, on tensors of fewer.

    %1 = graph.transpose %0 {permutation = [0, 1, 3, 2, 4, 5]} : (tensor<2x4x2x4x2x8xf32>) -> ...

becomes, since dimensions that stay neighbours count as one,

    %a = graph.reshape %0 : ... -> tensor<8x2x4x16xf32>
    %b = graph.transpose %a {permutation = [0, 2, 1, 3]}
    %1 = graph.reshape %b

A reshape costs nothing. What has too many dimensions even so becomes several copies: a
transposition brings one dimension to its place at a time, and slices, paddings and broadcasts go
axis by axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import PatternRewriter

from npu_dialect import graph
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import quant_of, shape_of, tensor_type, type_of
from npu_dialect.graph.reduction import ReduceOp
from npu_dialect.passes import kernels
from npu_dialect.passes.placement.rules import VECTOR_RANK
from npu_dialect.passes.rewriting import Rules, constant, constant_like, replace
from npu_dialect.target import Target

Shape = tuple[int, ...]


@dataclass
class Steps:
    """The operations that stand for `op`, in order."""

    op: Operation
    made: list[Operation] = field(default_factory=list[Operation])

    def add(self, step: Operation) -> SSAValue:
        """One more operation; its result."""
        step.location = self.op.location
        self.made.append(step)
        return step.results[0]

    def reshape(self, x: SSAValue, shape: Sequence[int]) -> SSAValue:
        """`x` in another shape; a constant stays one."""
        if shape_of(x) == tuple(shape):
            return x
        array = constant(x)
        if array is not None:
            return self.add(constant_like(x, array.reshape(shape)))
        return self.add(graph.ReshapeOp(x, shape))

    def again(self, operands: Sequence[SSAValue], result: Sequence[int]) -> SSAValue:
        """The operation itself on other operands, with a result of another shape."""
        kind = tensor_type(tuple(result), type_of(self.op.results[0]).element_type)
        properties = dict(self.op.properties)
        return self.add(
            type(self.op).create(operands=operands, result_types=[kind], properties=properties)
        )


Lower = Callable[[Any, Steps, int], SSAValue | None]


def runs(count: int, joins: Callable[[int, int], bool]) -> list[list[int]]:
    """0, 1, ... count-1 in lists of neighbours that belong together."""
    found: list[list[int]] = []
    for k in range(count):
        if found and joins(found[-1][-1], k):
            found[-1].append(k)
        else:
            found.append([k])
    return found


def merged(shape: Sequence[int], groups: Sequence[Sequence[int]]) -> Shape:
    """The shape with one dimension for each group of neighbours."""
    return tuple(prod(shape[k] for k in group) for group in groups)


# Element by element


def elementwise(op: Operation, steps: Steps, limit: int) -> SSAValue | None:
    """Neighbours that every operand has, or repeats, count as one."""
    result = shape_of(op.results[0])
    if isinstance(op, graph.RequantizeOp) and op.recipe.data.multiplier.size > 1:
        return None
    spread, tables = op.operands[: _spread_operands(op)], op.operands[_spread_operands(op) :]
    shapes = [(1,) * (len(result) - len(shape_of(v))) + shape_of(v) for v in spread]

    def joins(p: int, q: int) -> bool:
        return all((s[p] == result[p]) == (s[q] == result[q]) for s in shapes)

    groups = runs(len(result), joins)
    operands = list(spread)
    if len(groups) > limit:
        operands = [_spread(steps, v, result) for v in operands]
        shapes, groups = [result] * len(operands), [list(range(len(result)))]
    pairs = zip(operands, shapes, strict=True)
    flat = [v if not shape_of(v) else steps.reshape(v, merged(s, groups)) for v, s in pairs]
    return steps.again([*flat, *tables], merged(result, groups))


def _spread_operands(op: Operation) -> int:
    """How many operands, the first ones, are spread over the result; a table is not."""
    return 1 if isinstance(op, graph.LookupOp | graph.InterpolateOp) else len(op.operands)


def _spread(steps: Steps, x: SSAValue, shape: Shape) -> SSAValue:
    if shape_of(x) in ((), shape):
        return x
    return steps.add(graph.BroadcastToOp(x, shape))


# Along axes


def reduction(op: ReduceOp, steps: Steps, limit: int) -> SSAValue | None:
    """Neighbours that are reduced count as one, and so do those that are not."""
    shape, axes = shape_of(op.x), values(op.axes)
    groups = runs(len(shape), lambda p, q: (p in axes) == (q in axes))
    if len(groups) > limit:
        return None
    places = [k for k, group in enumerate(groups) if group[0] in axes]
    return steps.add(type(op)(steps.reshape(op.x, merged(shape, groups)), places))


def _around(shape: Sequence[int], axis: int) -> Shape:
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def softmax(op: graph.SoftmaxOp | graph.LogSoftmaxOp, steps: Steps, limit: int) -> SSAValue | None:
    """What is before and after the axis counts as one dimension each."""
    rows = steps.reshape(op.x, _around(shape_of(op.x), op.axis.value.data))
    return steps.add(type(op)(rows, axis=1))


def layer_norm(op: graph.LayerNormOp, steps: Steps, limit: int) -> SSAValue | None:
    """Rows of what is normalized together."""
    shape, axis = shape_of(op.x), op.axis.value.data
    inner = prod(shape[axis:])
    rows = steps.reshape(op.x, (prod(shape[:axis]), inner))
    scale, bias = (steps.reshape(v, (inner,)) for v in (op.scale, op.bias))
    return steps.add(graph.LayerNormOp(rows, scale, bias, axis=1, epsilon=op.epsilon.value.data))


def concat(op: graph.ConcatOp, steps: Steps, limit: int) -> SSAValue | None:
    """What is before and after the axis counts as one dimension each."""
    axis = op.axis.value.data
    parts = [steps.reshape(v, _around(shape_of(v), axis)) for v in op.operands]
    return steps.add(graph.ConcatOp(parts, 1))


# Copies


def transpose(op: graph.TransposeOp, steps: Steps, limit: int) -> SSAValue | None:
    """Neighbours that stay so count as one; else one more dimension comes to its place."""
    x, order = op.x, values(op.permutation)
    shape = shape_of(x)
    groups = sorted(_kept(order))
    if len(groups) <= limit:
        firsts = [group[0] for group in groups]
        permutation = [firsts.index(p) for p in order if p in firsts]
        return steps.add(graph.TransposeOp(steps.reshape(x, merged(shape, groups)), permutation))
    first = next(k for k, p in enumerate(order) if p != k)
    moved = [
        *range(first),
        order[first],
        *(k for k in range(first, len(shape)) if k != order[first]),
    ]
    y = steps.add(graph.TransposeOp(x, moved))
    return steps.add(graph.TransposeOp(y, [moved.index(p) for p in order]))


def _kept(order: Sequence[int]) -> list[list[int]]:
    """The dimensions that follow each other before and after a permutation, in lists."""
    groups = runs(len(order), lambda p, q: order[q] == order[p] + 1)
    return [[order[k] for k in group] for group in groups]


def slice_(op: graph.SliceOp, steps: Steps, limit: int) -> SSAValue | None:
    """Axis by axis, those from which something is left out."""
    value, starts, strides = op.x, values(op.starts), values(op.strides)
    for axis, size in enumerate(values(op.sizes)):
        before = shape_of(value)
        if size == before[axis] and strides[axis] == 1:
            continue
        part = graph.SliceOp(
            steps.reshape(value, _around(before, axis)),
            (0, starts[axis], 0), (prod(before[:axis]), size, prod(before[axis + 1 :])),
            (1, strides[axis], 1),
        )  # fmt: skip
        value = steps.reshape(steps.add(part), (*before[:axis], size, *before[axis + 1 :]))
    return value


def pad(op: graph.PadOp, steps: Steps, limit: int) -> SSAValue | None:
    """Axis by axis, those to which something is added."""
    value, fill = op.x, op.value.value.data
    for axis, (low, high) in enumerate(zip(values(op.low), values(op.high), strict=True)):
        before = shape_of(value)
        if not low and not high:
            continue
        rows = steps.reshape(value, _around(before, axis))
        padded = steps.add(graph.PadOp(rows, (0, low, 0), (0, high, 0), fill))
        size = before[axis] + low + high
        value = steps.reshape(padded, (*before[:axis], size, *before[axis + 1 :]))
    return value


def broadcast(op: graph.BroadcastToOp, steps: Steps, limit: int) -> SSAValue | None:
    """Neighbours that are repeated together at once, the last ones first."""
    result = shape_of(op.results[0])
    shape = [*(1,) * (len(result) - len(shape_of(op.x))), *shape_of(op.x)]
    groups = runs(len(result), lambda p, q: (shape[p] == result[p]) == (shape[q] == result[q]))
    value = steps.reshape(op.x, merged(shape, groups))
    for place, group in reversed(list(enumerate(groups))):
        if all(shape[k] == result[k] for k in group):
            continue
        before = shape_of(value)
        outer, inner = prod(before[:place]), prod(before[place + 1 :])
        size = prod(result[k] for k in group)
        rows = steps.reshape(value, (outer, 1, inner))
        spread = steps.add(graph.BroadcastToOp(rows, (outer, size, inner)))
        value = steps.reshape(spread, (*before[:place], size, *before[place + 1 :]))
    return value


LOWER: Mapping[type[Operation], Lower] = {
    **dict.fromkeys(kernels.EMITTERS, elementwise),
    graph.ReduceSumOp: reduction,
    graph.ReduceMeanOp: reduction,
    graph.ReduceMaxOp: reduction,
    graph.ReduceMinOp: reduction,
    graph.ReduceProdOp: reduction,
    graph.SoftmaxOp: softmax,
    graph.LogSoftmaxOp: softmax,
    graph.LayerNormOp: layer_norm,
    graph.ConcatOp: concat,
    graph.TransposeOp: transpose,
    graph.SliceOp: slice_,
    graph.PadOp: pad,
    graph.BroadcastToOp: broadcast,
}
"""How each operation is done in fewer dimensions; None where it is not."""


def rules(target: Target) -> Rules:
    """The rules that leave no operation more dimensions than instructions of the target have."""
    limit = min(VECTOR_RANK, target.dma.max_rank)

    def rule(op: Operation, rewriter: PatternRewriter) -> None:
        lower(op, rewriter, limit)

    return {cls: [rule] for cls in LOWER}


def lower(op: Operation, rewriter: PatternRewriter, limit: int) -> None:
    """Replace `op` by the same in fewer dimensions, if it has more than `limit`."""
    every = [*op.operands, *op.results]
    if max(_rank(shape_of(v)) for v in every) <= limit or any(0 in shape_of(v) for v in every):
        return
    quants = [quant_of(v) for v in every]
    if any(quant is not None and quant.axis is not None for quant in quants):
        return
    steps = Steps(op)
    value = LOWER[type(op)](op, steps, limit)
    if value is None:
        return
    result = steps.reshape(value, shape_of(op.results[0]))
    replace(rewriter, op, *steps.made, value=result)


def _rank(shape: Sequence[int]) -> int:
    return sum(size != 1 for size in shape)
