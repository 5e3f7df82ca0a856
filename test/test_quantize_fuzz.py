"""Random float graphs, quantized: nothing crashes, and every level gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzzing import QUIET, Case
from graph_samples import same
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError, collect
from npu_dialect.graph.interpret import run as run_graph
from npu_dialect.passes.quantizing.precision import lacking
from npu_dialect.passes.quantizing.schemes import SCHEMES
from npu_dialect.quantization import is_quantized
from npu_dialect.target import load_target


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def check(case: Case, scheme: str, targets: Path) -> None:
    """Quantizes a random graph with its inputs as the only sample."""
    module, inputs = case.module(targets)
    target = str(module.attributes["npu.target"].data)  # type: ignore[attr-defined]
    assume(not is_quantized(module) and not lacking(SCHEMES[scheme], load_target(target)))
    try:
        npu.quantize(module, npu.Quantization(scheme, [inputs]), options=QUIET)
    except CompileError as problem:
        assume("must be finite" not in str(problem))
        raise
    npu.lower(module, "graph", options=QUIET)
    expected = run_graph(module, inputs)
    npu.lower(module, options=QUIET)
    found = npu.simulate(npu.assemble(module), inputs).outputs.values()
    assert all(same(np.asarray(a), np.asarray(b)) for a, b in zip(expected, found, strict=True))


@settings(max_examples=16, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scheme=st.sampled_from(sorted(SCHEMES)))
def test_a_quantized_random_graph_gives_the_same_bits(targets: Path, seed: int, scheme: str):
    with collect(), np.errstate(all="ignore"):
        check(replace(Case.of(seed, 10), kinds="floats", spm=None), scheme, targets)
