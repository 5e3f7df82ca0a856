"""Two runs side by side: what became faster, slower, smaller or greater, by layer and in all.

Runs are compared by their JSON summaries (`npu-run --json`, `--report r.json`), so that one may be
of another program, target or version of the compiler. Layers are the same where they have the same
name; else where they share the most nodes of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from npu_dialect import files
from npu_dialect.diagnostics import Code, error
from npu_dialect.runtime.quantities import si, size

Summary = Mapping[str, Any]

NEEDED = ("target", "cycles", "seconds", "energy_joules", "layers")
"""Fields that a summary must have to be compared with."""

TOTALS = (
    ("cycles", "cycles"),
    ("seconds", "time"),
    ("energy_joules", "energy"),
    ("dram_read", "dram read"),
    ("dram_written", "dram written"),
    ("peak_spm", "scratchpad peak"),
    ("macs", "multiply-accumulates"),
    ("utilization", "array utilization"),
)
"""Fields of a summary that are compared, and what they are called."""


@dataclass(frozen=True)
class Total:
    """One figure of two runs."""

    field: str
    name: str
    before: float
    after: float

    @property
    def texts(self) -> tuple[str, str]:
        """Before and after, as people read them."""
        return self._text(self.before), self._text(self.after)

    @property
    def is_better(self) -> bool | None:
        """Whether the newer run has less, or uses more; None where it does not matter."""
        if self.field == "macs" or self.before == self.after:
            return None
        return (self.after > self.before) == (self.field == "utilization")

    def _text(self, value: float) -> str:
        if self.field in _UNITS:
            return si(value, _UNITS[self.field])
        if self.field in _SIZES:
            return size(value)
        return f"{value:.1%}" if self.field == "utilization" else f"{value:,.0f}"


_UNITS = {"seconds": "s", "energy_joules": "J"}
_SIZES = ("dram_read", "dram_written", "peak_spm")


@dataclass(frozen=True)
class Pair:
    """A layer in two runs, as rows of their summaries; None where a run has no such layer."""

    before: Summary | None
    after: Summary | None

    @property
    def name(self) -> str:
        """As the newer run calls it."""
        return str((self.after or self.before or {})["name"])

    def change(self, field: str) -> float:
        """How much the newer run has more."""
        before, after = (row[field] if row else 0 for row in (self.before, self.after))
        return after - before


@dataclass(frozen=True)
class Comparison:
    """A run against a baseline."""

    before: Summary
    after: Summary
    totals: tuple[Total, ...]
    layers: tuple[Pair, ...]
    """By how much their cycles differ, the greatest difference first."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        fields = ("cycles", "energy_pj", "dram_bytes")
        return {
            "target": self.before["target"],
            "totals": {t.field: {"before": t.before, "after": t.after} for t in self.totals},
            "layers": [
                {
                    "name": pair.name,
                    "before": pair.before["name"] if pair.before else None,
                    "after": pair.after["name"] if pair.after else None,
                    **{field: pair.change(field) for field in fields},
                }
                for pair in self.layers
            ],
        }


def load(path: str | Path) -> Summary:
    """The summary of a run: from its JSON file, or of a program (`.npu`), whose times do not depend
    on data. Raises CompileError (NPU0001, NPU0003, NPU0401, NPU0402).
    """
    if str(path).endswith(".npu"):
        from npu_dialect.runtime.program import Program
        from npu_dialect.runtime.run import Run

        return Run.without_data(Program.load(path)).summary()
    try:
        found = json.loads(files.read_text(path))
    except json.JSONDecodeError as problem:
        raise _unusable(path, f"no JSON ({problem})") from problem
    if not isinstance(found, dict):
        raise _unusable(path, f"JSON, but no object: {type(found).__name__}")
    summary = cast("Summary", found)
    missing = [field for field in NEEDED if field not in summary]
    if missing:
        raise _unusable(path, f"no field {', '.join(missing)}")
    return summary


def _unusable(path: str | Path, found: str) -> Exception:
    return error(
        Code.FILE_KIND,
        "a baseline must be a .npu file, or what npu-run --json or --report r.json wrote",
        found=found,
        source=str(path),
    )


def compare(before: Summary, after: Summary) -> Comparison:
    """The summary `after` against the summary `before`."""
    totals = (Total(f, n, before[f], after[f]) for f, n in TOTALS if f in before and f in after)
    pairs = sorted(
        _pairs(before["layers"], after["layers"]), key=lambda p: abs(p.change("cycles")),
        reverse=True,
    )  # fmt: skip
    return Comparison(before, after, tuple(totals), tuple(pairs))


def _pairs(before: Sequence[Summary], after: Sequence[Summary]) -> Iterator[Pair]:
    old = {row["name"]: row for row in before}
    left = [row for row in after if row["name"] not in old]
    for row in after:
        if row["name"] in old:
            yield Pair(old.pop(row["name"]), row)
    for row in left:
        match = max(old.values(), key=lambda other: _shared(row, other), default=None)
        if match is not None and _shared(row, match):
            yield Pair(old.pop(match["name"]), row)
        else:
            yield Pair(None, row)
    for row in old.values():
        yield Pair(row, None)


def _shared(a: Summary, b: Summary) -> int:
    return len({*a["sources"]} & {*b["sources"]})
