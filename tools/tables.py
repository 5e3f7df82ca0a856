"""The tables of npu-run, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from npu_dialect.compare import Comparison, Step
    from npu_dialect.ports import Array
    from npu_dialect.runtime.run import Run


def table(title: str, *columns: str, left: int = 1) -> Table:
    """An empty table; the first `left` columns are text, the others numbers."""
    result = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        is_text = index < left
        result.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    return result


def show_outputs(outputs: Mapping[str, Array]) -> None:
    """Print name, type, shape and range of every output."""
    rows = table("outputs", "name", "dtype", "shape", "least", "greatest", "argmax", left=3)
    for name, array in outputs.items():
        rows.add_row(name, str(array.dtype), str(list(array.shape)), *_range(array))
    Console().print(rows)


def _range(array: Array) -> tuple[str, ...]:
    if not array.size:
        return "", "", ""
    values = array.astype(np.float64)
    return f"{values.min():.6g}", f"{values.max():.6g}", str(int(values.argmax()))


def show_comparison(result: Comparison) -> None:
    """Print each tensor at each level, and where the levels first differ."""
    console = Console()
    columns = ("source", "levels", "verdict", "differ", "largest")
    rows = table("levels, layer by layer", *columns, left=3)
    for step in result.steps:
        rows.add_row(step.source, f"{step.before} -> {step.level}", *_verdict(step))
    console.print(rows)
    for level in ("graph", "tile", "npu"):
        step = result.first_difference(level)
        if step is not None:
            console.print(
                f"{level} first differs from {step.before} at {step.source}{list(step.first)}: "
                f"{step.values[0]:.9g} and {step.values[1]:.9g}"
            )
    console.print(_conclusion(result))


def _verdict(step: Step) -> tuple[str, str, str]:
    if not step.differing:
        return "same bits", "", ""
    verdict = "within tolerance" if step.agrees else "[red]differs[/red]"
    return verdict, f"{step.differing} of {step.elements}", f"{step.largest:.3g}"


def _conclusion(result: Comparison) -> str:
    levels = "agree bit for bit" if result.levels_agree else "[red]differ[/red]"
    text = f"graph, tile and npu {levels}"
    if not result.reference:
        return text + "; onnxruntime took no part (not an .onnx file)"
    reference = "within" if result.reference_agrees else "[red]not within[/red]"
    return f"{text}; {reference} the tolerance of onnxruntime"


def show_run(run: Run) -> None:
    """Print the layers of a run and its totals."""
    from npu_dialect.runtime import report

    console = Console()
    for title, rows in (("layers", report.layers(run)), ("totals", report.totals(run))):
        head, *body = rows
        grid = table(title, *head, left=2)
        for row in body:
            grid.add_row(*row)
        console.print(grid)
