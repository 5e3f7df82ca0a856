"""What the copies of movement groups take: cycles, and energy."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import SSAValue

from npu_dialect import cost
from npu_dialect.cost import Cost
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of, shape_of
from npu_dialect.machine import Operand
from npu_dialect.passes.mapping import energy
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
    return sum(c.cycles for c in _costs(target, group, resident, out_resident, only))


def move_energy(
    target: Target, group: Group, resident: frozenset[SSAValue], out_resident: bool
) -> float:
    """Dynamic energy of the same copies, in pJ."""
    found = _costs(target, group, resident, out_resident, None)
    return sum(energy.of_instruction(target, c) for c in found)


def _costs(
    target: Target,
    group: Group,
    resident: frozenset[SSAValue],
    out_resident: bool,
    only: int | None,
) -> Iterator[Cost]:
    op = group.body[0]
    kind, result = dtype_of(op.results[0]), shape_of(op.results[0])
    to = "spm" if out_resident else "dram"
    written = target.memories["dram"].read_only
    whole = Operand.dense(to, written, kind, result)
    if op.name == "graph.gather":
        read = "spm" if storage(group.outer(op.operands[0])) in resident else "dram"
        yield cost.dma(target, Operand.dense(read, written, kind, result), whole)
        return
    if op.name == "graph.pad" and not group.op.attributes.keys() & {VIEW, WITHIN}:
        yield cost.dma_fill(target, whole)
    for copy in copies(group.op, only):
        dims = copied_dims(copy)
        read = "spm" if copy.source.storage in resident else "dram"
        source, destination = (
            _operand(place, dims, space, kind).moved(written)
            for place, space in ((copy.source, read), (copy.destination, to))
        )
        yield cost.dma(target, source, destination)


def _operand(place: Place, dims: tuple[int, ...], space: str, kind: DType) -> Operand:
    strides = place.strides(dims)
    assert strides is not None, "copied_dims"
    return Operand(space, 0, kind, dims, tuple(s * kind.itemsize for s in strides))
