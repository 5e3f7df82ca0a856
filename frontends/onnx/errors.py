"""How this importer refuses a model, and how one operator says that `graph` cannot express it."""

from __future__ import annotations

from npu_dialect.diagnostics import Code, CompileError, error

MAX_TEXT = 240


class NotExpressible(Exception):  # noqa: N818  (control flow, not an error)
    """An operator importer gives up: the node becomes `graph.opaque`, with this reason."""


class Misfit(Exception):  # noqa: N818  (becomes a CompileError that names the node)
    """The inputs and attributes of a node contradict each other; the text says what was found."""


def refuse(code: Code, source: str, rule: str, found: str, remedy: str = "") -> CompileError:
    """The error of a model that cannot be imported; `rule` says what must hold."""
    return error(
        code,
        one_line(rule),
        found=one_line(found),
        remedy=one_line(remedy),
        source=one_line(source),
    )


def one_line(text: str) -> str:
    """`text` with its white space collapsed and its length bounded."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
