"""Documents whose commands run, and whose excerpts are what the commands print.

In a document, ```python blocks run in one namespace, and ```bash blocks hold lines of our tools;
all run in one empty folder. A block below a comment `show` is an excerpt of what the block before
it printed (of a bash block: its last command):

    <!-- show: graph.conv2d | graph.requantize -->
    ```mlir
    ...
        %4 = graph.conv2d %1, %2, %3 {strides = [1, 1], ...} : (...) -> tensor<1x16x8x8xi32>
    ```

It shows the lines that contain one of the texts between the bars (`*`: all); texts after `hide:`
are left out of them. What is left out, of the lines and within them, is marked `...`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

TOOLS = ("npu-opt", "npu-compile", "npu-run")

ELLIPSIS = "..."

WIDE = 100
"""Characters of a line beyond which types are left out of it."""

BLOCK = re.compile(
    r"(?:^<!-- show: (?P<show>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class DocumentError(Exception):
    """A document whose examples cannot be run."""


@dataclass(frozen=True)
class Block:
    """A fenced block; `span` is where its text stands in the document."""

    language: str
    text: str
    show: str | None
    span: tuple[int, int]


@dataclass(frozen=True)
class Excerpt:
    """A block that must be an excerpt of `output`."""

    block: Block
    output: str


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [
        Block(m["language"], m["text"], m["show"], m.span("text")) for m in BLOCK.finditer(document)
    ]


def commands(block: Block) -> list[list[str]]:
    """The commands of a bash block, as words. Raises DocumentError for one of no tool of ours."""
    lines = block.text.replace("\\\n", " ").splitlines()
    found = [words for line in lines if (words := shlex.split(line, comments=True))]
    for words in found:
        if words[0] not in TOOLS:
            raise DocumentError(f"a command must be one of {', '.join(TOOLS)}, found {words[0]}")
    return found


def run(document: str, folder: Path) -> Iterator[Excerpt]:
    """Run the examples of a document in `folder`; its excerpts, each with what was printed."""
    names: dict[str, Any] = {}
    output = ""
    with chdir(folder):
        for block in blocks(document):
            if block.show is not None:
                yield Excerpt(block, output)
            elif block.language == "python":
                output = _run_python(block, names)
            elif block.language == "bash":
                output = [_run_tool(words) for words in commands(block)][-1]


def _run_python(block: Block, names: dict[str, Any]) -> str:
    out = StringIO()
    with redirect_stdout(out):
        exec(compile(block.text, "<document>", "exec"), names)
    return out.getvalue()


def _run_tool(words: Sequence[str]) -> str:
    """What a tool prints, run inside this process. Raises DocumentError where it fails."""
    main = import_module(f"npu_dialect.tools.{words[0].replace('-', '_')}").main
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ):
        os.environ.pop("COLUMNS", None)  # lines are as wide as in a pipe, wherever this runs
        code = main(list(words[1:]))
    if code:
        raise DocumentError(f"{shlex.join(words)}\n{err.getvalue()}")
    return out.getvalue()


# --- writing excerpts -----------------------------------------------------------------------------


def refreshed(document: str) -> str:
    """The document with every excerpt taken anew. Raises DocumentError."""
    with TemporaryDirectory() as folder:
        found = list(run(document, Path(folder)))
    for each in reversed(found):
        start, end = each.block.span
        document = document[:start] + excerpt(each.output, each.block.show or "") + document[end:]
    return document


def excerpt(output: str, show: str) -> str:
    """The lines of `output` that `show` chooses, shortened; one `...` for those between."""
    choice, _, hide = show.partition(" hide: ")
    wanted, hidden = choice.split(" | "), hide.split(" | ") if hide else []
    lines = [line.rstrip() for line in output.splitlines()]
    shown: list[str] = []
    for line in lines:
        if "*" in wanted or any(text in line for text in wanted):
            shown.append(shortened(line, hidden))
        elif not shown or shown[-1].strip() != ELLIPSIS:
            shown.append(ELLIPSIS)
    while shown and not shown[-1]:
        shown.pop()
    if not any(line != ELLIPSIS for line in shown):
        raise DocumentError(f"an excerpt must show something, found no {show!r} in:\n{output}")
    return "".join(f"{line}\n" for line in shown)


SHORTER = (
    (re.compile(r'"([0-9a-f]{8})[0-9a-f]{56}"'), r'"\1..."'),
    (re.compile(r"(:f32:\d, \{[^,}]+), [^}]*\}"), r"\1, ...}"),
    (re.compile(r'(#graph\.placement<\w+, "[\w-]+", )"[^"]*"'), r"\1..."),
    (re.compile(r" \{npu\.tensors = .*$"), " {npu.tensors = ..."),
    (re.compile(r"npu\.placements = \[.*?\}\]"), "npu.placements = ..."),
    (re.compile(r"npu\.nodes = \[.*?\]"), "npu.nodes = ..."),
)
"""What says little and takes much room."""

TYPES = re.compile(r" : \(.*\) -> ")


def shortened(line: str, hidden: Sequence[str] = ()) -> str:
    """A line with `...` for what is `hidden`, for digests, lists of scales and reasons, and for the
    types of operands where the line is wide.
    """
    for text in hidden:
        line = line.replace(text, ELLIPSIS)
    for pattern, short in SHORTER:
        line = pattern.sub(short, line)
    return TYPES.sub(" : (...) -> ", line) if len(line) > WIDE else line


# --- checking excerpts ----------------------------------------------------------------------------


def mismatch(each: Excerpt) -> str | None:
    """The first line of an excerpt that is not what was printed, or None.

    Lines must follow one another as they do in the output, save where a line `...` stands.
    """
    lines = [line.rstrip() for line in each.output.splitlines()]
    shown = each.block.text.splitlines()
    at, free = 0, True
    for before, line in pairwise(["", *shown]):
        if line == ELLIPSIS:
            continue
        free = before == ELLIPSIS or at == 0
        found = next((i for i in range(at, len(lines)) if fits(line, lines[i])), None)
        if found is None or (found > at and not free):
            return line
        at = found + 1
    return None


def fits(shown: str, line: str) -> bool:
    """Whether a line is `shown`, with any text where that has `...`."""
    pieces = map(re.escape, shown.split(ELLIPSIS))
    return re.fullmatch(".*".join(pieces), line) is not None
