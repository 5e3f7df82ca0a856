"""The measure of live bytes, against a table of every address at every moment."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from npu_dialect.dtypes import i8
from npu_dialect.machine import Operand

FOLDER = str(Path(__file__).parent.parent / "benchmarks")
SIZE, STEPS = 24, 10
Access = tuple[str, Operand, int]
"""read or write, what, and for how many moments."""


@st.composite
def operands(draw: st.DrawFn) -> Operand:
    dims = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stride = draw(st.integers(dims[1], 5))
    address = draw(st.integers(0, SIZE - (dims[0] - 1) * stride - dims[1]))
    return Operand("spm", address, i8, dims, (stride, 1))


def live_bytes() -> Any:
    with mock.patch.object(sys, "path", [FOLDER, *sys.path]):
        return importlib.import_module("live_bytes")


accesses = st.lists(
    st.tuples(st.sampled_from(["read", "write"]), operands(), st.integers(1, 3)), max_size=STEPS
)


def addresses(operand: Operand) -> set[int]:
    (rows, columns), stride = operand.dims, operand.strides[0]
    return {operand.address + r * stride + c for r in range(rows) for c in range(columns)}


def reference(program: list[Access]) -> int:
    """Each buffer as a set of addresses, by joining sets until nothing changes."""
    buffers: list[tuple[set[int], int, int]] = []
    current: dict[int, int] = {}
    alias: dict[int, int] = {}
    for moment, (kind, operand, span) in enumerate(program):
        if kind == "write":
            buffers.append((addresses(operand), moment, moment + span))
            current |= dict.fromkeys(addresses(operand), len(buffers) - 1)
            continue
        found = {current[a] for a in addresses(operand) if a in current}
        found = {final(alias, number) for number in found}
        if found:
            parts = [buffers[number] for number in found]
            buffers.append(
                (
                    set[int]().union(*(p[0] for p in parts)),
                    min(p[1] for p in parts),
                    max(moment + span, *(p[2] for p in parts)),
                )
            )
            alias |= dict.fromkeys(found, len(buffers) - 1)
    lives = [b for number, b in enumerate(buffers) if number not in alias]
    return max(
        len(set[int]().union(*(a for a, begin, end in lives if begin <= moment < end)))
        for moment in range(STEPS + 3)
    )


def final(alias: dict[int, int], number: int) -> int:
    while number in alias:
        number = alias[number]
    return number


@given(accesses)
def test_the_greatest_live_sum_counts_each_address_once(program: list[Access]) -> None:
    buffers = live_bytes().Buffers(SIZE)
    for moment, (kind, operand, span) in enumerate(program):
        if kind == "write":
            buffers.write(operand, moment, moment + span)
        else:
            buffers.read(operand, moment + span)
    assert buffers.greatest_sum() == reference(program)
