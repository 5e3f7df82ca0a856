"""TFLite models to the graph dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npu_dialect.frontends.tflite.user_lowerings import lowering

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

__all__ = ["load", "lowering"]


def load(source: str | Path | bytes, shapes: Mapping[str, Sequence[int]] | None = None) -> ModuleOp:
    """The graph-level module of a TFLite model: a path, or the bytes of a file.

    `shapes` has sizes for the dimensions of inputs that are free in their signatures, by input. A
    model with several signatures becomes a module with an entry for each.

    Integers are those of TFLite's reference kernels, bit for bit (docs/tflite.md). Raises
    CompileError for a malformed model and for what cannot be imported. The package `tflite` is
    imported here and not before.
    """
    from npu_dialect.frontends.tflite import importer

    return importer.load(source, shapes or {})
