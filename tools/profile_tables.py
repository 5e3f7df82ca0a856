"""The tables of time and energy, for a terminal of 80 columns and more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npu_dialect.runtime import power, report
from npu_dialect.runtime.baseline import Comparison, Pair
from npu_dialect.runtime.contention import Contention
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.power import Frame
from npu_dialect.runtime.quantities import change, shorts, si, size
from npu_dialect.runtime.run import Run
from npu_dialect.tools.tables import console, table

MOST_CHANGES = 15
"""Layers that a comparison lists: those that changed the most."""

MANY_LAYERS, LONGEST = 12, 3
"""From how many layers on the table is followed by those that take the most, and by how many."""

Column = tuple[str, Callable[[Layer], str]]

LAYER_COLUMNS: Sequence[Column] = (
    ("engines", lambda layer: " ".join(layer.engines)),
    ("cycles", lambda layer: f"{layer.cycles:,}"),
    ("share", lambda layer: f"{layer.share:.1%}"),
    ("x least", lambda layer: _ratio(layer)),
    ("util", lambda layer: "" if layer.utilization is None else f"{layer.utilization:.0%}"),
    ("dram", lambda layer: size(layer.dram_bytes)),
    ("energy", lambda layer: si(layer.energy_pj * 1e-12, "J")),
    ("bound", lambda layer: layer.bound),
)
"""What is said of each layer beside its name."""

DISPENSABLE = ("engines", "x least", "util")
"""Columns that make room for names on a narrow terminal, in this order."""

NAME_WIDTH = 28
"""Characters that the names of layers should have, if they are that long; longer ones lose their
middle where the line has no room."""


def _ratio(layer: Layer) -> str:
    least = layer.lower_bound.cycles if layer.lower_bound else 0
    return f"{layer.cycles / least:.2f}" if least and layer.cycles else ""


def show_run(run: Run) -> None:
    """Print the layers of a run, and its totals."""
    out = console()
    columns = fitting(run.layers, out.width)
    rows = table("\nlayers", ("layer", *(name for name, _ in columns)))
    room = out.width - sum(_width(run.layers, column) + 2 for column in columns)
    names = shorts((layer.name for layer in run.layers), max(NAME_WIDTH, room))
    for layer in run.layers:
        rows.add_row(names[layer.name], *(cell(layer) for _, cell in columns))
    out.print(rows)
    if len(run.layers) > MANY_LAYERS:
        longest = sorted(run.layers, key=lambda layer: -layer.cycles)[:LONGEST]
        told = ", ".join(f"{names[layer.name]} {layer.share:.1%}" for layer in longest)
        out.print(f"\nmost cycles: {told}", soft_wrap=True)

    _, *totals = report.totals(run)
    summary = table("\ntotals", ("", ""), text=2)
    for total in totals:
        summary.add_row(*total)
    out.print(summary)

    head, *fallbacks = report.fallbacks(run)
    if fallbacks:
        rows = table("\nin the plain tier", head, text=2)
        for row in fallbacks:
            rows.add_row(*row)
        out.print(rows)


def fitting(layers: Sequence[Layer], width: int) -> list[Column]:
    """The columns that leave the names of the layers enough of `width` characters."""
    names = min(NAME_WIDTH, max((len(layer.name) for layer in layers), default=0))
    columns = list(LAYER_COLUMNS)
    for dispensable in DISPENSABLE:
        if names + sum(_width(layers, column) + 2 for column in columns) <= width:
            break
        columns = [c for c in columns if c[0] != dispensable]
    return columns


def _width(layers: Sequence[Layer], column: Column) -> int:
    name, cell = column
    return max(len(name), *(len(cell(layer)) for layer in layers)) if layers else len(name)


def show_frames(frames: Sequence[Frame], per_second: float) -> None:
    """Print the operating points, and the best of them."""
    columns = ("point", "V", "clock", "time", "a run", "mean", "peak", "a frame", "in time")
    rows = table(f"\n{per_second:g} frames a second", columns)
    for f in frames:
        rows.add_row(
            *(f.point.name, f"{f.point.voltage:g}", si(f.point.frequency, "Hz")),
            *(si(f.seconds, "s"), si(f.joules, "J")),
            *(si(f.average_watts, "W"), si(f.peak_watts, "W"), si(f.frame_joules, "J")),
            "yes" if f.meets else "no",
        )
    out = console()
    out.print(rows)
    best = power.best(frames)
    if best is None:
        out.print("no operating point is in time")
        return
    mean = si(best.frame_joules * per_second, "W")
    out.print(f"best: {best.point.name}, {si(best.frame_joules, 'J')} a frame, {mean} on average")


def show_contention(cycles: int, found: Contention) -> None:
    """Print what sharing ports costs."""
    rows = table("\nwith shared ports", ("memory", "busy", "waited"))
    for space, busy in found.busy.items():
        rows.add_row(space, f"{busy:,}", f"{int(found.waited[space].sum()):,}")
    out = console()
    out.print(rows)
    out.print(f"{found.makespan:,} cycles, {change(found.makespan, cycles)}")


def show_comparison(comparison: Comparison) -> None:
    """Print what differs from the baseline: totals, and the layers that changed the most."""
    rows = table("\nagainst the baseline", ("total", "before", "now", "change"))
    for t in comparison.totals:
        rows.add_row(t.name, *t.texts, change(t.after, t.before))
    out = console()
    out.print(rows)
    changed = [pair for pair in comparison.layers if pair.change("cycles")]
    if not changed:
        out.print("no layer takes other cycles")
        return
    shown = changed[:MOST_CHANGES]
    left = f", {len(shown)} of {len(changed)}" if len(shown) < len(changed) else ""
    rows = table(f"\nlayers that changed{left}", ("layer", "before", "now", "cycles", "change"))
    for pair in shown:
        rows.add_row(pair.name, *_cells(pair))
    out.print(rows)


def _cells(pair: Pair) -> list[str]:
    before, after = (row["cycles"] if row else 0 for row in (pair.before, pair.after))
    says = change(after, before) if pair.before and pair.after else ""
    says = says or ("only now" if pair.after else "only before")
    return [f"{before:,}", f"{after:,}", f"{after - before:+,}", says]
