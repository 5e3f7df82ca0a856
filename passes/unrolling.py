"""The time steps of a recurrent layer as operations of graph.

`unrolled` runs the definition of the layers (`npu_dialect/functional/recurrent.py`) on an
arithmetic that makes operations, so that the program computes the bits of the layer. What is the
same for all steps is made once: parts of the weights by gate, sums of biases, scalars. Operations
on constants are done at once; products with states that are still constant become so too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Operation, SSAValue

from npu_dialect import graph
from npu_dialect.functional.recurrent import Arithmetic
from npu_dialect.graph.base import GraphOp, shape_of, type_of
from npu_dialect.graph.elementwise import BinaryOp
from npu_dialect.graph.recurrent import RecurrentOp
from npu_dialect.graph.unary import FunctionOp
from npu_dialect.passes.rewriting import constant

_BINARY: Mapping[str, type[BinaryOp]] = {
    cls.name.removeprefix("graph."): cls for cls in graph.OPS if issubclass(cls, BinaryOp)
}
_UNARY: Mapping[str, Callable[..., GraphOp]] = {
    **{cls.name.removeprefix("graph."): cls for cls in graph.OPS if issubclass(cls, FunctionOp)},
    "clamp": graph.ClampOp,
    "elu": graph.EluOp,
    "hard_sigmoid": graph.HardSigmoidOp,
    "leaky_relu": graph.LeakyReluOp,
}


def unrolled(op: RecurrentOp) -> tuple[list[Operation], list[SSAValue]]:
    """The operations, in order, and the values that stand for the results of `op`."""
    a = Steps(op.location)
    found = op.unrolled(a, list(op.operands))
    return a.ops, [found.y, *found.states]


@dataclass
class Steps(Arithmetic[SSAValue]):
    """The arithmetic that makes operations, with one location."""

    location: LocationAttr
    ops: list[Operation] = field(default_factory=list[Operation])
    scalars: dict[tuple[float, tuple[int, ...]], SSAValue] = field(
        default_factory=dict[tuple[float, tuple[int, ...]], SSAValue]
    )

    def shape(self, x: SSAValue) -> tuple[int, ...]:
        return shape_of(x)

    def full(self, value: float, shape: Sequence[int] = ()) -> SSAValue:
        key = (value, tuple(shape))
        if key not in self.scalars:
            array = np.full(key[1], value, np.float32)
            self.scalars[key] = self._emit(graph.ConstantOp(array, location=self.location))
        return self.scalars[key]

    def matmul(self, a: SSAValue, b: SSAValue, bias: SSAValue | None = None) -> SSAValue:
        if bias is None or constant(bias) is not None:
            return self._emit(graph.MatmulOp(a, b, bias, location=self.location))
        return self.binary("add", self.matmul(a, b), bias)

    def unary(self, name: str, x: SSAValue, *parameters: float) -> SSAValue:
        return self._emit(_UNARY[name](x, *parameters, location=self.location))

    def binary(self, name: str, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._emit(_BINARY[name](a, b, location=self.location))

    def where(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._emit(graph.WhereOp(condition, a, b, location=self.location))

    def above(self, lens: SSAValue, step: int) -> SSAValue | bool:
        known = constant(lens)
        if known is not None and bool((known > step).all() or (known <= step).all()):
            return bool((known > step).all())
        now = graph.ConstantOp(np.array(step, np.int32), location=self.location)
        active = self.binary("gt", lens, self._emit(now))
        return self.reshape(active, (*shape_of(lens), 1))

    def part(self, x: SSAValue, starts: Sequence[int], sizes: Sequence[int]) -> SSAValue:
        if tuple(sizes) == shape_of(x):
            return x
        return self._emit(graph.SliceOp(x, starts, sizes, location=self.location))

    def join(self, parts: Sequence[SSAValue], axis: int) -> SSAValue:
        if len(parts) == 1:
            return parts[0]
        return self._emit(graph.ConcatOp(parts, axis, location=self.location))

    def reshape(self, x: SSAValue, shape: Sequence[int]) -> SSAValue:
        if tuple(shape) == shape_of(x):
            return x
        return self._emit(graph.ReshapeOp(x, shape, location=self.location))

    def _emit(self, op: GraphOp) -> SSAValue:
        """The result of an operation, which is done at once where its operands are constants."""
        known = [array for v in op.operands if (array := constant(v)) is not None]
        if known and len(known) == len(op.operands):
            (value,) = op.evaluate(*known)
            folded = graph.ConstantOp(value, type_of(op.results[0]), location=self.location)
            op.erase()
            op = folded
        self.ops.append(op)
        return op.results[0]
