"""Runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from npu_programs import convolve_and_pool

from npu_dialect.diagnostics import CompileError
from npu_dialect.runtime import baseline
from npu_dialect.runtime.run import Run


def layer(name: str, cycles: int, *sources: str) -> dict[str, Any]:
    return {
        "name": name,
        "sources": [*sources],
        "cycles": cycles,
        "energy_pj": 2.0 * cycles,
        "dram_bytes": 10,
        "bound": "dram",
    }


def summary(*layers: dict[str, Any], **figures: float) -> dict[str, Any]:
    total = sum(row["cycles"] for row in layers)
    fields = {"cycles": total, "seconds": total * 1e-9, "energy_joules": 1e-6}
    return {"target": "edge256", "layers": [*layers], **fields, **figures}


def names(found: baseline.Comparison) -> list[tuple[str | None, str | None]]:
    rows = [(p.before or {}, p.after or {}) for p in found.layers]
    return [(before.get("name"), after.get("name")) for before, after in rows]


def test_layers_of_one_name_are_one_layer():
    found = baseline.compare(summary(layer("a", 5), layer("b", 7)), summary(layer("b", 9)))
    assert names(found) == [("a", None), ("b", "b")]


def test_layers_of_other_names_are_those_that_share_the_most_nodes():
    before = summary(layer("a", 5, "x"), layer("b", 7, "y", "z"))
    found = baseline.compare(before, summary(layer("c", 1, "x", "y", "z")))
    assert ("b", "c") in names(found)


def test_layers_that_share_nothing_are_new():
    found = baseline.compare(summary(layer("a", 5, "x")), summary(layer("b", 6, "y")))
    assert names(found) == [(None, "b"), ("a", None)]


def test_layers_come_by_how_much_they_differ():
    before = summary(layer("a", 5), layer("b", 50), layer("c", 20))
    after = summary(layer("a", 6), layer("b", 20), layer("c", 40))
    assert [p.name for p in baseline.compare(before, after).layers] == ["b", "c", "a"]


def test_a_change_is_what_the_newer_run_has_more():
    found = baseline.compare(summary(layer("a", 5)), summary(layer("a", 3)))
    assert found.layers[0].change("cycles") == -2
    assert found.to_json()["layers"] == [
        {"name": "a", "before": "a", "after": "a", "cycles": -2, "energy_pj": -4.0, "dram_bytes": 0}
    ]


def test_less_is_better_but_for_utilization():
    before, after = summary(utilization=0.5), summary(utilization=0.6)
    before["cycles"], after["cycles"] = 10, 8
    better = {t.field: t.is_better for t in baseline.compare(before, after).totals}
    assert better == {"cycles": True, "seconds": None, "energy_joules": None, "utilization": True}


def test_a_baseline_is_read_from_a_summary(tmp_path: Path):
    (tmp_path / "r.json").write_text(json.dumps(summary(layer("a", 1))))
    assert baseline.load(tmp_path / "r.json")["cycles"] == 1


def test_a_baseline_is_computed_for_a_program(tmp_path: Path):
    made = convolve_and_pool()
    made.save(tmp_path / "m.npu")
    expected = Run.without_data(made).summary()
    assert baseline.load(tmp_path / "m.npu") == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "no JSON"),
        ("[]", "JSON, but no object: list"),
        ('{"cycles": 1}', "no field target, seconds, energy_joules, layers"),
    ],
)
def test_what_is_no_summary_is_refused(tmp_path: Path, text: str, found: str):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CompileError, match=f"NPU0003.*a baseline must be .*found {found}"):
        baseline.load(tmp_path / "r.json")
