"""The compiled tier's test of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llvmlite")

from npu_dialect.machine import Machine
from npu_dialect.npu.arrays import MatmulOp
from npu_dialect.npu.base import Values
from npu_dialect.runtime.compiled import selftest
from npu_dialect.runtime.compiled.builder import I8, Function
from npu_dialect.runtime.compiled.host import Host, detect
from npu_dialect.runtime.compiled.library import CACHE_VARIABLE, EMITTERS
from npu_dialect.runtime.compiled.records import ROUTINE, Address, Call
from npu_dialect.runtime.compiled.translate import LOWERINGS, Context


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing was tested."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    selftest.trusted.cache_clear()
    yield tmp_path / "routines"
    selftest.trusted.cache_clear()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Host]:
    """The tests that are made; all are passed."""
    made: list[Host] = []
    monkeypatch.setattr(selftest, "run", made.append)
    return made


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a routine that writes one byte of 1 wherever the result of a matmul goes."""

    def lower(values: Values, context: Context) -> Call:
        return Call(("wrong",), [Address.of(values.get("output") or values["partial"])])

    def emit(module: Any, symbol: str, host: Host) -> None:
        f = Function(module, symbol, ROUTINE)
        f.store(I8(1), f.pointer(f["record"], 0))
        f.done()

    monkeypatch.setitem(EMITTERS, "wrong", emit)
    monkeypatch.setitem(LOWERINGS, MatmulOp, lower)
    return replace(detect(), name="wrong")


def test_it_passes_on_this_machine():
    assert selftest.run(detect()) is None


def test_it_passes_without_special_instructions():
    assert selftest.run(detect("plain")) is None


def test_a_wrong_routine_is_found(wrong: Host):
    found = selftest.run(wrong)
    assert found
    assert found.startswith("sums of 1 products of the least bytes (npu.matmul): must give ")


def test_what_cannot_be_compiled_is_found(wrong: Host, monkeypatch: pytest.MonkeyPatch):
    def lower(values: Values, context: Context) -> Call:
        raise ZeroDivisionError("no code")

    monkeypatch.setitem(LOWERINGS, MatmulOp, lower)
    assert selftest.run(wrong) == "ZeroDivisionError: no code"


def test_a_byte_that_changes_beside_the_results_is_found(monkeypatch: pytest.MonkeyPatch):
    def execute(program: Any, machine: Machine, host: Host, folds: bool) -> None:
        for _, instruction, values in program.rows:
            instruction.execute(machine, values)
        machine.memories["acc"][-1] ^= 1

    monkeypatch.setattr(selftest, "_execute", execute)
    assert selftest.run(detect()) == "bytes of acc change that are not results"


def test_the_test_is_made_once_per_machine_and_version(empty_cache: Path, runs: list[Host]):
    host = detect()
    assert selftest.trusted(host)
    assert selftest.trusted(host)
    assert runs == [host]
    selftest.trusted.cache_clear()  # another process
    assert selftest.trusted(host)
    assert runs == [host]
    assert len(list(empty_cache.glob("*.tested"))) == 1


def test_the_test_is_made_again_when_the_code_changes(
    empty_cache: Path, runs: list[Host], monkeypatch: pytest.MonkeyPatch
):
    host = detect()
    assert selftest.trusted(host)
    selftest.trusted.cache_clear()
    monkeypatch.setattr(selftest, "version", lambda: "another")
    assert selftest.trusted(host)
    assert runs == [host, host]


def test_each_host_is_tested(empty_cache: Path, runs: list[Host]):
    hosts = [detect(), replace(detect(), features="")]
    assert all(map(selftest.trusted, hosts))
    assert runs == hosts


def test_a_tier_that_fails_is_not_trusted_and_is_tested_again(empty_cache: Path, wrong: Host):
    assert not selftest.trusted(wrong)
    assert not list(empty_cache.glob("*.tested"))


def test_a_folder_that_cannot_be_written_costs_another_test(
    empty_cache: Path, runs: list[Host], monkeypatch: pytest.MonkeyPatch
):
    empty_cache.parent.joinpath("file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(empty_cache.parent / "file"))
    assert selftest.trusted(detect())
    selftest.trusted.cache_clear()
    assert selftest.trusted(detect())
    assert len(runs) == 2


def test_a_host_prints_the_same_in_every_process():
    """What names the compiled routines on disk."""
    code = "from npu_dialect.runtime.compiled.host import detect; print(detect())"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        for seed in "12"
    ]
    assert runs[0].stdout == runs[1].stdout
