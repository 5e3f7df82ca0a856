"""A sample of `benchmarks/fuzz_import.py`: models with random defects are refused, or compile."""

from __future__ import annotations

from fuzzing_checks import check_cases, check_sample
from import_fuzzing import outcome
from model_mutations import files, mutant, seeds
from onnx import ModelProto

CASES = 80
EVERY = 20
"""Of these cases one is compiled, too."""


def test_models_with_defects_are_refused_in_a_line_or_imported() -> None:
    check_sample(outcome, CASES, EVERY)


def test_a_case_is_the_same_every_time() -> None:
    check_cases(mutant)


def test_what_mutations_start_from_are_models() -> None:
    for data in (*seeds(), *files()):
        assert ModelProto.FromString(data).graph.node
