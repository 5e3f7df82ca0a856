"""A few of torch's own samples of its operators; `benchmarks/torch_opinfo.py` runs all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("expecttest", reason="torch's samples need it")

import opinfo_suite  # noqa: E402
from opinfo_suite import Outcome  # noqa: E402

NAMES = (
    "__getitem__", "atan2", "bitwise_xor", "cumsum", "fft.rfft2", "gather", "grid_sampler_2d",
    "index_put", "linalg.vector_norm", "masked_scatter", "native_layer_norm",
    "nn.functional.avg_pool3d", "nn.functional.conv_transpose2d", "nn.functional.embedding_bag",
    "nn.functional.gelu", "nn.functional.interpolate.bilinear", "scatter_reduce.mean",
    "stft", "topk", "var", "where",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_samples_of_an_operator_run_on_the_accelerator(name: str) -> None:
    outcomes = opinfo_suite.outcomes(name, "mobile4k", limit=1, seconds=30)
    assert outcomes
    kinds = {(o.kind, o.reason) for o in outcomes if o.is_run}
    assert kinds == {("all-NPU", "")}


def test_a_sample_that_fails_is_an_outcome_with_its_reason() -> None:
    (outcome, *_) = [o for o in opinfo_suite.outcomes("nonzero", "mobile4k", 12, 30) if o.is_run]
    assert outcome.kind == "failed"
    assert "the size of a tensor must not depend on values" in outcome.reason


def test_a_sample_that_takes_too_long_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(opinfo_suite, "_compiled", slow)
    (outcome,) = opinfo_suite.outcomes("add", "mobile4k", 1, 1)
    assert (outcome.kind, outcome.reason) == ("failed", "more than 1 s")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("item", "gives no tensor"),
        ("empty", "memory whose values are not defined"),
        ("bernoulli", "results are random"),
    ],
)
def test_samples_that_are_no_test_are_counted_apart(name: str, reason: str) -> None:
    (outcome,) = opinfo_suite.outcomes(name, "mobile4k", 1, 30)
    assert (outcome.kind, outcome.reason) == ("apart", reason)


def test_an_operator_without_floats_is_tested_with_integers() -> None:
    assert opinfo_suite.dtype_of("bitwise_and") is torch.int64
    assert opinfo_suite.dtype_of("add") is torch.float32


def test_operators_of_aten_are_found_by_name_and_by_alias() -> None:
    assert opinfo_suite.of_operator("relu") == ["nn.functional.relu"]
    assert opinfo_suite.of_operator("_softmax") == ["softmax", "nn.functional.softmin"]
    assert opinfo_suite.of_operator("no_such_operator") == []


def test_an_outcome_counts_unless_it_is_apart() -> None:
    failed = Outcome("add", 0, "failed", "why")
    assert failed.is_run and not failed.is_passed
    assert not dataclasses.replace(failed, kind="apart").is_run
    assert dataclasses.replace(failed, kind="host").is_passed
