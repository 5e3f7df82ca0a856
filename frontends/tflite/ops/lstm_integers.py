"""A step of a LSTM of 8-bit integers with gates of 16 bits (`LstmStepInteger8x8_16`).

Gates are i16 with 12 fractional bits, and the state of the cell is i16 with a power of two for a
scale; sigmoid and tanh are gemmlowp's (gemmlowp_steps.py). What is added to a gate is rescaled with
two roundings, and the sum saturated, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.builder import dtype_of, element_of, shape_of
from npu_dialect.frontends.onnx.errors import Misfit, NotExpressible
from npu_dialect.frontends.onnx.ops.common import along, concat
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.model import Array
from npu_dialect.frontends.tflite.ops import gemmlowp_steps
from npu_dialect.frontends.tflite.ops.lstm_cell import Cell
from npu_dialect.frontends.tflite.ops.lstm_norms import Norm, normalized
from npu_dialect.frontends.tflite.ops.rescaling import (
    I32,
    KEEP,
    plain,
    quant_of,
    recipe,
    rescaled,
)
from npu_dialect.frontends.tflite.ops.wide_sums import exponent_of
from npu_dialect.graph.quant import QuantType, uniform

GATE = uniform(dtypes.i16, 2.0**-12)
"""The type of a gate before its function."""

HIDDEN = 4
"""Which of the intermediate tensors is what is projected, or the output."""

INTERMEDIATES = {"input": 0, "forget": 1, "cell": 2, "output": 3}
"""Which of the intermediate tensors are gates before layer normalization."""

ONE = dtypes.i16.high
"""An open gate."""


@dataclass(frozen=True)
class IntegerStep:
    """A step of integers; x, h and c are the operator's operands."""

    b: Builder
    cell: Cell
    x: SSAValue
    h: SSAValue
    c: SSAValue

    def __post_init__(self) -> None:
        if dtype_of(self.x) is not dtypes.i8 or quant_of(self.h).storage_dtype is not dtypes.i8:
            raise NotExpressible(f"a cell of {element_of(self.x)} and {element_of(self.h)}")
        if len(self.b.intermediates) <= HIDDEN or self.b.intermediates[HIDDEN].quant is None:
            raise Misfit("a cell of integers without the quantization of what is projected")
        if self.cell.projection is None and self.hidden.zero_point != self.state.zero_point:
            raise NotExpressible(f"an output of {self.state} from {self.hidden}")

    @property
    def state(self) -> QuantType:
        """The type of h."""
        return quant_of(self.h)

    @property
    def hidden(self) -> QuantType:
        """The quantization of o tanh(c)."""
        found = self.b.intermediates[HIDDEN].quant
        assert found is not None
        return found

    @property
    def exponent(self) -> int:
        """The power of two that the scale of the state of the cell is."""
        quant = quant_of(self.c)
        found = exponent_of(float(quant.scales[0]))
        if found is None or quant.zero_point or dtype_of(self.c) is not dtypes.i16:
            raise NotExpressible(f"a state of the cell of type {quant}")
        if not -15 <= found <= -9:
            raise NotExpressible(f"a state of the cell of scale 2**{found}")
        return found

    def scales(self) -> Array:
        """The scales of the gates before layer normalization, float32 [G N]."""
        cell = self.cell
        if not cell.norms:
            return np.full(len(cell.names) * cell.size, GATE.scales[0])
        found = [self.b.intermediates[INTERMEDIATES[n]].scales for n in cell.names]
        if any(s.size != 1 for s in found):
            raise Misfit("a gate that is normalized without a scale before")
        return np.repeat(np.concatenate(found), cell.size)

    def _factors(self, x: SSAValue, w: SSAValue) -> list[float]:
        """What sums are multiplied by, in float32."""
        element = element_of(w)
        if not isinstance(element, QuantType):
            raise NotExpressible(f"products of {element_of(x)} and {element}")
        return [float(f) for f in element.scales * quant_of(x).scales[0] / self.scales()]

    def of_inputs(self, x: SSAValue) -> SSAValue:
        """x W + b, saturated; without b where the gates are normalized."""
        bias = None if self.cell.norms else self.b.constant(np.concatenate(self.cell.biases))
        sums = self.b.emit(graph.MatmulOp(x, self.cell.w, bias))
        return rescaled(self.b, sums, self._factors(x, self.cell.w), GATE)

    def step(self, outer: SSAValue, h: SSAValue, c: SSAValue) -> tuple[SSAValue, SSAValue]:
        """The next states."""
        b, cell = self.b, self.cell
        again = b.emit(graph.MatmulOp(h, cell.r))
        sums = self._accumulated(outer, again, self._factors(h, cell.r))
        gates = self._gates(sums, c, cell.names[: -2 if cell.peepholes else -1])
        before = self._normalized(plain(b, cell.gate(b, sums, "cell")), ("cell",))
        new = gemmlowp_steps.tanh(b, before, 3)
        kept = self._shifted(b.emit(graph.MulOp(gates["forget"], plain(b, c))), 15)
        opened = gates["input"] if not cell.is_coupled else self._rest(gates["forget"])
        added = self._shifted(b.emit(graph.MulOp(opened, new)), 30 + self.exponent)
        both = b.emit(graph.AddOp(kept, added))
        c = b.emit(graph.RequantizeOp(both, KEEP, quant_of(self.c)))
        bound = int(min(np.float32(cell.cell_clip) / quant_of(self.c).scales[0], ONE))
        c = b.emit(graph.ClampOp(c, -bound, bound)) if bound else c
        if cell.peepholes:
            gates = self._gates(sums, c, ("output",))
        return self._output(gates["output"], c), c

    def _rest(self, gate: SSAValue) -> SSAValue:
        return self.b.emit(graph.SubOp(self.b.scalar(ONE, gate), gate))

    def _accumulated(self, gate: SSAValue, sums: SSAValue, factors: Sequence[float]) -> SSAValue:
        """A gate and rescaled sums, saturated."""
        b = self.b
        more = b.emit(graph.RequantizeOp(sums, recipe(factors), I32))
        found = b.emit(graph.AddOp(plain(b, gate), more))
        return b.emit(graph.RequantizeOp(found, KEEP, GATE))

    def _gates(self, sums: SSAValue, c: SSAValue, names: tuple[str, ...]) -> dict[str, SSAValue]:
        """Gates after their sigmoid, in i32."""
        b, cell = self.b, self.cell
        if cell.peepholes:
            peeped = [self._peeped(cell.gate(b, sums, n), c, n) for n in names]
            joined = concat(b, peeped, 1)
        else:
            joined = along(b, sums, 1, 0, len(names) * cell.size)
        opened = gemmlowp_steps.sigmoid(b, self._normalized(plain(b, joined), names))
        return {n: along(b, opened, 1, k * cell.size, cell.size) for k, n in enumerate(names)}

    def _normalized(self, gates: SSAValue, names: tuple[str, ...]) -> SSAValue:
        """Gates in i32, normalized where the cell does that."""
        if not self.cell.norms:
            return gates
        norms: list[Norm] = []
        for name in names:
            k = self.cell.names.index(name)
            weights, quant = self.cell.norms[k], quant_of(self.cell.norms[k])
            if quant.storage_dtype is not dtypes.i16:
                raise NotExpressible(f"layer normalization by {quant}")
            array = self.b.known(weights, "a factor")
            norms.append(Norm(array, float(quant.scales[0]), self.cell.biases[k]))
        return plain(self.b, normalized(self.b, gates, norms, GATE))

    def _peeped(self, gate: SSAValue, c: SSAValue, name: str) -> SSAValue:
        """A gate that sees the state of the cell."""
        weight = self.cell.peepholes[name]
        quant = quant_of(weight)
        if quant.zero_point or quant.storage_dtype is not dtypes.i16:
            raise NotExpressible(f"a peephole of {quant}")
        products = self.b.emit(graph.MulOp(plain(self.b, c), self._peephole(weight)))
        scale = self.scales()[self.cell.names.index(name) * self.cell.size]
        factor = np.float32(2.0**self.exponent * float(quant.scales[0]) / float(scale))
        return self._accumulated(gate, products, [float(factor)])

    def _peephole(self, weight: SSAValue) -> SSAValue:
        """The weights [B, N] of a peephole [N].

        The reference kernel takes the H outputs of the cell for its N elements: of all states that
        it does at once (those of a time step, or of one batch) the first get the first H weights,
        as often as there are batches, and the others none. With H = N that is the same.
        """
        b, outputs = self.b, self.cell.outputs
        array = b.known(weight, "a peephole").astype(np.int32)
        batch, size = shape_of(self.c)
        if outputs > size:
            raise NotExpressible(f"peepholes of {size} elements with {outputs} outputs")
        at_once = batch if self.cell.time_major else 1
        found = np.zeros(at_once * size, np.int32)
        found[: at_once * outputs] = np.tile(array[:outputs], at_once)
        return b.constant(found.reshape(at_once, size))

    def _shifted(self, x: SSAValue, times: int) -> SSAValue:
        """x / 2**times, ties away from zero."""
        made = graph.requant_fixed(1, times, "half_away")
        return self.b.emit(graph.RequantizeOp(x, made, I32))

    def _output(self, gate: SSAValue, c: SSAValue) -> SSAValue:
        b, cell, hidden = self.b, self.cell, self.hidden
        bounded = gemmlowp_steps.tanh(b, plain(b, c), 15 + self.exponent)
        product = b.emit(graph.MulOp(gate, bounded))
        factor = [float(np.float32(2.0**-15 / float(hidden.scales[0]) * 2.0**-15))]
        if cell.projection is None:
            return rescaled(b, product, factor, self.state)
        if hidden.zero_point == dtypes.i8.low:
            raise NotExpressible(f"a projection of {hidden}")
        element = uniform(dtypes.i8, hidden.scales, -hidden.zero_point)
        return self._projected(rescaled(b, product, factor, element), cell.projection)

    def _projected(self, x: SSAValue, w: SSAValue) -> SSAValue:
        """x P + q; the reference kernel has -z for the zero point z of x."""
        b, quant = self.b, quant_of(w)
        if quant.zero_point or quant.storage_dtype is not dtypes.i8:
            raise NotExpressible(f"a projection by {quant}")
        sums = b.emit(graph.MatmulOp(x, w, self.cell.projection_bias))
        factor = quant.scales[0] * self.hidden.scales[0] / self.state.scales[0]
        found = rescaled(b, sums, [float(factor)], self.state)
        bound = int(min(np.float32(self.cell.proj_clip) / self.state.scales[0], dtypes.i8.high))
        return b.emit(graph.ClampOp(found, -bound, bound)) if bound else found
