"""Helpers of the tests: the command line tools inside the process."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("npu-opt", "npu-compile", "npu-run", "npu-bisect")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ToolRun:
    """What a command line tool did."""

    code: int
    out: str
    err: str


RunTool = Callable[..., ToolRun]


def run_in_process(tool: str, arguments: Sequence[str], stdin: str = "") -> ToolRun:
    """Run `npu-opt` and the like inside this process."""
    module = importlib.import_module(f"npu_dialect.tools.{tool.replace('-', '_')}")
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _call(module.main, arguments)
    finally:
        sys.stdin = before
    return ToolRun(code, out.getvalue(), err.getvalue())


def _call(main: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    try:
        return main(list(arguments))
    except SystemExit as end:  # --help
        return int(end.code or 0)
