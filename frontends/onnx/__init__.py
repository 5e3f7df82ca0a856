"""ONNX models to the graph dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.frontends.onnx.model import Source


def load(
    source: Source,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, NDArray[np.generic]] | None = None,
) -> ModuleOp:
    """The graph-level module of an ONNX model.

    `source` is a path, the bytes of a file or an `onnx.ModelProto`. `shapes` binds the
    symbolic dimensions of inputs, by input name; `values` turns inputs into constants (for
    shapes, axes and bounds that a model takes at run time). Raises CompileError for a
    malformed model, one line each. The onnx package is imported here and not before.
    """
    from npu_dialect.frontends.onnx import importer

    return importer.load(source, shapes or {}, values or {})
