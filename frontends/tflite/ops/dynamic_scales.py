"""Floats quantized to 8 bits at run time, some of them by a scale of their own.

    symmetric:   s = max(|x|) / 127, q = round(x * (127 / max(|x|))), ties away from zero
    asymmetric:  low = -min(x, 0), high = max(x, 0), s = (low + high) / 255
                 z = round(low / s) - 128, or 127 - round(high / s) where low is the greater one
                 q = round(z + x * (1 / s))

(`SymmetricQuantizeFloats` and `AsymmetricQuantizeFloats` of portable_tensor_utils.cc, with the sum
low + high in float32 as the reference kernels have it.) z is computed in float64 there. Here the
sign of what the quotient is beyond a tie is exact. A tie itself goes away from zero; in float64
the quotient may miss it, so that z differs by one in some of those cases (where low = high, for
one range in eight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops.common import cast, where
from npu_dialect.frontends.tflite.builder import Builder
from npu_dialect.frontends.tflite.ops.quantization import away, stored
from npu_dialect.graph.quant import uniform

STEPS = 127.0
"""The greatest value, symmetrically."""

RANGE = 255.0
"""The greatest value less the least one, with an offset."""

MIDDLE = 128.0
"""What is taken from whole numbers of steps above the least value."""

SPLIT = 4097.0
"""What parts a float32 in two of 12 bits (Veltkamp)."""

WHOLE = uniform(dtypes.i8, 1.0)
"""The type of the quantized values, whose scale is known at run time only."""


@dataclass(frozen=True)
class Quantized:
    """Values of i8 with a scale, and an offset, for each part of a tensor."""

    steps: SSAValue
    scale: SSAValue
    """f32, of the tensor's shape with 1 for what has one scale together."""
    offset: SSAValue | None
    """i32 of that shape; None for 0."""


def quantized(b: Builder, x: SSAValue, axes: Sequence[int], asymmetric: bool) -> Quantized:
    """`x` with one scale for all elements along `axes`."""
    if asymmetric:
        return _asymmetric(b, x, tuple(axes))
    greatest = b.emit(graph.ReduceMaxOp(b.emit(graph.AbsOp(x)), tuple(axes)))
    steps, zero = b.scalar(STEPS, x), b.scalar(0.0, x)
    reach = where(b, b.emit(graph.EqOp(greatest, zero)), steps, greatest)
    inverse = b.emit(graph.DivOp(steps, reach))
    q = stored(b, away(b, b.emit(graph.MulOp(x, inverse))), WHOLE)
    return Quantized(q, b.emit(graph.DivOp(reach, steps)), None)


def _asymmetric(b: Builder, x: SSAValue, axes: tuple[int, ...]) -> Quantized:
    zero = b.scalar(0.0, x)
    low = b.emit(graph.NegOp(b.emit(graph.MinOp(b.emit(graph.ReduceMinOp(x, axes)), zero))))
    high = b.emit(graph.MaxOp(b.emit(graph.ReduceMaxOp(x, axes)), zero))
    total = b.emit(graph.AddOp(low, high))
    is_zero = b.emit(graph.EqOp(total, zero))
    total = where(b, is_zero, b.scalar(RANGE, x), total)
    scale = b.emit(graph.DivOp(total, b.scalar(RANGE, x)))
    offset = where(b, is_zero, zero, _offset(b, low, high, total))
    inverse = b.emit(graph.DivOp(b.scalar(1.0, x), scale))
    steps = b.emit(graph.AddOp(b.emit(graph.MulOp(x, inverse)), offset))
    return Quantized(stored(b, away(b, steps), WHOLE), scale, cast(b, offset, dtypes.i32))


def _offset(b: Builder, low: SSAValue, high: SSAValue, total: SSAValue) -> SSAValue:
    """The zero point, from the end of the range that is nearer to 0."""
    steps, one = b.scalar(RANGE, total), b.scalar(1.0, total)
    difference = b.emit(graph.MulOp(b.emit(graph.SubOp(high, low)), steps))
    from_low = b.emit(graph.GtOp(difference, total))
    end = where(b, from_low, low, high)
    share = b.emit(graph.DivOp(b.emit(graph.MulOp(end, steps)), total))
    below = b.emit(graph.FloorOp(share))
    odd = b.emit(graph.AddOp(b.emit(graph.AddOp(below, below)), one))
    beyond, zero = _beyond(b, end, odd, total), b.scalar(0.0, total)
    middle = where(b, from_low, b.scalar(MIDDLE, total), b.scalar(MIDDLE - 1, total))
    is_up = b.emit(
        graph.OrOp(
            b.emit(graph.GtOp(beyond, zero)),
            b.emit(graph.AndOp(b.emit(graph.EqOp(beyond, zero)), _at_least(b, below, middle))),
        )
    )
    count = where(b, is_up, b.emit(graph.AddOp(below, one)), below)
    from_middle = b.emit(graph.SubOp(count, middle))
    return where(b, from_low, from_middle, b.emit(graph.NegOp(from_middle)))


def _at_least(b: Builder, x: SSAValue, bound: SSAValue) -> SSAValue:
    return b.emit(graph.GeOp(x, bound))


def _beyond(b: Builder, end: SSAValue, odd: SSAValue, total: SSAValue) -> SSAValue:
    """510 * end - odd * total, whose sign is exact: it is put together from products of 21 bits."""
    twice = b.scalar(2 * RANGE, end)
    found: list[SSAValue] = []
    for x, y in zip(_parts(b, end), _parts(b, total), strict=True):
        product = b.emit(graph.MulOp(x, twice))
        found.append(b.emit(graph.SubOp(product, b.emit(graph.MulOp(y, odd)))))
    return b.emit(graph.AddOp(found[0], found[1]))


def _parts(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """x as the sum of two floats with 12 bits each, at most."""
    wide = b.emit(graph.MulOp(x, b.scalar(SPLIT, x)))
    high = b.emit(graph.SubOp(wide, b.emit(graph.SubOp(wide, x))))
    return high, b.emit(graph.SubOp(x, high))
