"""Layer normalization of a 16-bit tensor, with constant scale and bias.

    quantize(layer_norm(dequantize(x), gain, bias))  ==>

    T = sum(x), m = T / N rounded, r = T - N * m       the mean is m + r / N
    Q = sum(x * x) - m * (T + r)                       sum((x - m)**2), exact, in two words
    W = Q - r * r / N + C                              N * (variance + epsilon) in steps of x
    e = (x - m) * P - r * P / N                        P a power of two: e has about 23 bits
    n = e / sqrt(W * P**2)                             the normalized element over sqrt(N)
    n * (gain * sqrt(N) / scale of the result) + bias / scale of the result, rounded to the result

Squares have 30 bits, so each is split at 15 bits, and so is the product with the mean: sums of the
parts fit 32 bits for rows of up to 8192 elements. W is then held in 31 bits times a power of two,
which is chosen by row (`SHIFTS`), so that small and great variances are as exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from xdsl.ir import SSAValue

from npu_dialect import graph
from npu_dialect.graph.base import quant_of
from npu_dialect.graph.quant import QuantType
from npu_dialect.passes.fixed_point import inverse_root
from npu_dialect.passes.fixed_point.normalization import normalization
from npu_dialect.passes.fixed_point.steps import COARSEST, Array, Steps, exponent
from npu_dialect.passes.qdq.common import reach

WORD = 15
"""Bits of the lower word of a square or product."""
MOST_ELEMENTS = 1 << 13
SHIFTS = (-20, -10, 0, 8, 16)
"""W is held as W / 2**shift; even numbers."""
ROOM = 29
"""Bits of Q / 2**shift."""
MOST_ADDED = 2.0**28
"""Of C / 2**shift, so that W / 2**shift has 30 bits."""
FRACTION = 8
"""P has so many more bits than what W is multiplied by."""
NORMAL_SHIFT = 23
"""n is held times 2**29.5: e * root is n * 2**52.5."""
MOST_BITS = 30
NEWTON = 2
"""Steps for the inverse root, so that its error is nothing beside 16 bits."""


@dataclass(frozen=True)
class Plan:
    """The fixed-point numbers of rows of `count` elements."""

    count: int
    scale: float
    """Of x."""
    epsilon: float
    gain: Array
    """In steps of the result, [..] of the normalized dimensions."""
    bias: Array
    """The same, in steps of the result."""
    result: QuantType

    @property
    def added(self) -> float:
        """C: epsilon in the unit of W."""
        return self.epsilon * self.count / self.scale**2

    @cached_property
    def shifts(self) -> tuple[int, ...]:
        """Those of `SHIFTS` that rows need: not so fine that C leaves its room, not coarser than
        the greatest Q needs.
        """
        greatest = self.count * 2.0**30
        fine = [s for s in SHIFTS if self.added <= MOST_ADDED * 2.0**s]
        return tuple(
            s for k, s in enumerate(fine) if not k or greatest >= 2.0 ** (ROOM + fine[k - 1])
        )

    @cached_property
    def product_bits(self) -> int:
        """Fractional bits of the result before it is rounded."""
        greatest = self._greatest_gain * math.sqrt(self.count)
        greatest += float(np.abs(self.bias).max(initial=0)) + 1
        return min(MOST_BITS - 1 - exponent(greatest), 20)

    @cached_property
    def gain_bits(self) -> int:
        """Fractional bits of the gain times sqrt(2 N)."""
        greatest = max(self._greatest_gain * math.sqrt(2 * self.count), 2.0**-8)
        return MOST_BITS - 1 - exponent(greatest)

    @property
    def factors(self) -> Array:
        """The gain times sqrt(2 N), i32."""
        real = self.gain * math.sqrt(2 * self.count)
        return np.rint(real * 2.0**self.gain_bits).astype(np.int32)

    @property
    def _greatest_gain(self) -> float:
        return float(np.abs(self.gain).max(initial=0))

    @property
    def error(self) -> float:
        """The greatest error in steps of the result, before it is rounded: of e, of n, of the gain,
        of the last two roundings, and of one over the deviation.
        """
        if not self.shifts or self.product_bits < 1:
            return math.inf
        gain = self._greatest_gain * math.sqrt(self.count)
        element = gain * (2.0 ** (-FRACTION - 14.5) + 2.0**-30.5)
        last = 2.0 ** -(self.gain_bits + 1) + 2.0**-self.product_bits
        visible = reach(self.result) + 1 + float(np.abs(self.bias).max(initial=0))
        return element + last + self.relative_error * min(visible, gain)

    @property
    def relative_error(self) -> float:
        """Of one over the deviation: half of that of W, and that of the inverse root. W is off by
        1 3/4 units at most. It is at least half of Q, as r * r / N <= Q / 2, and Q nearly what the
        shift before has room for; in rows that are not all alike it is 1/2 at least.
        """
        before = [0.5, *(0.48 * 2.0 ** (ROOM + s) for s in self.shifts[:-1])]
        least = [max(low, self.added) for low in before]
        pairs = zip(least, self.shifts, strict=True)
        return max(1.75 * 2.0**s / w for w, s in pairs) / 2 + inverse_root.error(NEWTON)


def wide_layer_norm(op: graph.QuantizeOp) -> Steps | None:
    """The steps of quantize(layer_norm(dequantize(x))) for x of 16 bits and zero point 0; None
    where `op` is something else, or the steps would be off by more than `COARSEST`.
    """
    found = normalization(op, _symmetric)
    if found is None:
        return None
    in_steps = found.gain, found.bias
    plan = Plan(found.count, found.quant.scale, found.epsilon, *in_steps, found.result)
    if not _in_reach(plan):
        return None
    return _steps(plan, found.x, found.axes, Steps(found.location))


def _symmetric(value: SSAValue) -> QuantType | None:
    """The type of a tensor of 16 bits with one scale and zero point 0."""
    quant = quant_of(value)
    if quant is None or quant.axis is not None or quant.storage_dtype.name != "i16":
        return None
    return None if quant.zero_point else quant


def _in_reach(plan: Plan) -> bool:
    if not 0 < plan.count <= MOST_ELEMENTS or not plan.epsilon >= 0:
        return False
    finite = np.isfinite(plan.gain).all() and np.isfinite(plan.bias).all()
    if not finite or plan.error > COARSEST:
        return False
    return 0 <= _last_shift(plan) <= 62


def _last_shift(plan: Plan) -> int:
    """n * 2**29.5 * gain * sqrt(2 N) * 2**gain_bits has so many bits more than the result."""
    return MOST_BITS + plan.gain_bits - plan.product_bits


def _steps(plan: Plan, x: SSAValue, axes: list[int], steps: Steps) -> Steps:
    number, count = steps.distance(x), plan.count
    total = steps.total(x, axes)
    mean = steps.scaled(total, 1 / count)
    rest = steps.minus(total, steps.times(mean, steps.number(count)))
    words = _squares(number, axes, total, mean, rest, steps)
    v, power = _variance(plan, *words, rest, steps)
    root = inverse_root.inverse_root(steps, steps.larger(v, steps.number(1)), power, NEWTON)
    part = steps.scaled(steps.times(rest, root.power), 1 / count)
    element = steps.minus(steps.times(steps.minus(number, mean), root.power), part)
    normal = steps.product(element, root.root, NORMAL_SHIFT)
    scaled = steps.product(normal, steps.constant(plan.factors), _last_shift(plan))
    bias = np.rint(plan.bias * 2.0**plan.product_bits).astype(np.int32)
    steps.right(steps.plus(scaled, steps.constant(bias)), plan.product_bits, plan.result)
    return steps


def _squares(
    number: SSAValue, axes: list[int], total: SSAValue, mean: SSAValue, rest: SSAValue, steps: Steps
) -> tuple[SSAValue, SSAValue]:
    """Q in two words, of which the lower one lies in -2**14 .. 2**14."""
    high, low = _split(steps.times(number, number), steps)
    upper, lower = _split(steps.plus(total, rest), steps)
    high = steps.minus(steps.total(high, axes), steps.times(mean, upper))
    carry, low = _split(steps.minus(steps.total(low, axes), steps.times(mean, lower)), steps)
    return steps.plus(high, carry), low


def _split(value: SSAValue, steps: Steps) -> tuple[SSAValue, SSAValue]:
    """A number as two words: value = high * 2**15 + low."""
    high = steps.right(value, WORD)
    return high, steps.minus(value, steps.times(high, steps.number(1 << WORD)))


def _variance(
    plan: Plan, high: SSAValue, low: SSAValue, rest: SSAValue, steps: Steps
) -> tuple[SSAValue, SSAValue]:
    """W / 2**shift with the least shift that has room for it, and P before W is made greater."""
    whole = steps.plus(steps.times(high, steps.number(1 << WORD)), low)
    square = steps.times(rest, rest)
    found: tuple[SSAValue, SSAValue] | None = None
    for shift in reversed(plan.shifts):
        added = steps.number(round(plan.added * 2.0**-shift))
        off = steps.scaled(square, 2.0**-shift / plan.count)
        v = steps.plus(_shifted(high, low, whole, shift, steps), steps.minus(added, off))
        power = steps.number(1 << (FRACTION - shift // 2))
        if found is None:
            found = v, power
        else:
            small = _is_below(high, whole, ROOM + shift, steps)
            found = steps.where(small, v, found[0]), steps.where(small, power, found[1])
    assert found is not None
    return found


def _shifted(high: SSAValue, low: SSAValue, whole: SSAValue, shift: int, steps: Steps) -> SSAValue:
    """Q / 2**shift, rounded; `whole` is Q modulo 2**32."""
    if shift <= 0:
        return steps.times(whole, steps.number(1 << -shift)) if shift else whole
    if shift > WORD:
        return steps.right(high, shift - WORD)
    more = steps.times(high, steps.number(1 << (WORD - shift)))
    return steps.plus(more, steps.right(low, shift))


def _is_below(high: SSAValue, whole: SSAValue, bits: int, steps: Steps) -> SSAValue:
    """Whether Q is below 2**bits, or, by its upper word, nearly so."""
    if bits > WORD:
        return steps.less(high, steps.number(1 << (bits - WORD)))
    near = steps.less(high, steps.number(2))
    return steps.less(steps.where(near, whole, steps.number(1 << bits)), steps.number(1 << bits))
