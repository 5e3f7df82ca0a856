"""Whether the offsets of a plan come out, with the lifetimes that tile-allocate will see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdsl.ir import SSAValue

from npu_dialect.passes import allocation
from npu_dialect.passes.mapping.segments import Cascade, Plan, Tensor
from npu_dialect.passes.mapping.tiles import ALIGNMENT

Tensors = Mapping[SSAValue, Tensor]


def lifetimes(plan: Plan, tensors: Tensors) -> Iterator[allocation.Buffer]:
    """The buffers of a plan as tile-allocate will see them, in steps. What a cascade holds it
    holds from its first step to its last.
    """
    count = len(plan.steps)
    start, stop = list(range(count)), list(range(1, count + 1))
    for segment in plan.segments:
        if isinstance(segment, Cascade):
            run = range(segment.option.first, segment.stop)
            for k in run:
                start[k], stop[k] = run.start, run.stop
    number = 0
    for value in plan.resident:
        t = tensors[value]
        yield _item(number, start[t.written], stop[t.read], t.aligned)
        number += 1
    for k, step in enumerate(plan.steps):
        for buffer in step.buffers:
            yield _item(number, k, k + 1, buffer.total)
            number += 1
        if step.member is not None:
            for size in (step.member.held_bytes, step.member.weights, step.member.input_bytes):
                if size:
                    yield _item(number, start[k], stop[k], size)
                    number += 1


def height(plan: Plan, tensors: Tensors) -> int:
    """Bytes of scratchpad that a plan takes, with the lifetimes that tile-allocate will see."""
    items = list(lifetimes(plan, tensors))
    offsets = allocation.pack(items, effort=0)
    return max((offsets[i.id] + i.size for i in items), default=0)


def overflow(
    plan: Plan, tensors: Tensors, capacity: int, effort: float = 1
) -> tuple[list[int], int] | None:
    """Why the offsets do not come out although the sums do: the steps at which something reaches
    over the end (each as often as something does), and by how many bytes. None where they do.
    """
    items = list(lifetimes(plan, tensors))
    try:
        allocation.allocate(items, capacity, effort)
    except allocation.Overflow as problem:
        over = (items[n] for n in problem.over)
        return [s for i in over for s in range(i.lower, i.upper)], problem.peak - capacity
    return None


def _item(number: int, lower: int, upper: int, size: int) -> allocation.Buffer:
    return allocation.Buffer(number, lower, upper, size, ALIGNMENT)
