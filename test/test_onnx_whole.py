"""Every tenth of the core tests that ship with onnx, compiled for `mobile4k` and simulated."""

from __future__ import annotations

import pytest
from onnx_suite import find, outcome
from onnx_support import SHARED

LIST = SHARED / "suites" / "onnx_in_scope_core.txt"
EVERY = 10

pytestmark = pytest.mark.skipif(not LIST.is_file(), reason=f"needs the list of tests {LIST}")


def sample() -> list[str]:
    return LIST.read_text().split()[::EVERY] if LIST.is_file() else []


@pytest.mark.parametrize("name", sample())
def test_a_compiled_node_gives_the_expected_outputs(name: str) -> None:
    if find(name) is None:
        pytest.skip(f"this onnx has no test {name}")
    assert outcome(name, seed=0).error == ""
