"""Arrays that read constants where they lie in dram."""

from __future__ import annotations

import re
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest

from npu_dialect import cost, rice
from npu_dialect.cost import ArrayWork
from npu_dialect.dtypes import i8, i32
from npu_dialect.machine import Operand
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.base import Wait
from npu_dialect.npu.copies import DmaFillOp
from npu_dialect.npu.verifier import ProgramImage, verify_program
from npu_dialect.target import Target, TargetError, parse_target, target_text


def with_port(name: str, width: float = 1.0) -> str:
    """The file of a target whose array reads constants in dram at so many bytes a cycle."""
    text = target_text(name)
    start = text.index("[memories.dram]")
    at = text.index("\nports = {", start)
    end = text.index("}", at)
    ports = re.sub(r" mxu = [\d.]+,", "", text[at:end]).replace("{", f"{{ mxu = {width},")
    return text[:at] + ports + text[end:]


def target(name: str, width: float = 1.0) -> Target:
    return parse_target(with_port(name, width), f"{name} with a port")


# --- what an instruction costs --------------------------------------------------------------------

PRODUCT = ArrayWork("i8", 4, 1, 128, 64, 512, 0, 256, dram_bytes=6144, decoded_bytes=8192)
"""4 x 128 by 128 x 64, whose weights are stored in 6,144 bytes."""
RAW = replace(PRODUCT, decoded_bytes=0)


@pytest.mark.parametrize("name", ["edge256", "ethos_u55_256"])
def test_an_array_that_reads_dram_is_as_slow_as_its_port(name: str):
    machine = target(name, 0.5)
    found = cost.array(machine, RAW)
    assert (found.cycles, found.bound) == (6144 / 0.5 + machine.array.fill, "dram")


def test_weights_are_decoded_no_faster_than_copies_of_them_are():
    machine = target("ethos_u55_256", 64.0)
    slow = replace(machine, dma=replace(machine.dma, decoded_bytes=0.25), digest="slow decoder")
    found = cost.array(slow, PRODUCT)
    assert (found.cycles, found.bound) == (8192 / 0.25, "decoder")


def test_what_comes_from_dram_is_read_there_and_nowhere_else():
    found = cost.array(target("edge256"), RAW)
    assert found.reads == {"spm": 512, "acc": 0, "dram": 6144}


def test_results_are_later_by_the_start_of_a_read():
    machine = target("edge256")
    held = replace(RAW, dram_bytes=0, weight_bytes=8192)
    apart = cost.array(machine, RAW).latency - cost.array(machine, held).latency
    assert apart == machine.memories["dram"].latency + machine.dma.startup


def test_an_array_that_goes_in_blocks_reads_weights_for_every_block_of_positions():
    machine = target("ethos_u55_256")
    work = ArrayWork(
        "i8", 96 * 96, 9, 32, 16, 98 * 98 * 32, 0, 96 * 96 * 16,
        rows=96, kernel=(3, 3), dram_bytes=4608,
    )  # fmt: skip
    found = cost.array(machine, work)
    rows, cols, _ = cost.ARRAY_KINDS["ethos_u55"].walk(machine, work).block  # type: ignore[misc]
    blocks = ceil(96 / rows) * ceil(96 / cols)
    assert blocks > 1
    assert found.reads["dram"] == 4608 * blocks


def test_many_instructions_that_read_dram_are_counted_as_each():
    machine = target("ethos_u55_256")
    sizes = [64, 4096, 100_000]
    works = [replace(PRODUCT, dram_bytes=s, decoded_bytes=2 * s) for s in sizes]
    many = replace(PRODUCT, dram_bytes=np.array(sizes), decoded_bytes=2 * np.array(sizes))  # type: ignore[arg-type]
    found = cost.array_stages(machine, many)
    for k, work in enumerate(works):
        one = cost.array_stages(machine, work)
        assert {n: int(np.broadcast_to(v, 3)[k]) for n, v in found.items()} == one


# --- targets --------------------------------------------------------------------------------------


def test_a_port_of_dram_lets_the_array_read_constants():
    assert target("edge256").array_reads_dram
    assert not parse_target(target_text("edge256"), "edge256").array_reads_dram


def test_only_constants_have_such_a_port():
    text = target_text("ethos_u55_256").replace("writable_ports = {", "writable_ports = { mxu = 1,")
    with pytest.raises(TargetError, match="writable_ports must name only dma, host, found mxu"):
        parse_target(text, "mine")


# --- the proof ------------------------------------------------------------------------------------


def image(**changes: Any) -> ProgramImage:
    """A product of zeros by coded weights that lie at 0x100, with fields of other values."""
    values: dict[str, Any] = {
        "input": Operand.dense("spm", 0, i8, (2, 64)),
        "weights": Operand("dram", 0x100, i8, (64, 10), (1, 64)),
        "partial": Operand.dense("acc", 0, i32, (2, 10)),
        **dict.fromkeys(("accumulate", "x_zero", "w_zero"), 0),
        "stream": STREAM.size,
        "row": 64,
    }
    product = MatmulOp(**values | {k: v for k, v in changes.items() if k in values})
    zeros = DmaFillOp(destination=values["input"], bits=0)
    return ProgramImage(
        [zeros, product.with_values(waits=[Wait(0, "dma", 1)])],
        (), [], [], changes.get("constants", [(0x100, STREAM.size)]), 4096,
        contents={0x100: STREAM.data},
    )  # fmt: skip


WEIGHTS = np.random.default_rng(0).normal(0, 9, 640).astype(np.int8)
STREAM = rice.encode(WEIGHTS, 64, rice.centres(WEIGHTS))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, ""),
        ({"stream": STREAM.size - 1}, f"must read the {STREAM.size} bytes of the elements"),
        ({"row": 32}, "bytes of the elements that it decodes"),
        ({"row": 0}, "a row must have elements, found 0"),
        ({"weights": Operand("dram", 0x100, i8, (64, 10), (1, 65))}, "must be dense"),
        ({"weights": Operand("dram", 0x101, i8, (64, 10), (1, 64))}, "must lie in one constant"),
        ({"weights": Operand.dense("spm", 0x100, i8, (64, 10))}, "a stream must lie in dram"),
        ({"constants": [(0x100, 9), (0x109, 991)]}, "weights in dram must lie in one constant"),
        ({"stream": 1 << 20}, "must lie in dram [0, 0x1000)"),
    ],
)
def test_npu_verify_proves_that_streams_are_whole_and_constant(changes: dict[str, Any], rule: str):
    machine = parse_target(with_port("ethos_u55_256"), "mine")
    small = {**machine.memories, "acc": replace(machine.memories["acc"], size=4096)}
    found = verify_program(image(**changes), replace(machine, memories=small))
    assert any(rule in str(f) for f in found) if rule else not found


def test_the_fields_of_a_stream_survive_the_encoding():
    product = image().instructions[1]
    again = MatmulOp.decode(product.encode())
    assert (again.values()["stream"], again.values()["row"]) == (STREAM.size, 64)
    assert [o.size for o in again.reads() if o.space == "dram"] == [STREAM.size]
