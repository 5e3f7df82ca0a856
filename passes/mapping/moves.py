"""What the copies of movement groups take."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect import cost
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.machine import Operand
from npu_dialect.passes.mapping.groups import Group, copied_dims
from npu_dialect.passes.mapping.views import VIEW, WITHIN, Place, copies, storage
from npu_dialect.target import Target


def move_cycles(
    target: Target,
    group: Group,
    resident: frozenset[SSAValue],
    out_resident: bool,
    only: int | None = None,
) -> float:
    """Cycles of the dma for a movement group, by where its tensors lie; `resident` are storages."""
    op = group.body[0]
    kind, result = dtype_of(op.results[0]), shape_of(op.results[0])
    to = "spm" if out_resident else "dram"
    whole = Operand.dense(to, 0, kind, result)
    total = 0.0
    if op.name == "graph.gather":
        read = "spm" if storage(group.outer(op.operands[0])) in resident else "dram"
        return cost.dma(target, Operand.dense(read, 0, kind, result), whole).cycles
    if op.name == "graph.pad" and not group.op.attributes.keys() & {VIEW, WITHIN}:
        total += cost.dma_fill(target, whole).cycles
    for copy in copies(group.op, only):
        dims = copied_dims(copy)
        read = "spm" if copy.source.storage in resident else "dram"
        source = _operand(copy.source, dims, read, kind)
        total += cost.dma(target, source, _operand(copy.destination, dims, to, kind)).cycles
    return total


def _operand(place: Place, dims: tuple[int, ...], space: str, kind: DType) -> Operand:
    strides = place.strides(dims)
    assert strides is not None, "copied_dims"
    return Operand(space, 0, kind, dims, tuple(s * kind.itemsize for s in strides))
