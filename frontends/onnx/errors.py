"""How this importer refuses a model, and how one operator says that `graph` cannot express it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from npu_dialect.diagnostics import Code, CompileError, error

MAX_TEXT = 240

MAX_BYTES = 1 << 34
"""No tensor may be larger: 16 GiB, more than the address space of any target."""

MAX_MADE = 1 << 30
"""No constant that is worked out here (a range, a triangle, a mask) may be larger."""


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


def check_shape(shape: Sequence[int], itemsize: int, source: str, limit: int = MAX_BYTES) -> None:
    """Refuse negative and absurd dimensions; `limit` is in bytes."""
    if any(size < 0 for size in shape) or prod(shape) * itemsize > limit:
        raise refuse(
            Code.MODEL_MALFORMED,
            source,
            f"every dimension must be at least 0 and a tensor at most {limit >> 30} GiB",
            "x".join(map(str, shape)),
        )


def one_line(text: str) -> str:
    """`text` with its white space collapsed and its length bounded."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
