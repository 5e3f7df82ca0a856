"""Precision by operation: overrides, and graph-assign-precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantizing_models import computed, convolutions, decibels, expected, normal, prepared, saved

import npu_dialect as npu
from npu_dialect import dtypes, graph, overrides, pipeline, provenance, universe
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.base import dtype_of, quant_of

Array = np.ndarray[Any, Any]

IMAGES = normal(12, 1, 3, 12, 12, seed=9)


def quantized(tmp_path: Path, said: dict[str, str], target: str = "edge256", spec: str = "") -> Any:
    module = prepared(convolutions(residual=False), target=target)
    table = "\n".join(f'["{name}"]\nprecision = "{value}"' for name, value in said.items())
    (tmp_path / "overrides.toml").write_text(table)
    overrides.apply(module, tmp_path / "overrides.toml")
    calibrate = f"graph-calibrate{{samples={saved(tmp_path, IMAGES)}}}"
    pipeline.run(module, f"{calibrate},{spec}graph-quantize")
    return module


def stored(module: Any) -> dict[str, str]:
    """The type that each quantized tensor is stored in, by the source of what makes it."""
    return {
        provenance.sources(op)[-1]: dtype_of(op.result).name
        for op in module.walk()
        if isinstance(op, graph.QuantizeOp)
    }


def test_an_operation_has_the_precision_that_the_user_says(tmp_path: Path):
    found = stored(quantized(tmp_path, {"conv2": "int16x8"}))
    assert found["relu_r2"] == "i16"
    assert {name: kind for name, kind in found.items() if name != "relu_r2"} == {
        name: "i8" for name in found if name != "relu_r2"
    }


def test_an_operation_that_stays_with_floats_reads_and_gives_floats(tmp_path: Path):
    module = quantized(tmp_path, {"conv3": "float", "conv4": "float"}, "mobile4k")
    plain = [op for op in module.walk() if isinstance(op, graph.Conv2DOp)]
    assert [isinstance(op.w.owner, graph.ConstantOp) for op in plain] == [False, False, True, True]
    assert "conv3" not in stored(module)
    assert all(dtype_of(op.w) is dtypes.f32 for op in plain[2:])


@pytest.mark.parametrize("said", ["float", "int16x8", "int4", "int4-g16"])
def test_a_precision_for_one_operation_is_no_worse_than_int4_for_it(tmp_path: Path, said: str):
    reference = expected(convolutions(residual=False), IMAGES)
    four, other = (
        decibels(computed(quantized(tmp_path, {"conv4": name}), IMAGES), reference)
        for name in ("int4", said)
    )
    assert other >= four


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("edge256", {"conv2": "int16x8", "conv4": "int4"}),
        ("mobile4k", {"conv3": "float", "conv1": "int4-g16"}),
    ],
)
def test_mixed_precisions_are_the_same_bits_at_all_levels(
    tmp_path: Path, target: str, said: dict[str, str]
):
    module = quantized(tmp_path, said, target)
    plain = module.clone()
    npu.lower(module)
    found = npu.simulate(npu.assemble(module), [IMAGES[0]]).outputs["y"]
    pipeline.run(plain, universe.pipeline("graph"))
    assert np.asarray(found).tobytes() == computed(plain, IMAGES[:1])[0].tobytes()


def test_a_precision_that_there_is_not_is_refused(tmp_path: Path):
    with pytest.raises(CompileError, match="precision must be float or one of int8"):
        quantized(tmp_path, {"conv2": "int5"})


def test_rounding_follows_the_precision_of_each_operation(tmp_path: Path):
    rounded = f"graph-round-weights{{samples={saved(tmp_path, IMAGES)}}},"
    module = quantized(tmp_path, {"conv4": "int4", "conv3": "float"}, "mobile4k", rounded)
    owners = [op.w.owner for op in module.walk() if isinstance(op, graph.Conv2DOp)]
    kinds = [quant_of(w.x) if isinstance(w, graph.DequantizeOp) else None for w in owners]
    assert [kind and kind.high for kind in kinds] == [127, 127, None, 7]
