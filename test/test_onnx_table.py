"""The table of importers agrees with the ONNX schemas."""

from __future__ import annotations

import inspect

import onnx
import pytest

from npu_dialect.frontends.onnx import importer, registry
from npu_dialect.frontends.onnx.registry import Importer

assert importer, "importing it fills the table"
ROWS = [row for rows in registry.TABLE.values() for row in rows if not row.domain]


def versions(row: Importer) -> list[int]:
    """The operator sets in which the row is used and its schema changed."""
    newest = onnx.defs.onnx_opset_version()
    later = [r.since for r in registry.TABLE[row.domain, row.op_type] if r.since > row.since]
    last = min(later, default=newest + 1) - 1
    used = [
        v for v in range(max(row.since, 6), last + 1) if registry.find("", row.op_type, v) == row
    ]
    found = {s.since_version: v for v in used if (s := registry.schema("", row.op_type, v))}
    return list(found.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op_type}-{row.since}")
def test_a_row_names_every_attribute_and_input_of_its_schemas(row: Importer) -> None:
    for version in versions(row):
        schema = registry.schema(row.domain, row.op_type, version)
        assert schema is not None
        assert set(schema.attributes) <= set(row.attributes), f"opset {version}"
        variadic = any(p.kind == inspect.Parameter.VAR_POSITIONAL for p in row.inputs)
        assert variadic or len(row.inputs) >= len(schema.inputs), f"opset {version}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op_type}-{row.since}")
def test_a_row_is_used_by_some_operator_set(row: Importer) -> None:
    assert versions(row)


def test_the_newest_row_is_found_for_a_version() -> None:
    for version, since in ((7, 7), (10, 7), (11, 11), (28, 11)):
        found = registry.find("", "Pad", version)
        assert found is not None
        assert found.since == since


def test_an_old_operator_is_found_only_where_it_did_not_change() -> None:
    assert registry.find("", "Relu", 6) is not None
    assert registry.find("", "Dropout", 6) is None
