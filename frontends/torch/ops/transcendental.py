"""Functions that `graph` has steps for: inverse and hyperbolic ones, and those exact beside 0.

All are within a few units in the last place of f32, small and large arguments included.
"""

from __future__ import annotations

import math
from functools import reduce

from npu_dialect import graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import Builder, SSAValue, operand
from npu_dialect.frontends.torch.registry import op

ATAN = (1.0, -0.33333284, 0.1999823, -0.14261574, 0.109401986, -0.08372064, 0.05746356,
        -0.030717507, 0.010680719, -0.0017437011)  # fmt: skip
"""atan(t) / t over t * t in [0, 1]: interpolated at Chebyshev nodes, within 1.3e-7 in f32."""

LARGE = 1e9
"""Where x * x + 1 is x * x for long, and cannot overflow yet."""


def _real(b: Builder, x: SSAValue) -> SSAValue:
    return common.cast(b, x, b.dtype)


def _one(b: Builder, x: SSAValue) -> SSAValue:
    return b.scalar(1, x)


def _is_negative(b: Builder, x: SSAValue) -> SSAValue:
    """Whether the sign is set; that of a zero is that of its reciprocal."""
    zero, turned = b.scalar(0, x), b.emit(graph.ReciprocalOp(x))
    return b.emit(graph.OrOp(b.emit(graph.LtOp(x, zero)), b.emit(graph.LtOp(turned, zero))))


def _signed(b: Builder, like: SSAValue, x: SSAValue) -> SSAValue:
    """x, negated where `like` is negative."""
    return common.where(b, _is_negative(b, like), b.emit(graph.NegOp(x)), x)


def _polynomial(b: Builder, x: SSAValue, coefficients: tuple[float, ...]) -> SSAValue:
    """By Horner's rule; coefficients ascend."""

    def step(total: SSAValue, c: float) -> SSAValue:
        return common.add(b, common.mul(b, total, x), b.scalar(c, x))

    return reduce(step, coefficients[-2::-1], b.scalar(coefficients[-1], x))


def angle_of(b: Builder, y: SSAValue, x: SSAValue) -> SSAValue:
    """The angle of the point (x, y): atan of the smaller over the greater part, by octants."""
    h, w = b.emit(graph.AbsOp(y)), b.emit(graph.AbsOp(x))
    low, high = b.emit(graph.MinOp(h, w)), b.emit(graph.MaxOp(h, w))
    t = common.where(b, b.emit(graph.EqOp(h, w)), _one(b, h), common.div(b, low, high))
    t = common.where(b, b.emit(graph.EqOp(high, b.scalar(0, high))), high, t)
    angle = common.mul(b, t, _polynomial(b, common.mul(b, t, t), ATAN))
    steep = common.sub(b, b.scalar(math.pi / 2, angle), angle)
    angle = common.where(b, b.emit(graph.GtOp(h, w)), steep, angle)
    behind = common.sub(b, b.scalar(math.pi, angle), angle)
    angle = common.where(b, _is_negative(b, x), behind, angle)
    return _signed(b, y, angle)


@op("atan")
def atan(b: Builder, self: SSAValue) -> SSAValue:
    """The angle of (1, x)."""
    x = _real(b, self)
    return angle_of(b, x, _one(b, x))


@op("atan2")
def atan2(b: Builder, self: SSAValue, other: SSAValue) -> SSAValue:
    """The angle of (other, self)."""
    return angle_of(b, operand(b, self, b.dtype), operand(b, other, b.dtype))


@op("asin")
def asin(b: Builder, self: SSAValue) -> SSAValue:
    """The angle of (sqrt(1 - x * x), x)."""
    x = _real(b, self)
    return angle_of(b, x, _leg(b, x))


@op("acos")
def acos(b: Builder, self: SSAValue) -> SSAValue:
    """The angle of (x, sqrt(1 - x * x))."""
    x = _real(b, self)
    return angle_of(b, _leg(b, x), x)


def _leg(b: Builder, x: SSAValue) -> SSAValue:
    """sqrt((1 - x) * (1 + x))"""
    one = _one(b, x)
    return b.emit(graph.SqrtOp(common.mul(b, common.sub(b, one, x), common.add(b, one, x))))


@op("tan")
def tan(b: Builder, self: SSAValue) -> SSAValue:
    """sin(x) / cos(x)"""
    return common.div(b, common.unary(b, graph.SinOp, self), common.unary(b, graph.CosOp, self))


@op("expm1")
def expm1(b: Builder, self: SSAValue) -> SSAValue:
    """exp(x) - 1"""
    return exp_minus_1(b, _real(b, self))


def exp_minus_1(b: Builder, x: SSAValue) -> SSAValue:
    """exp(x) - 1; beside 0, u = exp(x) is as wrong as log(u), so (u - 1) * x / log(u) is right.

    W. Kahan's way (N. Higham, Accuracy and Stability of Numerical Algorithms, 1.14).
    """
    u = b.emit(graph.ExpOp(x))
    rest = common.sub(b, u, _one(b, u))
    near = common.div(b, common.mul(b, rest, x), b.emit(graph.LogOp(u)))
    near = common.where(b, b.emit(graph.EqOp(rest, b.scalar(0, rest))), x, near)
    return common.where(b, _is_small(b, x), near, rest)


def _is_small(b: Builder, x: SSAValue) -> SSAValue:
    return b.emit(graph.LtOp(b.emit(graph.AbsOp(x)), b.scalar(0.5, x)))


@op("log1p")
def log1p(b: Builder, self: SSAValue) -> SSAValue:
    """log(1 + x)"""
    return log_of_1_plus(b, _real(b, self))


def log_of_1_plus(b: Builder, x: SSAValue) -> SSAValue:
    """log(1 + x); beside 0, with u = 1 + x as it is rounded, log(u) * x / (u - 1) (W. Kahan)."""
    u = common.add(b, x, _one(b, x))
    log, rest = b.emit(graph.LogOp(u)), common.sub(b, u, _one(b, u))
    near = common.div(b, common.mul(b, log, x), rest)
    near = common.where(b, b.emit(graph.EqOp(rest, b.scalar(0, rest))), x, near)
    return common.where(b, _is_small(b, x), near, log)


@op("cosh")
def cosh(b: Builder, self: SSAValue) -> SSAValue:
    """(exp(x) + exp(-x)) / 2"""
    x = _real(b, self)
    return _half(b, graph.AddOp, x)


def _half(b: Builder, operation: type[graph.AddOp | graph.SubOp], x: SSAValue) -> SSAValue:
    up, down = b.emit(graph.ExpOp(x)), b.emit(graph.ExpOp(b.emit(graph.NegOp(x))))
    return common.scaled(b, b.emit(operation(up, down)), 0.5)


@op("sinh")
def sinh(b: Builder, self: SSAValue) -> SSAValue:
    """(exp(x) - exp(-x)) / 2; beside 0, with e = exp(x) - 1, (e + e / (e + 1)) / 2."""
    x = _real(b, self)
    e = exp_minus_1(b, x)
    near = common.add(b, e, common.div(b, e, common.add(b, e, _one(b, e))))
    return common.where(b, _is_small(b, x), common.scaled(b, near, 0.5), _half(b, graph.SubOp, x))


@op("asinh")
def asinh(b: Builder, self: SSAValue) -> SSAValue:
    """log(x + sqrt(x * x + 1)); as log1p(a + a * a / (1 + sqrt(a * a + 1))) of a = |x|."""
    x = _real(b, self)
    a = b.emit(graph.AbsOp(x))
    square = common.mul(b, a, a)
    root = b.emit(graph.SqrtOp(common.add(b, square, _one(b, a))))
    part = common.div(b, square, common.add(b, root, _one(b, a)))
    near = log_of_1_plus(b, common.add(b, a, part))
    return _signed(b, x, _or_log_of_double(b, a, near))


def _or_log_of_double(b: Builder, x: SSAValue, near: SSAValue) -> SSAValue:
    """log(2 * x) where x is large."""
    far = common.add(b, b.emit(graph.LogOp(x)), b.scalar(math.log(2), x))
    return common.where(b, b.emit(graph.GtOp(x, b.scalar(LARGE, x))), far, near)


@op("acosh")
def acosh(b: Builder, self: SSAValue) -> SSAValue:
    """log(x + sqrt(x * x - 1)); as log1p(t + sqrt(t) * sqrt(t + 2)) of t = x - 1."""
    x = _real(b, self)
    t = common.sub(b, x, _one(b, x))
    low, high = (b.emit(graph.SqrtOp(v)) for v in (t, common.add(b, t, b.scalar(2, t))))
    near = log_of_1_plus(b, common.add(b, t, common.mul(b, low, high)))
    return _or_log_of_double(b, x, near)


@op("atanh")
def atanh(b: Builder, self: SSAValue) -> SSAValue:
    """log((1 + x) / (1 - x)) / 2; as log1p(2 * a / (1 - a)) / 2 of a = |x|."""
    x = _real(b, self)
    a = b.emit(graph.AbsOp(x))
    ratio = common.div(b, common.scaled(b, a, 2), common.sub(b, _one(b, a), a))
    return _signed(b, x, common.scaled(b, log_of_1_plus(b, ratio), 0.5))


@op("log2")
def log2(b: Builder, self: SSAValue) -> SSAValue:
    """log(x) / log(2)"""
    return common.scaled(b, common.unary(b, graph.LogOp, self), 1 / math.log(2))


@op("log10")
def log10(b: Builder, self: SSAValue) -> SSAValue:
    """log(x) / log(10)"""
    return common.scaled(b, common.unary(b, graph.LogOp, self), 1 / math.log(10))
