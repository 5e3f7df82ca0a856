"""Layer normalization of an 8-bit tensor, with constant scale and bias.

    quantize(layer_norm(dequantize(x), gain, bias))  ==>

    sum, squares = the sums of d and d * d over a row of N, d = x - middle of the range    exact
    V = N * squares - sum * sum + C              N**2 * (variance + epsilon) in steps of x, exact
    Y = N / sqrt(V)                              in fixed point: one over the deviation
    n = (x - zero) * Y - mean * Y                the normalized element
    n * (gain / scale of the result) + bias / scale of the result, rounded to the result

V has 30 bits, which in rows of many elements are few: its low bits would be lost, or those of
epsilon. There it is computed twice: with the bits that a great V leaves, and with more modulo
2**32, which is exact where V is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.quant import QuantType
from npu_dialect.graph.quantization import MOST_SHIFT
from npu_dialect.passes.fixed_point import inverse_root
from npu_dialect.passes.fixed_point.normalization import normalization
from npu_dialect.passes.fixed_point.steps import (
    COARSEST,
    Array,
    Steps,
    eight_bits,
    exponent,
    span,
    stored_values,
)
from npu_dialect.passes.qdq.common import reach

MOST_BITS = 30
"""Bits of the fixed-point numbers, sign apart, so that sums of two do not wrap."""

NEARLY_EXACT = 1 / 8
"""Steps of error that are worth no longer product."""

MEAN_BITS = 20
"""Fractional bits of the mean of a row."""

FRACTION_BITS = 20
"""Fractional bits of V at most."""

ENOUGH_BITS = 4
"""Fractional bits of V at which epsilon is exact enough for rows of almost equal elements."""

ZOOM_BITS = 12
"""How many more bits small V have, else."""


@dataclass(frozen=True)
class Plan:
    """The fixed-point numbers of rows of `count` elements."""

    count: int
    quant: QuantType
    epsilon: float
    gain: Array
    """In steps of the result, [..] of the normalized dimensions."""
    bias: Array
    """The same, in steps of the result."""
    result: QuantType
    wide: bool = False
    """Whether the product with the gain is one of 64 bits, which is more exact and takes longer."""

    @property
    def added(self) -> float:
        """C: epsilon in the unit of V."""
        return self.epsilon * self.count**2 / self.quant.scale**2

    @property
    def greatest(self) -> float:
        """The greatest V: half of the elements at either end of the range."""
        return self.count**2 * span(self.quant) ** 2 / 4 + self.added

    @cached_property
    def shift(self) -> int:
        """V is held times 2**shift; an even number where it is negative."""
        shift = MOST_BITS - exponent(self.greatest) - 1
        return min(shift, FRACTION_BITS) if shift >= 0 else shift // 2 * 2

    @property
    def zoom(self) -> int:
        """More bits, an even number, that V has where it is small; 0 where it needs none."""
        return 0 if self.shift >= ENOUGH_BITS else max(ZOOM_BITS, -self.shift)

    @property
    def least(self) -> float:
        """The least V that is not that of a row of equal elements: one of them is one step off."""
        return max(self.count - 1, 1) + self.added

    @cached_property
    def deviation_bits(self) -> int:
        """Y is held times 2**deviation_bits."""
        return MOST_BITS - 1 - exponent(self.count / math.sqrt(self.least))

    @cached_property
    def normal_bits(self) -> int:
        """Fractional bits of a normalized element. In a product of 32 bits the more it has, the
        fewer has the gain: their roundings are balanced.
        """
        gain = max(float(np.abs(self.gain).max(initial=0)), 2.0**-8)
        least = float(reach(self.quant) * self.count / math.sqrt(self.least))
        room = min(MOST_BITS - 1 - exponent(least), self.deviation_bits)
        if self.wide:
            return max(0, room)
        balanced = (self.product_bits + exponent(gain) - exponent(math.sqrt(self.count)) + 1) // 2
        return max(0, min(balanced, self.product_bits, room))

    @cached_property
    def product_bits(self) -> int:
        """Fractional bits of the result before it is rounded."""
        greatest = math.sqrt(self.count) * np.abs(self.gain).max(initial=0)
        greatest += np.abs(self.bias).max(initial=0) + 1
        return min(MOST_BITS - exponent(float(greatest)) - 1, 20)

    @property
    def gain_bits(self) -> int:
        """Fractional bits of the gain."""
        if not self.wide:
            return self.product_bits - self.normal_bits
        greatest = float(np.abs(self.gain).max(initial=0))
        return min(MOST_BITS - 1 - exponent(max(greatest, 2.0**-8)), MOST_BITS)

    @property
    def error(self) -> float:
        """The greatest error in steps of the result, before it is rounded."""
        if self.product_bits < 1:
            return math.inf
        gain = float(np.abs(self.gain).max(initial=0))
        highest = math.sqrt(self.count)
        normal = 1.0 * 2.0**-self.normal_bits * gain
        mean = 2.0 ** -(MEAN_BITS + 1) * self.count / math.sqrt(self.least) * gain
        factor = highest * 2.0 ** -(self.gain_bits + 1)
        bias = 2.0**-self.product_bits
        return normal + mean + factor + bias + self.relative_error * self._visible

    @property
    def relative_error(self) -> float:
        """Of one over the deviation: of V, of its inverse root, and of the roundings of Y."""
        added = 2.0 ** -(self.shift + self.zoom + 1) / self.least
        cut = 1.5 * 2.0 ** (self.zoom + 1 - MOST_BITS) if self.zoom else 0.0
        variance = max(added, cut) / 2
        smallest = self.count / math.sqrt(self.greatest) * 2.0**self.deviation_bits
        return variance + inverse_root.ERROR + 1.5 / smallest

    @property
    def _visible(self) -> float:
        """The greatest product of gain and element, in steps, that does not saturate."""
        gain = float(np.abs(self.gain).max(initial=0))
        return min(
            span(self.result) + 1 + float(np.abs(self.bias).max(initial=0)),
            gain * math.sqrt(self.count),
        )


def layer_norm(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(layer_norm(dequantize(x))); None where `op` is something else, or the
    steps would be off by more than `COARSEST`.
    """
    found = normalization(op, eight_bits)
    if found is None:
        return None
    in_steps = found.gain, found.bias
    plan = best_plan(found.count, found.quant, found.epsilon, *in_steps, found.result)
    if plan is None:
        return None
    return _steps(plan, found.x, found.axes, Steps(found.location))


def best_plan(
    count: int, quant: QuantType, epsilon: float, gain: Array, bias: Array, result: QuantType
) -> Plan | None:
    """The cheapest way that is exact enough, else the more exact one within `COARSEST`."""
    finite = np.isfinite(gain).all() and np.isfinite(bias).all()
    if not count or not finite:
        return None
    cheap = Plan(count, quant, epsilon, gain, bias, result)
    found = [p for p in (cheap, replace(cheap, wide=True)) if _in_reach(p)]
    good = [p for p in found if p.error <= NEARLY_EXACT]
    return good[0] if good else min(found, key=lambda p: p.error, default=None)


def _in_reach(plan: Plan) -> bool:
    """Whether sums fit 32 bits, and the result is exact enough."""
    if not 0 <= plan.added < 2.0**60:
        return False
    if plan.count * (span(plan.quant) // 2 + 1) ** 2 >= 2**31:
        return False
    if plan.deviation_bits - plan.normal_bits + MEAN_BITS > MOST_SHIFT:
        return False
    if plan.wide and plan.normal_bits + plan.gain_bits < plan.product_bits:
        return False
    return plan.error <= COARSEST


def _steps(plan: Plan, x: SSAValue, axes: list[int], steps: Steps) -> Steps:
    total = steps.total(x, axes)
    squares = steps.total(steps.lookup(x, _squares(plan.quant)), axes)
    inverse = _inverse(plan, _from_middle(plan, total, steps), squares, steps)
    moved = plan.deviation_bits - plan.normal_bits
    mean = steps.scaled(total, 2.0**MEAN_BITS / plan.count)
    middle = steps.product(mean, inverse, moved + MEAN_BITS)
    normal = steps.minus(steps.product(x, inverse, moved), middle)
    gain = steps.constant(np.rint(plan.gain * 2.0**plan.gain_bits).astype(np.int32))
    bias = np.rint(plan.bias * 2.0**plan.product_bits).astype(np.int32)
    excess = plan.normal_bits + plan.gain_bits - plan.product_bits
    scaled = steps.product(normal, gain, excess) if plan.wide else steps.times(normal, gain)
    steps.right(steps.plus(scaled, steps.constant(bias)), plan.product_bits, plan.result)
    return steps


def _middle(quant: QuantType) -> int:
    return (quant.low + quant.high) // 2


def _squares(quant: QuantType) -> Array:
    """[256] u16: the squared distances from the middle of the range."""
    distance = np.clip(stored_values(quant), quant.low, quant.high) - _middle(quant)
    return (distance**2).astype(np.uint16)


def _from_middle(plan: Plan, total: SSAValue, steps: Steps) -> SSAValue:
    """The sum of distances from the middle of the range, where they are smallest."""
    moved = plan.count * (plan.quant.zero_point - _middle(plan.quant))
    return steps.plus(total, steps.number(moved)) if moved else total


def _inverse(plan: Plan, total: SSAValue, squares: SSAValue, steps: Steps) -> SSAValue:
    """Y: N / sqrt(V) * 2**deviation_bits."""
    v, power = _variance(plan, total, squares, steps)
    root = inverse_root.inverse_root(steps, steps.larger(v, steps.number(1)), power)
    # root * power is 2**44.5 / sqrt(V * 2**shift).
    bits = plan.deviation_bits + plan.shift / 2 - inverse_root.BITS
    factor = plan.count * 2.0**bits
    whole = max(0, -exponent(factor) - 1)
    return steps.product(root.power, steps.scaled(root.root, factor * 2.0**whole), whole)


def _variance(
    plan: Plan, total: SSAValue, squares: SSAValue, steps: Steps
) -> tuple[SSAValue, SSAValue | None]:
    """V * 2**shift, and the power of two that its inverse root is to be multiplied by."""
    if plan.zoom:
        return _zoomed_variance(plan, total, squares, steps)
    v = _exact_variance(plan, total, squares, plan.shift, steps)
    return steps.plus(v, steps.number(round(plan.added * 2**plan.shift))), None


def _exact_variance(
    plan: Plan, total: SSAValue, squares: SSAValue, shift: int, steps: Steps
) -> SSAValue:
    """(N * squares - sum * sum) * 2**shift, modulo 2**32."""
    first = steps.times(squares, steps.number(plan.count * 2**shift))
    square = steps.times(total, total)
    second = steps.times(square, steps.number(2**shift)) if shift else square
    return steps.minus(first, second)


def _zoomed_variance(
    plan: Plan, total: SSAValue, squares: SSAValue, steps: Steps
) -> tuple[SSAValue, SSAValue]:
    """V * 2**shift; where that is small, with `zoom` more bits, and a smaller inverse root."""
    if plan.shift < 0:
        first = steps.product(squares, steps.number(plan.count), -plan.shift)
        cut = steps.minus(first, steps.product(total, total, -plan.shift))
    else:
        cut = _exact_variance(plan, total, squares, plan.shift, steps)
    near = _exact_variance(plan, total, squares, plan.shift + plan.zoom, steps)
    added = plan.added * 2.0**plan.shift
    small = steps.less(cut, steps.number(2 ** (MOST_BITS - plan.zoom) - round(added) - 2))
    added_near = min(round(added * 2**plan.zoom), 2**MOST_BITS)
    v = steps.where(
        small,
        steps.plus(near, steps.number(added_near)),
        steps.plus(cut, steps.number(round(added))),
    )
    return v, steps.where(small, steps.number(2 ** (plan.zoom // 2)), steps.number(1))
