"""PyTorch programs to the graph dialect; torch is imported when a function here is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect.frontends.torch.user_lowerings import lowering

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

__all__ = ["load", "load_file", "load_module", "lowering"]


def load(program: Any, shapes: Mapping[str, Sequence[int]] | None = None) -> ModuleOp:
    """The graph-level module of a `torch.export.ExportedProgram`.

    `shapes` are those of inputs whose sizes the program leaves free, by name. Raises CompileError
    for what cannot be imported: the operator, the path of the module that calls it, the line of the
    user's code, and what would work.
    """
    from npu_dialect.frontends.torch import importer

    return importer.load(program, shapes=shapes)


def load_file(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> ModuleOp:
    """The module of a `.pt2` file that `torch.export.save` wrote; `shapes` as in `load`."""
    from npu_dialect.frontends.torch import capture

    return load(capture.read(path), shapes)


def load_module(
    module: Any, example_inputs: Sequence[Any], example_kwargs: Mapping[str, Any] | None = None
) -> ModuleOp:
    """The module of an `nn.Module`, captured with example inputs.

    How it was captured, `non-strict` or `strict`, is the attribute `npu.capture`, and a remark.
    """
    from npu_dialect.frontends.torch import capture

    return capture.load(module, tuple(example_inputs), dict(example_kwargs or {}))
