"""Many inputs through one program: order, memory, errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from npu_programs import W, X, convolve_and_pool, reference_conv

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.machine import Array
from npu_dialect.runtime import stream
from npu_dialect.runtime.simulator import Session
from npu_dialect.runtime.stream import AHEAD, default_jobs, map_inputs


def expected(x: Array) -> Array:
    sums = reference_conv(x, W, (8, 8), pads=(1, 1), x_zero=3)
    return sums.reshape(4, 2, 4, 2, 8).sum(axis=(1, 3))


def samples(count: int) -> list[Array]:
    generator = np.random.default_rng(0)
    return [generator.integers(-128, 127, X.shape, np.int8) for _ in range(count)]


@pytest.mark.parametrize("jobs", [None, 1, 2, 5])
def test_results_come_in_the_order_of_the_samples(jobs: int | None):
    given = samples(12)
    runs = list(map_inputs(convolve_and_pool(), ({"image": x} for x in given), jobs=jobs))
    assert len(runs) == 12
    for x, run in zip(given, runs, strict=True):
        assert (run.outputs["sums"] == expected(x)).all()


def test_a_session_streams_as_well():
    given = samples(3)
    found = [run.outputs["sums"] for run in Session(convolve_and_pool()).stream(given)]
    assert all((y == expected(x)).all() for x, y in zip(given, found, strict=True))


def test_the_api_has_it():
    (run,) = npu.simulate_all(convolve_and_pool(), [X], tier="plain", jobs=2)
    assert (run.outputs["sums"] == expected(X)).all()
    assert run.execution.tier == "plain"


@pytest.mark.parametrize("jobs", [1, 3])
def test_few_samples_are_in_memory_at_once(jobs: int):
    taken = 0

    def endless() -> Iterator[Array]:
        nonlocal taken
        while True:
            taken += 1
            yield X

    runs = map_inputs(convolve_and_pool(), endless(), jobs=jobs)
    for given in range(1, 8):
        assert (next(runs).outputs["sums"] == expected(X)).all()
        assert taken <= given + AHEAD * jobs
    runs.close()
    assert taken <= 7 + AHEAD * jobs


def test_no_more_sessions_are_made_than_samples_wait(monkeypatch: pytest.MonkeyPatch):
    made: list[Session] = []

    class Counted(Session):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # pyright: ignore
            made.append(self)

    monkeypatch.setattr(stream, "Session", Counted)
    assert len(list(map_inputs(convolve_and_pool(), samples(2), jobs=8))) == 2
    assert 1 <= len(made) <= 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sample_that_does_not_fit_is_an_error_at_its_turn(jobs: int):
    given = [*samples(3), X[:4], X]
    runs = map_inputs(convolve_and_pool(), given, jobs=jobs)
    assert all((next(runs).outputs["sums"] == expected(x)).all() for x in given[:3])
    with pytest.raises(
        CompileError, match=r"NPU0502.*image: the input must have shape \[8, 8, 4\]"
    ):
        next(runs)
    assert list(runs) == []


def test_what_samples_raise_ends_the_stream():
    def broken() -> Iterator[Array]:
        yield X
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        list(map_inputs(convolve_and_pool(), broken(), jobs=2))


def test_few_samples_are_not_worth_a_translation():
    made, given = convolve_and_pool(), samples(2)
    assert [run.execution.tier for run in map_inputs(made, given)] == ["plain", "plain"]
    chosen = Session(made).tier
    assert [run.execution.tier for run in map_inputs(made, iter(given))] == [chosen, chosen]


def test_no_samples_give_no_runs():
    assert list(map_inputs(convolve_and_pool(), [], jobs=2)) == []


def test_jobs_are_one_at_least():
    with pytest.raises(CompileError, match="NPU0004.: jobs: jobs must be at least 1; found 0"):
        list(map_inputs(convolve_and_pool(), [X], jobs=0))


def test_cores_are_shared_between_jobs_and_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "cores", lambda: 8)
    assert [default_jobs(threads) for threads in (1, 2, 16)] == [8, 4, 1]
