"""The instances of the benchmark fit, as they are said to."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

FOLDER = str(Path(__file__).parent.parent / "benchmarks")
CAPACITY = 1 << 20


def load(name: str) -> Any:
    with mock.patch.object(sys, "path", [FOLDER, *sys.path]):
        return importlib.import_module(name)


@pytest.mark.parametrize("kind", ["guillotine", "wheels", "long", "repeated"])
def test_the_solution_of_an_instance_is_valid(kind: str) -> None:
    for seed in range(5):
        made = load("allocation_kinds").make(kind, seed, CAPACITY)
        load("allocation").check(made.buffers, made.solution, CAPACITY)


def test_every_kind_is_tested() -> None:
    assert list(load("allocation_kinds").KINDS) == ["guillotine", "wheels", "long", "repeated"]


def test_an_instance_is_the_same_every_time() -> None:
    kinds = load("allocation_kinds")
    assert kinds.make("wheels", 3, CAPACITY) == kinds.make("wheels", 3, CAPACITY)
