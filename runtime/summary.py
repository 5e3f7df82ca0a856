"""A run as JSON values, for machines. docs/reports.md describes every field; their names stay."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from npu_dialect.runtime import power
from npu_dialect.runtime.energy import COVERS
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Profile

if TYPE_CHECKING:
    from npu_dialect.runtime.run import Run

SCHEMA = 1
"""Grows when a field is renamed, removed or means something else; not when one is added."""


def of(run: Run) -> dict[str, Any]:
    """Everything of a run but its outputs."""
    p = run.profile
    return {
        "schema": SCHEMA,
        "target": p.target.name,
        "entry": p.program.entry_name(),
        "operating_point": p.point.name if p.point else None,
        "states": [
            {"name": s.name, "type": s.type, "access": access, "bytes": s.operand.size}
            for s, access in p.program.used_states
        ],
        "frequency": p.target.frequency,
        "cycles": p.cycles,
        "seconds": p.seconds,
        "energy_joules": p.energy.joules,
        "energy_pj": {**asdict(p.energy), "total": p.energy.total},
        "energy_covers": COVERS,
        "average_watts": p.average_watts,
        "peak_watts": p.power.peak,
        "lower_bound": _bound(p),
        "critical": dict(p.critical),
        "macs": p.macs,
        "utilization": p.utilization,
        "dram_read": p.dram_read,
        "dram_written": p.dram_written,
        "peak_spm": p.peak_spm,
        "live_spm": int(p.occupancy.peak),
        "engines": [asdict(e) for e in p.engines],
        "layers": [_layer(layer) for layer in p.layers],
        "io": [_layer(layer) for layer in p.io],
        "placement": [asdict(row) for row in p.program.placement],
        "simulation": asdict(run.execution),
    } | ({"instructions": _instructions(p)} if run.trace else {})


def frames(rows: list[power.Frame]) -> list[dict[str, Any]]:
    """Operating points, one row each."""
    best = power.best(rows)
    return [
        {
            "operating_point": f.point.name,
            "voltage": f.point.voltage,
            "frequency": f.point.frequency,
            "seconds": f.seconds,
            "energy_joules": f.joules,
            "average_watts": f.average_watts,
            "peak_watts": f.peak_watts,
            "deadline": f.deadline,
            "meets": f.meets,
            "idle_joules": f.idle_joules,
            "frame_joules": f.frame_joules,
            "best": f is best,
        }
        for f in rows
    ]


def _bound(profile: Profile) -> dict[str, Any] | None:
    bound = profile.lower_bound
    if bound is None:
        return None
    return {
        "cycles": bound.cycles,
        "by": bound.binds,
        "ratio": profile.cycles / bound.cycles if bound.cycles else None,
        "resources": dict(bound.resources),
        "dram_bytes": bound.dram_bytes,
        "host": list(bound.host),
    }


def _layer(layer: Layer) -> dict[str, Any]:
    bound = layer.lower_bound
    derived = {
        "lower_bound": None if bound is None else {"cycles": bound.cycles, "by": bound.binds},
        "energy_pj": layer.energy_pj,
        "dram_bytes": layer.dram_bytes,
        "spm_bytes": layer.spm_bytes,
    }
    return asdict(layer) | derived


def _instructions(p: Profile) -> list[dict[str, Any]]:
    times = zip(p.timing.start.tolist(), p.timing.free.tolist(), p.timing.end.tolist(), strict=True)
    return [
        {"index": index, "op": op.name, "engine": op.engine, "start": s, "free": f, "end": e}
        for (index, op), (s, f, e) in zip(p.program.executed, times, strict=True)
    ]
