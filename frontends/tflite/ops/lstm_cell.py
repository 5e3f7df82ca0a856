"""What a LSTM cell has: its parameters, and what a step of it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from xdsl.ir import SSAValue

from npu_dialect.frontends.onnx.builder import shape_of
from npu_dialect.frontends.onnx.ops.common import along
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array


@dataclass(frozen=True)
class Cell:
    """The parameters of a cell of N elements, with G gates: input (if it has one), forget, output
    and cell gate, side by side in this order.
    """

    w: SSAValue
    """[I, G N]"""
    r: SSAValue
    """[H, G N]"""
    biases: tuple[Array, ...]
    """[N] of each gate; with layer normalization they are added after it."""
    peepholes: Mapping[str, SSAValue]
    """[N] of "input", "forget" and "output", or none."""
    norms: tuple[SSAValue, ...]
    """[N] of each gate, or none: the factors of layer normalization."""
    projection: SSAValue | None
    """[N, H]; without it H = N."""
    projection_bias: SSAValue | None
    """[H]"""
    is_coupled: bool
    """Whether the input gate is what the forget gate leaves."""
    cell_clip: float
    """The bound of the state of the cell; 0 for none."""
    proj_clip: float
    """The bound of the projection; 0 for none."""
    asymmetric: bool
    """Whether floats are quantized with an offset where weights have 8 bits."""

    time_major: bool
    """Whether the batches of a time step are done at once."""

    @property
    def names(self) -> tuple[str, ...]:
        """The gates in their order."""
        every = ("input", "forget", "output", "cell")
        return every[1:] if self.is_coupled else every

    @property
    def size(self) -> int:
        """N."""
        return len(self.biases[0])

    @property
    def outputs(self) -> int:
        """H."""
        return self.size if self.projection is None else shape_of(self.projection)[1]

    def gate(self, b: Builder, sums: SSAValue, name: str) -> SSAValue:
        """One gate of [B, G N]."""
        return along(b, sums, 1, self.names.index(name) * self.size, self.size)


class Step(Protocol):
    """What a step does, of floats or of integers."""

    def of_inputs(self, x: SSAValue) -> SSAValue:
        """What the inputs [rows, I] of all steps add to the gates: [rows, G N]."""
        ...

    def step(self, outer: SSAValue, h: SSAValue, c: SSAValue) -> tuple[SSAValue, SSAValue]:
        """The next h [B, H] and c [B, N], from what the inputs add to the gates [B, G N]."""
        ...
