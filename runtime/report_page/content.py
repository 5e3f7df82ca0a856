"""What the page says: figures, sentences and rows, ready for the template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from npu_dialect.bound import RESOURCES
from npu_dialect.runtime import power, report
from npu_dialect.runtime.baseline import Comparison, Pair, Total, compare
from npu_dialect.runtime.buffers import KINDS
from npu_dialect.runtime.energy import COVERS
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.power import Frame
from npu_dialect.runtime.profile import Profile
from npu_dialect.runtime.program import PlacedOp
from npu_dialect.runtime.quantities import change, short, si, size
from npu_dialect.runtime.report_page import fidelity as fidelity_section
from npu_dialect.runtime.report_page import roofline
from npu_dialect.runtime.run import Run

Row = dict[str, Any]

MEANING = {
    "array": "the array multiplies at its own pace",
    "vector": "the vector unit computes at its own pace",
    "spm": "a port of the scratchpad is full",
    "dram": "bytes come from or go to dram",
    "acc": "sums enter or leave the accumulators",
    "output": "results pass the output stage of the array",
    "host": "the host works",
}
"""What bounds an instruction, in words."""

SECTIONS = (
    ("summary", "Summary"),
    ("baseline", "Baseline"),
    ("time", "Time"),
    ("timeline", "Timeline"),
    ("layers", "Layers"),
    ("roofline", "Roofline"),
    ("energy", "Energy"),
    ("fidelity", "Quantization"),
    ("placement", "Placement"),
    ("details", "Details"),
)


def of(
    run: Run,
    baseline: Mapping[str, Any] | None = None,
    frames_per_second: float | None = None,
    name: str = "",
    fidelity: Mapping[str, Any] | None = None,
) -> Row:
    """All that the template inserts, but the data of the timeline."""
    p = run.profile
    comparison = compare(baseline, run.summary()) if baseline else None
    plot, placement = roofline.svg(p), _placement(p.program.placement)
    noise = fidelity_section.of(fidelity) if fidelity else None
    absent = {
        "baseline": comparison,
        "roofline": plot,
        "placement": placement,
        "fidelity": noise,
    }
    return {
        "title": f"{_title(p, name)} on {p.target.name}",
        "description": p.target.description,
        "point": p.point,
        "sections": [(i, name) for i, name in SECTIONS if absent.get(i, True)],
        "tiles": list(_tiles(p)),
        "verdict": list(_verdict(p)),
        "comparison": _comparison(comparison) if comparison else None,
        "cycles": p.cycles,
        "critical": _critical(p),
        "resources": list(_resources(p)),
        "engines": p.engines,
        "bounds": [name for name in MEANING if any(c.bound == name for c in p.costs)],
        "kinds": [kind for kind in KINDS if any(b.kind == kind for b in p.buffers)],
        "layers": _layers(p),
        "roofline": plot,
        "roofline_notes": list(_roofline_notes(p)),
        "energy": _energy(p),
        "frames": _frames(p, frames_per_second),
        "covers": COVERS,
        "fidelity": noise,
        "placement": placement,
        "details": list(_details(run)),
    }


# --- the summary ----------------------------------------------------------------------------------


def _title(p: Profile, name: str) -> str:
    entry = p.program.entry_name()
    parts = [part for part in (name, "" if entry == "main" else entry) if part]
    return ", ".join(parts) or "A program"


def _tiles(p: Profile) -> Iterator[Row]:
    bound, spm = p.lower_bound, p.target.memories["spm"].size
    rate = f"{1 / p.seconds:,.0f} runs a second" if p.seconds else ""
    yield _tile("time", si(p.seconds, "s"), f"{p.cycles:,} cycles; {rate}")
    if bound and bound.cycles:
        note = f"at least {bound.cycles:,} cycles, by {bound.binds}"
        note += "; without the host" if bound.host else ""
        yield _tile("over the bound", f"{p.cycles / bound.cycles:.2f} ×", note)
    static = p.energy.static / p.energy.total if p.energy.total else 0.0
    yield _tile("energy", si(p.energy.joules, "J"), f"{static:.0%} leakage and clock")
    peak = f"peak {si(p.power.peak, 'W')}"
    yield _tile("mean power", si(p.average_watts, "W"), peak)
    yield _tile("array in use", f"{p.utilization:.1%}", f"of its peak; {si(p.macs, 'MAC')}")
    moved = p.dram_read + p.dram_written
    least = f"{moved / bound.dram_bytes:.2f} × the compulsory" if bound and bound.dram_bytes else ""
    yield _tile("dram", size(moved), least or f"{size(p.dram_read)} read")
    held = f"{size(p.occupancy.peak)} live at once"
    yield _tile(
        "scratchpad", f"{p.peak_spm / spm:.0%}", f"{size(p.peak_spm)} of {size(spm)}; {held}"
    )


def _tile(label: str, value: str, note: str) -> Row:
    return {"label": label, "value": value, "note": note}


def _verdict(p: Profile) -> Iterator[str]:
    """The page in a few sentences."""
    if not p.cycles:
        yield "The program takes no time."
        return
    parts = [f"{cycles / p.cycles:.0%} goes to {name}" for name, cycles in p.critical.items()]
    busiest = max(p.engines, key=lambda e: e.busy, default=None)
    name, part = (busiest.name, busiest.utilization) if busiest else ("none", 0.0)
    yield f"Of the time, {_and(parts[:3])}; the busiest engine, {name}, works {part:.0%} of it."
    bound = p.lower_bound
    if bound and bound.host:
        yield _on_the_host(len(bound.host), p.critical.get("host", 0) / p.cycles)
    elif bound and bound.cycles:
        yield _against(p, bound.cycles, bound.binds)
    top = sorted(p.layers, key=lambda layer: -layer.cycles)[:3]
    named = [
        f"{short(layer.name)} {layer.share:.0%} ({layer.bound})" for layer in top if layer.cycles
    ]
    if len(p.layers) > 1 and named:
        yield f"The layers that take the most: {_and(named)}."


def _on_the_host(layers: int, share: float) -> str:
    which = "1 layer runs" if layers == 1 else f"{layers} layers run"
    return (
        f"{which} on the host, which takes {share:.0%} of the time and is not in the bound; the "
        "placement says why."
    )


def _against(p: Profile, least: int, binds: str) -> str:
    ratio = p.cycles / least
    if ratio < 1.1:
        return f"That is within {ratio - 1:.0%} of what {binds} allows: only less work is faster."
    return (
        f"No program of this model takes less than {least:,} cycles on this machine, by {binds}; "
        f"the other {p.cycles - least:,} are waiting, or work that does not overlap."
    )


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)


# --- time -----------------------------------------------------------------------------------------


def _critical(p: Profile) -> list[Row]:
    return [
        {"name": n, "cycles": c, "share": c / p.cycles, "meaning": MEANING.get(n, "")}
        for n, c in p.critical.items()
    ]


def _resources(p: Profile) -> Iterator[Row]:
    bound = p.lower_bound
    if bound is None or not p.cycles:
        return
    for name in RESOURCES:
        cycles = bound.resources[name]
        yield {
            "name": f"least: {name}",
            "color": name,
            "cycles": round(cycles),
            "share": cycles / p.cycles,
            "width": round(min(100.0, 100 * cycles / p.cycles), 2),
            "note": "decides" if name == bound.binds else "",
        }


def _layers(p: Profile) -> list[Row]:
    most = max((layer.cycles for layer in p.layers), default=0) or 1
    lines = _lines(p)
    return [_layer(layer, most, lines.get(layer.name, ())) for layer in p.layers]


def _lines(p: Profile) -> dict[str, tuple[str, ...]]:
    """Lines of the user's code, by layer."""
    found: dict[str, dict[str, None]] = {}
    for record in p.program.debug:
        for each in record.lines:
            found.setdefault(record.layer, {}).update(dict.fromkeys(each))
    return {layer: tuple(lines) for layer, lines in found.items()}


def _layer(layer: Layer, most: int, lines: Sequence[str]) -> Row:
    least = layer.lower_bound.cycles if layer.lower_bound else 0
    others = [*lines, *(s for s in layer.sources if s != layer.name)]
    more = f" +{len(others) - 2}" if len(others) > 2 else ""
    return {
        "name": layer.name,
        "cycles": layer.cycles,
        "share": layer.share,
        "width": round(100 * layer.cycles / most, 1),
        "bound": layer.bound,
        "ratio": layer.cycles / least if least and layer.cycles else "",
        "ratio_says": f"{layer.cycles / least:.2f}" if least and layer.cycles else "",
        "macs": layer.macs,
        "macs_says": f"{layer.macs:,}" if layer.macs else "",
        "util": "" if layer.utilization is None else layer.utilization,
        "util_says": "" if layer.utilization is None else f"{layer.utilization:.0%}",
        "dram": layer.dram_bytes,
        "spm": layer.spm_bytes,
        "energy": layer.energy_pj * 1e-12,
        "watts": layer.average_watts,
        "peak": layer.peak_watts,
        "engines": " ".join(layer.engines),
        "sources": ", ".join(others[:2]) + more,
        "sources_all": "\n".join((layer.name, *others)),
    }


def _roofline_notes(p: Profile) -> Iterator[Row]:
    points = roofline.points(p)
    if not points:
        return
    ridge = roofline.ridge(p)
    left = [q for q in points if q.intensity is not None and q.intensity < ridge]
    yield {"name": "the ridge", "value": f"{ridge:,.0f} MAC/B"}
    yield {"name": "layers with array work", "value": f"{len(points):,}"}
    yield {"name": "left of that ridge", "value": f"{len(left):,}"}
    yield {"name": "their part of the time", "value": f"{sum(q.layer.share for q in left):.0%}"}


# --- energy ---------------------------------------------------------------------------------------

_ENERGY = {
    "array": "multiply-accumulates",
    "vector": "micro-operations of the vector unit and the output stage",
    "spm": "bytes of the scratchpad",
    "dram": "bytes of dram",
    "acc": "bytes of the accumulators",
    "host": "the host while busy",
}


def _energy(p: Profile) -> Row:
    e, total = p.energy, p.energy.total or 1.0
    parts = [_part(n, pj, total, f"b-{n}", _ENERGY.get(n, "")) for n, pj in e.dynamic.items()]
    leaking = ", ".join(f"{n} {pj / total:.1%}" for n, pj in e.leakage.items() if pj)
    parts.append(_part("leakage", sum(e.leakage.values()), total, "b-leakage", leaking))
    parts.append(_part("clock", e.clock, total, "b-clock", "clock tree and control"))
    shown = sorted((q for q in parts if q["joules"]), key=lambda q: -q["joules"])
    return {"total": e.joules, "parts": shown}


def _part(name: str, pj: float, total: float, color: str, meaning: str) -> Row:
    return {
        "name": name,
        "joules": pj * 1e-12,
        "share": pj / total,
        "color": color,
        "meaning": meaning,
    }


def _frames(p: Profile, per_second: float | None) -> Row:
    rows = power.frames(p, per_second) if p.target.power.operating_points else []
    best = power.best(rows)
    title = "The same program at other operating points"
    if per_second:
        title = f"{per_second:g} frames a second: race to idle, or slow and steady"
    return {
        "title": title,
        "rate": per_second,
        "rows": [_frame(f, best is f and per_second is not None) for f in rows],
        "note": _frames_note(p, per_second, best),
    }


def _frame(f: Frame, is_best: bool) -> Row:
    return {
        "name": f.point.name,
        "voltage": f.point.voltage,
        "frequency": f.point.frequency,
        "seconds": f.seconds,
        "joules": f.joules,
        "average": f.average_watts,
        "peak": f.peak_watts,
        "frame": f.frame_joules,
        "best": is_best,
        "says": "in time" if f.meets else "too late",
    }


def _frames_note(p: Profile, per_second: float | None, best: Frame | None) -> str:
    note = (
        "On the chip, dynamic energy follows the square of the voltage and leakage V·exp(1.83·V); "
        "dram and host keep their clocks and energies."
    )
    if per_second is None:
        return note
    gated = p.target.power.power_gating
    idle = "units are switched off" if gated else "units leak"
    found = "No point is in time. "
    if best is not None:
        found = f"The least energy in time: {best.point.name}, {si(best.frame_joules, 'J')}. "
    return f"{found}Between frames {idle}; waking up is free in this model. {note}"


# --- the baseline ---------------------------------------------------------------------------------


def _comparison(c: Comparison) -> Row:
    most = max((abs(pair.change("cycles")) for pair in c.layers), default=0) or 1
    before, after = c.before["cycles"], c.after["cycles"]
    other = "" if c.before["target"] == c.after["target"] else f" (on {c.before['target']})"
    speed = f"{before / after:.2f} ×" if after else "no"
    says = f"{before:,} cycles{other} became {after:,}: {speed} the speed"
    energy = change(c.after["energy_joules"], c.before["energy_joules"])
    energy = "the same energy" if energy == "=" else f"{energy} energy"
    same = sum(1 for pair in c.layers if pair.before and pair.after)
    return {
        "says": f"{says}, {energy}. {same} layers of {len(c.layers)} are in both.",
        "totals": [_total(t) for t in c.totals],
        "layers": [_pair(pair, most) for pair in c.layers],
    }


def _total(t: Total) -> Row:
    before, after = t.texts
    return {
        "name": t.name,
        "before": before,
        "after": after,
        "change": change(t.after, t.before),
        "verdict": {None: "", True: "better", False: "worse"}[t.is_better],
    }


def _pair(pair: Pair, most: float) -> Row:
    cycles, dram = pair.change("cycles"), pair.change("dram_bytes")
    joules = pair.change("energy_pj") * 1e-12
    part = 50 * abs(cycles) / most
    side = f"right:50%;width:{part:.1f}%" if cycles < 0 else f"left:50%;width:{part:.1f}%"
    bounds = [row["bound"] for row in (pair.before, pair.after) if row]
    return {
        "name": pair.name,
        "note": _note(pair),
        "before": pair.before["cycles"] if pair.before else 0,
        "after": pair.after["cycles"] if pair.after else 0,
        "change": cycles,
        "says": f"{cycles:+,}" if cycles else "=",
        "bar": side,
        "verdict": _better(cycles),
        "energy": f"{'+' if joules > 0 else ''}{si(joules, 'J')}" if joules else "=",
        "energy_value": joules,
        "dram": f"{'+' if dram > 0 else '-'}{size(abs(dram))}" if dram else "=",
        "dram_value": dram,
        "bound": " → ".join(dict.fromkeys(bounds)),
    }


def _note(pair: Pair) -> str:
    if pair.before is None:
        return "only now"
    if pair.after is None:
        return "only before"
    same = pair.before["name"] == pair.after["name"]
    return "" if same else f"was {pair.before['name']}"


def _better(grew: float) -> str:
    return "better" if grew < 0 else "worse" if grew > 0 else ""


# --- placement and details ------------------------------------------------------------------------


def _placement(rows: Sequence[PlacedOp]) -> Row | None:
    if not rows:
        return None
    groups: dict[tuple[str, str, str], list[PlacedOp]] = {}
    for row in rows:
        groups.setdefault((row.engine, row.rule, _reason(row)), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "host", -len(item[1])))
    return {"rows": rows, "groups": [_group(key, members) for key, members in ordered]}


def _reason(row: PlacedOp) -> str:
    """What is folded into many layers is one reason."""
    if row.engine == "folded" and row.reason.startswith("it is part of "):
        return "it is part of another operation"
    return row.reason


def _group(key: tuple[str, str, str], members: Sequence[PlacedOp]) -> Row:
    kinds = ", ".join(dict.fromkeys(m.op for m in members))
    engine, rule, reason = key
    return {
        "engine": engine,
        "rule": rule,
        "reason": reason,
        "count": len(members),
        "examples": kinds,
    }


def _details(run: Run) -> Iterator[tuple[str, report.Table]]:
    yield "Totals", report.totals(run)[1:]
    for name, table in (
        ("Inputs and outputs (outside the totals)", report.io(run)),
        ("Instructions in the plain tier", report.fallbacks(run)),
    ):
        if len(table) > 1:
            yield name, table
