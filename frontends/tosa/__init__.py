"""TOSA in MLIR's text to the graph dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

_OPERATION = re.compile(r'(?:^|[{}])\s*(?:%[\w$.#:, %-]+=\s*)?"?tosa\.[a-z_0-9]+', re.MULTILINE)
"""An operation at the start of a line or of a block, with or without results."""


def holds(text: str) -> bool:
    """Whether text of MLIR has operations of TOSA."""
    return "tosa." in text and _OPERATION.search(text) is not None


def load(
    text: str,
    name: str = "<text>",
    shapes: Mapping[str, Sequence[int]] | None = None,
    line: int = 0,
) -> ModuleOp:
    """The graph-level module of TOSA 1.0 in MLIR's text; `line` is where it begins in its file.

    Integers are those of TOSA's specification, bit for bit (docs/tosa.md). `shapes` are those of
    inputs whose types leave dimensions open. Raises CompileError for text that is malformed and for
    what cannot be imported.
    """
    from npu_dialect.frontends.tosa import importer
    from npu_dialect.tosa.text import parse

    return importer.load(parse(text, name, line), name, shapes or {})
