"""Networks of int8 operators in one subgraph, for tests that put several operators together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tflite_graphs import Graph, Models


class Net:
    """A network under construction; values are (number, shape, scale, zero point)."""

    def __init__(self, seed: int) -> None:
        self.models = Models()
        self.graph: Graph = self.models.graph("main")
        self.rng = np.random.default_rng(seed)
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.quants: dict[int, tuple[float, int]] = {}

    def input(self, *shape: int) -> int:
        return self._noted(self.graph.input(shape, scale=0.05, zero=-3), shape, 0.05, -3)

    def _noted(self, number: int, shape: Sequence[int], scale: float, zero: int) -> int:
        self.shapes[number], self.quants[number] = tuple(shape), (scale, zero)
        return number

    def value(self, *shape: int, scale: float = 0.1, zero: int = 5) -> int:
        return self._noted(self.graph.tensor(shape, scale=scale, zero=zero), shape, scale, zero)

    def like(self, x: int, *shape: int) -> int:
        scale, zero = self.quants[x]
        return self.value(*shape, scale=scale, zero=zero)

    def weight(self, *shape: int) -> tuple[int, int]:
        """Weights with a scale for each of the first dimension, and biases."""
        scale = self.rng.uniform(0.004, 0.02, shape[0]).astype(np.float32)
        zero = [0] * shape[0]
        values = self.rng.integers(-127, 128, shape)
        w = self.graph.constant(values, "int8", scale=scale, zero=zero)
        b = self.graph.constant(self.rng.integers(-900, 900, shape[0]), scale=scale, zero=zero)
        return w, b

    def op(self, code: str, inputs: Sequence[int], y: int, options: str = "", **more: Any) -> int:
        return self.graph.op(code, inputs, [y], options, **more)

    def conv(self, x: int, channels: int, kernel: int = 3, stride: int = 1, act: int = 0) -> int:
        n, height, width, depth = self.shapes[x]
        y = self.value(n, -(-height // stride), -(-width // stride), channels)
        more = {"strideH": stride, "strideW": stride, "fusedActivationFunction": act}
        inputs = [x, *self.weight(channels, kernel, kernel, depth)]
        return self.op("CONV_2D", inputs, y, "Conv2DOptions", padding=0, **more)

    def resized(self, x: int, by: int, **more: bool) -> int:
        n, height, width, depth = self.shapes[x]
        size = self.graph.constant([height * by, width * by])
        y = self.like(x, n, height * by, width * by, depth)
        return self.op("RESIZE_BILINEAR", [x, size], y, "ResizeBilinearOptions", **more)

    def bytes(self, *outputs: int) -> bytes:
        self.graph.returns(*outputs)
        return self.models.bytes()
