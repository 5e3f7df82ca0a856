"""Every instruction, type and shape class: the compiled tier leaves the memories as the plain one.

The cases are those of `instruction_matrix`. NPU_SIMULATOR_HOST compares code for another processor.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from instruction_matrix import GENERATORS, SIZES, Case, recipes
from tier_comparison import TARGET, Outcome, compare, translations

from npu_dialect.dtypes import u8
from npu_dialect.machine import Machine, Operand
from npu_dialect.npu.arrays import Conv2DOp, DepthwiseConv2DOp, MatmulOp
from npu_dialect.npu.base import Instruction
from npu_dialect.npu.copies import DmaCopyOp
from npu_dialect.npu.encoding import INSTRUCTIONS
from npu_dialect.npu.host import HostOp
from npu_dialect.npu.vectors import Pool2DOp, ReduceOp, VectorOp
from npu_dialect.runtime.compiled.emitters import contraction, winograd
from npu_dialect.runtime.compiled.host import detect
from npu_dialect.runtime.compiled.library import library
from npu_dialect.runtime.compiled.records import Table
from npu_dialect.runtime.compiled.runner import Runner
from npu_dialect.runtime.compiled.translate import translate

GROUPS = list(recipes())

OTHER_HOSTS = [h for h in ("avx512vnni", "plain") if detect().name != h]
"""Processors whose code this machine can run too, if slowly."""
OTHER_GROUPS = [
    (MatmulOp, "u8 i8"),
    (MatmulOp, "f32 f32"),
    (Conv2DOp, "i8 i8"),
    (DepthwiseConv2DOp, "u8 i8"),
    (VectorOp, "requantize.f32"),
    (ReduceOp, "f32 kernels"),
    (Pool2DOp, "i8 max"),
]
"""What is compared on those: what depends on the width of vectors most."""

NO_ROUTINE = {
    ("npu.conv2d", "it computes in f64"),
    ("npu.conv2d", "it has an operand without elements"),
    ("npu.conv2d", "its partial sums are not contiguous"),
    ("npu.depthwise_conv2d", "it computes in f64"),
    ("npu.depthwise_conv2d", "it has an operand without elements"),
    ("npu.depthwise_conv2d", "its partial sums are not contiguous"),
    ("npu.matmul", "it computes in f64"),
    ("npu.matmul", "it has an operand without elements"),
    ("npu.matmul", "its output overlaps an input"),
    ("npu.matmul", "its float operands have zero points"),
    ("npu.matmul", "its partial sums are not contiguous"),
    ("npu.scatter", "it takes a maximum or minimum"),
    ("npu.vector", "its output overlaps an input, shifted"),
    ("npu.vector", "its table of more than 256 elements has gaps"),
}
"""(instruction, reason) of what runs in the plain tier inside a compiled program."""

NOT_EXECUTED: set[tuple[str, str]] = set()
"""(instruction, problem) of what the plain tier cannot execute either."""

KNOWN_BUGS: dict[tuple[type[Instruction], str], str] = {}
"""Groups that fail, and why: each must fail until it is taken out of here."""


def parameters() -> list[Any]:
    """A row per group of cases."""
    return [
        pytest.param(
            cls,
            group,
            id=f"{cls.name[4:]}-{group}",
            marks=[pytest.mark.xfail(strict=True, reason=why)]
            if (why := KNOWN_BUGS.get((cls, group)))
            else [],
        )
        for cls, group in GROUPS
    ]


def cases(instruction: type[Instruction], group: str) -> list[Case]:
    return [recipe.case() for recipe in recipes()[instruction, group]]


@cache
def outcome(instruction: type[Instruction], group: str) -> Outcome:
    return compare(cases(instruction, group), detect())


@pytest.mark.parametrize(("instruction", "group"), parameters())
def test_the_compiled_tier_leaves_the_same_memories(instruction: type[Instruction], group: str):
    check(outcome(instruction, group))


def check(outcome: Outcome) -> None:
    failures = outcome.failures
    assert not failures, f"{len(failures)} failures\n" + "\n".join(failures[:10])


@pytest.mark.slow
@pytest.mark.parametrize("host", OTHER_HOSTS)
@pytest.mark.parametrize(
    ("instruction", "group"), OTHER_GROUPS, ids=[f"{c.name[4:]}-{g}" for c, g in OTHER_GROUPS]
)
def test_code_for_other_processors_leaves_the_same_memories(
    instruction: type[Instruction], group: str, host: str
):
    check(compare(cases(instruction, group), detect(host), threads=(1,)))


@pytest.mark.parametrize("instruction", [Conv2DOp, DepthwiseConv2DOp, MatmulOp])
@pytest.mark.parametrize("group", ["i8 i8", "f32 f32"])
def test_work_that_exceeds_the_cache_is_cut_into_pieces(
    instruction: type[Instruction], group: str, monkeypatch: pytest.MonkeyPatch
):
    """The pieces are made small, not the work large."""
    for name, size in (("IMAGE_BYTES", 1500), ("SUMS_BYTES", 1000), ("BLOCK", 5)):
        monkeypatch.setattr(contraction, name, size)
    monkeypatch.setattr(winograd, "IMAGE_BYTES", 1500)
    monkeypatch.setattr(winograd, "TILES", 1)
    check(compare(cases(instruction, group), detect()))


@pytest.mark.parametrize("instruction", [Conv2DOp, DepthwiseConv2DOp, MatmulOp])
def test_a_routine_calls_no_library_of_a_compiler(instruction: type[Instruction]):
    """Nothing finds those in a process: the call would be to address 0."""
    host = detect("plain")
    (first, *_) = cases(instruction, "f16 f16")
    tables = (s for job in translations(first, host) for s in job.translation.stretches)
    specs = {spec for table in tables if isinstance(table, Table) for spec in table.specs}
    called = {x for s in specs for x in re.findall(r"\b__\w+", library(host).assembly(s))}
    assert not called


def test_the_list_of_what_has_no_routine_is_complete():
    found = {row for group in GROUPS for row in outcome(*group).refused}
    assert found == NO_ROUTINE


def test_the_list_of_what_the_plain_tier_refuses_is_complete():
    found = {row for group in GROUPS for row in outcome(*group).illegal}
    assert found == NOT_EXECUTED


def test_every_instruction_has_cases():
    missing = [c.name for c in INSTRUCTIONS if c not in GENERATORS and c is not HostOp]
    assert not missing, (
        f"an instruction must have a generator of cases (instruction_matrix.py), "
        f"found none for {', '.join(missing)}"
    )
    assert {cls for cls, _ in GROUPS} == set(GENERATORS)


def test_an_instruction_without_a_routine_runs_in_the_plain_tier_and_is_reported():
    x = np.arange(64, dtype=np.uint8)
    blocks = [Operand.dense("dram", 100 * k, u8, [64]) for k in range(4)]
    host_task = HostOp(
        place="host", function=0, inputs=[blocks[1]], outputs=[blocks[2]], macs=0, elements=64
    )
    instructions = [
        DmaCopyOp(source=blocks[0], destination=blocks[1]),
        host_task,
        DmaCopyOp(source=blocks[2], destination=blocks[3]),
    ]
    machine = Machine(TARGET, SIZES["dram"], (), {0: lambda inputs: [inputs[0] + np.uint8(1)]})
    machine.view(blocks[0])[...] = x
    rows = [(i, i.values()) for i in instructions]
    translation = translate(rows, (), detect(), None)
    assert translation.fallbacks == {
        "npu.host": {"it runs an operation of the model on the host": 1}
    }
    assert translation.native == 2
    positions: list[int] = []

    def plain(position: int) -> None:
        positions.append(position)
        rows[position][0].execute(machine, rows[position][1])

    Runner(translation, machine, detect()).run(plain)
    assert positions == [1]
    assert (machine.view(blocks[3]) == x + 1).all()
