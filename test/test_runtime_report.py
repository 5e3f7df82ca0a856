"""What a run tells: layers, energy, the timeline, the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from npu_programs import X, convolve_and_pool, copy, dense, fill, program

from npu_dialect.diagnostics import CompileError
from npu_dialect.dtypes import i8
from npu_dialect.npu.host import HostOp
from npu_dialect.runtime import energy, profile, report
from npu_dialect.runtime.run import Run
from npu_dialect.runtime.simulator import simulate


@pytest.fixture(scope="module")
def run() -> Run:
    return simulate(convolve_and_pool(), X, trace=True)


# Layers


def test_layers_come_in_program_order_with_their_sources(run: Run):
    assert [(row.name, row.sources) for row in run.layers] == [
        ("conv", ("conv",)),
        ("pool", ("pool",)),
    ]


def test_the_cycles_of_the_layers_sum_to_the_makespan(run: Run):
    assert sum(row.cycles for row in run.layers) == run.cycles
    assert sum(row.share for row in run.layers) == pytest.approx(1.0)


def test_the_energies_of_the_layers_sum_to_the_energy(run: Run):
    assert sum(row.energy_pj for row in run.layers) == pytest.approx(run.energy.total)
    assert run.energy_joules == pytest.approx(run.energy.total * 1e-12)


def test_a_layer_counts_its_work_and_its_traffic(run: Run):
    conv, pool = run.layers
    # 8 x 8 positions, 3 x 3 taps, 4 input and 8 output channels
    assert conv.macs == 8 * 8 * 9 * 4 * 8
    assert (conv.dram_read, conv.dram_written) == (3 * 3 * 4 * 8 + 8 * 8 * 4, 0)
    assert (pool.dram_read, pool.dram_written) == (0, 4 * 4 * 8 * 4)
    assert conv.engines == ("dma", "mxu")
    assert pool.utilization is None


def test_utilization_compares_with_the_peak_of_the_array(run: Run):
    # 18432 MACs at 256 a cycle are 72 cycles. Input channels fill half of the 8 lanes: 16 x 9
    # blocks of 4 positions x 8 channels = 144 cycles; the spm port needs (544 + 2048 B) / 16 = 162
    # and decides; + fill 16 = 178
    conv = run.layers[0]
    assert conv.busy["mxu"] == 178
    assert conv.utilization == 72 / 178


def test_the_peak_of_the_scratchpad_follows_from_the_operands(run: Run):
    assert run.profile.peak_spm == 8192 + 4 * 4 * 8 * 4


def test_time_follows_from_the_frequency(run: Run):
    assert run.seconds == run.cycles / 1e9


# Energy


def test_dynamic_energy_is_actions_times_their_cost():
    made = program([copy(dense("dram", 0, i8, [100]), dense("spm", 0, i8, [100]))])
    found = profile.of(made).energy
    # edge256: 64 pJ a byte of dram read, 1.26 of spm written
    assert found.dynamic["dram"] == pytest.approx(6400)
    assert found.dynamic["spm"] == pytest.approx(126)
    assert found.dynamic["array"] == 0


def test_leakage_is_watts_times_the_makespan(run: Run):
    # edge256: 2.1 mW of the spm at 1 GHz are 2.1 pJ a cycle
    assert run.energy.leakage["spm"] == pytest.approx(2.1 * run.cycles)


def test_the_clock_runs_while_an_engine_of_the_accelerator_is_busy():
    # two fills of 16 bytes: startup 16 + 1 cycle each, then 32 of latency that overlap the next;
    # 8 mW of clock are 8 pJ a cycle
    found = profile.of(program([fill("spm", 0, 16), fill("spm", 16, 16)]))
    assert found.cycles == 2 * 17 + 32
    assert found.energy.clock == pytest.approx(8 * found.cycles)


def test_the_clock_stands_still_while_only_the_host_works():
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="host", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    found = profile.of(program([op]))
    assert found.energy.clock == 0
    # 20 mW of the host for its 2160 cycles
    assert found.energy.dynamic["host"] == pytest.approx(20 * 2160)


def test_io_is_no_part_of_the_energy():
    o = dense("dram", 0, i8, [64])
    op = HostOp(place="io", function=0, inputs=[o], outputs=[o], macs=0, elements=64)
    assert profile.of(program([op])).energy.total == 0


def test_the_report_says_what_the_energy_covers(run: Run):
    assert "8 to 10 times under measured silicon" in energy.COVERS
    assert "trust ratios" in run.summary()["energy_covers"]


# Files


def test_the_summary_is_json_and_lists_instructions_when_traced(run: Run):
    found = json.loads(run.to_json())
    assert found["cycles"] == run.cycles
    assert [row["name"] for row in found["layers"]] == ["conv", "pool"]
    assert [i["op"] for i in found["instructions"]][2:4] == ["npu.conv2d", "npu.pool2d"]
    assert "instructions" not in simulate(convolve_and_pool(), X).summary()


def test_the_json_report_is_the_summary(run: Run, tmp_path: Path):
    run.save_report(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(run.to_json())


def test_a_report_of_another_kind_is_refused(run: Run, tmp_path: Path):
    with pytest.raises(
        CompileError, match=r"NPU0003.*a .html or .json file; found the suffix '.txt'"
    ):
        run.save_report(tmp_path / "r.txt")


def test_no_row_is_called_unknown(run: Run):
    for table in (report.layers(run), report.totals(run), report.engines(run)):
        assert not any("unknown" in cell.lower() for row in table for cell in row)


def test_tables_align_as_text():
    assert report.text([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d\n"
