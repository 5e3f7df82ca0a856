"""Inputs and outputs in a memory on the chip: copies between where the caller has them and where
layers read and write them, which `npu-bind` drops.

    %y = graph.group %x, %w {kind = "array"} {...}        (%x: an argument)
    return %y

becomes, on a machine whose dram has the scratchpad's own memory behind a part that is read only,

    %x1 = graph.group %x {kind = "move", npu.port} { graph.reshape %x }
    %y = graph.group %x1, %w {kind = "array"} {...}
    %y1 = graph.group %y {kind = "move", npu.port} { graph.reshape %y }
    return %y1

So an input takes bytes of the scratchpad until it is read for the last time, and an output from its
first write on, as other tensors do: both lie in the same memory anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, LocationAttr, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue, Use

from npu_dialect import graph
from npu_dialect.graph.states import INPUT_NAMES, states_of
from npu_dialect.passes.mapping.groups import Group, size_in_bytes
from npu_dialect.passes.mapping.staging import copy
from npu_dialect.passes.mapping.view_choice import RUNS
from npu_dialect.passes.mapping.views import PORT, VIEW, place_of
from npu_dialect.provenance import name_location
from npu_dialect.target import Target

REASON = "inputs and outputs lie in the memory of the scratchpad"


def stage_ports(function: FuncOp, target: Target) -> None:
    """Adds the copies to a function whose views are chosen."""
    if not target.memories["dram"].read_only:
        return
    states = states_of(function)
    held = {state.argument for state in states}
    block = function.body.block
    for argument in list(block.args):
        if argument.index not in held and size_in_bytes(argument) and _is_read_by_layers(argument):
            _stage_input(argument, block, _name(function, argument))
    returned = block.last_op
    assert isinstance(returned, ReturnOp)
    kept = {state.result for state in states}
    for number, value in enumerate(list(returned.operands)):
        if number not in kept and _is_made_by_layer(value, returned.operands):
            assert isinstance(value, OpResult)
            copied = _copy(value, value.op.location)
            block.insert_op_before(copied, returned)
            returned.operands[number] = copied.results[0]


def _name(function: FuncOp, argument: BlockArgument) -> LocationAttr:
    names = function.attributes.get(INPUT_NAMES)
    found = names.data[argument.index] if isinstance(names, ArrayAttr) else None
    return name_location(found.data if isinstance(found, StringAttr) else "input")


def _stage_input(argument: BlockArgument, block: Block, location: LocationAttr) -> None:
    uses = list(argument.uses)
    copied = _copy(argument, location)
    first = block.first_op
    assert first is not None
    block.insert_op_before(copied, first)
    for use in uses:
        use.operation.operands[use.index] = copied.results[0]


def _is_read_by_layers(value: SSAValue) -> bool:
    """Whether the array and the vector unit alone read a tensor, perhaps in another way."""
    uses = list(value.uses)
    return bool(uses) and all(map(_is_read, uses))


def _is_read(use: Use) -> bool:
    op = use.operation
    if op.name == "graph.reshape" or VIEW in op.attributes:
        return _is_read_by_layers(op.results[0])
    return op.name == "graph.group" and Group(op).kind in RUNS


def _is_made_by_layer(value: SSAValue, returned: Sequence[SSAValue]) -> bool:
    """Whether the array or the vector unit makes all of an output that is returned once."""
    if list(returned).count(value) != 1 or not size_in_bytes(value):
        return False
    place = place_of(value)
    owner = place.storage.owner
    if not isinstance(owner, Operation) or owner.name != "graph.group":
        return False
    return place.is_whole and Group(owner).kind in RUNS


def _copy(value: SSAValue, location: LocationAttr) -> graph.GroupOp:
    """A copy that `npu-bind` drops."""
    group = copy(value, REASON, location, rule="port")
    group.attributes[PORT] = StringAttr("copy")
    return group
