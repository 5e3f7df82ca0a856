"""Capacity is a contract: a program takes no more scratchpad than there is, or there is none.

The network is a small DeepLab: strided and depthwise convolutions, an inverted residual, pooling
over the image, a concatenation, a bilinear resize to all pixels and argmax. In 3 KiB most of its
tensors do not fit whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper
from onnx_support import model_of, run_onnxruntime
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64

import npu_dialect as npu
from npu_dialect import api, pipeline
from npu_dialect.diagnostics import CompileError
from npu_dialect.passes.targets import SCRATCHPAD

TARGET, PIXELS, CLASSES = "ethos_u65_512", 41, 5
Array = np.ndarray[Any, np.dtype[Any]]


class Net:
    """A quantized network under construction: every tensor has scale 1/32 and zero point 128."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {
            "scale": np.array(1 / 32, np.float32), "zero": np.array(128, np.uint8),
            "fine": np.array(1 / 128, np.float32), "none": np.array(0, np.int8),
        }  # fmt: skip
        self.rng = np.random.default_rng(0)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [*inputs], [name], name=name, **attributes))
        return name

    def bytes(self, x: str) -> str:
        """Quantized and dequantized."""
        stored = self.op("QuantizeLinear", x, "scale", "zero")
        return self.op("DequantizeLinear", stored, "scale", "zero")

    def conv(self, x: str, before: int, after: int, kernel: int = 1, **attributes: Any) -> str:
        name = f"w{len(self.nodes)}"
        groups = attributes.get("group", 1)
        shape = (after, before // groups, kernel, kernel)
        self.constants[name] = self.rng.integers(-40, 41, shape).astype(np.int8)
        weights = self.op("DequantizeLinear", name, "fine", "none")
        pads = [kernel // 2] * 4
        return self.bytes(self.op("Conv", x, weights, pads=pads, **attributes))

    def known(self, values: Any, dtype: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(values, dtype)
        return name


@cache
def deeplab() -> ModelProto:
    net = Net()
    x = net.bytes("image")
    x = net.conv(x, 3, 16, 3, strides=[2, 2])
    x = net.conv(x, 16, 48)
    x = net.conv(x, 48, 48, 3, group=48, strides=[2, 2])
    x = net.conv(x, 48, 24)
    inner = net.conv(net.conv(x, 24, 72), 72, 72, 3, group=72)
    x = net.bytes(net.op("Add", x, net.conv(inner, 72, 24)))
    pooled = net.bytes(net.op("ReduceMean", x, axes=[2, 3], keepdims=1))
    pooled = net.conv(pooled, 24, 16)
    wide = net.op("Expand", pooled, net.known([1, 16, 11, 11], np.int64))
    x = net.bytes(net.op("Concat", net.bytes(wide), net.conv(x, 24, 16), axis=1))
    x = net.conv(x, 32, CLASSES)
    sizes = net.known([1, CLASSES, PIXELS, PIXELS], np.int64)
    x = net.op("Resize", x, "", "", sizes, mode="linear")
    y = net.op("ArgMax", net.bytes(x), axis=1, keepdims=0)
    shape = (1, 3, PIXELS, PIXELS)
    return model_of(net.nodes, {"image": ("float32", shape)}, [y], net.constants)


def loaded(kib: float, **kwargs: Any) -> ModuleOp:
    module = api.load(deeplab(), TARGET, **kwargs)
    module.attributes[SCRATCHPAD] = IntegerAttr(int(kib * 1024), i64)
    return module


@pytest.fixture(scope="module")
def image() -> Array:
    return np.random.default_rng(1).normal(size=(1, 3, PIXELS, PIXELS)).astype(np.float32)


@pytest.fixture(scope="module", params=[16, 3])
def built(request: pytest.FixtureRequest) -> Iterator[tuple[int, npu.Program]]:
    yield request.param * 1024, api.build(loaded(request.param))


def test_a_program_takes_no_more_than_there_is(built: tuple[int, npu.Program]):
    limit, program = built
    assert program.profile.peak_spm <= limit


def test_a_program_in_little_memory_is_proved(built: tuple[int, npu.Program]):
    _, program = built
    pipeline.run(program.to_module(), "npu-verify")


def test_a_program_in_little_memory_leaves_nothing_to_the_host(built: tuple[int, npu.Program]):
    _, program = built
    assert "host" not in {p.engine for p in program.placement}


def test_a_program_in_little_memory_gives_the_bits_of_the_graph(
    built: tuple[int, npu.Program], image: Array
):
    _, program = built
    found = npu.simulate(program, {"image": image}).outputs
    module = loaded(512)
    api.lower(module, "graph")
    (expected,) = api.execute(module, [image]).values()
    np.testing.assert_array_equal(next(iter(found.values())), expected)


def test_the_classes_are_those_of_onnxruntime_but_for_ties(image: Array):
    module = loaded(512)
    api.lower(module, "graph")
    (found,) = api.execute(module, [image]).values()
    expected = run_onnxruntime(deeplab(), {"image": image})[0]
    assert np.mean(found != expected) < 0.01  # a resize may be a step off


def test_a_tile_that_cannot_fit_is_an_error_with_a_remedy(tmp_path: Path):
    mapping = 'rows = 21, cols = 21, channels = 16, reduction = 3, order = "weights_outer"'
    pins = tmp_path / "pins.toml"
    pins.write_text(f'["{first_convolution()}"]\nmapping = {{ {mapping} }}\n')
    message = r"NPU0304.*the tiles of a mapping must fit.* beyond 3072 bytes: .*try smaller tiles"
    with pytest.raises(CompileError, match=message):
        api.build(loaded(3, overrides=pins))


def first_convolution() -> str:
    return next(node.name for node in deeplab().graph.node if node.op_type == "Conv")
