"""Layers of float16, bfloat16 and float32 in models of integers, where the target has the units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import npu_dialect as npu
from npu_dialect.diagnostics import Code, CompileError, collect
from npu_dialect.passes.graph_assign_precision import choices_for
from npu_dialect.target import load_target

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
SAMPLES = RNG.normal(size=(6, 8, 32)).astype(np.float32)
W1, W2 = ((RNG.normal(size=(32, 32)) / 4).astype(np.float32) for _ in "12")
TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def model(layers: int = 2) -> onnx.ModelProto:
    """Products by weights, called first and second, and a softmax behind the second."""
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["a"], "first")]
    if layers == 2:
        nodes.append(helper.make_node("MatMul", ["a", "w2"], ["b"], "second"))
        nodes.append(helper.make_node("Softmax", ["b"], ["y"], "softmax", axis=-1))
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [8, 32])],
        [helper.make_tensor_value_info("y", 1, [8, 32])],
        [numpy_helper.from_array(w, f"w{k + 1}") for k, w in enumerate((W1, W2))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized(
    tmp_path: Path, target: str, precisions: dict[str, str], scheme: str = "int8"
) -> npu.Program:
    text = "".join(f'["{name}"]\nprecision = "{each}"\n' for name, each in precisions.items())
    (tmp_path / "o.toml").write_text(text)
    return npu.compile(
        model(), target, quantize=scheme, calibrate=list(SAMPLES), overrides=tmp_path / "o.toml"
    )


def array_types(program: npu.Program) -> list[str]:
    """What the array multiplies, product by product."""
    found = [i.fields["weights"].dtype.name for i in program.instructions if i.op == "npu.matmul"]
    return list(dict.fromkeys(found))


def in_order(x: Array, w: Array) -> Array:
    """Sums in f32 over ascending k, as numpy's f32 has them."""
    total = np.zeros((len(x), w.shape[1]), np.float32)
    for k in range(x.shape[1]):
        total += x[:, k, None] * w[None, k]
    return total


@pytest.mark.parametrize("name", TYPES)
def test_a_whole_model_of_halves_needs_no_samples_and_gives_their_bits(name: str):
    """Both factors rounded to the type, sums of f32, the result rounded."""
    dtype = TYPES[name]
    program = npu.compile(model(1), "mobile4k", quantize=name)
    x, w = (a.astype(dtype).astype(np.float32) for a in (SAMPLES[0], W1))
    expected = in_order(x, w).astype(dtype).astype(np.float32)
    assert np.array_equal(npu.simulate(program, {"x": SAMPLES[0]}).outputs["y"], expected)
    assert array_types(program) == [{"float16": "f16", "bfloat16": "bf16"}[name]]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_a_layer_of_floats_stands_between_integers(precision: str, tmp_path: Path):
    program = quantized(tmp_path, "mobile4k", {"second": precision})
    short = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}[precision]
    assert array_types(program) == ["i8", short]
    assert "host" not in {row.engine for row in program.placement}


@pytest.mark.parametrize("target", ["mobile4k", "headset2k"])
def test_levels_agree_about_islands(target: str, tmp_path: Path):
    text = '["softmax"]\nprecision = "float16"\n'
    text += '["first"]\nprecision = "float16"\n' if target == "mobile4k" else ""
    (tmp_path / "o.toml").write_text(text)
    module = npu.load(model(), target=target, overrides=tmp_path / "o.toml")
    npu.quantize(module, npu.Quantization("int8", samples=list(SAMPLES)))
    results: list[Array] = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        results.append(npu.execute(module, {"x": SAMPLES[0]})["y"])
    program = npu.assemble(module)
    results += [
        npu.simulate(program, {"x": SAMPLES[0]}, tier=tier).outputs["y"]
        for tier in ("plain", "compiled")
    ]
    assert all(np.array_equal(each, results[0]) for each in results[1:])
    assert "host" not in {row.engine for row in program.placement}


@pytest.mark.parametrize(("target", "found"), [("edge256", "f16"), ("headset2k", "f16")])
def test_a_product_of_halves_is_refused_where_the_array_has_none(
    target: str, found: str, tmp_path: Path
):
    with pytest.raises(CompileError) as caught:
        quantized(tmp_path, target, {"first": "float16"})
    record = caught.value.records[0]
    assert record.code is Code.TARGET_LACKS
    assert record.source == "first"
    assert record.found == f"{target} without products of {found} in the array"
    assert "int16x8" in record.remedy
    assert "float16" not in record.remedy


def test_a_function_of_halves_needs_the_vector_unit_alone(tmp_path: Path):
    program = quantized(tmp_path, "headset2k", {"softmax": "float16"})
    assert "host" not in {row.engine for row in program.placement}
    with pytest.raises(CompileError, match="edge256 without f16 in the vector unit"):
        quantized(tmp_path, "edge256", {"softmax": "float16"})


def test_a_whole_model_of_halves_is_refused_without_the_units():
    with pytest.raises(CompileError, match=r"the scheme float16 needs.*try the scheme int8"):
        npu.compile(model(), "edge256", quantize="float16")


def test_a_layer_of_integers_in_a_model_of_halves_needs_samples(tmp_path: Path):
    (tmp_path / "o.toml").write_text('["first"]\nprecision = "int8"\n')
    with pytest.raises(CompileError, match="layers of integers must have ranges"):
        npu.compile(model(), "mobile4k", quantize="float16", overrides=tmp_path / "o.toml")
    program = quantized(tmp_path, "mobile4k", {"first": "int8"}, "float16")
    assert array_types(program) == ["i8", "f16"]


def test_what_f16_cannot_hold_is_warned_of():
    samples = [each * np.float32(1e5) for each in SAMPLES]
    with collect() as records:
        npu.compile(model(1), "mobile4k", quantize="float16", calibrate=samples)
    warned = [r for r in records if r.code is Code.SATURATION]
    assert warned
    assert "at most 65504" in warned[0].rule
    assert "bfloat16" in warned[0].remedy


@pytest.mark.parametrize(
    ("target", "floats"),
    [("edge256", []), ("headset2k", ["float16", "float32"]), ("mobile4k", ["float16", "float32"])],
)
def test_the_choices_of_a_budget_are_those_of_the_units(target: str, floats: list[str]):
    names = choices_for(load_target(target))
    assert [n for n in names if n.startswith("float")] == floats


@pytest.mark.parametrize(("target", "types"), [("headset2k", ["i8"]), ("mobile4k", ["f32"])])
def test_auto_quantizes_where_the_array_multiplies_no_floats(target: str, types: list[str]):
    program = npu.compile(model(), target, quantize="auto", calibrate=list(SAMPLES))
    assert array_types(program) == types
