"""The inputs and outputs of a quantized function as integers.

    func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.quantize %x : (tensor<4xf32>) -> tensor<4x!q>
      ...
      %9 = graph.dequantize %8 : (tensor<4x!p>) -> tensor<4xf32>
      return %9

becomes

    func.func @main(%x: tensor<4x!q>) -> tensor<4x!p> {
      ...
      return %8
"""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import FunctionType
from xdsl.dialects.func import FuncOp, ReturnOp

from npu_dialect import graph
from npu_dialect.graph.base import quant_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.states import states_of
from npu_dialect.passes.rewriting import location_of


def integer_ports(function: FuncOp) -> None:
    """Makes the quantized inputs and outputs of a function integers. States are left to
    graph-integer-states.
    """
    block, returned = function.body.block, _returned(function)
    for k in _ports(function, "argument", len(block.args)):
        if _read_as(function, k) is not None:
            _integer_argument(function, k)
    for k in _ports(function, "result", len(returned.operands)):
        quant, value = _made_as(function, k), returned.operands[k]
        if quant is not None:
            # graph-fold-qdq takes the pair away, with the moves in between
            stored = graph.QuantizeOp(value, quant, location=location_of(value))
            block.insert_ops_before([stored], returned)
            returned.operands[k] = stored.result
    types = block.arg_types, [v.type for v in returned.operands]
    function.properties["function_type"] = FunctionType.from_lists(*types)


def _ports(function: FuncOp, side: str, count: int) -> list[int]:
    """The numbers of arguments or results that are no states."""
    held = {getattr(state, side) for state in states_of(function)}
    return [k for k in range(count) if k not in held]


def _returned(function: FuncOp) -> ReturnOp:
    return cast(ReturnOp, function.body.block.last_op)


def _read_as(function: FuncOp, number: int) -> QuantType | None:
    """The type that all readers quantize an argument to."""
    readers = [use.operation for use in function.body.block.args[number].uses]
    types = {op.result.type for op in readers if isinstance(op, graph.QuantizeOp)}
    if len(types) != 1 or not all(isinstance(op, graph.QuantizeOp) for op in readers):
        return None
    return quant_of(readers[0].results[0])


def _made_as(function: FuncOp, number: int) -> QuantType | None:
    """The type that a result is dequantized from, and then only moved."""
    owner = _returned(function).operands[number].owner
    while isinstance(owner, graph.ReshapeOp | graph.TransposeOp):
        owner = owner.x.owner
    return quant_of(owner.x) if isinstance(owner, graph.DequantizeOp) else None


def _integer_argument(function: FuncOp, number: int) -> None:
    block = function.body.block
    old = block.args[number]
    readers = [use.operation for use in old.uses]
    new = block.insert_arg(readers[0].results[0].type, number)
    new.name_hint = old.name_hint
    for op in readers:
        op.results[0].replace_all_uses_with(new)
        op.detach()
        op.erase()
    block.erase_arg(old)
