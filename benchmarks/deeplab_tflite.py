"""DeepLabv3 on MobileNetV2 as a .tflite file of int8, layer by layer as deeplabv3_mnv2_pascal has
them, with random weights.

The published file is not kept here. This one has its 38 convolutions, 17 depthwise ones and 10
sums, two of its three resizes (the other one changes nothing), and as many multiply-accumulates:
Vela counts 2752.37 million for it, 2752.68 million for that one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import common
import numpy as np

sys.path.insert(0, str(common.ROOT / "test"))

Net = Any
"""A `Net` of test/tflite_nets.py: a network under construction."""
RELU6 = 3
"""TFLite's code of the activation."""
VALID = 1
"""TFLite's code of no padding."""
WIDTH = 256
"""Channels of the layers behind the body."""


def deeplab(size: int, stages: Sequence[tuple[int, ...]], classes: int) -> bytes:
    """The file, for square images. Needs the package tflite."""
    n = import_module("tflite_nets").Net(0)
    x = n.conv(n.input(1, size, size, 3), 32, 3, 2, act=RELU6)
    for expansion, out, blocks, stride, dilation in stages:
        for block in range(blocks):
            x = _residual(n, x, out, expansion, 1 if block else stride, dilation)
    _, height, width, channels = n.shapes[x]
    pool = {"filterHeight": height, "filterWidth": width, "strideH": 1, "strideW": 1}
    mean = n.like(x, 1, 1, 1, channels)
    mean = n.op("AVERAGE_POOL_2D", [x], mean, "Pool2DOptions", padding=VALID, **pool)
    mean = _resized(n, n.conv(mean, WIDTH, 1, act=RELU6), height, width)
    both = [mean, n.conv(x, WIDTH, 1, act=RELU6)]
    whole = n.value(1, height, width, 2 * WIDTH)
    x = n.op("CONCATENATION", both, whole, "ConcatenationOptions", axis=3)
    x = n.conv(n.conv(x, WIDTH, 1, act=RELU6), classes, 1)
    x = _resized(n, x, size, size)
    found = n.graph.tensor((1, size, size), "int32")
    axis = n.graph.constant(-1)
    return n.bytes(n.op("ARG_MAX", [x, axis], found, "ArgMaxOptions", outputType=2))


def _residual(n: Net, x: int, out: int, expansion: int, stride: int, dilation: int) -> int:
    channels = n.shapes[x][3]
    y = n.conv(x, channels * expansion, 1, act=RELU6) if expansion > 1 else x
    y = n.conv(_depthwise(n, y, stride, dilation), out, 1)
    if stride != 1 or channels != out:
        return y
    return n.op("ADD", [x, y], n.value(*n.shapes[x]), "AddOptions")


def _depthwise(n: Net, x: int, stride: int, dilation: int) -> int:
    one, height, width, channels = n.shapes[x]
    scale = n.rng.uniform(0.004, 0.02, channels).astype(np.float32)
    zeros = [0] * channels
    taps = n.rng.integers(-127, 128, (1, 3, 3, channels))
    weights = n.graph.constant(taps, "int8", scale=scale, zero=zeros, axis=3)
    bias = n.graph.constant(n.rng.integers(-900, 900, channels), scale=scale, zero=zeros)
    more = {"strideH": stride, "strideW": stride, "depthMultiplier": 1}
    more |= {"dilationHFactor": dilation, "dilationWFactor": dilation}
    y = n.value(one, -(-height // stride), -(-width // stride), channels)
    inputs, options = [x, weights, bias], "DepthwiseConv2DOptions"
    return n.op(
        "DEPTHWISE_CONV_2D", inputs, y, options, padding=0, fusedActivationFunction=RELU6, **more
    )


def _resized(n: Net, x: int, height: int, width: int) -> int:
    y = n.like(x, 1, height, width, n.shapes[x][3])
    size = n.graph.constant([height, width])
    return n.op("RESIZE_BILINEAR", [x, size], y, "ResizeBilinearOptions", alignCorners=True)
