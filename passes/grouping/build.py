"""Making groups of clusters: the IR of a block, regrouped and in an order that fits."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from xdsl.ir import Block, Operation, Region, SSAValue

from npu_dialect import graph, provenance
from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr
from npu_dialect.passes.grouping.clusters import Cluster

OUTPUT_STAGE = PlacementAttr.of("mxu", "output-stage", "done on the way out of the array")


def build_groups(block: Block, clusters: Sequence[Cluster]) -> None:
    """Replace the operations of every cluster by a group, and put the block in order."""
    position = {op: i for i, op in enumerate(block.ops)}
    for cluster in clusters:
        rank = max(position[op] for op in cluster.ops)
        if cluster.kind in ("host", "io"):
            cluster.ops.sort(key=position.__getitem__)
        group = _group(cluster)
        block.insert_op_before(group, _terminator(block))
        position[group] = rank
    _sort(block, position)


def _terminator(block: Block) -> Operation:
    last = block.last_op
    assert last is not None
    return last


def _group(cluster: Cluster) -> graph.GroupOp:
    ops = cluster.ops
    inside = set(ops)
    inputs = list(
        dict.fromkeys(v for op in ops for v in op.operands if not _is_result_of(v, inside))
    )
    outputs = [r for op in ops for r in op.results if _leaves(r, inside)]
    body = Block(arg_types=[v.type for v in inputs])
    _move_in(ops, body, dict(zip(inputs, body.args, strict=True)))
    body.add_op(graph.YieldOp(*outputs))
    group = graph.GroupOp(inputs, Region(body), cluster.kind, location=provenance.fuse(*ops))
    group.attributes[PLACEMENT] = ops[0].attributes[PLACEMENT]
    for old, new in zip(outputs, group.results, strict=True):
        new.name_hint = old.name_hint
        old.replace_uses_with_if(new, lambda use: use.operation.parent is not body)
    if cluster.kind == "array":
        for op in ops[1:]:
            op.attributes[PLACEMENT] = OUTPUT_STAGE
    return group


def _is_result_of(value: SSAValue, ops: set[Operation]) -> bool:
    return value.owner in ops


def _leaves(result: SSAValue, inside: set[Operation]) -> bool:
    return any(use.operation not in inside for use in result.uses)


def _move_in(ops: Sequence[Operation], body: Block, names: dict[SSAValue, SSAValue]) -> None:
    for value, argument in names.items():
        argument.name_hint = value.name_hint
    for op in ops:
        op.detach()
        op.operands = [names.get(v, v) for v in op.operands]
        body.add_op(op)


def _sort(block: Block, position: dict[Operation, int]) -> None:
    """Order the block by `position`, as far as the order of definitions and uses allows."""
    ops = list(block.ops)
    counts: dict[Operation, int] = {}
    users: dict[Operation, list[Operation]] = {}
    for op in ops:
        producers = _producers(op)
        counts[op] = len(producers)
        for producer in producers:
            users.setdefault(producer, []).append(op)
    ready = [(position[op], op) for op in ops if not counts[op]]
    heapify(ready)
    order: list[Operation] = []
    while ready:
        order.append(heappop(ready)[1])
        for user in users.get(order[-1], ()):
            counts[user] -= 1
            if not counts[user]:
                heappush(ready, (position[user], user))
    assert len(order) == len(ops), "groups must not depend on each other in a circle"
    for op in ops:
        op.detach()
    block.add_ops(order)


def _producers(op: Operation) -> set[Operation]:
    return {v.owner for v in op.operands if isinstance(v.owner, Operation)}
