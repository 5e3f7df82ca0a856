"""Tensors that are put together in the scratchpad before they go to dram in one run.

    %z = graph.group %a, %b {kind = "move", npu.within = [0, 1]} { graph.concat %a, %b {axis = 2} }
    return %z                                          2 bytes of %a, 2 bytes of %b, ...

becomes

    %z = graph.group %a, %b {kind = "move", npu.within = [0, 1]} { graph.concat %a, %b {axis = 2} }
    %s = graph.group %z {kind = "move", npu.copied = "..."} { graph.reshape %z }
    return %s

What the host or the caller reads lies in dram, and an access to dram moves 32 bytes or more however
few are wanted. Where the parts of such a tensor are short runs, and it is small enough to lie in
the scratchpad, its parts are written there, and one copy stores all of it.
"""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import LocationAttr, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from npu_dialect import cost, graph
from npu_dialect.graph.attributes import PLACEMENT, PlacementAttr
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.graph.states import states_of
from npu_dialect.passes.mapping.groups import Group, size_in_bytes
from npu_dialect.passes.mapping.view_choice import RESIDENT, RUNS, runs
from npu_dialect.passes.mapping.views import (
    COPIED,
    makers,
    place_of,
    storage,
    within,
)
from npu_dialect.target import Target


def stage(function: FuncOp, target: Target) -> None:
    """Adds the copies to a function whose views are chosen."""
    returned = function.body.block.last_op
    assert isinstance(returned, ReturnOp)
    states = {returned.operands[s.result] for s in states_of(function) if s.result is not None}
    kept = {storage(value) for value in states}
    for op in list(function.body.block.ops):
        if within(op) and storage(op.results[0]) is op.results[0] and op.results[0] not in kept:
            _stage(op, target)


def _stage(op: Operation, target: Target) -> None:
    result = op.results[0]
    outside = [use for use in result.uses if _is_outside(use.operation)]
    if not outside or size_in_bytes(result) * RESIDENT > target.memories["spm"].size:
        return
    if any(Group(maker).kind not in RUNS for maker in makers(result)):
        return
    apart, whole = _cycles(op, target)
    if apart <= whole:
        return
    reason = f"short runs in dram: {apart:.0f} cycles, {whole:.0f} put together before"
    copied = copy(result, reason, op.location)
    block = op.parent
    assert block is not None
    block.insert_op_after(copied, op)
    for use in outside:
        use.operation.operands[use.index] = copied.results[0]


def _is_outside(user: Operation) -> bool:
    """Whether what reads a tensor needs it in dram."""
    if user.name == "graph.reshape":
        return False
    return user.name != "graph.group" or Group(user).kind not in RUNS


def _cycles(op: Operation, target: Target) -> tuple[float, float]:
    """Cycles of dma for the result in dram: written where its parts are made, and as a whole after
    all that does not lie within it was copied, in the scratchpad.
    """
    result = op.results[0]
    size = dtype_of(result).itemsize
    parts = [v for v in op.operands if storage(v) is result]
    apart = sum(cost.port_cycles(target, "dram", "dma", *runs(place_of(v), size)) for v in parts)
    whole = cost.port_cycles(target, "dram", "dma", 1, prod(shape_of(result)) * size)
    return apart, whole + target.memories["dram"].latency


def copy(value: SSAValue, reason: str, location: LocationAttr, rule: str = "copy") -> graph.GroupOp:
    """A movement group that copies a tensor as it is, placed by `rule`."""
    body = Block(arg_types=[value.type])
    move = graph.ReshapeOp(body.args[0], shape_of(value), location)
    body.add_ops([move, graph.YieldOp(move.results[0])])
    group = graph.GroupOp([value], Region(body), "move", location=location)
    placement = PlacementAttr.of("dma", rule, f"the copy engine moves tensors: {reason}")
    group.attributes[COPIED] = StringAttr(reason)
    for each in (group, move):
        each.attributes[PLACEMENT] = placement
    return group
