"""Recurrent layers keep activations of 16 bits where a model is quantized to 8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import npu_dialect as npu
from npu_dialect.diagnostics import CompileError
from npu_dialect.graph.base import quant_of

STEPS, INPUTS, HIDDEN = 6, 6, 8
RNG = np.random.default_rng(3)
SAMPLES = RNG.normal(size=(8, STEPS, 1, INPUTS)).astype(np.float32)


def model() -> onnx.ModelProto:
    """A GRU with states that start from zeros, and a product behind its last one."""
    r = np.random.default_rng(5)
    constants = {
        "w": r.normal(size=(1, 3 * HIDDEN, INPUTS)) / 2,
        "r": r.normal(size=(1, 3 * HIDDEN, HIDDEN)) / 2,
        "m": r.normal(size=(HIDDEN, 4)),
    }
    nodes = [
        helper.make_node("GRU", ["x", "w", "r"], ["", "h"], "gru1", hidden_size=HIDDEN),
        helper.make_node("MatMul", ["h", "m"], ["y"], "product1"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [STEPS, 1, INPUTS])],
        [helper.make_tensor_value_info("y", 1, [1, 1, 4])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def quantized(target: str = "edge256", **options: Any) -> Any:
    module = npu.load(model(), target=target)
    npu.quantize(module, npu.Quantization("int8", samples=list(SAMPLES), **options))
    return module


def noise(module: Any) -> float:
    """The power of the error of the outputs, against onnxruntime's floats."""
    session = onnxruntime.InferenceSession(model().SerializeToString())
    errors = [npu.execute(module, {"x": x})["y"] - session.run(None, {"x": x})[0] for x in SAMPLES]
    return float(np.mean(np.square(errors)))


def types(module: Any) -> set[str]:
    """The storage types of the quantized activations."""
    found = [quant_of(op.results[0]) for op in module.walk() if op.name == "graph.quantize"]
    return {quant.storage_dtype.name for quant in found if quant is not None}


def test_states_of_16_bits_have_less_than_a_quarter_of_the_noise_of_8():
    assert noise(quantized()) < noise(quantized(recurrent="int8")) / 4


def test_the_precision_of_recurrent_layers_can_be_that_of_the_rest():
    assert types(quantized()) == {"i8", "i16"}
    assert types(quantized(recurrent="int8")) == {"i8"}


def test_no_step_is_left_to_the_host_though_states_begin_with_zeros():
    """A tensor of zeros has the steps of the sum that it goes into."""
    module = quantized()
    npu.lower(module)
    assert not [row for row in npu.assemble(module).placement if row.engine == "host"]


@pytest.mark.parametrize("target", ["edge256", "headset2k", "mobile4k", "ethos_u55_256"])
def test_levels_agree_about_layers_of_two_precisions(target: str):
    module = quantized(target)
    found = []
    for level in ("graph", "tile", "npu"):
        npu.lower(module, until=level)
        found.append(npu.execute(module, {"x": SAMPLES[0]})["y"])
    assert (found[0] == found[1]).all() and (found[1] == found[2]).all()


def test_an_unknown_precision_is_refused():
    with pytest.raises(CompileError, match="the precision of recurrent layers must be one of"):
        quantized(recurrent="int12")


def test_a_budget_chooses_for_recurrent_layers_too():
    with pytest.raises(CompileError, match="recurrent layers get the precision that it needs"):
        quantized(recurrent="int8", budget=20.0)
