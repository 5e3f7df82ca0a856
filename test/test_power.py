"""Power over time, operating points and frames, with the arithmetic spelled out.

The program is one copy of 100 bytes from dram to the scratchpad of edge256: 4 accesses of 32 B at
3.75 B a cycle are 35 cycles (34.13 rounded up), after 16 to start, and 500 of latency: 551 cycles.
"""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp

import numpy as np
import pytest
from npu_programs import convolve_and_pool, copy, dense, program

from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import i8
from npu_dialect.npu.host import HostOp
from npu_dialect.runtime import power, profile
from npu_dialect.runtime.power import Frame
from npu_dialect.runtime.profile import Profile
from npu_dialect.target import OperatingPoint, load_target, target_text

LEAKAGE = 2.1e-3 + 1e-3 + 0.5e-3 + 0.2e-3
"""Watts of scratchpad, array, vector unit and dma of edge256."""


def copied(target_toml: str | None = None) -> Profile:
    op = copy(dense("dram", 0, i8, [100]), dense("spm", 0, i8, [100]))
    return profile.of(program([op], target_toml=target_toml))


# Over time


def test_the_power_of_an_instruction_is_its_energy_over_its_cycles():
    # 100 B at 64 pJ from dram and at 1.26 pJ into spm, in 51 ns; then only leakage and the clock
    found = copied().power
    busy = 100 * (64 + 1.26) * 1e-12 / 51e-9
    assert found.times.tolist() == [0, 51]
    assert found.values.tolist() == pytest.approx([busy + LEAKAGE + 8e-3, LEAKAGE + 8e-3])


def test_power_over_time_adds_up_to_the_energy():
    found = profile.of(convolve_and_pool())
    joules = found.power.values * np.diff(found.power.times, append=found.cycles) / 1e9
    assert joules.sum() == pytest.approx(found.energy.joules)


def test_average_power_is_energy_over_time():
    found = copied()
    # 6526 pJ, and 551 ns of leakage and clock
    assert found.average_watts == pytest.approx(6526e-12 / 551e-9 + LEAKAGE + 8e-3)


def test_a_layer_has_the_power_of_its_own_instructions():
    (layer,) = copied().layers
    assert layer.average_watts == layer.peak_watts == pytest.approx(6526e-12 / 51e-9)


# Operating points


def test_a_slower_clock_waits_fewer_cycles_for_dram():
    # half the clock: 7.5 B a cycle are 18 cycles (17.07), 16 to start, 250 of latency
    found = copied().at("half")
    assert found.cycles == 18 + 16 + 250
    assert found.seconds == pytest.approx(284 / 500e6)


def test_dynamic_energy_on_the_chip_follows_the_square_of_the_voltage_and_dram_stays():
    # 0.65 V instead of 0.8 V
    found = copied().at("half").energy.dynamic
    assert found["spm"] == pytest.approx(126 * 0.65**2 / 0.8**2)
    assert found["dram"] == pytest.approx(6400)


def test_leakage_follows_voltage_and_its_exponential():
    # V exp(1.83 V), over 568 ns
    found = copied().at("half").energy.leakage
    factor = 0.65 / 0.8 * exp(1.83 * (0.65 - 0.8))
    assert sum(found.values()) == pytest.approx(LEAKAGE * factor * 568e-9 * 1e12)


def test_the_clock_takes_less_by_frequency_and_the_square_of_the_voltage():
    found = copied().at("half").energy
    assert found.clock == pytest.approx(8e-3 * 0.5 * 0.65**2 / 0.8**2 * 568e-9 * 1e12)


def test_the_host_keeps_its_own_pace_and_energy():
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="host", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    nominal = profile.of(program([op]))
    half = nominal.at("half")
    # a call of 2000 ns and 64 elements at 0.4 a ns
    assert (nominal.seconds, half.seconds) == (2160e-9, 2160e-9)
    assert half.energy.dynamic["host"] == pytest.approx(nominal.energy.dynamic["host"])


def test_the_nominal_point_is_that_of_the_tables():
    found = copied()
    assert found.at("nominal") is found
    assert found.at("half").at("nominal") is found


def test_an_unknown_point_is_refused():
    with pytest.raises(CompileError, match=r"NPU0004.*one of nominal, half, low; found turbo"):
        copied().at("turbo")


def test_a_target_without_its_own_frequency_among_the_points_has_no_other():
    text = target_text("edge256").replace(
        "voltage = 0.8, frequency = 1.0e9", "voltage = 0.8, frequency = 9.0e8"
    )
    with pytest.raises(CompileError, match=r"must have the target's frequency, 1e\+09"):
        copied(text).at("half")


def test_the_bound_of_dram_has_as_many_cycles_as_the_clock_makes():
    bound = {"resources": [30, 0, 0, 100], "dram_bytes": 375, "host": [], "layers": []}
    made = convolve_and_pool()
    entry = replace(made.entries["main"], metadata={"bound.main": json.dumps(bound)})
    found = profile.of(replace(made, entries={"main": entry}))
    assert found.lower_bound and found.lower_bound.cycles == 100
    # dram takes as many ns at half the clock, which are half the cycles
    half = found.at("half").lower_bound
    assert half and dict(half.resources) == {"array": 30, "vector": 0, "spm": 0, "dram": 50}


# Frames


def frame(joules: float, seconds: float, idle: float = 0.0) -> Frame:
    return Frame(OperatingPoint("p", 1.0, 1.0), seconds, joules, 0.0, 0.0, 0.1, idle)


def test_the_best_point_is_that_of_the_least_energy_in_time():
    fast, slow, late = frame(3.0, 0.01), frame(2.0, 0.09), frame(1.0, 0.11)
    assert power.best([fast, slow, late]) is slow


def test_the_energy_between_frames_may_make_racing_dear():
    fast, slow = frame(1.9, 0.01, idle=0.2), frame(2.0, 0.09)
    assert power.best([fast, slow]) is slow


def test_no_point_is_best_where_none_is_in_time():
    assert power.best([frame(1.0, 0.2)]) is None


def test_a_machine_that_can_switch_off_takes_nothing_between_frames():
    assert [f.idle_joules for f in power.frames(copied(), 1000)] == [0, 0, 0]


def test_a_machine_that_cannot_switch_off_leaks_between_frames():
    text = target_text("edge256").replace("power_gating = true", "power_gating = false")
    nominal, half, _ = power.frames(copied(text), 1000)
    assert nominal.idle_joules == pytest.approx(LEAKAGE * (1e-3 - 551e-9))
    factor = 0.65 / 0.8 * exp(1.83 * (0.65 - 0.8))
    assert half.idle_joules == pytest.approx(LEAKAGE * factor * (1e-3 - 568e-9))


def test_a_clock_that_cannot_stop_runs_between_frames():
    target = load_target("edge256")
    still = replace(target, power=replace(target.power, clock_gating=False))
    assert power.idle_watts(still) == 8e-3


def test_a_rate_is_met_where_a_run_fits_into_a_frame():
    # 551 ns, 568 ns and, at 200 MHz: 18.75 B a cycle are 7 cycles, 16, 100 of latency: 615 ns
    rows = power.frames(copied(), 1 / 600e-9)
    assert [f.seconds for f in rows] == pytest.approx([551e-9, 568e-9, 615e-9])
    assert [f.meets for f in rows] == [True, True, False]
