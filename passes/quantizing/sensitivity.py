"""What quantizing one unit of a float function does to its outputs, all else left as it is.

The float function is run once on some samples. For a unit and a scheme, its weights and the tensor
that it makes are rounded, and what follows from them is computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.graph.base import dtype_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.quantizing.halves import rounded
from npu_dialect.passes.quantizing.insertion import MOVES, grid_of
from npu_dialect.passes.quantizing.precision import Precision, Unit
from npu_dialect.passes.quantizing.ranges import Range
from npu_dialect.passes.quantizing.replay import Arguments, Replay, evaluate
from npu_dialect.passes.quantizing.schemes import Scheme
from npu_dialect.passes.quantizing.twins import Linear, is_layer
from npu_dialect.passes.rewriting import Array, constant

Values = dict[SSAValue, Array]


class Sensitivity:
    """Measures a function with ranges on samples."""

    def __init__(
        self, function: FuncOp, ranges: dict[SSAValue, Range], arguments: Arguments
    ) -> None:
        self.ranges = ranges
        self.ops = list(function.body.block.ops)
        self.numbers = {op: k for k, op in enumerate(self.ops)}
        self.samples: list[Values] = []
        for row in arguments:
            run = Replay(function, [row])
            values: Values = {v: found[0] for v, found in run.values.items()}
            for op in run:
                values.update({v: run.values[v][0] for v in op.results})
            self.samples.append(values)
        last = self.ops[-1]
        assert isinstance(last, ReturnOp)
        self.outputs = [v for v in last.operands if dtype_of(v) is dtypes.f32]

    def noise(self, unit: Unit, scheme: Precision) -> float:
        """The power of what changes in the outputs as a share of theirs, in the mean over outputs;
        0 for floats.
        """
        if scheme is None:
            return 0.0
        weights = {op: self._weights(op, scheme) for op in unit.ops if isinstance(op, Linear)}
        changed = [self._run(unit, scheme, values, weights) for values in self.samples]
        shares: list[float] = []
        for value in self.outputs:
            pairs = [
                (values[value], found.get(value, values[value]))
                for values, found in zip(self.samples, changed, strict=True)
            ]
            shares.append(noise_share([a for a, _ in pairs], [b for _, b in pairs]))
        return float(np.mean(shares)) if shares else 0.0

    def _weights(self, op: Linear, scheme: Scheme | DType) -> Array | None:
        """The rounded weights of a contraction; None where they are no constants."""
        array = constant(op.operands[1])
        if array is None or not is_layer(op):
            return None
        if isinstance(scheme, DType):
            return rounded(array, scheme)
        inputs = self._type(op.operands[0], scheme)
        return None if inputs is None else grid_of(op, scheme, inputs).nearest(array)

    def _type(self, value: SSAValue, scheme: Scheme) -> QuantType | None:
        """The type of a tensor, also where its values were only moved."""
        while value not in self.ranges and isinstance(value.owner, MOVES):
            value = value.owner.operands[0]
        return scheme.activation(self.ranges[value]) if value in self.ranges else None

    def _run(
        self,
        unit: Unit,
        scheme: Scheme | DType,
        values: Values,
        weights_of: dict[Linear, Array | None],
    ) -> Values:
        """The values that change."""
        found = self._read(unit, scheme, values)
        first = min([self.numbers[op] for op in unit.ops] + [self._first_reader(v) for v in found])
        inside = set(unit.ops)
        for op in self.ops[first:-1]:
            if op not in inside and found.keys().isdisjoint(op.operands):
                continue
            operands = [found.get(v, values[v]) for v in op.operands]
            if isinstance(op, Linear) and (weights := weights_of.get(op)) is not None:
                operands[1] = weights
            for result, array in zip(op.results, evaluate(op, operands), strict=True):
                is_stored = result is unit.value
                found[result] = self._stored(result, array, scheme) if is_stored else array
        return found

    def _read(self, unit: Unit, scheme: Scheme | DType, values: Values) -> Values:
        """Arguments that the unit reads, as they are stored for it."""
        found: Values = {}
        for op in unit.ops:
            for value in op.operands:
                while isinstance(value.owner, MOVES):
                    value = value.owner.operands[0]
                if not isinstance(value.owner, Operation) and value in self.ranges:
                    found[value] = self._stored(value, values[value], scheme)
        return found

    def _first_reader(self, value: SSAValue) -> int:
        return min(self.numbers[use.operation] for use in value.uses)

    def _stored(self, value: SSAValue, array: Array, scheme: Scheme | DType) -> Array:
        """What is read of a tensor that is stored in a precision."""
        if isinstance(scheme, DType):
            return rounded(array, scheme)
        quant = scheme.activation(self.ranges[value])
        scale, zero = np.float32(quant.scale), quant.zero_point
        whole = np.clip(np.rint(array / scale) + zero, quant.low, quant.high) - zero
        return (whole * scale).astype(np.float32)


def noise_share(wanted: Sequence[Array], found: Sequence[Array]) -> float:
    """The power of the difference as a share of the power of what is wanted."""
    signal = sum(float(np.sum(np.square(a, dtype=np.float64))) for a in wanted)
    pairs = zip(wanted, found, strict=True)
    noise = sum(float(np.sum(np.square(a - b, dtype=np.float64))) for a, b in pairs)
    return noise / signal if signal else 0.0


def decibels(share: float) -> float:
    """The signal-to-noise ratio of a share of noise."""
    return float(-10 * np.log10(share)) if share > 0 else float("inf")
