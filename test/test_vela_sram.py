"""What a program takes of one SRAM for its scratchpad and what lies behind the flash."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mapping import chain

from npu_dialect import api
from npu_dialect.runtime.program import Program

FOLDER = str(Path(__file__).parents[1] / "benchmarks")
with mock.patch.object(sys, "path", [FOLDER, *sys.path]):
    import vela_sram  # pyright: ignore[reportMissingImports]
    from vela_sram import Span  # pyright: ignore[reportMissingImports]

spans = st.builds(
    lambda low, size, begin, length: Span(low, low + size, begin, begin + length),
    *(st.integers(0, 60), st.integers(1, 40), st.integers(0, 20), st.integers(1, 9)),
)


@settings(max_examples=200, deadline=None)
@given(spans, st.lists(spans, max_size=12))
def test_a_tensor_lies_at_the_lowest_address_that_is_free_while_it_lives(
    span: Span, taken: list[Span]
):
    free = np.ones((400, 40), bool)
    for other in taken:
        free[other.low : other.high, other.begin : other.end] = False
    size = span.high - span.low
    lowest = next(
        low
        for low in range(0, 400, vela_sram.ALIGNMENT)
        if free[low : low + size, span.begin : span.end].all()
    )
    assert vela_sram.placed(span, taken) == Span(lowest, lowest + size, span.begin, span.end)


def compiled(target: str) -> Program:
    build = chain(target, 3)
    module = build.module(build.result)  # type: ignore[attr-defined]
    return api.build(module, options=api.Options(reproducer=None))


def test_inputs_and_outputs_lie_over_what_is_free():
    program = compiled("ethos_u55_256")
    read_only = program.machine.memories["dram"].read_only
    peak, behind = program.profile.peak_spm, program.dram_size - read_only
    assert peak <= vela_sram.in_one_sram(program) < peak + behind


def test_without_flash_only_the_scratchpad_counts():
    program = compiled("edge256")
    assert vela_sram.in_one_sram(program) == program.profile.peak_spm
