"""Small float models for the tests of quantization, and what onnxruntime makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

import npu_dialect as npu
from npu_dialect import levels, pipeline

Array = np.ndarray[Any, Any]

PREPARE = "graph-canonicalize,graph-fold-constants,graph-channels-last,graph-fuse-batch-norm"


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model(
    nodes: list[Any], constants: dict[str, Array], shape: list[int], out: list[int]
) -> onnx.ModelProto:
    """A model with one input x and one output y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, out)],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def convolutions(
    spread: float = 0.0, clamp: bool = False, residual: bool = True, seed: int = 2
) -> onnx.ModelProto:
    """A convolution, a depthwise one, one of 1 x 1, a residual, a mean, a product. With `spread`,
    channels between them are scaled by up to 2 ** +-spread, and back by what reads them.
    """
    r = np.random.default_rng(seed)
    c = {
        "w1": r.normal(size=(16, 3, 3, 3)) / 5, "b1": r.normal(size=16) / 4,
        "w2": r.normal(size=(16, 1, 3, 3)) / 3, "b2": r.normal(size=16) / 4,
        "w3": r.normal(size=(16, 16, 1, 1)) / 4, "b3": r.normal(size=16) / 4,
        "w4": r.normal(size=(16, 16, 3, 3)) / 12, "b4": r.normal(size=16) / 4,
        "m": r.normal(size=(16, 10)) / 4,
    }  # fmt: skip
    first, second = (np.exp2(r.uniform(-spread, spread, 16)).reshape(16, 1, 1, 1) for _ in "12")
    c["w1"], c["b1"] = c["w1"] * first, c["b1"] * first.ravel()
    c["w2"] = c["w2"] / first * second
    c["b2"] = c["b2"] * second.ravel()
    c["w3"] = c["w3"] / second.reshape(1, 16, 1, 1)
    c |= {"low": np.zeros(()), "high": np.full((), 3.0)}

    def activation(x: str, y: str) -> Any:
        if clamp:
            return helper.make_node("Clip", [x, "low", "high"], [y], f"clip_{y}")
        return helper.make_node("Relu", [x], [y], f"relu_{y}")

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        activation("c1", "r1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1] * 4, group=16),
        activation("c2", "r2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3"),
        helper.make_node("Conv", ["c3", "w4", "b4"], ["c4"], "conv4", pads=[1] * 4),
        helper.make_node("Add", ["c4", "c3"] if residual else ["c4", "b4s"], ["s"], "add1"),
        helper.make_node("GlobalAveragePool", ["s"], ["g"], "mean1"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten1"),
        helper.make_node("MatMul", ["f", "m"], ["y"], "product1"),
    ]
    if not residual:
        c["b4s"] = r.normal(size=(16, 1, 1))
    return model(nodes, c, [1, 3, 12, 12], [1, 10])


def feed_forward(outliers: float = 1.0, seed: int = 3) -> onnx.ModelProto:
    """A layer normalization, two products with a GELU-like function between, a residual. Of the 32
    features the normalization makes, two are `outliers` times the others, and read accordingly.
    """
    r = np.random.default_rng(seed)
    factors = np.where(np.arange(32) % 16 == 5, outliers, 1.0)
    c = {
        "gain": (1 + r.normal(size=32) / 8) * factors, "bias": r.normal(size=32) / 8 * factors,
        "w1": r.normal(size=(32, 64)) / 6 / factors[:, None], "b1": r.normal(size=64) / 4,
        "w2": r.normal(size=(64, 32)) / 8, "b2": r.normal(size=32) / 4,
    }  # fmt: skip
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "bias"], ["n"], "norm1", axis=-1),
        helper.make_node("MatMul", ["n", "w1"], ["p1"], "product1"),
        helper.make_node("Add", ["p1", "b1"], ["a1"], "add1"),
        helper.make_node("Tanh", ["a1"], ["t"], "tanh1"),
        helper.make_node("MatMul", ["t", "w2"], ["p2"], "product2"),
        helper.make_node("Add", ["p2", "b2"], ["y"], "add2"),
    ]
    return model(nodes, c, [1, 8, 32], [1, 8, 32])


def session(source: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(source.SerializeToString())


def expected(source: onnx.ModelProto, samples: Array) -> Array:
    """What onnxruntime computes, for samples [n, *shape of the input]."""
    run = session(source).run
    return np.stack([run(None, {"x": x})[0] for x in samples])


def computed(module: Any, samples: Array) -> Array:
    """What a module computes at level graph."""
    return np.stack([levels.run_graph(module, [x])[0] for x in samples])


def prepared(source: onnx.ModelProto, spec: str = "", target: str = "edge256") -> Any:
    """The module of a model after the passes before quantization, and `spec`."""
    module = npu.load(source, target=target)
    pipeline.run(module, f"{PREPARE},{spec}" if spec else PREPARE)
    return module


def saved(folder: Path, samples: Array) -> str:
    """Samples in a file, quoted for a pipeline."""
    np.savez(folder / "samples.npz", x=samples)
    return f'"{folder}/samples.npz"'


def decibels(found: Array, wanted: Array) -> float:
    """The signal-to-quantization-noise ratio."""
    noise = np.sum((found.astype(np.float64) - wanted) ** 2)
    return float(10 * np.log10(np.sum(wanted.astype(np.float64) ** 2) / noise))
