"""Inverse trigonometric and hyperbolic functions, by polynomials on a small range.

The polynomials and the reductions to their ranges are those of Moshier's Cephes library (single
precision). Their relative error against float64 is at most 3e-7, which
`test/test_onnx_trigonometry.py` checks; outside of its domain a function is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    NotExpressible,
    SSAValue,
    dtype_of,
)
from npu_dialect.frontends.onnx.registry import register

Function = Callable[[Builder, SSAValue], SSAValue]

ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
ASIN = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
SINH = (2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1)
ASINH = (2.0122003309e-2, -4.2699340972e-2, 7.4847586088e-2, -1.6666288134e-1)
ACOSH = (
    1.7596881071e-3, -7.5272886713e-3, 2.6454905019e-2, -1.1784741703e-1, 1.4142135263e0,
)  # fmt: skip
ATANH = (
    1.81740078349e-1, 8.24370301058e-2, 1.46691431730e-1, 1.99782164500e-1, 3.33337300303e-1,
)  # fmt: skip

LARGE = 4096.0
"""From here on sqrt(x * x + 1) is x in f32."""


def _number(b: Builder, value: float, like: SSAValue) -> SSAValue:
    return b.scalar(value, like)


def _polynomial(b: Builder, x: SSAValue, coefficients: Sequence[float]) -> SSAValue:
    """By Horner's rule, the highest power first."""
    result = _number(b, coefficients[0], x)
    for value in coefficients[1:]:
        result = common.add(b, common.mul(b, result, x), _number(b, value, x))
    return result


def _odd(b: Builder, x: SSAValue, coefficients: Sequence[float]) -> SSAValue:
    """x + x**3 * p(x**2)"""
    square = common.mul(b, x, x)
    cubed = common.mul(b, common.mul(b, _polynomial(b, square, coefficients), square), x)
    return common.add(b, cubed, x)


def _above(b: Builder, x: SSAValue, limit: float) -> SSAValue:
    return b.emit(graph.GtOp(x, _number(b, limit, x)))


def _signed(b: Builder, size: SSAValue, x: SSAValue) -> SSAValue:
    """`size` with the sign of x; of NaN itself."""
    below = b.emit(graph.LtOp(x, _number(b, 0, x)))
    return common.where(b, below, b.emit(graph.NegOp(size)), size)


def _log_of_sum(b: Builder, x: SSAValue, step: float) -> SSAValue:
    """log(x + sqrt(x * x + step)) of x > 0; of large ones log(2 x), which does not overflow."""
    large = _above(b, x, LARGE)
    one = _number(b, 1, x)
    low = common.where(b, large, one, x)
    root = b.emit(graph.SqrtOp(common.add(b, common.mul(b, low, low), _number(b, step, x))))
    argument = common.where(b, large, x, common.add(b, low, root))
    offset = common.where(b, large, _number(b, math.log(2), x), _number(b, 0, x))
    return common.add(b, b.emit(graph.LogOp(argument)), offset)


def arc_tangent(b: Builder, x: SSAValue) -> SSAValue:
    """atan; ranges [0, tan 22.5], (tan 22.5, tan 67.5], the rest."""
    size = b.emit(graph.AbsOp(x))
    high, middle = (
        _above(b, size, math.tan(3 * math.pi / 8)),
        _above(b, size, math.tan(math.pi / 8)),
    )
    one = _number(b, 1, x)
    inverse = b.emit(graph.NegOp(common.div(b, one, size)))
    turned = common.div(b, common.sub(b, size, one), common.add(b, size, one))
    reduced = common.where(b, high, inverse, common.where(b, middle, turned, size))
    eighth, quarter = _number(b, math.pi / 4, x), _number(b, math.pi / 2, x)
    start = common.where(b, high, quarter, common.where(b, middle, eighth, _number(b, 0, x)))
    return _signed(b, common.add(b, start, _odd(b, reduced, ATAN)), x)


def _half_complement(b: Builder, size: SSAValue) -> SSAValue:
    """asin(sqrt((1 - size) / 2)), half of acos(size), for size in [0.5, 1]."""
    rest = common.sub(b, _number(b, 1, size), size)
    return _odd(b, b.emit(graph.SqrtOp(common.scaled(b, rest, 0.5))), ASIN)


def arc_sine(b: Builder, x: SSAValue) -> SSAValue:
    """asin; above 0.5 from pi / 2 down."""
    size = b.emit(graph.AbsOp(x))
    rest = common.scaled(b, _half_complement(b, size), 2.0)
    upper = common.sub(b, _number(b, math.pi / 2, x), rest)
    return _signed(b, common.where(b, _above(b, size, 0.5), upper, _odd(b, size, ASIN)), x)


def arc_cosine(b: Builder, x: SSAValue) -> SSAValue:
    """acos; beyond 0.5 on either side by a half angle."""
    size = b.emit(graph.AbsOp(x))
    outer = common.scaled(b, _half_complement(b, size), 2.0)
    below = b.emit(graph.LtOp(x, _number(b, 0, x)))
    outer = common.where(b, below, common.sub(b, _number(b, math.pi, x), outer), outer)
    inner = common.sub(b, _number(b, math.pi / 2, x), _odd(b, x, ASIN))
    return common.where(b, _above(b, size, 0.5), outer, inner)


def _exponentials(b: Builder, x: SSAValue) -> tuple[SSAValue, SSAValue]:
    """exp(|x|) / 2 and exp(-|x|) / 2, from exp(|x| / 2) so that the first is finite if cosh is."""
    half = b.emit(graph.ExpOp(common.scaled(b, b.emit(graph.AbsOp(x)), 0.5)))
    halved = common.scaled(b, half, 0.5)
    down = common.div(b, common.div(b, _number(b, 0.5, x), half), half)
    return common.mul(b, halved, half), down


def hyperbolic_sine(b: Builder, x: SSAValue) -> SSAValue:
    """sinh; up to 1 a polynomial."""
    up, down = _exponentials(b, x)
    outer = _signed(b, common.sub(b, up, down), x)
    is_outer = _above(b, b.emit(graph.AbsOp(x)), 1.0)
    return common.where(b, is_outer, outer, _odd(b, x, SINH))


def hyperbolic_cosine(b: Builder, x: SSAValue) -> SSAValue:
    """cosh."""
    return common.add(b, *_exponentials(b, x))


def inverse_hyperbolic_sine(b: Builder, x: SSAValue) -> SSAValue:
    """asinh; up to 0.5 a polynomial."""
    size = b.emit(graph.AbsOp(x))
    outer = _signed(b, _log_of_sum(b, size, 1.0), x)
    return common.where(b, _above(b, size, 0.5), outer, _odd(b, x, ASINH))


def inverse_hyperbolic_cosine(b: Builder, x: SSAValue) -> SSAValue:
    """acosh; up to 1.5 a polynomial times sqrt(x - 1)."""
    over = common.sub(b, x, _number(b, 1, x))
    inner = common.mul(b, _polynomial(b, over, ACOSH), b.emit(graph.SqrtOp(over)))
    return common.where(b, _above(b, x, 1.5), _log_of_sum(b, x, -1.0), inner)


def inverse_hyperbolic_tangent(b: Builder, x: SSAValue) -> SSAValue:
    """atanh; up to 0.5 a polynomial."""
    one = _number(b, 1, x)
    ratio = common.div(b, common.add(b, one, x), common.sub(b, one, x))
    outer = common.scaled(b, b.emit(graph.LogOp(ratio)), 0.5)
    return common.where(b, _above(b, b.emit(graph.AbsOp(x)), 0.5), outer, _odd(b, x, ATANH))


FUNCTIONS: dict[str, Function] = {
    "Acos": arc_cosine,
    "Acosh": inverse_hyperbolic_cosine,
    "Asin": arc_sine,
    "Asinh": inverse_hyperbolic_sine,
    "Atan": arc_tangent,
    "Atanh": inverse_hyperbolic_tangent,
    "Cosh": hyperbolic_cosine,
    "Sinh": hyperbolic_sine,
}


def _register(name: str, function: Function) -> None:
    def unary(b: Builder, x: SSAValue) -> SSAValue:
        if dtype_of(x) is not dtypes.f32:
            raise NotExpressible(f"{name} of {dtype_of(x)}")
        return function(b, x)

    register(unary, name)


for _name, _function in FUNCTIONS.items():
    _register(_name, _function)
