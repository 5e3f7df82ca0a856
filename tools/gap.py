"""Where the cycles of a program go that its bound does not ask for, so that they add up.

    cycles 235,737 = bound 128,514 of array x 1.83
      own     128,514  54.5 %  mxu: its work at its peak
      output   31,017  13.2 %  mxu: layers that wait for its output stage
      port      5,964   2.5 %  mxu: layers that wait for its port of the scratchpad
      stream    9,310   3.9 %  mxu: constants that it reads in dram
      tiles    26,361  11.2 %  mxu: what is beyond that, by how layers are cut (edges, fill, drain)
      chain    21,000   8.9 %  mxu idle: work of dma that it needs
      ...

The engine is the busiest one. `own` to `port` are of the bound, layer by layer, which knows no
mapping; `stream` is by how much instructions that read dram take longer than with their constants
in the scratchpad; `tiles` is the busy time that was simulated less these; the rest is the engine's
idle time, by what it waited for (`passes/idleness.py`). All are recomputed from the program, so
they can be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from npu_dialect.passes.idleness import idleness

if TYPE_CHECKING:
    from npu_dialect.bound import Bound
    from npu_dialect.runtime.program import Program

OWN = {"mxu": "array", "vpu": "vector", "dma": "dram"}
"""The resource that an engine's own work is, where it has one."""
WAITS = {
    "chain": "work of {} that it needs",
    "store": "results of {} that are on their way",
    "bytes": "{} still uses the bytes that are used again",
    "end": "what {} does after its last work",
}


@dataclass(frozen=True)
class Part:
    """Some of a program's cycles, and what they are for; below 0 where a bound is not reached."""

    kind: str
    cycles: float
    text: str


@dataclass(frozen=True)
class Gap:
    """All cycles of a program, in parts."""

    cycles: int
    bound: int
    binds: str
    parts: tuple[Part, ...]

    @property
    def ratio(self) -> float:
        """Cycles over the bound."""
        return self.cycles / self.bound if self.bound else 1.0

    @property
    def summary(self) -> str:
        """The parts beyond the engine's own work, the greatest first, as shares of all cycles."""
        found = sorted(self.parts[1:], key=lambda part: -part.cycles)
        shown = [f"{p.cycles / self.cycles:.0%} {p.text}" for p in found if p.cycles > 0]
        return "; ".join(shown[:4])

    def lines(self) -> Iterator[str]:
        """The table above."""
        yield f"cycles {self.cycles:,} = bound {self.bound:,} of {self.binds} x {self.ratio:.2f}"
        for part in self.parts:
            share = part.cycles / self.cycles if self.cycles else 0.0
            yield f"  {part.kind:7s} {part.cycles:12,.0f}  {share:6.1%}  {part.text}"


def gap(program: Program) -> Gap | None:
    """Where the cycles of a program go; None for one that was not lowered from a graph."""
    bound = program.profile.lower_bound
    if bound is None:
        return None
    instructions = [instruction for _, instruction in program.executed]
    if not instructions:
        return Gap(0, bound.cycles, bound.binds, ())
    found = idleness(instructions, program.profile.target, list(program.kernels))
    engine = found.engine
    parts = _of_bound(bound, engine)
    if engine == "mxu" and (streams := _streams(program)):
        parts.append(Part("stream", streams, "mxu: constants that it reads in dram"))
    beyond = found.busy - sum(part.cycles for part in parts)
    parts.append(Part("tiles", beyond, f"{engine}: {_beyond(engine)}"))
    for (cause, other), cycles in found.causes.most_common():
        text = WAITS[cause].format("its own" if other == engine else other)
        parts.append(Part(cause, cycles, f"{engine} idle: {text}"))
    return Gap(found.makespan, bound.cycles, bound.binds, tuple(parts))


def _streams(program: Program) -> int:
    """Cycles that instructions of the array take longer as they read dram."""
    profile, kernels, longer = program.profile, program.kernels, 0
    for cost, (_, op) in zip(profile.costs, program.executed, strict=True):
        if op.takes_dma:
            values = op.values()
            moved = {n: values[n] for n in ("weights", "params") if n in values}
            held = {n: replace(o, space="spm") for n, o in moved.items()}
            alone = op.with_values(**held, stream=None, row=None)
            longer += max(0, cost.cycles - alone.cost(profile.target, kernels).cycles)
    return longer


def _beyond(engine: str) -> str:
    """What an engine is busy with that the bound does not know."""
    if engine == "host":
        return "layers of the host, which the bound leaves out"
    return "beyond that, by how layers are cut (edges of tiles, fill, drain)"


def _of_bound(bound: Bound, engine: str) -> list[Part]:
    """What an engine is busy at least."""
    own = bound.resources.get(OWN.get(engine, ""), 0.0)
    found = [Part("own", own, f"{engine}: its work at its peak")]
    array, vector = engine == "mxu", engine == "vpu"
    output = port = 0.0
    for layer in bound.layers:
        work, wide = layer.resources["array"], layer.resources["spm"]
        has_vector = layer.resources["vector"] > 0
        if array:
            output += max(0.0, layer.output - work)
            if work and not has_vector:
                port += max(0.0, wide - max(work, layer.output))
        elif vector and not work:
            port += max(0.0, wide - layer.resources["vector"]) if has_vector else 0.0
    if output:
        found.append(Part("output", output, f"{engine}: layers that wait for its output stage"))
    if port:
        text = f"{engine}: layers that wait for its port of the scratchpad"
        found.append(Part("port", port, text))
    return found
