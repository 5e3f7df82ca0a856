"""Power over time, and what a program takes at other voltages and clocks.

An operating point moves the accelerator's clock; dram and host keep theirs. So the point is the
same machine with another frequency, on which dram moves more bytes a cycle the slower the clock is,
and the program's times are computed anew. Energies on the chip follow the voltage V:

    dynamic energy and the clock's energy per cycle    V^2  (energy of a charged capacitance, C V^2)
    leakage                                            V exp(K (V - V nominal)), K = 1.83 / V

The second is the subthreshold current of Martin, Flautner, Mudge and Blaauw ("Combined dynamic
voltage scaling and adaptive body biasing", ICCAD 2002) without body bias, with the K4 that they fit
to 70 nm. Dram and host have their own supplies: their energies stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from npu_dialect.diagnostics import Code, error
from npu_dialect.runtime import energy
from npu_dialect.runtime.series import Series, levels, rates, total
from npu_dialect.target import Memory, OperatingPoint, Target

if TYPE_CHECKING:
    from npu_dialect.runtime.profile import Profile

LEAKAGE_SLOPE = 1.83
"""Per volt: K4 of the source in the module's docstring."""


# --- over time ------------------------------------------------------------------------------------


def dynamic(profile: Profile, members: Sequence[int]) -> Series:
    """Watts of the actions of some instructions, the energy of each spread evenly over the cycles
    in which it occupies its engine.
    """
    timing, chosen = profile.timing, np.asarray(members, np.int64)
    pj = [sum(profile.dynamic[i].values()) for i in members]
    watts = rates(timing.start[chosen], timing.free[chosen], pj)
    return Series(watts.times, watts.values * 1e-12 * profile.target.frequency)


def over_time(profile: Profile) -> Series:
    """Watts of the whole machine: actions, leakage, and the clock while it runs."""
    target = profile.target
    members = [i for i in range(len(profile.costs)) if profile.engine_of(i) != "io"]
    leaking = sum(energy.leakage_watts(target).values())
    whole = (np.array([0]), np.array([profile.cycles]))
    return total(
        dynamic(profile, members),
        levels(*whole, [leaking]),
        _clock(profile) if target.power.clock_gating else levels(*whole, [target.power.clock]),
        end=profile.cycles,
    )


def _clock(profile: Profile) -> Series:
    timing = profile.timing
    engines = map(profile.engine_of, range(len(timing.end)))
    is_npu = np.array([engine in energy.NPU_ENGINES for engine in engines], np.bool_)
    busy = levels(timing.start[is_npu], timing.end[is_npu], 1.0)
    return Series(busy.times, np.where(busy.values > 0, profile.target.power.clock, 0.0))


# --- operating points -----------------------------------------------------------------------------


def nominal(target: Target) -> OperatingPoint:
    """The point at which the target's tables hold: the one with its frequency. Raises CompileError
    (NPU0301) where there is none.
    """
    for point in target.power.operating_points:
        if point.frequency == target.frequency:
            return point
    found = ", ".join(f"{p.name} {p.frequency:g} Hz" for p in target.power.operating_points)
    rule = f"one of power.operating_points must have the target's frequency, {target.frequency:g}"
    raise error(Code.TARGET_FILE, rule, found=found or "none", source=target.name)


def point_of(target: Target, name: str) -> OperatingPoint:
    """The operating point of a name. Raises CompileError (NPU0004)."""
    points = {point.name: point for point in target.power.operating_points}
    if name not in points:
        rule = f"an operating point must be one of {', '.join(points) or 'none'}"
        raise error(Code.OPTION, rule, found=name, source=target.name)
    return points[name]


def at(target: Target, point: OperatingPoint) -> Target:
    """The machine at a point, with its own cycles, energies and leakage."""
    before = nominal(target)
    clock = point.frequency / target.frequency
    charge = (point.voltage / before.voltage) ** 2
    leak = leakage_factor(point.voltage, before.voltage)
    return replace(
        target,
        frequency=point.frequency,
        memories=MappingProxyType(
            {n: _memory(n, m, clock, charge, leak) for n, m in target.memories.items()}
        ),
        array=replace(
            target.array,
            mac_pj=_scaled(target.array.mac_pj, charge),
            leakage=target.array.leakage * leak,
        ),
        vector=replace(
            target.vector,
            pj=_scaled(target.vector.pj, charge),
            leakage=target.vector.leakage * leak,
        ),
        dma=replace(target.dma, leakage=target.dma.leakage * leak),
        host=replace(
            target.host,
            macs_per_cycle=target.host.macs_per_cycle / clock,
            elements_per_cycle=target.host.elements_per_cycle / clock,
            bytes_per_cycle=target.host.bytes_per_cycle / clock,
            call=ceil(target.host.call * clock),
        ),
        power=replace(target.power, clock=target.power.clock * charge * clock),
    )


def leakage_factor(voltage: float, nominal_voltage: float) -> float:
    """Leakage at a voltage over that at the nominal one."""
    rise = exp(LEAKAGE_SLOPE * (voltage - nominal_voltage))
    return voltage / nominal_voltage * rise


def _memory(name: str, memory: Memory, clock: float, charge: float, leak: float) -> Memory:
    if name == "dram":
        ports = _scaled(memory.ports, 1 / clock)
        return replace(memory, ports=ports, latency=ceil(memory.latency * clock))
    return replace(
        memory,
        read_pj=memory.read_pj * charge,
        write_pj=memory.write_pj * charge,
        leakage=memory.leakage * leak,
    )


def _scaled(table: Mapping[str, float], factor: float) -> Mapping[str, float]:
    return MappingProxyType({name: value * factor for name, value in table.items()})


# --- frames at a rate -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """What one run takes at an operating point, and what the time until the next frame adds."""

    point: OperatingPoint
    seconds: float
    """Of the run."""
    joules: float
    """Of the run."""
    average_watts: float
    """Of the run."""
    peak_watts: float
    deadline: float | None = None
    """Seconds from frame to frame; None without a rate."""
    idle_joules: float = 0.0
    """Of what leaks, and of the clock, from the end of the run to the next frame."""

    @property
    def meets(self) -> bool:
        """Whether the run ends before the next frame begins."""
        return self.deadline is None or self.seconds <= self.deadline

    @property
    def frame_joules(self) -> float:
        """From frame to frame."""
        return self.joules + self.idle_joules


def frames(profile: Profile, per_second: float | None = None) -> list[Frame]:
    """One row per operating point of the target, in its order; at a rate, with the energy from
    frame to frame. Raises CompileError (NPU0301) where the target lacks its nominal point.
    """
    points = profile.nominal.target.power.operating_points
    return [_frame(profile.at(p.name), p, per_second) for p in points]


def best(rows: Sequence[Frame]) -> Frame | None:
    """The point that takes the least energy from frame to frame among those that meet the
    deadline; None where none does.
    """
    return min((f for f in rows if f.meets), key=lambda f: f.frame_joules, default=None)


def _frame(profile: Profile, point: OperatingPoint, per_second: float | None) -> Frame:
    deadline = 1 / per_second if per_second else None
    idle = max(0.0, deadline - profile.seconds) if deadline else 0.0
    return Frame(
        point=point,
        seconds=profile.seconds,
        joules=profile.energy.joules,
        average_watts=profile.energy.joules / profile.seconds if profile.seconds else 0.0,
        peak_watts=profile.power.peak,
        deadline=deadline,
        idle_joules=idle * idle_watts(profile.target),
    )


def idle_watts(target: Target) -> float:
    """Between two frames: leakage unless units can be switched off, the clock unless it can be
    stopped. Waking up takes no time and no energy in this model.
    """
    power = target.power
    leaking = 0.0 if power.power_gating else sum(energy.leakage_watts(target).values())
    return leaking + (0.0 if power.clock_gating else power.clock)
