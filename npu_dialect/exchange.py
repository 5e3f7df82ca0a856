"""Handing a model on to other toolchains: graph as TOSA, after what makes it small and integer.

module = npu.load("model.tflite")
tosa = exchange.to_tosa(module)
exchange.write_tosa("model.tosa.mlir", tosa)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_dialect import files, pipeline, tosa_export, universe
from npu_dialect.api import DEFAULT_TARGET, set_target
from npu_dialect.diagnostics import Code, error
from npu_dialect.levels import level
from npu_dialect.pipeline import DEFAULT_OPTIONS, Options, PassRun
from npu_dialect.tosa.text import to_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

FIRST_OF_MACHINE = "graph-narrow-sums"
"""The first step of the pipeline `graph` that is about how a machine computes, not about what."""


def tosa_pipeline() -> str:
    """What runs before a module is written as TOSA: the pipeline `graph` up to its placement."""
    specs = [step.spec for step in universe.PIPELINES["graph"]]
    return ",".join(specs[: specs.index(FIRST_OF_MACHINE)])


def to_tosa(
    module: ModuleOp,
    *,
    is_open: bool = False,
    options: Options = DEFAULT_OPTIONS,
    runs: list[PassRun] | None = None,
) -> ModuleOp:
    """The imported module in TOSA; it is simplified in place as for its target, edge256 by default.

    A target without floats gets the integer steps that it would run, one with floats keeps them.
    `runs` takes what the passes did. Raises CompileError (NPU0109) for what TOSA cannot express,
    NPU0206 for a module that is lowered already.
    """
    found = level(module)
    if found is not None:
        rule = "only a module as it was imported can be written as TOSA"
        raise error(Code.LEVEL, rule, found=f"level {found}", remedy="the model", source="tosa")
    if "npu.target" not in module.attributes:
        set_target(module, DEFAULT_TARGET)
    done = pipeline.run(module, tosa_pipeline(), options=options)
    if runs is not None:
        runs += done
    return tosa_export.export(module, is_open=is_open)


def tosa_text(module: ModuleOp) -> str:
    """The text of a module of TOSA, as `mlir-opt` reads it."""
    return to_text(module)


def write_tosa(path: str | Path, module: ModuleOp) -> None:
    """Write the text of a module of TOSA, with where operations come from."""
    files.write_text(path, to_text(module, locations=True))
