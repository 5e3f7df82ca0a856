"""Writing graph as TOSA, for other toolchains to take up: `npu-compile --emit tosa`.

Integers are the same bit for bit, or refused with the reason. What the rules say of an operation is
in docs/tosa.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp


def rules() -> dict[str, str]:
    """What is written for each operation of graph: its rule's text, by the operation's name."""
    from npu_dialect.tosa_export.ops import TOPICS
    from npu_dialect.tosa_export.registry import TABLE

    assert all(TOPICS), "importing the topics fills the table"
    return {kind.name: function.__doc__ or "" for kind, function in TABLE.items()}


def export(module: ModuleOp, *, is_open: bool = False) -> ModuleOp:
    """A module at level graph, before operations are grouped, in TOSA; see `exporter.export`."""
    from npu_dialect.tosa_export import exporter

    return exporter.export(module, is_open=is_open)
