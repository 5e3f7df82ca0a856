"""Random chains of int8 operators: the bits of TFLite at level npu, whatever is fused or a view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("tflite")
pytest.importorskip("ai_edge_litert")

from tflite_checks import seeds
from tflite_models import reference
from tflite_nets import Net

import npu_dialect as npu
from npu_dialect.frontends import tflite

Step = Callable[[Net, int], int]
MOST = 4096
"""Elements that a tensor may have before it is upsampled."""


def conv(n: Net, x: int) -> int:
    """A convolution."""
    kernel, stride = n.rng.choice([1, 3]), n.rng.choice([1, 2])
    return n.conv(x, int(n.rng.integers(1, 9)), int(kernel), int(stride), int(n.rng.integers(0, 4)))


def table(n: Net, x: int) -> int:
    """A function of 8 bits."""
    code = str(n.rng.choice(["ABS", "NEG", "EXP", "LOG", "RELU_0_TO_1", "HARD_SWISH"]))
    return n.op(code, [x], n.value(*n.shapes[x], scale=0.5, zero=int(n.rng.integers(-90, 90))))


def prelu(n: Net, x: int) -> int:
    """A slope for each channel."""
    slopes = n.rng.integers(-50, 90, n.shapes[x][-1])
    alpha = n.graph.constant(slopes, "int8", scale=0.02, zero=4)
    return n.op("PRELU", [x, alpha], n.value(*n.shapes[x]))


def resize(n: Net, x: int) -> int:
    """Twice as large, or by the nearest pixel."""
    shape = n.shapes[x]
    if np.prod(shape) > MOST:
        return x
    if n.rng.random() < 0.5:
        return n.resized(x, 2, halfPixelCenters=bool(n.rng.random() < 0.5))
    size = n.graph.constant([shape[1] * 2, shape[2] + 1])
    y = n.like(x, 1, shape[1] * 2, shape[2] + 1, shape[3])
    return n.op("RESIZE_NEAREST_NEIGHBOR", [x, size], y, "ResizeNearestNeighborOptions")


def transposed(n: Net, x: int) -> int:
    """A transposed convolution."""
    _, height, width, depth = n.shapes[x]
    if height * width * depth > MOST:
        return x
    w, b = n.weight(3, 3, 3, depth)
    shape = n.graph.constant([1, 2 * height, 2 * width, 3])
    y = n.value(1, 2 * height, 2 * width, 3)
    more = {"strideH": 2, "strideW": 2, "padding": 0}
    return n.op("TRANSPOSE_CONV", [shape, w, x, b], y, "TransposeConvOptions", **more)


def reverse(n: Net, x: int) -> int:
    """The other way round."""
    axis = n.graph.constant([int(n.rng.integers(1, 4))])
    return n.op("REVERSE_V2", [x, axis], n.like(x, *n.shapes[x]), "ReverseV2Options")


def mirror(n: Net, x: int) -> int:
    """A border of one pixel."""
    _, height, width, depth = n.shapes[x]
    pads = n.graph.constant([[0, 0], [1, 0], [0, 1], [0, 0]])
    y = n.like(x, 1, height + 1, width + 1, depth)
    return n.op("MIRROR_PAD", [x, pads], y, "MirrorPadOptions", mode=1)


def blocks(n: Net, x: int) -> int:
    """Blocks as channels."""
    _, height, width, depth = n.shapes[x]
    if height % 2 or width % 2:
        return x
    y = n.like(x, 1, height // 2, width // 2, 4 * depth)
    return n.op("SPACE_TO_DEPTH", [x], y, "SpaceToDepthOptions", blockSize=2)


def doubled(n: Net, x: int) -> int:
    """Beside itself."""
    *shape, depth = n.shapes[x]
    parts = [x, reverse(n, x)]
    y = n.like(x, *shape, 2 * depth)
    return n.op("CONCATENATION", parts, y, "ConcatenationOptions", axis=3)


def added(n: Net, x: int) -> int:
    """A function of it added."""
    return n.op("ADD", [x, table(n, x)], n.value(*n.shapes[x], scale=0.3), "AddOptions")


def chosen(n: Net, x: int) -> int:
    """Itself where it is above a function of it."""
    y = table(n, x)
    holds = n.graph.tensor(n.shapes[x], "bool")
    n.op("GREATER", [x, y], holds, "GreaterOptions")
    return n.op("SELECT_V2", [holds, x, y], n.like(x, *n.shapes[x]), "SelectV2Options")


def pooled(n: Net, x: int) -> int:
    """Means of windows."""
    code = str(n.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    window = {"filterHeight": 2, "filterWidth": 3, "strideH": 1, "strideW": 1, "padding": 0}
    return n.op(code, [x], n.like(x, *n.shapes[x]), "Pool2DOptions", **window)


STEPS: list[Step] = [
    conv, table, prelu, resize, transposed, reverse, mirror, blocks, doubled, added, chosen, pooled,
]  # fmt: skip


def chain(seed: int) -> tuple[bytes, tuple[int, ...]]:
    n = Net(seed)
    shape = (1, int(n.rng.integers(1, 9)), int(n.rng.integers(1, 9)), int(n.rng.integers(1, 7)))
    x = n.input(*shape)
    for _ in range(int(n.rng.integers(2, 7))):
        x = STEPS[int(n.rng.integers(len(STEPS)))](n, x)
    if n.rng.random() < 0.3:
        index = n.graph.tensor(n.shapes[x][:-1], "int32")
        x = n.op("ARG_MAX", [x, n.graph.constant(-1)], index, "ArgMaxOptions", outputType=2)
    else:
        x = table(n, x)
    return n.bytes(x), shape


@given(seeds)
@settings(max_examples=12)
def test_a_chain_of_operators(seed: int) -> None:
    source, shape = chain(seed)
    values = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    (expected,) = reference(source, [values])
    target = ("edge256", "ethos_u55_256", "mobile4k")[seed % 3]
    module = npu.load(tflite.load(source), target=target)
    npu.lower(module, until="npu")
    (found,) = npu.execute(module, values).values()
    np.testing.assert_array_equal(found, expected)
