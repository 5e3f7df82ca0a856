"""Floats as TOSA leaves no choice about: sums, differences and products are rounded once.

A reciprocal may be one unit in the last place off. So a quotient is a product with the reciprocal,
a step of Newton's method whose residual is computed exactly, from products split in halves
(Veltkamp, Dekker), and then the neighbour where the exact remainder says that it is nearer: no
quotient of floats lies in the middle between two. test/test_tosa_exactness.py tries 1 / x for all
significands, and a / b where it is as near to a middle as can be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import f32, i1
from xdsl.ir import SSAValue

from npu_dialect.graph.base import shape_of
from npu_dialect.tosa_export.emitter import Emitter
from npu_dialect.tosa_export.ops.rescaling import multiplied

SPLITTER = 4097.0
"""2**12 + 1: half of the 24 bits of a float32."""

MOST_EXPONENT = 60
"""Quotients are refined from 2**-60 to 2**60, where no part over- or underflows."""


def is_power_of_two(array: NDArray[Any]) -> bool:
    """Whether all elements are, so that products with their reciprocals are exact."""
    fraction, _ = np.frexp(np.abs(array))
    return bool((fraction == 0.5).all())


def exact_reciprocal(e: Emitter, x: SSAValue) -> SSAValue:
    """1 / x, rounded to the nearest float32, where |x| is moderate."""
    return exact_quotient(e, e.like(1.0, x), x)


def _is_moderate(e: Emitter, x: SSAValue) -> SSAValue:
    """Whether 2**-60 <= |x| <= 2**60."""
    size = e.same("abs", x)
    most, least = e.like(2.0**MOST_EXPONENT, x), e.like(2.0**-MOST_EXPONENT, x)
    return e.spread(
        "logical_and",
        e.spread("greater_equal", most, size, element=i1),
        e.spread("greater_equal", size, least, element=i1),
    )


def exact_quotient(e: Emitter, a: SSAValue, b: SSAValue) -> SSAValue:
    """a / b, rounded to the nearest float32, where a, b and the quotient are moderate or a is 0."""
    inverse = e.same("reciprocal", b)
    first = multiplied(e, a, inverse)
    second = e.spread("add", first, multiplied(e, _remainder(e, a, b, first), inverse))
    rest = _remainder(e, a, b, second)
    twice = e.spread("add", rest, rest)
    above, below = _neighbour(e, second, 1.0), _neighbour(e, second, -1.0)
    zero = e.like(0.0, b)
    is_negative = e.spread("greater", zero, b, element=i1)
    size = e.same("abs", b)
    twice = e.spread("select", is_negative, e.spread("sub", zero, twice), twice)
    reach = multiplied(e, size, e.spread("sub", above, second))
    depth = multiplied(e, size, e.spread("sub", below, second))
    found = e.spread("select", e.spread("greater", twice, reach, element=i1), above, second)
    found = e.spread("select", e.spread("greater", depth, twice, element=i1), below, found)
    inside = e.spread("logical_and", _is_moderate(e, a), _is_moderate(e, b))
    inside = e.spread("logical_and", inside, _is_moderate(e, first))
    return e.spread("select", inside, found, first, element=f32)


def _remainder(e: Emitter, a: SSAValue, b: SSAValue, quotient: SSAValue) -> SSAValue:
    """a - b * quotient, exactly, for a quotient that is a few units off."""
    product, error = _two_product(e, b, quotient)
    return e.spread("sub", e.spread("sub", a, product), error)


def _neighbour(e: Emitter, x: SSAValue, direction: float) -> SSAValue:
    """The next float32 (Rump, Zimmermann, Boldo, Melquiond: 0.5 ulp and a little more added)."""
    step = direction * 2.0**-24 * (1 + 2.0**-23)
    return e.spread("add", x, multiplied(e, e.same("abs", x), e.like(step, x)))


def _split(e: Emitter, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    scaled = multiplied(e, x, e.like(SPLITTER, x))
    high = e.spread("sub", scaled, e.spread("sub", scaled, x))
    return high, e.spread("sub", x, high)


def _two_product(e: Emitter, a: SSAValue, b: SSAValue) -> tuple[SSAValue, SSAValue]:
    """(p, q) with p = a * b rounded and p + q = a * b."""
    product = multiplied(e, a, b)
    (ah, al), (bh, bl) = _split(e, a), _split(e, b)
    error = e.spread("sub", multiplied(e, ah, bh), product)
    error = e.spread("add", error, multiplied(e, ah, bl))
    error = e.spread("add", error, multiplied(e, al, bh))
    return product, e.spread("add", error, multiplied(e, al, bl))


def ordered_sum(e: Emitter, x: SSAValue, axis: int) -> SSAValue:
    """The sum of floats along an axis, first to last, from +0."""
    shape = shape_of(x)
    sizes = [*shape[:axis], 1, *shape[axis + 1 :]]
    total = e.like(0.0, x)
    for k in range(shape[axis]):
        starts = [k if d == axis else 0 for d in range(len(shape))]
        total = e.spread("add", total, e.slice(x, starts, sizes))
    return total
