"""Operations that are verified once for as long as they stay what they are.

The driver verifies a module after every pass, and a pass leaves most of it as it is. Attributes and
types never change, so an operation that has the operands, types, properties and place that it had
when it last passed need not be looked at again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.traits import MemoryEffect, NoTerminator


class VerifiedOnce(IRDLOperation):
    """An operation whose rules look at nothing but what `_looks` gives, and that of the operations
    in its regions. Regions are verified each time.
    """

    def verify(self, verify_nested_ops: bool = True) -> None:
        """As every operation; once for the same operation."""
        regions = self.regions
        for region in regions if verify_nested_ops else ():
            region.verify()
        known = (_place(self), *_looks(self))
        if regions:
            known = (*known, *map(_looks_inside, regions))
        fresh = regions and not verify_nested_ops
        if fresh or vars(self).get("verified") != known:
            super().verify(verify_nested_ops=False)
            vars(self)["verified"] = known


def _place(op: Operation) -> tuple[Block | None, Operation | None, bool] | None:
    """Where an operation is, if its rules or those of the end of a block look at that."""
    if op.next_op is not None and _may_be_anywhere(type(op)):
        return None
    return op.parent, op.parent_op(), op.next_op is None


@cache
def _may_be_anywhere(cls: type[Operation]) -> bool:
    return all(isinstance(trait, NoTerminator | MemoryEffect) for trait in cls.traits)


def _looks(op: Operation) -> tuple[Any, ...]:
    """All that the rules of an operation look at."""
    operands, properties = tuple(op.operands), op.properties
    types = [value.type for value in (*operands, *op.results)]
    loops = [_loop(v) for v in operands if isinstance(v, BlockArgument)]
    return operands, types, loops, list(properties), list(properties.values())


def _loop(argument: SSAValue) -> Operation | None:
    assert isinstance(argument, BlockArgument)
    return argument.block.parent_op()


def _looks_inside(region: Region) -> list[Any]:
    """The arguments and operations of a region, and what these were when they last passed."""
    return [
        (block, *(a.type for a in block.args), *((op, _passed(op)) for op in block.ops))
        for block in region.blocks
    ]


def _passed(op: Operation) -> Any:
    """The same object for as long as the operation passes unseen; else one that equals no other."""
    return vars(op).get("verified") or object()
