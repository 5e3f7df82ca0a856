"""Integer steps that stand for one float function, and how far they may be off.

Numbers are i32 tensors that hold a real number times a power of two. Rounding is to nearest, ties
to even, unless a step says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import LocationAttr, i32
from xdsl.ir import Attribute, Operation, SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.graph.attributes import requant_fixed
from npu_dialect.graph.base import quant_of, type_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.qdq.common import fixed, known

Array = npt.NDArray[Any]

COARSEST = 0.25
"""The greatest error, in steps of the result before it is rounded, that a fixed-point function may
make: then it is at most one step from what the exact function rounds to.
"""

BYTE = graph.uniform(dtypes.u8, 1.0, 0)
"""Whole numbers from 0 to 255; conversion to it saturates."""


@dataclass
class Steps:
    """The operations made so far, for a function at `location`."""

    location: LocationAttr
    ops: list[Operation] = field(default_factory=list[Operation])

    def add(self, op: Operation) -> SSAValue:
        """One more operation, and its result."""
        self.ops.append(op)
        return op.results[0]

    def number(self, value: int) -> SSAValue:
        """An i32 constant without dimensions."""
        return self.constant(np.asarray(value, np.int32))

    def constant(self, array: Array) -> SSAValue:
        """A constant."""
        return self.add(graph.ConstantOp(array, location=self.location))

    # Arithmetic of i32, which wraps

    def plus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.AddOp(a, b, location=self.location))

    def minus(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.SubOp(a, b, location=self.location))

    def times(self, a: SSAValue, b: SSAValue) -> SSAValue:
        x, y = known(a), known(b)
        if x is not None and y is not None:
            return self.constant(x * y)
        return self.add(graph.MulOp(a, b, location=self.location))

    def over(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """The quotient, rounded toward zero."""
        return self.add(graph.DivOp(a, b, location=self.location))

    def larger(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.MaxOp(a, b, location=self.location))

    def smaller(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.MinOp(a, b, location=self.location))

    def less(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.LtOp(a, b, location=self.location))

    def where(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.add(graph.WhereOp(condition, a, b, location=self.location))

    # Rescaling

    def distance(self, x: SSAValue) -> SSAValue:
        """x - zero point, as i32."""
        return self.add(graph.RequantizeOp(x, requant_fixed(1, 0), i32, location=self.location))

    def scaled(self, x: SSAValue, factor: float, to: Attribute = i32) -> SSAValue:
        """x * factor, with 31 significant bits of the factor; saturates."""
        return self.add(graph.RequantizeOp(x, fixed(factor), to, location=self.location))

    def right(self, x: SSAValue, shift: int, to: Attribute = i32) -> SSAValue:
        """x / 2**shift; saturates."""
        recipe = requant_fixed(1, shift)
        return self.add(graph.RequantizeOp(x, recipe, to, location=self.location))

    def product(
        self, x: SSAValue, multiplier: SSAValue, shift: int, to: Attribute = i32
    ) -> SSAValue:
        """x * multiplier / 2**shift, exact in 64 bits before it is rounded; saturates."""
        return self.add(graph.RescaleOp(x, multiplier, shift, to, location=self.location))

    # Tables and reductions

    def lookup(self, x: SSAValue, table: Array) -> SSAValue:
        """The entries of a table by the 8-bit values of `x`, as i32 (stored as the table is)."""
        entries = self.constant(table)
        element = type_of(entries).element_type
        return self.add(graph.LookupOp(x, entries, element, location=self.location))

    def wide(self, x: SSAValue) -> SSAValue:
        """The same numbers as i32."""
        return self.add(graph.CastOp(x, dtypes.i32, location=self.location))

    def greatest(self, x: SSAValue, axis: int) -> SSAValue:
        return self.add(graph.ReduceMaxOp(x, [axis], location=self.location))

    def total(self, x: SSAValue, axes: list[int]) -> SSAValue:
        """The i32 sum, of distances from the zero point for a quantized tensor."""
        return self.add(graph.ReduceSumOp(x, axes, location=self.location))

    def discard(self) -> None:
        """Undo all of it."""
        for op in reversed(self.ops):
            op.erase()
        self.ops.clear()


def eight_bits(value: SSAValue) -> QuantType | None:
    """The type of a tensor quantized with one scale to 8 bits."""
    quant = quant_of(value)
    if quant is None or quant.axis is not None or quant.storage_dtype.itemsize != 1:
        return None
    return quant


def narrow(value: SSAValue) -> QuantType | None:
    """The type of a tensor quantized with one scale to 8 or 16 bits."""
    quant = quant_of(value)
    if quant is None or quant.axis is not None or quant.storage_dtype.itemsize > 2:
        return None
    return quant


def stored_values(quant: QuantType) -> Array:
    """[256] int64: what a table's entries are for, in their order."""
    dtype = quant.storage_dtype
    return np.arange(dtype.low, dtype.high + 1, dtype=np.int64)


def span(quant: QuantType) -> int:
    """Steps from one end of a quantized type to the other."""
    return quant.high - quant.low


def exponent(value: float) -> int:
    """The greatest e with 2**e <= value."""
    return math.frexp(value)[1] - 1
