"""The manual of the instruction set."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_dialect.kernel import MICRO_OPS
from npu_dialect.npu.base import Instruction, field_table
from npu_dialect.npu.encoding import INSTRUCTIONS
from npu_dialect.npu.manual import manual


def test_the_manual_in_docs_is_up_to_date(root: Path):
    written = (root / "docs" / "isa.md").read_text()
    assert written == manual(), "run: python -m npu_dialect.npu.manual > docs/isa.md"


@pytest.mark.parametrize("cls", INSTRUCTIONS, ids=lambda c: c.name)
def test_the_manual_has_every_instruction_and_field(cls: type[Instruction]):
    section = manual().split(f"### {cls.name}\n")[1].split("\n### ")[0]
    assert f"Opcode {cls.OPCODE}" in section
    assert "```" in section, "an instruction must show its syntax"
    for name in field_table(cls).keys() - {"core", "waits", "address_steps", "wait_steps"}:
        assert f"| `{name}` |" in section


def test_the_manual_has_every_micro_operation():
    text = manual()
    assert all(f"| {code} | `{name}` |" in text for code, name in enumerate(MICRO_OPS))
