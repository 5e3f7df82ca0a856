"""What single instructions cost, against closed forms and by hand."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest
from npu_programs import copy, dense, kernel_of, program

from npu_dialect import cost
from npu_dialect.cost import ArrayWork
from npu_dialect.dtypes import i8, i32
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.runtime import profile
from npu_dialect.target import Target, load_target, target_text

EDGE = load_target("edge256")


def systolic(kind: str, extents: str) -> str:
    """The file of a 32 x 32 systolic machine on which nothing but the array decides."""
    text = target_text("edge256")
    for old, new in (
        ("dot_product", kind),
        ("[4, 8, 8]", extents),
        ("[2, 8, 8]", extents),
        ("mxu = 16.0", "mxu = 4096.0"),
        ("mxu = 128.0", "mxu = 4096.0"),
        ("output_elements = 4 ", "output_elements = 1024 "),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("kind", "extents", "shape", "cycles"),
    [
        # SCALE-Sim 3.0.0, 32 x 32: a product of 128 x 128 x 128 takes 3,551 and 3,039 cycles
        ("weight_stationary", "[1, 32, 32]", (128, 128, 128), 3551),
        ("output_stationary", "[32, 32, 1]", (128, 128, 128), 3039),
        # ceil(K/R) ceil(N/C) (M + 2R + C - 2) - 1 = 2 x 3 x (50 + 94) - 1
        ("weight_stationary", "[1, 32, 32]", (50, 33, 65), 863),
        # ceil(M/R) ceil(N/C) (K + R + C - 2) - 1 = 2 x 3 x (33 + 62) - 1
        ("output_stationary", "[32, 32, 1]", (50, 33, 65), 569),
    ],
)
def test_one_instruction_that_is_a_whole_product_takes_the_closed_form_of_a_systolic_array(
    kind: str, extents: str, shape: tuple[int, int, int], cycles: int
):
    m, k, n = shape
    product = MatmulOp(
        input=dense("spm", 0, i8, [m, k]),
        weights=dense("spm", 1 << 17, i8, [k, n]),
        output=dense("spm", 1 << 18, i32, [m, n]),
        kernel=0,
        accumulate=0,
        x_zero=0,
        w_zero=0,
    )
    kernels = [kernel_of(i32, output=i32)]
    found = profile.of(program([product], kernels=kernels, target_toml=systolic(kind, extents)))
    assert found.cycles == found.engines[0].busy == cycles


def test_depthwise_work_pays_fill_and_drain_on_every_kind_of_array():
    work = ArrayWork("i8", 10, 9, 1, 16, 1000, 144, 160, depthwise=True)
    systolic_array = replace(EDGE.array, kind="weight_stationary")
    for array in (EDGE.array, systolic_array):
        found = cost.mac_cycles(replace(EDGE, array=array), work)
        assert found == (array.fill, 10 * 9 * 16 / array.depthwise_macs["i8"], array.drain)


@pytest.mark.parametrize(
    ("dims", "strides", "cycles"),
    [
        ([4, 100], [100, 1], 400 / 16),  # one run of 400 bytes: 25 beats of the scratchpad's port
        ([4, 100], [128, 1], 4 * 7),  # 4 runs of 100 bytes: 7 beats each
        ([100, 4], [1, 100], 400 / 16),  # the same bytes as the first, in another order
        ([4, 100], [0, 1], 4 * 7),  # a run of 100 bytes, read 4 times
        ([100, 4], [1, 0], 4 * 7),  # the same bytes and as often
    ],
)
def test_a_stream_pays_for_whole_beats_of_every_run(
    dims: list[int], strides: list[int], cycles: float
):
    source = Operand("spm", 0, i8, tuple(dims), tuple(strides))
    assert cost.port_cycles(EDGE, "spm", "dma", *source.runs) == cycles


@pytest.mark.parametrize(("run", "accesses"), [(1, 1), (32, 1), (33, 2), (64, 2)])
def test_a_run_in_dram_pays_for_whole_accesses(run: int, accesses: int):
    source = Operand("dram", 0, i8, (10, run), (1000, 1))
    found = cost.dma(EDGE, source, dense("spm", 0, i8, [10, run]))
    assert found.cycles == 16 + ceil(10 * accesses * 32 / 3.75)
    assert (found.latency, found.bound) == (500, "dram")
    assert (found.reads, found.writes) == ({"dram": 10 * run}, {"spm": 10 * run})


def test_a_copy_within_a_memory_reads_and_writes_through_one_port():
    op = copy(dense("spm", 0, i8, [64]), dense("spm", 64, i8, [64]))
    assert op.cost(EDGE, ()).cycles == 16 + 64 / 16 + 64 / 16


def test_energy_is_counts_times_the_table():
    op = copy(dense("dram", 0, i8, [100]), dense("spm", 64, i8, [100]))
    found = cost.energy_pj(op.cost(EDGE, ()), EDGE)
    dram, spm = EDGE.memories["dram"], EDGE.memories["spm"]
    assert found["dram"] == 100 * dram.read_pj
    assert found["spm"] == 100 * spm.write_pj
    assert sum(found.values()) == found["dram"] + found["spm"]


def test_the_host_is_no_faster_than_its_port():
    slow = replace(EDGE.memories["dram"], ports={"dma": 3.75, "host": 0.5})
    machine: Target = replace(EDGE, memories={**EDGE.memories, "dram": slow})
    assert cost.host(machine, 0, 0, 100, 0).cycles == EDGE.host.call + 200
    assert cost.host(EDGE, 0, 0, 160, 0).cycles == EDGE.host.call + 100
