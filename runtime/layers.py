"""What each layer of the model takes of a program's time, traffic and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from npu_dialect.bound import Bound, LayerBound
from npu_dialect.cost import Cost
from npu_dialect.runtime.program import DebugRecord
from npu_dialect.runtime.schedule import Plan, queue_name
from npu_dialect.runtime.series import Series, rates
from npu_dialect.runtime.timing import Timing
from npu_dialect.target import Target


@dataclass(frozen=True)
class Layer:
    """A layer (fused group) of the model; among `Profile.io`, the conversion of an input or output.

    `cycles` are its part of the critical path; those of all layers sum to the makespan.
    """

    name: str
    sources: tuple[str, ...]
    busy: Mapping[str, int]
    """Cycles by engine."""
    cycles: int
    share: float
    """`cycles` as a part of the makespan."""
    instructions: int
    macs: int
    utilization: float | None
    """Of the array's peak, while the array works on the layer; None without array work."""
    dram_read: int
    dram_written: int
    spm_read: int
    spm_written: int
    dynamic_pj: Mapping[str, float]
    """Dynamic energy by where it goes."""
    static_pj: float
    """The layer's part of leakage and clock, by `cycles`."""
    bound: str
    """What most of its time goes to: array, vector, spm, dram, acc, output, host."""
    begin: int
    end: int
    """First start and last end of its instructions."""
    average_watts: float
    """Dynamic power of its instructions, while any of them is busy."""
    peak_watts: float
    """The greatest dynamic power of its instructions at one time."""
    lower_bound: LayerBound | None = None
    """What the layer takes at least, alone on the machine."""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that work on it."""
        return tuple(self.busy)

    @property
    def energy_pj(self) -> float:
        """Dynamic and static energy."""
        return sum(self.dynamic_pj.values()) + self.static_pj

    @property
    def dram_bytes(self) -> int:
        """Read and written."""
        return self.dram_read + self.dram_written

    @property
    def spm_bytes(self) -> int:
        """Read and written."""
        return self.spm_read + self.spm_written


@dataclass(frozen=True)
class Facts:
    """What layers are summed from; sequences are by executed instruction."""

    records: Sequence[DebugRecord]
    dynamic: Sequence[Mapping[str, float]]
    """pJ by where they go."""
    target: Target
    plan: Plan
    costs: Sequence[Cost]
    timing: Timing


def rows(facts: Facts, members: Iterable[int], static_pj: float = 0.0) -> list[Layer]:
    """One row per layer that owns some of `members`, in the order in which they end."""
    records = facts.records
    owned: dict[str, list[int]] = {}
    for i in members:
        owned.setdefault(records[i].layer, []).append(i)
    critical = _critical_by_layer(facts)
    found = [_row(facts, name, ins, critical, static_pj) for name, ins in owned.items()]
    return sorted(found, key=lambda layer: layer.end)


def bounded(rows: Iterable[Layer], bound: Bound | None) -> list[Layer]:
    """The rows with their lower bounds, where those are known."""
    known = {layer.name: layer for layer in bound.layers} if bound else {}
    return [replace(row, lower_bound=known.get(row.name)) for row in rows]


def _critical_by_layer(facts: Facts) -> dict[str, dict[str, int]]:
    """Cycles of the critical path by layer and by what bounds them."""
    totals: dict[str, dict[str, int]] = {}
    for span in facts.timing.critical:
        record = facts.records[span.instruction]
        bounds = totals.setdefault(record.layer, {})
        bound = facts.costs[span.instruction].bound
        bounds[bound] = bounds.get(bound, 0) + span.end - span.begin
    return totals


def _row(
    facts: Facts,
    name: str,
    members: Sequence[int],
    critical: Mapping[str, Mapping[str, int]],
    static_pj: float,
) -> Layer:
    costs = [facts.costs[i] for i in members]
    cycles = sum(critical.get(name, {}).values())
    share = cycles / facts.timing.makespan if facts.timing.makespan else 0.0
    busy = _busy(facts, members)
    array_cycles = sum(c.cycles for c in costs if c.macs)
    ideal = sum(peak_cycles(facts.target, c) for c in costs)
    dynamic = [facts.dynamic[i] for i in members]
    begin = min(int(facts.timing.start[i]) for i in members)
    end = max(int(facts.timing.end[i]) for i in members)
    per_cycle = _power(facts, members, [sum(table.values()) for table in dynamic])
    watts = facts.target.frequency * 1e-12
    return Layer(
        name=name,
        sources=_sources(facts, members),
        busy=busy,
        cycles=cycles,
        share=share,
        instructions=len(members),
        macs=sum(c.macs for c in costs),
        utilization=ideal / array_cycles if array_cycles else None,
        dram_read=_bytes(costs, "reads", "dram"),
        dram_written=_bytes(costs, "writes", "dram"),
        spm_read=_bytes(costs, "reads", "spm"),
        spm_written=_bytes(costs, "writes", "spm"),
        dynamic_pj=add(dynamic),
        static_pj=static_pj * share,
        bound=_bound(critical.get(name, {}), costs),
        begin=begin,
        end=end,
        average_watts=per_cycle.mean_of_some * watts,
        peak_watts=per_cycle.peak * watts,
    )


def _power(facts: Facts, members: Sequence[int], pj: Sequence[float]) -> Series:
    """pJ a cycle over time, each instruction's energy spread over the cycles that it is busy."""
    chosen = np.asarray(members, np.int64)
    return rates(facts.timing.start[chosen], facts.timing.free[chosen], pj)


def _busy(facts: Facts, members: Sequence[int]) -> dict[str, int]:
    busy: dict[str, int] = {}
    for i in members:
        name = queue_name(facts.plan.queues[facts.plan.queue_of[i]])
        busy[name] = busy.get(name, 0) + facts.costs[i].cycles
    return busy


def _sources(facts: Facts, members: Sequence[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for i in members for s in facts.records[i].sources))


def _bytes(costs: Sequence[Cost], direction: str, space: str) -> int:
    return sum((c.reads if direction == "reads" else c.writes).get(space, 0) for c in costs)


def _bound(critical: Mapping[str, int], costs: Sequence[Cost]) -> str:
    """By cycles on the critical path; by cycles at all for a layer that is hidden behind others."""
    by_bound = dict(critical)
    if not by_bound:
        for c in costs:
            by_bound[c.bound] = by_bound.get(c.bound, 0) + c.cycles
    return max(by_bound, key=by_bound.__getitem__)


def peak_cycles(target: Target, cost: Cost) -> float:
    """Cycles that the multiply-accumulates would take at the array's peak for their type."""
    return cost.macs / prod(target.array.macs[cost.mac_type]) if cost.macs else 0.0


def add(items: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums by category."""
    total: dict[str, float] = {}
    for item in items:
        for name, value in item.items():
            total[name] = total.get(name, 0.0) + value
    return total
