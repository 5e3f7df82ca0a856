"""verify-ssa-order: every value is defined before it is used.

xDSL's own verifier does not check this. The IR is not changed. This is refused:

    %1 = graph.relu(%0) : (tensor<4xf32>) -> tensor<4xf32>
    %0 = graph.neg(%x) : (tensor<4xf32>) -> tensor<4xf32>

with: error[NPU0203]: relu1: the operands of graph.relu must be defined before it, ...
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.irdl.dominance import DominanceInfo
from xdsl.passes import ModulePass

from npu_dialect.diagnostics import Code, CompileError, error


@dataclass(frozen=True)
class VerifySsaOrderPass(ModulePass):
    """Check that every value is defined before it is used."""

    name = "verify-ssa-order"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        check(op)


def check(module: Operation) -> None:
    """Raise CompileError (NPU0203) for the first use that its definition does not dominate."""
    for region in module.regions:
        _check_region(region, set())


def _check_region(region: Region, visible: set[SSAValue]) -> None:
    """Check a region inside code that has defined `visible`; leave that set as it was."""
    if len(region.blocks) == 1:
        _check_block(region.blocks[0], visible)
        return
    dominance = DominanceInfo(region)
    defined = {block: _definitions(block) for block in region.blocks}
    for block in region.blocks:
        above = [b for b in region.blocks if dominance.strictly_dominates(b, block)]
        _check_block(block, visible.union(*(defined[b] for b in above)))


def _check_block(block: Block, visible: set[SSAValue]) -> None:
    own: list[SSAValue] = list(block.args)
    visible.update(own)
    for op in block.ops:
        for index, operand in enumerate(op.operands):
            if operand not in visible:
                raise _error(op, index)
        for region in op.regions:
            _check_region(region, visible)
        own += op.results
        visible.update(op.results)
    visible.difference_update(own)


def _definitions(block: Block) -> set[SSAValue]:
    return {*block.args, *(result for op in block.ops for result in op.results)}


def _error(op: Operation, index: int) -> CompileError:
    operand = op.operands[index]
    name = f" (%{operand.name_hint})" if operand.name_hint else ""
    owner = operand.owner
    is_argument = isinstance(owner, Block)
    origin = "an argument of another block" if is_argument else f"the result of {owner.name}"
    return error(
        Code.SSA_ORDER,
        f"the operands of {op.name} must be defined before it, in its block or around it",
        found=f"operand {index}{name}, {origin}, which does not dominate it",
        remedy="inserting the new operation after its operands, or moving their definitions up",
        source=op,
    )
