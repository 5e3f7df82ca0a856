"""The segments of a plan as the estimate of its time sees them."""

from __future__ import annotations

from xdsl.ir import SSAValue

from npu_dialect.passes.mapping.critical import Reader, Stage
from npu_dialect.passes.mapping.lives import Lives
from npu_dialect.passes.mapping.segments import Plan, Single, first_of
from npu_dialect.passes.mapping.views import storage
from npu_dialect.passes.mapping.work import Works


def stages(plan: Plan, works: Works, lives: Lives, capacity: int) -> list[Stage]:
    """The segments of a plan in so many bytes as the estimate sees them."""
    maker: dict[SSAValue, int] = {}
    found: list[Stage] = []
    for number, segment in enumerate(plan.segments):
        steps = range(first_of(segment), segment.stop)
        work = segment.work if isinstance(segment, Single) else segment.option.work
        inputs = {v for k in steps for v in works.reads[k]}
        reads = [Reader(maker[v], v not in plan.resident) for v in inputs if v in maker]
        near = {v for v in plan.resident if _is_live(lives, v, steps)}
        size = sum(lives.tensors[v].aligned for v in near) + work.used
        free = max(0, capacity - size) / works.width
        found.append(Stage(work, work.engines, free, reads))
        for k in steps:
            for value in map(storage, works.groups[k].op.results):
                maker[value] = number
    return found


def _is_live(lives: Lives, value: SSAValue, steps: range) -> bool:
    tensor = lives.tensors[value]
    return tensor.written < steps.stop and steps.start <= tensor.read
