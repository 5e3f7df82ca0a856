"""The tables of a run, for terminals and as a self-contained web page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from npu_dialect.runtime.energy import COVERS
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.run import Run

Table = list[list[str]]
"""Rows of cells, the first being the header."""


LAYER_COLUMNS = [
    "layer",
    "engines",
    "cycles",
    "share",
    "busy",
    "MACs",
    "util",
    "dram B",
    "spm B",
    "energy nJ",
    "bound",
    "at least",
]


def totals(run: Run) -> Table:
    """One row per total."""
    p = run.profile
    dynamic = sum(p.energy.dynamic.values())
    return [
        ["total", "value"],
        ["target", p.target.name],
        ["cycles", f"{p.cycles:,}"],
        *lower_bound(p),
        ["time", f"{p.seconds * 1e6:,.2f} us"],
        ["energy", f"{p.energy.joules * 1e6:,.3f} uJ ({dynamic / p.energy.total:.0%} dynamic)"]
        if p.energy.total
        else ["energy", "0 uJ"],
        ["multiply-accumulates", f"{p.macs:,}"],
        ["array utilization", f"{p.utilization:.1%}"],
        ["dram read / written", f"{p.dram_read:,} / {p.dram_written:,} B"],
        *states(run),
        ["scratchpad peak", f"{p.peak_spm:,} of {p.target.memories['spm'].size:,} B"],
        ["simulated by", simulated_by(run)],
    ]


def states(run: Run) -> Table:
    """A row for what the entry keeps from run to run, if anything."""
    found = run.profile.program.used_states
    size = sum(binding.operand.size for binding, _ in found)
    names = ", ".join(f"{binding.name} ({access})" for binding, access in found)
    return [["states", f"{size:,} B: {names}"]] if found else []


def lower_bound(profile: Profile) -> Table:
    """Rows that compare the cycles with what the machine allows; none where that is not known."""
    bound = profile.lower_bound
    if bound is None:
        return []
    parts = ", ".join(f"{name} {cycles:,.0f}" for name, cycles in bound.resources.items())
    ratio = f"; {profile.cycles / bound.cycles:.2f} x" if bound.cycles else ""
    left_out = f"; {len(bound.host)} layers of the host left out" if bound.host else ""
    return [
        ["at least", f"{bound.cycles:,} cycles, by {bound.binds} ({parts}){ratio}{left_out}"],
        ["compulsory dram", f"{bound.dram_bytes:,} B"],
    ]


def simulated_by(run: Run) -> str:
    """The tier of a run, and how much of it was native code."""
    e = run.execution
    if e.tier != "compiled":
        return f"the tier {e.tier}"
    threads = f", {e.threads} threads" if e.threads > 1 else ""
    return f"the tier compiled, {e.native:,} of {e.instructions:,} instructions{threads}"


def fallbacks(run: Run) -> Table:
    """One row per reason why a compiled program leaves instructions to the plain tier."""
    rows = [
        [name, reason, f"{count:,}"]
        for name, reasons in run.execution.fallbacks.items()
        for reason, count in reasons.items()
    ]
    return [["instruction", "reason", "count"], *rows]


def layers(run: Run) -> Table:
    """One row per layer; cycles are the layer's part of the critical path."""
    return [LAYER_COLUMNS, *map(_layer, run.layers)]


def _layer(layer: Layer) -> list[str]:
    return [
        layer.name,
        " ".join(layer.engines),
        f"{layer.cycles:,}",
        f"{layer.share:.1%}",
        " ".join(f"{engine} {cycles:,}" for engine, cycles in layer.busy.items()),
        f"{layer.macs:,}" if layer.macs else "",
        "" if layer.utilization is None else f"{layer.utilization:.0%}",
        f"{layer.dram_bytes:,}",
        f"{layer.spm_bytes:,}",
        f"{layer.energy_pj / 1e3:,.1f}",
        layer.bound,
        f"{layer.lower_bound.cycles:,} {layer.lower_bound.binds}" if layer.lower_bound else "",
    ]


def engines(run: Run) -> Table:
    """One row per engine."""
    rows = [
        [e.name, f"{e.instructions:,}", f"{e.busy:,}", f"{e.utilization:.1%}"] for e in run.engines
    ]
    return [["engine", "instructions", "busy cycles", "of the makespan"], *rows]


def io(run: Run) -> Table:
    """One row per input or output that is converted, outside the totals."""
    rows = [[row.name, f"{sum(row.busy.values()):,}", f"{row.dram_bytes:,}"] for row in run.io]
    return [["input or output", "host cycles", "dram B"], *rows]


def energy(run: Run) -> Table:
    """Where the energy goes."""
    e = run.energy
    rows = [(f"{name} (dynamic)", pj) for name, pj in e.dynamic.items()]
    rows += [(f"{name} (leakage)", pj) for name, pj in e.leakage.items()]
    rows.append(("clock", e.clock))
    total = e.total or 1.0
    return [["energy", "nJ", "share"]] + [
        [name, f"{pj / 1e3:,.2f}", f"{pj / total:.1%}"] for name, pj in rows if pj
    ]


def placement(run: Run) -> Table:
    """One row per operation of the model."""
    rows = [
        [p.source, p.op, p.engine, p.layer, f"{p.cycles:,}", p.rule, p.reason]
        for p in run.profile.program.placement
    ]
    return [["source", "op", "engine", "layer", "cycles", "rule", "reason"], *rows]


def html(run: Run) -> str:
    """All tables as one page that needs nothing else."""
    sections = {
        "Totals": totals(run),
        "Layers": layers(run),
        "Engines": engines(run),
        "Energy": energy(run),
        "Inputs and outputs (outside the totals)": io(run),
        "Placement": placement(run),
        "Instructions in the plain tier": fallbacks(run),
    }
    body = "".join(_section(title, table) for title, table in sections.items() if len(table) > 1)
    title = f"NPU report: {escape(run.profile.target.name)}"
    return _PAGE.format(title=title, body=body, note=escape(COVERS))


def _section(title: str, table: Table) -> str:
    rows = "".join(_row(cells, "td") for cells in table[1:])
    head = _row(table[0], "th")
    content = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f"<h2>{escape(title)}</h2>{content}\n"


def _row(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(c)}</{tag}>' for c in cells)}</tr>\n"


def text(table: Sequence[Sequence[str]]) -> str:
    """A table as aligned text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table)
    return "".join(f"{line.rstrip()}\n" for line in lines)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ padding: .2em .8em; text-align: left; white-space: nowrap }}
th, td {{ border-bottom: 1px solid #8884 }}
td {{ font-variant-numeric: tabular-nums }}
</style></head><body>
<h1>{title}</h1>
{body}<p>{note}</p>
</body></html>
"""
