"""The overrides file: the user decides, and the report says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npu_dialect import api
from npu_dialect.diagnostics import CompileError

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[conv", "must be TOML"),
        ('["nodeConv_346"]\nengine = "host"', "must name an operation of the model.*node_Conv_346"),
        (f'["{LAYER}"]\nengine = "gpu"', "engine must be one of host"),
        (f'["{LAYER}"]\ncolour = "red"', "must set only engine, memory, or mapping"),
        (f'"{LAYER}" = 1', "must be a table"),
    ],
)
def test_a_bad_override_is_refused_in_a_line(
    models: Path, tmp_path: Path, text: str, message: str
):
    with pytest.raises(CompileError, match=message):
        lowered(models, tmp_path, text)
