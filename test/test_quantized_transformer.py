"""A transformer's block that onnxruntime has quantized, on a target without floats: nothing of it
is left to the host, and it gives what onnxruntime gives, as nearly as the floats of the host do.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import npu_dialect as npu
from npu_dialect.runtime.program import Program

Array = np.ndarray[Any, np.dtype[Any]]

TOKENS, WIDTH, HEADS, HIDDEN = 24, 32, 2, 64
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, TOKENS, WIDTH])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, TOKENS, WIDTH])


def block() -> Any:
    """Attention and a perceptron, each behind a layer normalization and beside a residual."""
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    constants: dict[str, Array] = {}

    def node(kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(name: str, array: Array) -> str:
        constants[name] = array
        return name

    def weights(name: str, rows: int, columns: int) -> str:
        return constant(name, rng.normal(0, rows**-0.5, (rows, columns)).astype(np.float32))

    def normalized(x: str, name: str) -> str:
        gain = constant(f"{name}.gain", rng.uniform(0.5, 1.5, WIDTH).astype(np.float32))
        bias = constant(f"{name}.bias", rng.normal(0, 0.2, WIDTH).astype(np.float32))
        return node("LayerNormalization", x, gain, bias, epsilon=1e-5)

    shape = constant("shape", np.array([1, TOKENS, HEADS, WIDTH // HEADS], np.int64))
    h = normalized("x", "first")
    q, k, v = (node("Reshape", node("MatMul", h, weights(n, WIDTH, WIDTH)), shape) for n in "qkv")
    q, v = (node("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    k = node("Transpose", k, perm=[0, 2, 3, 1])
    scores = node("Div", node("MatMul", q, k), constant("root", np.array(4.0, np.float32)))
    mixed = node("MatMul", node("Softmax", scores, axis=-1), v)
    joined = node("Reshape", node("Transpose", mixed, perm=[0, 2, 1, 3]),
                  constant("flat", np.array([1, TOKENS, WIDTH], np.int64)))  # fmt: skip
    first = node("Add", "x", node("MatMul", joined, weights("project", WIDTH, WIDTH)))
    up = node("MatMul", normalized(first, "second"), weights("up", WIDTH, HIDDEN))
    down = node("MatMul", node("Gelu", up), weights("down", HIDDEN, WIDTH))
    node("Add", first, down, output="y")
    found = [numpy_helper.from_array(a, n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "block", [X], [Y], found)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


def inputs(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(1, TOKENS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnxruntime import quantization as q

    folder = tmp_path_factory.mktemp("transformer")
    source, result = folder / "float.onnx", folder / "int8.onnx"
    source.write_bytes(block().SerializeToString())
    samples = iter([{"x": inputs(seed)} for seed in range(8)])

    class Reader(q.CalibrationDataReader):
        def get_next(self) -> dict[str, Array]:
            return next(samples, None)  # type: ignore[return-value]

    logging.disable(logging.WARNING)
    try:
        q.quantize_static(
            str(source),
            str(result),
            Reader(),
            per_channel=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )
    finally:
        logging.disable(logging.NOTSET)
    return result


def hosted(program: Program) -> set[str]:
    return {row.op for row in program.placement if row.engine == "host"}


def output(model: Path, x: Array, **options: Any) -> Array:
    return npu.simulate(npu.compile(model, "edge256", **options), {"x": x}).outputs["y"]


def test_nothing_is_left_to_the_host(quantized: Path):
    assert not hosted(npu.compile(quantized, "edge256"))


def test_exact_leaves_softmax_and_layer_norm_to_the_host(quantized: Path):
    found = hosted(npu.compile(quantized, "edge256", exact=True))
    assert {"graph.softmax", "graph.layer_norm"} <= found


def test_fixed_point_is_faster_than_the_host(quantized: Path):
    cycles = [npu.compile(quantized, "edge256", exact=e).profile.cycles for e in (False, True)]
    assert cycles[0] < cycles[1] / 2


def test_it_is_as_near_to_onnxruntime_as_with_floats_on_the_host(quantized: Path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(quantized), providers=["CPUExecutionProvider"])
    off: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(20, 24):
        x = inputs(seed)
        expected = np.asarray(session.run(None, {"x": x})[0])
        step = float(np.diff(np.unique(expected)).min())
        for exact, found in off.items():
            difference = np.abs(output(quantized, x, exact=exact) - expected) / step
            found += [float(difference.max()), float(difference.mean())]
    assert max(off[False]) <= max(off[True]) + 2
    assert np.mean(off[False][1::2]) <= 1.5 * np.mean(off[True][1::2]) + 0.01


@pytest.mark.parametrize("target", ["edge256", "edge512"])
def test_in_int16x8_nothing_is_left_to_the_host_and_noise_is_less_than_a_tenth(target: str):
    import onnxruntime

    samples = [{"x": inputs(seed)} for seed in range(4)]
    session = onnxruntime.InferenceSession(block().SerializeToString())
    exact = [np.asarray(session.run(None, sample)[0]) for sample in samples]
    noise: list[float] = []
    for scheme in ("int8", "int16x8"):
        program = npu.compile(block(), target, quantize=scheme, calibrate=samples)
        assert not hosted(program)
        found = [npu.simulate(program, sample).outputs["y"] for sample in samples]
        noise.append(float(np.mean([np.square(a - b) for a, b in zip(exact, found, strict=True)])))
    assert noise[1] < noise[0] / 10


def test_products_of_long_batches_of_probabilities_stay_on_the_array():
    """What a sum may reach follows from the terms of one matrix, not from those of all heads."""
    scores = helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 66, 66])
    values = helper.make_tensor_value_info("v", TensorProto.FLOAT, [8, 66, 16])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 66, 16])
    nodes = [helper.make_node("MatMul", ["x", "v"], ["y"], "mixed")]
    graph = helper.make_graph(nodes, "g", [scores, values], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    r = np.random.default_rng(0)
    samples = [{"x": r.random((8, 66, 66), np.float32), "v": r.random((8, 66, 16), np.float32)}]
    program = npu.compile(model, "edge256", quantize="int16x8", calibrate=samples)
    assert {row.engine for row in program.placement if row.op == "graph.matmul"} == {"mxu"}
