"""Why a plan is as it is: for each group what binds it, and the best that was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from npu_dialect import provenance
from npu_dialect.passes.mapping.plan import Planner
from npu_dialect.passes.mapping.problems import AnyMapping
from npu_dialect.passes.mapping.segments import Cascade, Plan, Segment, Single, Step
from npu_dialect.passes.mapping.views import storage
from npu_dialect.passes.mapping.work import Work

WAITS = 1.1
"""A group that takes more than its busiest engine by this factor waits for something."""


@dataclass(frozen=True)
class Explained:
    """What was decided for a group, in words."""

    layer: str
    cycles: float
    """As estimated; of a cascade, of all of it, at its first group."""
    binds: str
    """array, vector, dram, host, capacity or dependency."""
    mapping: str
    place: str
    """Where its result lies, and the cascade that it is in."""
    gap: float | None
    """How much less any mapping could cost, as a share; None for what has no mapping."""
    rejected: str
    """The best alternative, and what it costs more."""
    pins: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The decisions as an overrides file has them."""
    is_unique: bool = True
    """Whether no other group with a mapping comes from a node of this name, nor of those of its
    cascade."""


def explained(planner: Planner, plan: Plan) -> list[Explained]:
    """A row for each group, in program order."""
    rows: list[Explained] = []
    for segment in plan.segments:
        if isinstance(segment, Single):
            rows.append(_single(planner, plan, segment))
        else:
            rows += _cascade(planner, plan, segment)
    mapped = (g for g in planner.groups if g.kind in ("array", "vector"))
    names = Counter(name for g in mapped for name in set(provenance.sources(g.op)))
    shared = {s.number for r, s in zip(rows, plan.steps, strict=True) if names[r.layer] != 1}
    return [
        replace(row, pins=_pins(plan, step), is_unique=_is_alone(row, step, names, shared))
        for row, step in zip(rows, plan.steps, strict=True)
    ]


def _is_alone(row: Explained, step: Step, names: Counter[str], shared: set[int | None]) -> bool:
    """Whether a name stands for this group alone, and those of its whole cascade for theirs."""
    return names[row.layer] == 1 and (step.number is None or step.number not in shared)


def _pins(plan: Plan, step: Step) -> dict[str, Any]:
    """What pins a step as it is."""
    if step.mapping is None:
        return {}
    found: dict[str, Any] = {"mapping": asdict(step.mapping)}
    member = step.member
    if member is None or member.held is None:
        resident = any(storage(v) in plan.resident for v in step.group.op.results)
        found["memory"] = "spm" if resident else "dram"
    if member is not None:
        found["cascade"] = {"number": step.number, "rows": step.rows}
        found["weights"] = "held" if member.holds_weights else "stripe"
        settings = {"held": member.held, "rows": member.most, "input_held": member.input_held}
        found |= {name: value for name, value in settings.items() if value is not None}
    return found


def _single(planner: Planner, plan: Plan, segment: Single) -> Explained:
    step = plan.steps[segment.number]
    other = [_mapped_otherwise(step.work), _placed_otherwise(planner, plan, segment)]
    return Explained(
        layer=step.group.name,
        cycles=segment.cycles,
        binds=_binds(planner, segment, segment.work),
        mapping=mapping_text(step.mapping),
        place=_place(plan, step),
        gap=None if step.mapping is None else step.work.gap,
        rejected="; ".join(filter(None, other)) or "-",
    )


def _cascade(planner: Planner, plan: Plan, segment: Cascade) -> list[Explained]:
    option = segment.option
    alone = planner.base[option.stop] - planner.base[option.first]
    shared = planner.shared(option.work)
    more = alone - segment.cycles - shared
    text = f"layer by layer: {more:+,.0f} cycles"
    rows: list[Explained] = []
    for k in range(option.first, option.stop):
        step = plan.steps[k]
        is_first = k == option.first
        rows.append(
            Explained(
                layer=step.group.name,
                cycles=segment.cycles if is_first else 0.0,
                binds=_binds(planner, segment, option.work),
                mapping=mapping_text(step.mapping),
                place=_place(plan, step),
                gap=step.work.gap,
                rejected=text if is_first else _mapped_otherwise(step.work) or "-",
            )
        )
    return rows


def _binds(planner: Planner, segment: Segment, work: Work) -> str:
    busiest = max(work.compute, work.transfer)
    if segment.cycles > WAITS * busiest and segment.cycles > 0:
        room = planner.capacity - work.used
        return "capacity" if room < work.ahead * planner.works.width else "dependency"
    if work.transfer > work.compute:
        return "dram"
    return {"mxu": "array", "vpu": "vector"}.get(work.engine, work.engine)


def _place(plan: Plan, step: Step) -> str:
    """Where a result lies."""
    if step.member is not None and step.member.held is not None:
        memory = f"{step.member.held} rows"
    else:
        resident = any(storage(v) in plan.resident for v in step.group.op.results)
        memory = "spm" if resident else "dram"
    if step.member is None:
        return memory
    held = ", weights held" if step.member.holds_weights else ""
    return f"{memory}, cascade {step.number} by {step.rows} rows{held}"


def mapping_text(mapping: AnyMapping | None) -> str:
    """A mapping in a line."""
    if mapping is None:
        return "-"
    return " ".join(f"{name}={value}" for name, value in asdict(mapping).items())


def _mapped_otherwise(work: Work) -> str:
    if work.alternative is None:
        return ""
    mapping, share = work.alternative
    return f"{mapping_text(mapping)}: {share:+.1%}"


def _placed_otherwise(planner: Planner, plan: Plan, segment: Single) -> str:
    """What the result in the other memory would cost the group."""
    number = segment.number
    if segment.work.mapping is None or not planner.lives.may_stay(number):
        return ""
    resident = planner.works.reads[number] & plan.resident
    room = planner.room_beside(plan, number)
    size = sum(t.aligned for t in planner.lives.written(number))
    room += size if segment.stays else -size
    other = planner.works.of(number, frozenset(resident), not segment.stays, max(0, room))
    where = "dram" if segment.stays else "spm"
    if room < 0 or other is None:
        return f"in {where}: does not fit"
    more = max(other.compute, other.transfer) - max(segment.work.compute, segment.work.transfer)
    return f"in {where}: {more:+,.0f} cycles"
