"""What the copies of movement groups take."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from xdsl.ir import SSAValue

from npu_dialect import cost
from npu_dialect.graph.attributes import values
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.machine import Operand, dense_strides
from npu_dialect.passes.mapping.groups import Group, root
from npu_dialect.target import Target

Ints = tuple[int, ...]


def move_cycles(
    target: Target, group: Group, resident: frozenset[SSAValue], out_resident: bool
) -> float:
    """Cycles of the dma for a movement group, by where its tensors lie."""
    kind = dtype_of(group.body[0].results[0])
    to = "spm" if out_resident else "dram"
    total = 0.0
    for value, dims, source, destination in _copies(group):
        if prod(dims):
            space = "spm" if root(group.outer(value)) in resident else "dram"
            pair = Operand(space, 0, kind, dims, source), Operand(to, 0, kind, dims, destination)
            total += cost.dma(target, *pair).cycles
    return total


def _copies(group: Group) -> Iterator[tuple[SSAValue, Ints, Ints, Ints]]:
    """(operand, extents, strides in bytes of the source and of the destination) of each copy."""
    op = group.body[0]
    size = dtype_of(op.results[0]).itemsize
    result = shape_of(op.results[0])
    dense = dense_strides(result, size)
    if op.name == "graph.concat":
        for value in op.operands:
            yield value, shape_of(value), dense_strides(shape_of(value), size), dense
        return
    value = op.operands[0]
    inner = dense_strides(shape_of(value), size)
    if op.name == "graph.transpose":
        yield value, result, tuple(inner[p] for p in values(op.properties["permutation"])), dense
    elif op.name == "graph.slice":
        steps = values(op.properties["strides"])
        moved = tuple(s * t for s, t in zip(inner, steps, strict=True))
        yield value, result, moved, dense
    elif op.name == "graph.pad":
        yield value, shape_of(value), inner, dense
    else:
        yield value, result, dense, dense
