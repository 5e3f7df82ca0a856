"""The RUN lines of every .mlir test in this process: what `lit test` runs, many times faster."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from filecheck.main import main as filecheck
from harness import ROOT, TOOLS, ToolRun, run_in_process

TEST = ROOT / "test"


def run_lines(path: Path) -> list[str]:
    """The commands of a test, with continued lines joined."""
    lines = re.findall(r"//\s*RUN:\s*(.*)", path.read_text())
    return re.sub(r"\\\n", " ", "\n".join(lines)).splitlines()


def cases() -> list[object]:
    return [
        pytest.param(path, line, id=f"{path.relative_to(TEST)}-{number}")
        for path in sorted(TEST.rglob("*.mlir"))
        for number, line in enumerate(run_lines(path))
    ]


@pytest.mark.parametrize(("path", "line"), cases())
def test_run_line(path: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in expand(line, path, tmp_path).split("&&"):
        run = run_pipe(command)
        assert run.code == 0, f"{command}\n{run.out}\n{run.err}"


def expand(line: str, path: Path, scratch: Path) -> str:
    """lit's substitutions, those that our tests use."""
    table = {"%s": path, "%S": path.parent, "%t": scratch / "t", "%models": _models()}
    for name in sorted(table, key=len, reverse=True):
        line = line.replace(name, str(table[name]))
    return line


def _models() -> Path:
    return ROOT.parent / "shared" / "models"


def run_pipe(command: str) -> ToolRun:
    """A pipe of commands; it fails when one of them does."""
    run = ToolRun(0, "", "")
    for stage in command.split("|"):
        run = run_stage(shlex.split(stage), run.out)
        if run.code:
            return run
    return run


def run_stage(words: list[str], stdin: str) -> ToolRun:
    """One command; `not` in front turns its result around, `2>&1` joins its streams."""
    if words[0] == "not":
        run = run_stage(words[1:], stdin)
        return ToolRun(int(run.code == 0), run.out, run.err)
    joined = "2>&1" in words
    words = [w for w in words if w != "2>&1"]
    if words[0] == "filecheck":
        return run_filecheck(words, stdin)
    if words[0] == "rm":
        return ToolRun(0, "", "")
    assert words[0] in TOOLS, f"a RUN line must use {TOOLS} or filecheck, found {words[0]}"
    run = run_in_process(words[0], words[1:], stdin)
    return ToolRun(run.code, run.err + run.out, "") if joined else run


def run_filecheck(words: list[str], stdin: str) -> ToolRun:
    out = io.StringIO()
    before = sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            filecheck(words)
    except SystemExit as end:
        return ToolRun(int(end.code or 0), out.getvalue(), "")
    finally:
        sys.stdin = before
    return ToolRun(0, out.getvalue(), "")
