"""What a program costs, by layer and engine: all that does not depend on data, computed once per
program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from npu_dialect import bound
from npu_dialect.bound import Bound, LayerBound
from npu_dialect.cost import Cost, energy_pj
from npu_dialect.runtime import buffers, energy, layers, power, timing
from npu_dialect.runtime.buffers import Buffer
from npu_dialect.runtime.energy import Energy
from npu_dialect.runtime.layers import Facts, Layer
from npu_dialect.runtime.program import DebugRecord, PlacedOp, Placement, Program
from npu_dialect.runtime.schedule import Plan, queue_name
from npu_dialect.runtime.series import Series, levels, rates
from npu_dialect.runtime.timing import Timing
from npu_dialect.target import OperatingPoint, Target


@dataclass(frozen=True)
class Engine:
    """One engine of the machine. `utilization` is the part of the makespan in which it is busy."""

    name: str
    instructions: int
    busy: int
    utilization: float


@dataclass(frozen=True, eq=False)
class Profile:
    """Time and energy of a program."""

    program: Program
    plan: Plan
    costs: Sequence[Cost]
    """By executed instruction."""
    timing: Timing
    target: Target
    """The machine, at `point`."""
    point: OperatingPoint | None = None
    """Another operating point than that of the target's tables; None for those."""

    def __repr__(self) -> str:
        return f"Profile({self.program!r}, {self.cycles:,} cycles)"

    @property
    def cycles(self) -> int:
        """The makespan, without the conversion of inputs and outputs."""
        return self.timing.makespan

    @property
    def seconds(self) -> float:
        """The makespan at the target's frequency."""
        return self.cycles / self.target.frequency

    @cached_property
    def lower_bound(self) -> Bound | None:
        """What no program of the model can beat; None for a program that was not lowered from a
        graph.
        """
        found = bound.of_metadata(self.program.metadata, self.program.entry_name())
        if found is None or self.point is None:
            return found
        return _with_dram(found, self.target.frequency / self.program.machine.frequency)

    @property
    def nominal(self) -> Profile:
        """The profile of the same program at the operating point of the target's tables."""
        return self.program.profile

    def at(self, point: str) -> Profile:
        """The profile of the same program at an operating point. Raises CompileError (NPU0004,
        NPU0301).
        """
        machine = self.program.machine
        chosen = power.point_of(machine, point)
        if chosen == power.nominal(machine):
            return self.nominal
        return _compute(self.program, self.plan, power.at(machine, chosen), chosen)

    @cached_property
    def energy(self) -> Energy:
        """Without the conversion of inputs and outputs."""
        is_npu = [self.engine_of(i) in energy.NPU_ENGINES for i in range(len(self.costs))]
        return Energy(
            dynamic=layers.add(self.dynamic[i] for i in self._members(False)),
            leakage=energy.leakage(self.target, self.cycles),
            clock=energy.clock(self.target, self.timing, is_npu),
        )

    @cached_property
    def critical(self) -> Mapping[str, int]:
        """Cycles of the critical path by what bounds them, the most first."""
        found: dict[str, int] = {}
        for span in self.timing.critical:
            name = self.costs[span.instruction].bound
            found[name] = found.get(name, 0) + span.end - span.begin
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @cached_property
    def layers(self) -> list[Layer]:
        """In the order in which they end."""
        found = layers.rows(self._facts, self._members(False), self.energy.static)
        return layers.bounded(found, self.lower_bound)

    @cached_property
    def io(self) -> list[Layer]:
        """The conversion of inputs and outputs; no part of the makespan or the energy."""
        return layers.rows(self._facts, self._members(True))

    @cached_property
    def engines(self) -> list[Engine]:
        """Every engine that the program uses, but io."""
        queues = zip(self.plan.queues, self.plan.members, strict=True)
        return [self._engine(queue_name(q), m) for q, m in queues if q[1] != "io"]

    def _engine(self, name: str, members: Sequence[int]) -> Engine:
        busy = sum(self.costs[i].cycles for i in members)
        return Engine(name, len(members), busy, busy / self.cycles if self.cycles else 0.0)

    @cached_property
    def buffers(self) -> list[Buffer]:
        """What lies in the scratchpad when."""
        return buffers.of(self)

    @cached_property
    def occupancy(self) -> Series:
        """Bytes of the scratchpad that hold something which is still read, over time."""
        found = self.buffers
        begin, end, size = (
            np.array([getattr(b, name) for b in found], np.int64)
            for name in ("begin", "end", "size")
        )
        return levels(begin, end, size)

    @cached_property
    def traffic(self) -> dict[tuple[str, str], Series]:
        """Bytes a cycle over time, by memory (dram, spm) and direction (read, write)."""
        return {
            (space, direction): self._rates(space, direction)
            for space in ("dram", "spm")
            for direction in ("read", "write")
        }

    def _rates(self, space: str, direction: str) -> Series:
        moved = [c.reads if direction == "read" else c.writes for c in self.costs]
        amounts = [table.get(space, 0) for table in moved]
        return rates(self.timing.start, self.timing.free, amounts)

    @cached_property
    def power(self) -> Series:
        """Watts over time."""
        return power.over_time(self)

    @property
    def average_watts(self) -> float:
        """Energy over time."""
        return self.energy.joules / self.seconds if self.seconds else 0.0

    @cached_property
    def peak_spm(self) -> int:
        """The highest address of the scratchpad that an operand reaches."""
        operands = (o for _, op in self.program.executed for _, _, o in op.operand_fields())
        return max((o.interval[1] for o in operands if o.space == "spm"), default=0)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the array."""
        return sum(c.macs for c in self.costs)

    @cached_property
    def utilization(self) -> float:
        """Of the array's peak, over the makespan."""
        ideal = sum(layers.peak_cycles(self.target, c) for c in self.costs)
        return ideal / self.cycles if self.cycles else 0.0

    @property
    def dram_read(self) -> int:
        """Bytes, without the conversion of inputs and outputs."""
        return sum(layer.dram_read for layer in self.layers)

    @property
    def dram_written(self) -> int:
        """Bytes, without the conversion of inputs and outputs."""
        return sum(layer.dram_written for layer in self.layers)

    def engine_of(self, instruction: int) -> str:
        """The engine of an executed instruction, without its core."""
        return self.plan.queues[self.plan.queue_of[instruction]][1]

    def _members(self, io: bool) -> list[int]:
        return [i for i in range(len(self.costs)) if (self.engine_of(i) == "io") == io]

    @cached_property
    def records(self) -> list[DebugRecord]:
        """Layer and sources of each executed instruction."""
        debug = self.program.debug
        numbers: list[int] = self.plan.static.tolist()
        return [debug[number] for number in numbers]

    @cached_property
    def dynamic(self) -> list[Mapping[str, float]]:
        """Dynamic energy of each executed instruction in pJ, by where it goes."""
        known: dict[int, Mapping[str, float]] = {}
        numbers: list[int] = self.plan.static.tolist()
        for number, cost in zip(numbers, self.costs, strict=True):
            if number not in known:
                known[number] = energy_pj(cost, self.target)
        return [known[number] for number in numbers]

    @property
    def _facts(self) -> Facts:
        facts = (self.records, self.dynamic, self.target, self.plan, self.costs, self.timing)
        return Facts(*facts)


def of(program: Program) -> Profile:
    """The profile of a program, computed once. Raises CompileError (NPU0604) on deadlock."""
    return program.profile


def compute(program: Program) -> Profile:
    """Costs, times and energy of a program; `of` keeps them."""
    return _compute(program, Plan.of(program), program.machine)


def _compute(
    program: Program, plan: Plan, target: Target, point: OperatingPoint | None = None
) -> Profile:
    by_static: list[Cost] = [op.cost(target, program.kernels) for op, _ in program.static]
    numbers: list[int] = plan.static.tolist()
    costs = [by_static[number] for number in numbers]
    return Profile(program, plan, costs, timing.of_costs(plan, by_static), target, point)


def _with_dram(found: Bound, factor: float) -> Bound:
    """A bound with other cycles of dram, for another clock."""
    rows = tuple(LayerBound(b.name, _scaled_dram(b.resources, factor)) for b in found.layers)
    return replace(found, resources=_scaled_dram(found.resources, factor), layers=rows)


def _scaled_dram(resources: Mapping[str, float], factor: float) -> dict[str, float]:
    return {**resources, "dram": resources["dram"] * factor}


def placed(program: Program) -> list[PlacedOp]:
    """The program's placement records, each with its layer and that layer's cycles. What was
    folded takes none.
    """
    layer_of = {s: row for row in of(program).layers for s in (row.name, *row.sources)}
    return [
        PlacedOp(**asdict(p), layer=row.name if row else "", cycles=_cycles_of(p, row))
        for p in program.placements
        for row in [layer_of.get(p.source)]
    ]


def _cycles_of(placement: Placement, layer: Layer | None) -> int:
    return 0 if layer is None or placement.engine == "folded" else layer.cycles
