"""The stated derivation of the constants, done anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from npu_dialect.numerics import coefficients as c

mpmath: Any = pytest.importorskip("mpmath")


def interpolate(function: Callable[[Any], Any], low: Any, high: Any, degree: int) -> list[Any]:
    """Coefficients in x of the polynomial through `function` at the Chebyshev nodes."""
    middle, half = (low + high) / 2, (high - low) / 2
    angles = [mpmath.pi * (2 * i + 1) / (2 * degree + 2) for i in range(degree + 1)]
    nodes = [middle + half * mpmath.cos(angle) for angle in angles]
    powers = mpmath.matrix([[node**i for i in range(degree + 1)] for node in nodes])
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes])))


def atanh_ratio(square: Any) -> Any:
    s = mpmath.sqrt(square)
    return 2 * mpmath.atanh(s) / s


def erf_ratio(u: Any) -> Any:
    x = mpmath.sqrt(8 * (u + 1))
    return mpmath.erf(x) / x


def normal_tail(t: Any) -> Any:
    x = 4 / t - 4
    return mpmath.exp(x * x / 2) * mpmath.erfc(x / mpmath.sqrt(2)) / 2 / t


POLYNOMIALS = {
    "ATANH": (c.ATANH, atanh_ratio, (0, 1), (1, 9), 7e-14),
    "ERF": (c.ERF, erf_ratio, (-1, 1), (1, 1), 4e-13),
    "NORMAL_TAIL": (c.NORMAL_TAIL, normal_tail, (4, 19), (1, 1), 7e-13),
}
"""Name: coefficients, function, ends of the interval as quotients, stated error."""


def quotient(pair: tuple[int, int]) -> Any:
    return mpmath.mpf(pair[0]) / pair[1]


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_interpolate_at_the_chebyshev_nodes(name: str) -> None:
    stored, function, low, high, _ = POLYNOMIALS[name]
    with mpmath.workdps(60):
        derived = interpolate(function, quotient(low), quotient(high), len(stored) - 1)
    assert tuple(float(v) for v in derived) == stored


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_are_as_accurate_as_stated(name: str) -> None:
    stored, function, low, high, stated = POLYNOMIALS[name]
    with mpmath.workdps(40):
        start, end = quotient(low), quotient(high)
        points = [start + (end - start) * i / 400 for i in range(1, 401)]
        errors = [abs(mpmath.polyval(stored[::-1], x) / function(x) - 1) for x in points]
    assert max(errors) <= stated


def test_the_bits_of_an_inverse_turn_are_exact() -> None:
    with mpmath.workprec(400):
        assert int(mpmath.floor(mpmath.mpf(2) ** 256 / (2 * mpmath.pi))) == c.INVERSE_TURN


def test_the_parts_of_half_pi_add_up_to_119_bits() -> None:
    with mpmath.workprec(400):
        assert abs(sum(map(mpmath.mpf, c.HALF_PI)) - mpmath.pi / 2) < mpmath.mpf(2) ** -119


def test_the_parts_of_ln_2_add_up_to_93_bits() -> None:
    with mpmath.workprec(400):
        assert abs(sum(map(mpmath.mpf, c.LN2)) - mpmath.log(2)) < mpmath.mpf(2) ** -93


def test_reciprocals_are_the_nearest_doubles() -> None:
    with mpmath.workprec(400):
        exact = (1 / mpmath.log(2), 2 / mpmath.pi, 2 * mpmath.pi / mpmath.mpf(2) ** 64)
        assert tuple(float(v) for v in exact) == (c.LOG2_E, c.TWO_OVER_PI, c.TURN)
