"""What an import leaves behind that nothing uses."""

from __future__ import annotations

from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, Operation
from xdsl.traits import is_side_effect_free


def erase_dead(block: Block) -> None:
    """Erase what nothing uses, such as the start of an import that was given up."""
    for op in reversed(list(block.ops)):
        if _is_dead(op):
            op.detach()
            op.erase()


def _is_dead(op: Operation) -> bool:
    if isinstance(op, ReturnOp) or not is_side_effect_free(op):
        return False
    return not any(result.uses.get_length() for result in op.results)
