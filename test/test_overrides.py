"""The overrides file: the user decides, and the report says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from npu_dialect import api
from npu_dialect.diagnostics import CompileError
from npu_dialect.tile import AllocOp
from npu_dialect.tile.syntax import shape_of

MODEL, LAYER = "cifar_resnet20_qdq_s8s8_pc.onnx", "node_Conv_346"


def lowered(models: Path, folder: Path, text: str):
    (folder / "pins.toml").write_text(text)
    module = api.load(models / MODEL, "edge256", overrides=folder / "pins.toml")
    api.lower(module, "tile")
    return module


def test_an_operation_can_be_kept_off_the_accelerator(models: Path, tmp_path: Path):
    module = lowered(models, tmp_path, f'["{LAYER}"]\nengine = "host"')
    api.lower(module)
    rows = {row.source: row for row in api.assemble(module).placement}
    assert (rows[LAYER].engine, rows[LAYER].rule) == ("host", "override")


def test_overrides_change_no_bit(models: Path, tmp_path: Path):
    text = f'["{LAYER}"]\nengine = "host"\n["node_Conv_348"]\nmemory = "dram"'
    pinned = lowered(models, tmp_path, text)
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    free = api.load(models / MODEL, "edge256")
    api.lower(free, "tile")
    found, expected = (api.execute(m, [x])["logits"] for m in (pinned, free))
    np.testing.assert_array_equal(found, expected)


def test_a_mapping_can_be_pinned(models: Path, tmp_path: Path):
    mapping = 'rows = 5, cols = 32, channels = 16, reduction = 16, order = "weights_outer"'
    module = lowered(models, tmp_path, f'["{LAYER}"]\nmapping = {{ {mapping} }}')
    text = str(module)
    assert "to 7 {" in text  # 32 rows in tiles of 5


CASCADE = ("node_Conv_346", "node_Conv_348", "node_Conv_350")


def cascade(rows: int = 4, more: str = "", layers: Sequence[str] = CASCADE) -> str:
    """An overrides file that pins a cascade; `more` for the first layer."""
    lines = [f'["{name}"]\ncascade = {{ number = 3, rows = {rows} }}' for name in layers]
    return "\n".join([f"{lines[0]}\n{more}", *lines[1:]])


def test_a_cascade_can_be_pinned(models: Path, tmp_path: Path):
    more = 'held = 9\nrows = 2\nweights = "stripe"'
    module = lowered(models, tmp_path, cascade(more=more))
    rows = [
        shape_of(op.result)
        for op in module.walk()
        if isinstance(op, AllocOp) and op.part is not None and len(shape_of(op.result)) == 4
    ]
    assert (1, 9, 32, 16) in rows and (16, 3, 3, 16) in rows and (16, 3, 3, 3) not in rows


def test_a_pinned_cascade_keeps_a_pinned_mapping(models: Path, tmp_path: Path):
    mapping = 'rows = 3, cols = 32, channels = 16, reduction = 16, order = "weights_outer"'
    module = lowered(models, tmp_path, cascade(8, f"mapping = {{ {mapping} }}"))
    assert "to 3 {" in str(module)  # pieces of 8 rows in tiles of 3


def test_a_pinned_cascade_changes_no_bit(models: Path, tmp_path: Path):
    pinned = lowered(models, tmp_path, cascade(more="rows = 1"))
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    free = api.load(models / MODEL, "edge256")
    api.lower(free, "graph")
    expected = api.execute(free, [x])["logits"]
    np.testing.assert_array_equal(api.execute(pinned, [x])["logits"], expected)
    api.lower(pinned)
    np.testing.assert_array_equal(api.execute(pinned, [x])["logits"], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cascade(layers=(CASCADE[0], CASCADE[2])), "node_Conv_350 must follow node_Conv_346"),
        (cascade(layers=CASCADE[:1]), "two groups at least, found 1"),
        (cascade(rows=33), "1 to 32 of node_Conv_350; found 33"),
        (cascade(more="held = 2"), "npu.held must be [0-9]+ at least; found 2"),
        (cascade(more="held = 0"), "held, rows, input_held .1 at least."),
        (f'["{LAYER}"]\ncascade = 3', "cascade = {number, rows}"),
        (f'["{LAYER}"]\nweights = "kept"', "weights must be one of held, stripe"),
    ],
)
def test_a_cascade_that_cannot_be_is_refused_with_the_reason(
    models: Path, tmp_path: Path, text: str, message: str
):
    with pytest.raises(CompileError, match=message):
        lowered(models, tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[conv", "must be TOML"),
        ('["nodeConv_346"]\nengine = "host"', "must name an operation of the model.*node_Conv_346"),
        (f'["{LAYER}"]\nengine = "gpu"', "engine must be one of host"),
        (f'["{LAYER}"]\ncolour = "red"', "must set only engine, memory, weights, mapping"),
        (f'"{LAYER}" = 1', "must be a table"),
    ],
)
def test_a_bad_override_is_refused_in_a_line(models: Path, tmp_path: Path, text: str, message: str):
    with pytest.raises(CompileError, match=message):
        lowered(models, tmp_path, text)
