"""The list of Vela's operators in the docs is Vela's own, and all of them have a row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tflite")

from npu_dialect.frontends.tflite import ops, registry, variables
from npu_dialect.tools.docs.vela import ALL, MACHINES, U85_ONLY


def test_every_operator_that_vela_lists_has_a_row() -> None:
    assert ops.TOPICS
    assert not [n for n in MACHINES if n not in registry.TABLE and n not in variables.HANDLED]


def test_the_list_is_that_of_vela(tmp_path: Path) -> None:
    pytest.importorskip("ethosu.vela")
    tool = Path(sys.executable).parent / "vela"
    subprocess.run([tool, "--supported-ops-report"], cwd=tmp_path, check=True, capture_output=True)
    text = (tmp_path / "SUPPORTED_OPS.md").read_text()
    assert listed(text, "Ethos-U55 and Ethos-U65") == ALL
    assert listed(text, "Ethos-U85") == sorted((*ALL, *U85_ONLY))


def listed(text: str, machine: str) -> list[str]:
    """The first column of the summary of a machine, in order."""
    _, _, found = text.partition(f"## {machine} TFLite Summary Table")
    rows = found.partition("| --- | --- |\n")[2].partition("\n\n")[0].splitlines()
    return sorted(row.split("|")[1].strip() for row in rows)
