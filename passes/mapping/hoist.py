"""Movement that is addressing stands right behind what it shows, not between layers that may be a
cascade.

    %s = product %q, %k                            %t = view %v
    %t = view %v                        becomes    %s = product %q, %k
    %y = product %s, %t                            %y = product %s, %t
"""

from __future__ import annotations

from xdsl.ir import Block, Operation
from xdsl.rewriter import InsertPoint, Rewriter

from npu_dialect.passes.mapping.views import VIEW


def hoist_views(block: Block) -> None:
    """Moves the groups of a block that are views. Those of one tensor keep their order."""
    for op in list(block.ops):
        if op.name == "graph.group" and VIEW in op.attributes:
            _hoist(op, block)


def _hoist(op: Operation, block: Block) -> None:
    shown = op.operands[0].owner
    at = shown.next_op if isinstance(shown, Operation) else block.first_op
    while at is not op and at is not None and VIEW in at.attributes:
        at = at.next_op
    if at is None or at is op:
        return
    op.detach()
    Rewriter.insert_op(op, InsertPoint.before(at))
