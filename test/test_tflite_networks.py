"""Small networks of int8: the bits of TFLite at all levels, and nothing for the host to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import compare
from tflite_nets import Net

import npu_dialect as npu
from npu_dialect.frontends import tflite

TARGETS = ["edge256", "ethos_u55_256"]

Network = tuple[bytes, tuple[int, ...]]
"""A file, and the shape of its input."""


def segmentation() -> Network:
    """A coarse branch, upsampled and put beside a fine one, and the class of each pixel."""
    n = Net(1)
    x = n.input(1, 16, 16, 3)
    fine = n.conv(x, 8, stride=2, act=1)
    coarse = n.conv(fine, 12, stride=2)
    slopes = n.graph.constant(n.rng.integers(-20, 60, 12), "int8", scale=0.01, zero=2)
    coarse = n.op("PRELU", [coarse, slopes], n.like(coarse, 1, 4, 4, 12))
    up = n.resized(coarse, 2, halfPixelCenters=True)
    both = n.op("CONCATENATION", [up, fine], n.value(1, 8, 8, 20), "ConcatenationOptions", axis=3)
    classes = n.resized(n.conv(both, 6, kernel=1), 2)
    index = n.graph.tensor((1, 16, 16), "int32")
    axis = n.graph.constant(-1)
    return n.bytes(n.op("ARG_MAX", [classes, axis], index, "ArgMaxOptions", outputType=2)), (
        1,
        16,
        16,
        3,
    )


def decoder() -> Network:
    """A transposed convolution with a bias, a mirrored border, blocks of channels as pixels."""
    n = Net(2)
    x = n.input(1, 6, 5, 8)
    w, b = n.weight(8, 3, 3, 8)
    shape = n.graph.constant([1, 12, 10, 8])
    y = n.value(1, 12, 10, 8)
    more = {"strideH": 2, "strideW": 2, "padding": 0}
    x = n.op("TRANSPOSE_CONV", [shape, w, x, b], y, "TransposeConvOptions", **more)
    pads = n.graph.constant([[0, 0], [1, 1], [1, 1], [0, 0]])
    x = n.op("MIRROR_PAD", [x, pads], n.like(x, 1, 14, 12, 8), "MirrorPadOptions", mode=0)
    y = n.like(x, 1, 28, 24, 2)
    return n.bytes(n.op("DEPTH_TO_SPACE", [x], y, "DepthToSpaceOptions", blockSize=2)), (1, 6, 5, 8)


def attention() -> Network:
    """Products of two activations, their powers over the greatest one, and products with them."""
    n = Net(3)
    x = n.input(2, 6, 16)
    keys = n.op("ABS", [x], n.value(2, 6, 16))
    scores = n.value(2, 6, 6, scale=0.5)
    scores = n.op("BATCH_MATMUL", [x, keys], scores, "BatchMatMulOptions", adjY=True)
    powers = n.op("EXP", [scores], n.value(2, 6, 6, scale=0.05, zero=-128))
    axis = n.graph.constant([2])
    total = n.like(powers, 2, 6, 1)
    total = n.op("REDUCE_MAX", [powers, axis], total, "ReducerOptions", keepDims=True)
    least = n.graph.constant(-100, "int8", scale=0.05, zero=-128)
    total = n.op("MAXIMUM", [total, least], n.like(total, 2, 6, 1), "MaximumMinimumOptions")
    shares = n.op("DIV", [powers, total], n.value(2, 6, 6, scale=1 / 256, zero=-128), "DivOptions")
    found = n.op("BATCH_MATMUL", [shares, x], n.value(2, 6, 16), "BatchMatMulOptions")
    return n.bytes(found), (2, 6, 16)


def detection() -> Network:
    """Boxes: a part of the channels as sizes, some of them where a score is above another one."""
    n = Net(4)
    x = n.conv(n.input(1, 8, 8, 4), 12, stride=2)
    rows = n.op("RESHAPE", [x, n.graph.constant([16, 12])], n.like(x, 16, 12), "ReshapeOptions")

    def part(start: int, size: int) -> int:
        ends = n.graph.constant([0, start]), n.graph.constant([16, size])
        return n.op("SLICE", [rows, *ends], n.like(rows, 16, size), "SliceOptions")

    sizes = n.op("EXP", [part(0, 4)], n.value(16, 4, scale=0.05, zero=-128))
    scores, others = part(4, 4), part(8, 4)
    holds = n.graph.tensor((16, 4), "bool")
    n.op("GREATER", [scores, others], holds, "GreaterOptions")
    kept = n.op("SELECT_V2", [holds, sizes, sizes], n.like(sizes, 16, 4), "SelectV2Options")
    wide = n.op("RELU_0_TO_1", [part(2, 4)], n.value(16, 4, scale=1 / 128, zero=0))
    found = n.op("MUL", [kept, wide], n.value(16, 4, scale=0.05), "MulOptions")
    turned = n.like(found, 16, 4)
    turned = n.op("REVERSE_V2", [found, n.graph.constant([0])], turned, "ReverseV2Options")
    return n.bytes(turned), (1, 8, 8, 4)


NETWORKS: list[Callable[[], Network]] = [
    segmentation, decoder, attention, detection,
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network(network: Callable[[], Network], target: str) -> None:
    source, shape = network()
    values = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    compare(source, [values], target=target)
    program = npu.compile(tflite.load(source), target)
    assert not [row for row in program.placement if row.engine == "host"]
