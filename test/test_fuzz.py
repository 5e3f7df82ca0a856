"""Random graphs, compiled for machines with little memory: every level gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fuzzing import Case, check
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_graph_gives_the_same_bits_at_every_level(targets: Path, seed: int):
    check(Case.of(seed), targets)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_graph_of_16_bit_activations_gives_the_same_bits(targets: Path, seed: int):
    check(replace(Case.of(seed), kinds="wide"), targets)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_larger_random_graph_gives_the_same_bits_at_every_level(targets: Path, seed: int):
    check(Case.of(seed, 40), targets)
