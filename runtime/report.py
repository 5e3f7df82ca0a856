"""The tables of a run as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.quantities import si
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
        *operating_point(p),
        ["cycles", f"{p.cycles:,}"],
        *lower_bound(p),
        ["time", si(p.seconds, "s", 4)],
        ["energy", f"{si(p.energy.joules, 'J', 4)} ({dynamic / p.energy.total:.0%} dynamic)"]
        if p.energy.total
        else ["energy", "0 J"],
        ["power", f"{si(p.average_watts, 'W')} on average, {si(p.power.peak, 'W')} at most"],
        ["multiply-accumulates", f"{p.macs:,}"],
        ["array utilization", f"{p.utilization:.1%}"],
        ["dram read / written", f"{p.dram_read:,} / {p.dram_written:,} B"],
        *states(run),
        ["scratchpad peak", f"{p.peak_spm:,} of {p.target.memories['spm'].size:,} B"],
        ["simulated by", simulated_by(run)],
    ]


def operating_point(profile: Profile) -> Table:
    """A row for another operating point than that of the target's tables."""
    point = profile.point
    if point is None:
        return []
    return [["operating point", f"{point.name}: {point.voltage:g} V, {si(point.frequency, 'Hz')}"]]


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
    count = len(bound.host)
    left_out = f"; {count} layer{'s' * (count > 1)} of the host left out" if count else ""
    return [
        ["at least", f"{bound.cycles:,} cycles, by {bound.binds} ({parts}){ratio}{left_out}"],
        ["compulsory dram", f"{bound.dram_bytes:,} B"],
    ]


def simulated_by(run: Run) -> str:
    """The tier of a run, and how much of it was native code."""
    e = run.execution
    if e.tier == "none":
        return "nothing: times only"
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


def text(table: Sequence[Sequence[str]]) -> str:
    """A table as aligned text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table)
    return "".join(f"{line.rstrip()}\n" for line in lines)
