"""A step of a LSTM of floats, whose weights may have 8 bits (`LstmStepFloat`, `LstmStepHybrid`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.frontends.onnx.ops.common import along
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.lstm_cell import Cell
from npu_dialect.frontends.tflite.ops.rescaling import clamped, is_quantized, quant_of
from npu_dialect.frontends.tflite.ops.rnn import float_product

NORM_EPSILON = 1e-8
"""What is added to a variance."""


@dataclass(frozen=True)
class FloatStep:
    """A step of floats."""

    b: Builder
    cell: Cell

    def of_inputs(self, x: SSAValue) -> SSAValue:
        """x W + b, or x W where the bias comes after layer normalization."""
        bias = None
        if not self.cell.norms:
            bias = self.b.constant(np.concatenate(self.cell.biases))
        return self._product(x, self.cell.w, bias)

    def _product(self, x: SSAValue, w: SSAValue, bias: SSAValue | None) -> SSAValue:
        return float_product(self.b, x, w, bias, self.cell.asymmetric)

    def step(self, outer: SSAValue, h: SSAValue, c: SSAValue) -> tuple[SSAValue, SSAValue]:
        """The next states."""
        b, cell = self.b, self.cell
        sums = b.emit(graph.AddOp(outer, self._product(h, cell.r, None)))
        gates = self._gates(sums, c, cell.names[: -2 if cell.peepholes else -1])
        new = b.emit(graph.TanhOp(self._before(sums, c, "cell")))
        kept = b.emit(graph.MulOp(gates["forget"], c))
        opened = gates["input"] if not cell.is_coupled else self._rest(gates["forget"])
        c = b.emit(graph.AddOp(kept, b.emit(graph.MulOp(new, opened))))
        c = clamped(b, c, *_bounds(cell.cell_clip))
        if cell.peepholes:
            gates = self._gates(sums, c, ("output",))
        return self._output(gates["output"], c), c

    def _rest(self, gate: SSAValue) -> SSAValue:
        return self.b.emit(graph.SubOp(self.b.scalar(1.0, gate), gate))

    def _gates(self, sums: SSAValue, c: SSAValue, names: tuple[str, ...]) -> dict[str, SSAValue]:
        """Gates after their sigmoid; those that have nothing else are computed together."""
        b, cell = self.b, self.cell
        if cell.peepholes or cell.norms:
            return {n: b.emit(graph.SigmoidOp(self._before(sums, c, n))) for n in names}
        opened = b.emit(graph.SigmoidOp(along(b, sums, 1, 0, len(names) * cell.size)))
        return {n: along(b, opened, 1, k * cell.size, cell.size) for k, n in enumerate(names)}

    def _before(self, sums: SSAValue, c: SSAValue, name: str) -> SSAValue:
        """A gate before its function: with its peephole and normalized."""
        b, cell = self.b, self.cell
        gate = cell.gate(b, sums, name)
        if name in cell.peepholes:
            weight = _numbers(b, cell.peepholes[name])
            gate = b.emit(graph.AddOp(gate, b.emit(graph.MulOp(weight, c))))
        if not cell.norms:
            return gate
        k = cell.names.index(name)
        scaled = b.emit(graph.MulOp(cell.norms[k], _normalized(b, gate, cell.size)))
        return b.emit(graph.AddOp(scaled, b.constant(cell.biases[k])))

    def _output(self, gate: SSAValue, c: SSAValue) -> SSAValue:
        b, cell = self.b, self.cell
        hidden = b.emit(graph.MulOp(gate, b.emit(graph.TanhOp(c))))
        if cell.projection is None:
            return hidden
        found = self._product(hidden, cell.projection, cell.projection_bias)
        return clamped(b, found, *_bounds(cell.proj_clip))


def _bounds(clip: float) -> tuple[float, float]:
    reach = clip or float("inf")
    return -reach, reach


def _numbers(b: Builder, weight: SSAValue) -> SSAValue:
    """A peephole as floats."""
    if not is_quantized(weight):
        return weight
    return b.constant(quant_of(weight).scales[0] * b.known(weight, "a peephole").astype(np.float32))


def _normalized(b: Builder, x: SSAValue, size: int) -> SSAValue:
    """(x - mean) / sqrt(variance + 1e-8) along the last dimension."""
    count: Any = b.scalar(float(size), x)
    mean = b.emit(graph.DivOp(b.emit(graph.ReduceSumOp(x, (1,))), count))
    off = b.emit(graph.SubOp(x, mean))
    squares = b.emit(graph.ReduceSumOp(b.emit(graph.MulOp(off, off)), (1,)))
    variance = b.emit(graph.DivOp(squares, count))
    inverse = b.emit(graph.RsqrtOp(b.emit(graph.AddOp(variance, b.scalar(NORM_EPSILON, x)))))
    return b.emit(graph.MulOp(off, inverse))
