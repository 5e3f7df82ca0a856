"""The result of a run: outputs, time, energy, and where both went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_dialect import files
from npu_dialect.diagnostics import Code, error
from npu_dialect.machine import Array
from npu_dialect.runtime.energy import Energy
from npu_dialect.runtime.execution import Execution
from npu_dialect.runtime.layers import Layer
from npu_dialect.runtime.profile import Engine, Profile
from npu_dialect.runtime.timing import Timing

if TYPE_CHECKING:
    from npu_dialect.runtime.program import Program


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

    @staticmethod
    def without_data(program: Program, operating_point: str | None = None) -> Run:
        """Time and energy of a program that is not simulated: they do not depend on data. Raises
        CompileError (NPU0004, NPU0301, NPU0604).
        """
        profile = program.profile
        chosen = profile.at(operating_point) if operating_point else profile
        return Run({}, chosen, execution=Execution("none"))

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
        """Everything but the outputs, as JSON values (docs/reports.md)."""
        from npu_dialect.runtime import summary

        return summary.of(self)

    def to_json(self, fidelity: Mapping[str, Any] | None = None) -> str:
        """`summary` as text, with what quantization costs where that is given."""
        more = {"quantization": fidelity} if fidelity else {}
        return json.dumps(self.summary() | more, indent=2)

    def save_trace(self, path: str | Path) -> None:
        """Write a timeline for Perfetto or chrome://tracing, compressed where the name ends with
        `.gz`. Raises CompileError (NPU0002).
        """
        from npu_dialect.runtime import trace

        files.write_bytes(path, trace.to_bytes(self.profile, str(path)))

    def save_report(
        self,
        path: str | Path,
        *,
        baseline: Mapping[str, Any] | None = None,
        frames_per_second: float | None = None,
        name: str = "",
        fidelity: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a report: a web page (.html) or JSON (.json). `baseline` is the summary of another
        run to compare with, `name` what the page calls the program, `fidelity` what quantization
        costs (`Fidelity.to_json`). Raises CompileError (NPU0002, NPU0003).
        """
        suffix = Path(path).suffix
        if suffix not in (".html", ".json"):
            raise error(
                Code.FILE_KIND,
                "a report must be a .html or .json file",
                found=f"the suffix {suffix!r}",
                source=str(path),
            )
        if suffix == ".json":
            files.write_text(path, self.to_json(fidelity))
            return
        from npu_dialect.runtime import report_page

        files.write_text(path, report_page.html(self, baseline, frames_per_second, name, fidelity))
