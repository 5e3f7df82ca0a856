"""The tutorial: its commands run, and its excerpts are what they print.

After a change that the tutorial shows: python -m npu_dialect.tools.docs
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import ROOT

from npu_dialect.tools.docs import excerpts
from npu_dialect.tools.docs.excerpts import Block, Excerpt, fits, mismatch
from npu_dialect.universe import PIPELINES

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Excerpt]:
    """The excerpts of the tutorial, after running it."""
    folder = tmp_path_factory.mktemp("tutorial")
    return list(excerpts.run(TUTORIAL.read_text(), folder))


def test_every_excerpt_is_what_its_command_prints(found: list[Excerpt]):
    wrong = {each.block.show: line for each in found if (line := mismatch(each)) is not None}
    assert not wrong, "run: python -m npu_dialect.tools.docs"


def test_every_excerpt_shows_something(found: list[Excerpt]):
    assert len(found) > 15
    assert all(set(each.block.text.split()) - {"..."} for each in found)


def test_every_block_of_ir_and_output_is_an_excerpt():
    blocks = excerpts.blocks(TUTORIAL.read_text())
    assert all(b.show is not None for b in blocks if b.language not in ("python", "bash"))


def test_the_tutorial_runs_every_pass_of_the_default_pipelines():
    text = TUTORIAL.read_text()
    run = {name for spec in re.findall(r" -p (\S+)", text) for name in spec.split(",")}
    default = {step.spec for steps in PIPELINES.values() for step in steps}
    assert default <= run


# How excerpts are compared


def excerpt(shown: str, output: str) -> Excerpt:
    return Excerpt(Block("text", shown, "*", (0, 0)), output)


@pytest.mark.parametrize(
    "shown", ["a\nb\nc\n", "a\n...\nc\n", "...\nb\n", "b\n", "a\nb\n", "...\n"]
)
def test_lines_in_order_are_an_excerpt(shown: str):
    assert mismatch(excerpt(shown, "a\nb\nc\n")) is None


@pytest.mark.parametrize("shown", ["c\na\n", "a\nc\n", "d\n", "a\nb\nc\nd\n", "...\nA\n"])
def test_other_lines_are_none(shown: str):
    assert mismatch(excerpt(shown, "a\nb\nc\n")) is not None


def test_dots_within_a_line_stand_for_anything():
    assert fits("%1 = x : (...) -> i8 ...", "%1 = x : (i32, i32) -> i8 loc(unknown)")
    assert not fits("%1 = x ...", "%2 = x : i8")
    assert not fits("%1 = (x)", "%1 = (x) : i8")


def test_a_command_of_another_tool_is_refused(tmp_path: Path):
    with pytest.raises(excerpts.DocumentError, match="must be one of npu-opt.* found rm"):
        list(excerpts.run("```bash\nrm -rf x\n```\n", tmp_path))


def test_a_command_that_fails_is_reported(tmp_path: Path):
    with pytest.raises(excerpts.DocumentError, match=r"npu-opt none.mlir\nerror\[NPU0001\]"):
        list(excerpts.run("```bash\nnpu-opt none.mlir\n```\n", tmp_path))


def test_an_excerpt_that_would_show_nothing_is_refused():
    with pytest.raises(excerpts.DocumentError, match="must show something, found no 'x'"):
        excerpts.excerpt("a\nb\n", "x")
