"""A sample of `benchmarks/fuzz_tflite.py`: files with random defects are refused, or compile."""

from __future__ import annotations

import pytest

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from fuzzing_checks import check_cases, check_sample
from tflite_fuzzing import outcome
from tflite_mutations import files, mutant, seeds

from npu_dialect.frontends import tflite

CASES = 150
EVERY = 30
"""Of these cases one is compiled, too."""


def test_files_with_defects_are_refused_in_a_line_or_imported() -> None:
    check_sample(outcome, CASES, EVERY)


def test_a_case_is_the_same_every_time() -> None:
    check_cases(mutant)


def test_what_mutations_start_from_are_models() -> None:
    for data in (*seeds(), *files()):
        tflite.load(data)
