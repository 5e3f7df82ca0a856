"""The tables of npu-run, for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from npu_dialect.compare import Comparison, Step
    from npu_dialect.ports import Array
    from npu_dialect.tools.sample_run import Summary

PIPE_WIDTH = 120
"""Characters in a line where the output is no terminal and COLUMNS does not say."""


def console() -> Console:
    """Standard output, printing names as they are."""
    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = None if is_known else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False)


def table(title: str, columns: Sequence[str], *, text: int = 1) -> Table:
    """An empty table; the first `text` columns are words and may fold, the others are numbers."""
    result = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        if index < text:
            result.add_column(name, overflow="fold", min_width=min(16, max(4, len(name))))
        else:
            result.add_column(name, justify="right", no_wrap=True)
    return result


def show_outputs(outputs: Mapping[str, Array], title: str = "outputs") -> None:
    """Print name, type, shape and range of every output, or of what else `title` says."""
    rows = table(title, ("name", "dtype", "shape", "least", "greatest", "argmax"), text=3)
    for name, array in outputs.items():
        rows.add_row(name, str(array.dtype), str(list(array.shape)), *_range(array))
    console().print(rows)


def _range(array: Array) -> tuple[str, ...]:
    if not array.size:
        return "", "", ""
    values = array.astype(np.float64)
    return f"{values.min():.6g}", f"{values.max():.6g}", str(int(values.argmax()))


def show_samples(summary: Summary) -> None:
    """Print what became of a data set: outputs, samples per second, accuracy."""
    rows = table("outputs of all samples", ("name", "dtype", "shape"), text=3)
    for name, (dtype, shape) in summary.shapes.items():
        rows.add_row(name, dtype, str(shape))
    console().print(rows)

    figures = table("\nsamples", ("", ""), text=2)
    jobs = f" with {summary.jobs} jobs" if summary.jobs > 1 else ""
    figures.add_row("samples", f"{summary.samples:,} in {summary.seconds:,.2f} s{jobs}")
    figures.add_row("samples per second", f"{summary.rate:,.1f}")
    if summary.labels:
        right = f"{summary.labels.right:,} of {summary.samples:,}"
        figures.add_row("top-1 accuracy", f"{summary.labels.accuracy:.2%} ({right})")
    console().print(figures)


def show_comparison(result: Comparison) -> None:
    """Print each tensor at each level against the level before, and where they first differ."""
    out = console()
    levels = ("graph", "tile", "npu")
    rows = table("each tensor against the level before", ("tensor", *levels), text=4)
    for name in dict.fromkeys(step.source for step in result.steps):
        steps = {step.level: step for step in result.steps if step.source == name}
        rows.add_row(name, *(_verdict(steps.get(level)) for level in levels))
    out.print(rows)
    out.print("(= same bits, ~ within the tolerance, ! differs)\n")
    for level in levels:
        step = result.first_difference(level)
        if step is not None and (step.before != "onnxruntime" or not result.reference_agrees):
            out.print(_first(step))
    out.print(_conclusion(result))


def _verdict(step: Step | None) -> Text:
    if step is None:
        return Text("")
    if not step.differing:
        return Text(f"= {step.before}")
    if step.agrees:
        return Text(f"~ {step.before} (to {step.largest:.2g})", style="dim")
    counts = f"{step.differing} of {step.elements}, to {step.largest:.2g}"
    style = "yellow" if step.before == "onnxruntime" else "red"
    return Text(f"! {step.before} ({counts})", style=style)


def _first(step: Step) -> Text:
    place = f"{step.source}{list(step.first)}"
    values = f"{step.values[0]:.9g} became {step.values[1]:.9g}"
    return Text(f"{step.level} first differs from {step.before} at {place}: {values}", style="red")


def _conclusion(result: Comparison) -> str:
    levels = "agree bit for bit" if result.levels_agree else "DIFFER"
    text = f"graph, tile and npu {levels}"
    if not result.reference:
        return f"{text}; onnxruntime took no part, the model is no .onnx file"
    reference = "within" if result.reference_agrees else "NOT within"
    return f"{text}; outputs {reference} the tolerance of onnxruntime"
