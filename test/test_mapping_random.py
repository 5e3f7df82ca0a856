"""Random legal mappings, not only those that the mapper chooses, change no bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import Case, check


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_random_legal_mapping_gives_the_same_bits_at_every_level(targets: Path, seed: int):
    check(Case.of(seed), targets)
