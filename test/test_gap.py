"""Where the cycles of a program go (tools/gap.py)."""

from __future__ import annotations

from collections import Counter

import pytest
from test_mapping import chain

from npu_dialect import api, pipeline
from npu_dialect.runtime.program import Program
from npu_dialect.tools.gap import Gap, gap


@pytest.fixture(scope="module", params=["edge256", "headset2k"])
def program(request: pytest.FixtureRequest) -> Program:
    build = chain(request.param, 4)
    module = build.module(build.result)  # type: ignore[attr-defined]
    pipeline.run(module, "graph-bound")
    return api.compile(module)


@pytest.fixture(scope="module")
def found(program: Program) -> Gap:
    found = gap(program)
    assert found is not None
    return found


def test_the_parts_add_up_to_the_cycles_that_are_simulated(program: Program, found: Gap):
    assert sum(part.cycles for part in found.parts) == pytest.approx(program.profile.cycles)
    assert found.cycles == program.profile.cycles


def test_what_the_bound_knows_of_the_busiest_engine_is_told_first(program: Program, found: Gap):
    bound = program.profile.lower_bound
    assert bound is not None
    busy = {engine.name: engine.busy for engine in program.profile.engines}
    busiest = max(busy, key=busy.__getitem__)
    kinds: Counter[str] = Counter()
    for part in found.parts:
        kinds[part.kind] += round(part.cycles)
    known = sum(kinds[kind] for kind in ("own", "output", "port"))
    assert known == pytest.approx(bound.engines[busiest], abs=2)
    assert known + kinds["tiles"] == pytest.approx(busy[busiest], abs=2)


def test_the_summary_names_the_greatest_part_beyond_the_engines_own_work(found: Gap):
    most = max(found.parts[1:], key=lambda part: part.cycles)
    assert found.summary.startswith(f"{most.cycles / found.cycles:.0%} {most.text}")


def test_a_program_without_a_bound_has_no_gap(program: Program):
    bare = Program.from_bytes(program.to_bytes())
    bare.metadata.clear()  # type: ignore[attr-defined]
    assert gap(bare) is None
