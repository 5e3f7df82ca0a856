"""The result of a run: outputs, time, energy, and where both went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from npu_dialect import files
from npu_dialect.diagnostics import Code, error
from npu_dialect.machine import Array
from npu_dialect.runtime.energy import COVERS, Energy
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Engine, Profile
from npu_dialect.runtime.timing import Timing


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a program. Times and energies are those of `profile`: they do not depend on the
    data.
    """

    outputs: dict[str, Array]
    profile: Profile
    tensors: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """Intermediate tensors by the model's name, where the run was asked to keep them."""
    state: Mapping[str, Array] = field(default_factory=dict[str, Array])
    """What a single run (`simulate`) leaves in the states, by name; a session has its own."""
    trace: bool = False
    """Whether `summary` lists every instruction."""
    execution: Execution = field(default_factory=lambda: Execution("plain"))
    """How the instructions were simulated; outputs, times and energies do not depend on it."""

    def __repr__(self) -> str:
        names = ", ".join(self.outputs)
        energy = f"{self.energy_joules:.4g} J"
        return f"Run({self.profile.target.name}, {self.cycles:,} cycles, {energy}, outputs {names})"

    @property
    def cycles(self) -> int:
        """The makespan, without the conversion of inputs and outputs."""
        return self.profile.cycles

    @property
    def seconds(self) -> float:
        """The makespan at the target's frequency."""
        return self.profile.seconds

    @property
    def energy(self) -> Energy:
        """In pJ, by where it goes."""
        return self.profile.energy

    @property
    def energy_joules(self) -> float:
        """Dynamic and static energy. `energy.COVERS` says what that is worth."""
        return self.profile.energy.joules

    @property
    def layers(self) -> list[Layer]:
        """Per layer, in the order in which they end; their `cycles` sum to `cycles`, their energies
        to the energy.
        """
        return self.profile.layers

    @property
    def io(self) -> list[Layer]:
        """The conversion of inputs and outputs, which the totals leave out."""
        return self.profile.io

    @property
    def engines(self) -> list[Engine]:
        """Busy cycles and utilization per engine."""
        return self.profile.engines

    @property
    def timing(self) -> Timing:
        """Start and end of every instruction."""
        return self.profile.timing

    def summary(self) -> dict[str, Any]:
        """Everything but the outputs, as JSON values."""
        p = self.profile
        return {
            "target": p.target.name,
            "entry": p.program.entry_name(),
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
            "lower_bound": _bound_json(p),
            "macs": p.macs,
            "utilization": p.utilization,
            "dram_read": p.dram_read,
            "dram_written": p.dram_written,
            "peak_spm": p.peak_spm,
            "engines": [asdict(e) for e in p.engines],
            "layers": [_layer_json(layer) for layer in p.layers],
            "io": [_layer_json(layer) for layer in p.io],
            "placement": [asdict(row) for row in p.program.placement],
            "simulation": asdict(self.execution),
        } | ({"instructions": self._instructions()} if self.trace else {})

    def to_json(self) -> str:
        """`summary` as text."""
        return json.dumps(self.summary(), indent=2)

    def _instructions(self) -> list[dict[str, Any]]:
        p = self.profile
        times = zip(
            p.timing.start.tolist(), p.timing.free.tolist(), p.timing.end.tolist(), strict=True
        )
        return [
            {"index": index, "op": op.name, "engine": op.engine, "start": s, "free": f, "end": e}
            for (index, op), (s, f, e) in zip(p.program.executed, times, strict=True)
        ]

    def save_trace(self, path: str | Path) -> None:
        """Write a timeline for Perfetto or chrome://tracing. Raises CompileError (NPU0002)."""
        from npu_dialect.runtime import trace

        files.write_text(path, trace.to_json(self.profile))

    def save_report(self, path: str | Path) -> None:
        """Write a report: a web page (.html) or JSON (.json). Raises CompileError (NPU0002,
        NPU0003).
        """
        from npu_dialect.runtime import report

        suffix = Path(path).suffix
        if suffix not in (".html", ".json"):
            raise error(
                Code.FILE_KIND,
                "a report must be a .html or .json file",
                found=f"the suffix {suffix!r}",
                source=str(path),
            )
        files.write_text(path, self.to_json() if suffix == ".json" else report.html(self))


def _bound_json(profile: Profile) -> dict[str, Any] | None:
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


def _layer_json(layer: Layer) -> dict[str, Any]:
    bound = layer.lower_bound
    derived = {
        "lower_bound": None if bound is None else {"cycles": bound.cycles, "by": bound.binds},
        "energy_pj": layer.energy_pj,
        "dram_bytes": layer.dram_bytes,
        "spm_bytes": layer.spm_bytes,
    }
    return asdict(layer) | derived
