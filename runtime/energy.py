"""Energy of a program: dynamic energy per action, leakage over the makespan, the clock while
something works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_dialect.runtime.timing import Timing
from npu_dialect.target import Target

COVERS = (
    "Covers the accelerator's actions (multiply-accumulates, vector operations, bytes of dram, "
    "spm and acc), the host's tasks, leakage and the clock tree, from the tables of the target "
    "file. Dynamic energy alone is 8 to 10 times under measured silicon, since control, "
    "interconnect and the dram's background power are not in such tables: trust ratios between "
    "runs on one target, not joules. Power spreads the energy of each instruction evenly over the "
    "cycles in which it occupies its engine; peaks shorter than that do not show."
)
"""What a figure of energy covers, for every report that shows one."""

NPU_ENGINES = ("dma", "mxu", "vpu")


@dataclass(frozen=True)
class Energy:
    """Energy of one run in pJ."""

    dynamic: Mapping[str, float]
    """By where it goes: array, vector, dram, spm, acc, host."""
    leakage: Mapping[str, float]
    """By unit, over the makespan."""
    clock: float
    """The clock tree and control, over the cycles in which an engine of the accelerator is busy."""

    @property
    def static(self) -> float:
        """Leakage and clock."""
        return sum(self.leakage.values()) + self.clock

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.dynamic.values()) + self.static

    @property
    def joules(self) -> float:
        """All of it, in joules."""
        return self.total * 1e-12


def leakage(target: Target, makespan: int) -> dict[str, float]:
    """pJ that each unit of the machine leaks in `makespan` cycles."""
    watts = leakage_watts(target)
    return {name: w * _picoseconds(target, makespan) for name, w in watts.items()}


def leakage_watts(target: Target) -> dict[str, float]:
    """Watts that each unit of the machine leaks, all cores together."""
    watts = {name: memory.leakage for name, memory in target.memories.items()}
    watts |= {
        "mxu": target.array.leakage,
        "vpu": target.vector.leakage,
        "dma": target.dma.leakage,
    }
    return {name: w * target.cores for name, w in watts.items()}


def clock(target: Target, timing: Timing, is_npu: Sequence[bool]) -> float:
    """pJ of the clock: while an engine of the accelerator is busy, or always where it cannot be
    gated.
    """
    cycles = timing.makespan
    if target.power.clock_gating:
        cycles = busy_cycles(timing, is_npu)
    return target.power.clock * _picoseconds(target, cycles)


def busy_cycles(timing: Timing, chosen: Sequence[bool]) -> int:
    """Cycles in which at least one of the `chosen` instructions is between start and end."""
    pairs = zip(timing.start.tolist(), timing.end.tolist(), chosen, strict=True)
    total = reach = 0
    for begin, end in sorted((s, e) for s, e, wanted in pairs if wanted):
        total += max(0, end - max(begin, reach))
        reach = max(reach, end)
    return total


def _picoseconds(target: Target, cycles: int) -> float:
    return cycles / target.frequency * 1e12
