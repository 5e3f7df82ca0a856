"""What a module is, so that the driver sees at once that a pass has left it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation


@dataclass(frozen=True)
class Snapshot:
    """All that verification looks at: two of a module are equal only if nothing was changed in
    between. Attributes and types never change, so the objects themselves are kept.
    """

    parts: list[Any]
    operations: int

    @staticmethod
    def of(module: ModuleOp) -> Snapshot:
        """The module now."""
        parts: list[Any] = []
        operations = 0
        for op in _walk(module, parts):
            operations += 1
            _add(op, parts)
        return Snapshot(parts, operations)


def _walk(op: Operation, parts: list[Any]) -> Iterator[Operation]:
    """An operation and those inside, in program order; the blocks around them go to `parts`."""
    yield op
    for region in op.regions:
        for block in region.blocks:
            _add_block(block, parts)
            for inner in block.ops:
                if inner.regions:
                    yield from _walk(inner, parts)
                else:
                    yield inner
        parts.append(region)


def _add(op: Operation, parts: list[Any]) -> None:
    """What is of the operation itself. Names of attributes are text, counts tell what is whose."""
    properties, attributes = op.properties, op.attributes
    parts += (op, op.location, op.parent, len(properties))
    parts += op.operands
    parts += [result.type for result in op.results]
    parts += properties
    parts += properties.values()
    if attributes:
        parts += attributes
        parts += attributes.values()
    if op.regions or op.successors:
        parts += (*op.regions, *op.successors)


def _add_block(block: Block, parts: list[Any]) -> None:
    parts += (block, block.parent)
    parts += [argument.type for argument in block.args]
