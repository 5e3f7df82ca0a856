"""What makes a ratio worth something: times, bytes and energies of a program, recounted from its
decoded instructions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import prod
from pathlib import Path

import pytest
from fuzzing import QUIET

from npu_dialect import api
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import ArrayInstruction
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.indexed import DmaGatherOp
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.program import Program

CASES = [
    ("cifar_resnet20_qdq_s8s8_pc", "edge256"),
    ("cifar_resnet20_qdq_s8s8_pc", "edge512"),
    ("ultraface_qdq_s8s8_pc", "headset2k"),
    ("winml_mnist_qdq_u8s8", "systolic32_ws"),
    ("winml_mnist_qdq_u8s8", "systolic32_os"),
    ("cct_cifar", "mobile4k"),
    ("silero_vad_16k_static", "mobile4k"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def profile(request: pytest.FixtureRequest, models: Path) -> Profile:
    """The profile of a program that was written and read."""
    name, target = request.param
    built = api.compile(models / f"{name}.onnx", target, options=QUIET)
    return Program.from_bytes(built.to_bytes()).profile


def decoded(profile: Profile) -> list[Instruction]:
    """Every executed instruction, without the conversion of inputs and outputs."""
    return [op for _, op in profile.program.executed if op.engine != "io"]


def size(operand: Operand) -> int:
    return prod(operand.dims) * operand.dtype.itemsize


def dram_bytes(op: Instruction) -> int:
    """What an instruction moves from and to dram; a gather moves the rows of its result."""
    fields = list(op.operand_fields())
    if isinstance(op, DmaGatherOp):
        values = op.values()
        moved = [o for n, _, o in fields if n != "source"]
        rows = size(values["destination"]) if values["source"].space == "dram" else 0
        return rows + sum(size(o) for o in moved if o.space == "dram")
    return sum(size(o) for _, _, o in fields if o.space == "dram")


def test_the_makespan_is_not_shorter_than_any_engine_is_busy(profile: Profile):
    busy: Counter[str] = Counter()
    for op, cost in zip((o for _, o in profile.program.executed), profile.costs, strict=True):
        if op.engine != "io":
            busy[op.engine] += cost.cycles
    assert busy == {engine.name: engine.busy for engine in profile.engines}
    assert max(busy.values()) <= profile.cycles


def test_an_engine_does_one_thing_at_a_time(profile: Profile):
    timing = profile.timing
    for members in profile.plan.members:
        free = [int(timing.free[i]) for i in members]
        starts = [int(timing.start[i]) for i in members]
        assert all(start >= before for start, before in zip(starts[1:], free, strict=False))


def test_the_bytes_counted_are_those_that_decoded_instructions_move(profile: Profile):
    assert profile.dram_read + profile.dram_written == sum(map(dram_bytes, decoded(profile)))


def test_the_bytes_moved_are_not_fewer_than_the_compulsory_ones(profile: Profile):
    bound = profile.lower_bound
    assert bound is not None
    assert sum(map(dram_bytes, decoded(profile))) >= bound.dram_bytes


def test_the_products_counted_are_those_of_decoded_instructions(profile: Profile):
    macs = 0
    for op in decoded(profile):
        if isinstance(op, ArrayInstruction):
            values = op.values()
            weights = values["weights"].dims
            outputs = values["output"] if "output" in values else values["partial"]
            is_depthwise = op.name == "npu.depthwise_conv2d"
            length = weights[0] if op.name == "npu.matmul" else prod(weights[:2])
            length *= weights[2] if len(weights) == 4 and not is_depthwise else 1
            macs += prod(outputs.dims) * length
    assert macs == profile.macs


def test_dynamic_energy_is_counts_times_the_table(profile: Profile):
    target = profile.target
    counted = [
        cost
        for (_, op), cost in zip(profile.program.executed, profile.costs, strict=True)
        if op.engine != "io"
    ]
    expected: defaultdict[str, float] = defaultdict(float)
    for cost in counted:
        for space, memory in target.memories.items():
            expected[space] += cost.reads.get(space, 0) * memory.read_pj
            expected[space] += cost.writes.get(space, 0) * memory.write_pj
        if cost.macs:
            expected["array"] += cost.macs * target.array.mac_pj[cost.mac_type]
        for kind, number in cost.micro_ops.items():
            expected["vector"] += number * target.vector.pj[kind]
        expected["host"] += cost.host_cycles * target.host.power / target.frequency * 1e12
    for name, energy in profile.energy.dynamic.items():
        assert energy == pytest.approx(expected[name], rel=1e-12, abs=1e-9)


def test_leakage_is_power_times_the_makespan(profile: Profile):
    target = profile.target
    watts = {
        **{name: memory.leakage for name, memory in target.memories.items()},
        "mxu": target.array.leakage,
        "vpu": target.vector.leakage,
        "dma": target.dma.leakage,
    }
    seconds = profile.cycles / target.frequency
    for name, energy in profile.energy.leakage.items():
        assert energy == pytest.approx(watts[name] * seconds * target.cores * 1e12, rel=1e-12)
