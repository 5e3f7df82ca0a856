"""A sample of `benchmarks/fuzz_tflite.py`: files with random defects are refused, or compile."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_fuzzing import outcome
from tflite_mutations import files, mutant, seeds

from npu_dialect.frontends import tflite

CASES = 150
EVERY = 30
"""Of these cases one is compiled, too."""


def test_files_with_defects_are_refused_in_a_line_or_imported() -> None:
    found = {k: outcome(20_000 + k, compile=k % EVERY == 0) for k in range(CASES)}
    bad = {k: text for k, text in found.items() if text not in ("refused", "imported", "compiled")}
    assert not bad
    counts = Counter(found.values())
    assert counts["refused"] > CASES / 4
    assert counts["imported"] + counts["compiled"] > CASES / 10


def test_a_case_is_the_same_every_time() -> None:
    assert mutant(7) == mutant(7)
    assert len({mutant(k) for k in range(50)}) > 45


def test_what_mutations_start_from_are_models() -> None:
    for data in (*seeds(), *files()):
        tflite.load(data)
