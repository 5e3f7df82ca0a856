"""A run as JSON: every field is documented, and every documented field is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from harness import ROOT
from stateful import Builder, module_of

from npu_dialect import api, dtypes, graph
from npu_dialect.runtime import baseline, contention, power, summary

MAPS = (
    "dynamic",
    "leakage",
    "resources",
    "critical",
    "busy",
    "dynamic_pj",
    "fallbacks",
    "totals",
    "memories",
)
"""Fields whose keys are names of the machine's parts, of instructions, or of other fields."""

ELSEWHERE = {"outputs.*", "states_after.*", "lower_bound", "layers[].lower_bound"}
"""What npu-run adds for data, and what is null where there is nothing more to say."""


def documented() -> set[str]:
    text = (ROOT / "docs" / "reports.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text[text.index("## The JSON") :], re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def names(value: Any, before: str = "") -> Iterator[str]:
    """The fields of a JSON value, as the documentation writes them."""
    key = before.rpartition(".")[2]
    if key in MAPS and isinstance(value, dict):
        yield f"{before}.*"
    elif key == "io":
        yield "io[]"
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from names(inner, f"{before}.{name}" if before else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from {name for row in value for name in names(row, f"{before}[]")}
    else:
        yield before


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """All that may be in a summary: of a model with a state, traced, at a rate, compared."""
    b = Builder()
    x, n = b.argument("x", (4,), dtypes.i32), b.argument("n", (4,), dtypes.i32)
    new = b.add(graph.AddOp(n, x))
    module = module_of(b.function({"y": new, "n'": new}, {"n": np.full(4, 10, np.int32)}))
    api.lower(module)
    run = api.simulate(api.assemble(module), {"x": np.arange(4, dtype=np.int32)}, trace=True)
    every = run.summary()
    every["operating_points"] = summary.frames(power.frames(run.profile, 30))
    every["shared_ports"] = contention.of(run.profile).to_json()
    every["baseline"] = baseline.compare(run.summary(), every).to_json()
    return json.loads(json.dumps(every))


def test_every_field_is_documented(found: dict[str, Any]):
    assert set(names(found)) - documented() == set()


def test_every_documented_field_is_there(found: dict[str, Any]):
    assert documented() - set(names(found)) == ELSEWHERE


def test_the_best_point_is_marked(found: dict[str, Any]):
    rows = found["operating_points"]
    least = min(rows, key=lambda row: row["frame_joules"])
    assert [row["operating_point"] for row in rows if row["best"]] == [least["operating_point"]]


def test_the_critical_path_adds_up_to_the_makespan(found: dict[str, Any]):
    assert sum(found["critical"].values()) == found["cycles"]
