"""Elementwise operators: arithmetic, activations, comparisons, logic, casts."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    Number,
    Operand,
    SSAValue,
    dtype_of,
    operand,
)
from npu_dialect.frontends.torch.registry import op, register

UNARY: dict[str, type[Any]] = {
    "abs": graph.AbsOp,
    "ceil": graph.CeilOp,
    "cos": graph.CosOp,
    "erf": graph.ErfOp,
    "exp": graph.ExpOp,
    "floor": graph.FloorOp,
    "hardswish": graph.HardSwishOp,
    "log": graph.LogOp,
    "neg": graph.NegOp,
    "reciprocal": graph.ReciprocalOp,
    "relu": graph.ReluOp,
    "round": graph.RoundOp,
    "rsqrt": graph.RsqrtOp,
    "sigmoid": graph.SigmoidOp,
    "sign": graph.SignOp,
    "silu": graph.SiluOp,
    "sin": graph.SinOp,
    "sqrt": graph.SqrtOp,
    "tanh": graph.TanhOp,
}

BINARY: dict[str, type[Any]] = {
    "maximum": graph.MaxOp,
    "minimum": graph.MinOp,
    "mul.Scalar": graph.MulOp,
    "mul.Tensor": graph.MulOp,
}

OF_TRUTH: dict[type[Any], type[Any]] = {
    graph.MaxOp: graph.OrOp,
    graph.MinOp: graph.AndOp,
    graph.MulOp: graph.AndOp,
}
"""What these are of truth values."""

COMPARISONS: dict[str, type[Any]] = {
    "eq": graph.EqOp,
    "ge": graph.GeOp,
    "gt": graph.GtOp,
    "le": graph.LeOp,
    "lt": graph.LtOp,
    "ne": graph.NeOp,
}

LOGICAL: dict[str, type[Any]] = {
    "and": graph.AndOp,
    "or": graph.OrOp,
    "xor": graph.XorOp,
}


LINEAR = 20
"""Where softplus is its argument, to the last place of f32."""


def _register_unary(name: str, operation: type[Any]) -> None:
    def unary(b: Builder, self: SSAValue) -> SSAValue:
        return common.unary(b, operation, self)

    register(unary, name)


def _register_binary(name: str, operation: type[Any]) -> None:
    def binary(b: Builder, self: Operand, other: Operand) -> SSAValue:
        own = OF_TRUTH[operation] if b.dtype is dtypes.bool_ else operation
        return b.emit(own(operand(b, self, b.dtype), operand(b, other, b.dtype)))

    register(binary, name)


def _register_comparison(name: str, operation: type[Any]) -> None:
    def comparison(b: Builder, self: Operand, other: Operand) -> SSAValue:
        return common.compare(b, operation, self, other)

    register(comparison, f"{name}.Tensor", f"{name}.Scalar")


def _register_logical(name: str, operation: type[Any]) -> None:
    def logical(b: Builder, self: SSAValue, other: SSAValue) -> SSAValue:
        return b.emit(operation(common.truth(b, self), common.truth(b, other)))

    def bitwise(b: Builder, self: Operand, other: Operand) -> SSAValue:
        return b.emit(operation(operand(b, self, b.dtype), operand(b, other, b.dtype)))

    register(logical, f"logical_{name}")
    register(bitwise, f"bitwise_{name}.Tensor", f"bitwise_{name}.Scalar")


for _name, _operation in UNARY.items():
    _register_unary(_name, _operation)
for _name, _operation in BINARY.items():
    _register_binary(_name, _operation)
for _name, _operation in COMPARISONS.items():
    _register_comparison(_name, _operation)
for _name, _operation in LOGICAL.items():
    _register_logical(_name, _operation)


# Arithmetic


@op("add.Tensor")
def add(b: Builder, self: Operand, other: Operand, *, alpha: Number) -> SSAValue:
    """self + alpha * other"""
    return _sum(b, graph.AddOp, self, other, alpha)


@op("add.Scalar")
def add_scalar(b: Builder, self: SSAValue, other: Number, alpha: Number) -> SSAValue:
    """self + alpha * other"""
    return _sum(b, graph.AddOp, self, other, alpha)


@op("sub.Tensor")
def sub(b: Builder, self: Operand, other: Operand, *, alpha: Number) -> SSAValue:
    """self - alpha * other"""
    return _sum(b, graph.SubOp, self, other, alpha)


@op("sub.Scalar")
def sub_scalar(b: Builder, self: SSAValue, other: Number, alpha: Number) -> SSAValue:
    """self - alpha * other"""
    return _sum(b, graph.SubOp, self, other, alpha)


@op("rsub.Scalar")
def rsub(b: Builder, self: SSAValue, other: Number, alpha: Number) -> SSAValue:
    """other - alpha * self"""
    return _sum(b, graph.SubOp, other, self, alpha)


def _sum(b: Builder, operation: type[Any], x: Operand, y: Operand, alpha: Number) -> SSAValue:
    y = common.scaled(b, operand(b, y, b.dtype), alpha)
    if b.dtype is dtypes.bool_:
        return b.emit(graph.OrOp(operand(b, x, b.dtype), y))
    return b.emit(operation(operand(b, x, b.dtype), y))


@op("div.Tensor", "div.Scalar")
def div(b: Builder, self: Operand, other: Operand) -> SSAValue:
    """The quotient, in floats."""
    return common.div(b, operand(b, self, b.dtype), operand(b, other, b.dtype))


@op("div.Tensor_mode", "div.Scalar_mode")
def div_mode(b: Builder, self: Operand, other: Operand, *, rounding_mode: str | None) -> SSAValue:
    """The quotient, rounded down or towards 0."""
    x, y = operand(b, self, b.dtype), operand(b, other, b.dtype)
    if b.dtype.is_float:
        quotient = common.div(b, x, y)
        rounding = {None: _same, "floor": _floor, "trunc": _trunc}[rounding_mode]
        return rounding(b, quotient)
    return floor_divided(b, x, y) if rounding_mode == "floor" else common.div(b, x, y)


def floor_divided(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """The quotient of integers, rounded down."""
    quotient = common.div(b, x, y)
    rest = common.sub(b, x, common.mul(b, quotient, y))
    return common.sub(b, quotient, common.cast(b, _signs_differ(b, rest, y), dtype_of(x)))


def _same(b: Builder, x: SSAValue) -> SSAValue:
    return x


def _floor(b: Builder, x: SSAValue) -> SSAValue:
    return b.emit(graph.FloorOp(x))


def _trunc(b: Builder, x: SSAValue) -> SSAValue:
    """Towards 0."""
    negative = b.emit(graph.LtOp(x, b.scalar(0, x)))
    return common.where(b, negative, b.emit(graph.CeilOp(x)), b.emit(graph.FloorOp(x)))


def _signs_differ(b: Builder, rest: SSAValue, y: SSAValue) -> SSAValue:
    """Whether a remainder is not 0 and has the other sign than the divisor."""
    zero = b.scalar(0, rest)
    differ = b.emit(graph.XorOp(b.emit(graph.LtOp(rest, zero)), b.emit(graph.LtOp(y, zero))))
    return b.emit(graph.AndOp(b.emit(graph.NeOp(rest, zero)), differ))


@op("trunc")
def trunc(b: Builder, self: SSAValue) -> SSAValue:
    """Towards 0."""
    return _trunc(b, self) if dtype_of(self).is_float else self


@op("fmod.Tensor", "fmod.Scalar")
def fmod(b: Builder, self: SSAValue, other: Operand) -> SSAValue:
    """The remainder, signed as the dividend."""
    x, y = operand(b, self, b.dtype), operand(b, other, b.dtype)
    quotient = common.div(b, x, y)
    quotient = _trunc(b, quotient) if b.dtype.is_float else quotient
    return common.sub(b, x, common.mul(b, quotient, y))


@op("remainder.Tensor", "remainder.Scalar")
def remainder(b: Builder, self: SSAValue, other: Operand) -> SSAValue:
    """The remainder, signed as the divisor."""
    rest = fmod(b, self, other)
    y = operand(b, other, b.dtype)
    return common.where(b, _signs_differ(b, rest, y), common.add(b, rest, y), rest)


@op("round.decimals")
def round_decimals(b: Builder, self: SSAValue, *, decimals: int) -> SSAValue:
    """To a number of digits after the point, or before it."""
    factor = float(10 ** abs(decimals))
    up, down = (common.scaled, _over) if decimals >= 0 else (_over, common.scaled)
    return down(b, b.emit(graph.RoundOp(up(b, self, factor))), factor)


def _over(b: Builder, x: SSAValue, divisor: float) -> SSAValue:
    return common.div(b, x, b.scalar(divisor, x))


@op("pow.Tensor_Scalar")
def power(b: Builder, self: SSAValue, exponent: Number) -> SSAValue:
    """Small powers are products; roots are roots."""
    x = common.cast(b, self, b.dtype)
    if exponent in (1, 2, 3):
        return reduce(lambda p, q: common.mul(b, p, q), [x] * int(exponent))
    special = {0.5: graph.SqrtOp, -0.5: graph.RsqrtOp, -1: graph.ReciprocalOp}
    if exponent in special:
        return b.emit(special[exponent](x))
    return _power(b, x, exponent)


@op("pow.Tensor_Tensor", "pow.Scalar")
def power_by(b: Builder, self: Operand, exponent: SSAValue) -> SSAValue:
    """By exponents of run time."""
    return _power(b, self, exponent)


def _power(b: Builder, x: Operand, exponent: Operand) -> SSAValue:
    if not b.dtype.is_float:
        raise NotExpressible("a power of integers")
    return b.emit(graph.PowOp(operand(b, x, b.dtype), operand(b, exponent, b.dtype)))


# Selections


@op("clamp")
def clamp(b: Builder, self: SSAValue, min: Number | None, max: Number | None) -> SSAValue:
    """Bounds as numbers."""
    x = common.cast(b, self, b.dtype)
    if min is not None and max is not None and min <= max and not b.dtype.is_int:
        return b.emit(graph.ClampOp(x, float(min), float(max)))
    return clamp_tensor(b, x, min, max)


@op("clamp.Tensor")
def clamp_tensor(b: Builder, self: SSAValue, min: Operand | None, max: Operand | None) -> SSAValue:
    """Bounds as tensors; the upper one counts where they cross."""
    x = common.cast(b, self, b.dtype)
    if min is not None:
        x = b.emit(graph.MaxOp(x, operand(b, min, b.dtype)))
    return x if max is None else b.emit(graph.MinOp(x, operand(b, max, b.dtype)))


@op("where.self")
def where(b: Builder, condition: SSAValue, self: Operand, other: Operand) -> SSAValue:
    """self where the condition holds, else other."""
    x, y = operand(b, self, b.dtype), operand(b, other, b.dtype)
    return common.where(b, common.truth(b, condition), x, y)


@op("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(b: Builder, self: SSAValue, mask: SSAValue, value: Operand) -> SSAValue:
    """A value where the mask holds."""
    return common.where(b, mask, operand(b, value, b.dtype), self)


@op("logical_not")
def logical_not(b: Builder, self: SSAValue) -> SSAValue:
    """Whether each element is 0."""
    return b.emit(graph.NotOp(common.truth(b, self)))


@op("bitwise_not")
def bitwise_not(b: Builder, self: SSAValue) -> SSAValue:
    """All bits turned."""
    if dtype_of(self) is dtypes.bool_:
        return b.emit(graph.NotOp(self))
    return b.emit(graph.XorOp(self, b.scalar(-1, self)))


@op("isnan")
def isnan(b: Builder, self: SSAValue) -> SSAValue:
    """What does not equal itself."""
    return b.emit(graph.NeOp(self, self))


@op("isinf")
def isinf(b: Builder, self: SSAValue) -> SSAValue:
    """Infinite, of either sign."""
    size = b.emit(graph.AbsOp(self))
    return b.emit(graph.EqOp(size, b.scalar(math.inf, size)))


# Activations


@op("gelu")
def gelu(b: Builder, self: SSAValue, *, approximate: str) -> SSAValue:
    """The exact form, or the one with a hyperbolic tangent."""
    if approximate == "none":
        return b.emit(graph.GeluOp(self))
    cube = common.mul(b, common.mul(b, self, self), self)
    inner = common.add(b, self, common.scaled(b, cube, 0.044715))
    inner = b.emit(graph.TanhOp(common.scaled(b, inner, math.sqrt(2 / math.pi))))
    half = common.scaled(b, self, 0.5)
    return common.mul(b, half, common.add(b, inner, b.scalar(1, inner)))


@op("leaky_relu")
def leaky_relu(b: Builder, self: SSAValue, negative_slope: Number) -> SSAValue:
    """x, or a part of it where it is negative."""
    return b.emit(graph.LeakyReluOp(self, float(negative_slope)))


@op("elu")
def elu(b: Builder, self: SSAValue, alpha: Number, scale: Number, input_scale: Number) -> SSAValue:
    """scale * elu(input_scale * x)"""
    if input_scale != 1:
        raise NotExpressible(f"elu with input_scale {input_scale}")
    return common.scaled(b, b.emit(graph.EluOp(self, float(alpha))), float(scale))


@op("hardsigmoid")
def hardsigmoid(b: Builder, self: SSAValue) -> SSAValue:
    """min(max(x / 6 + 1 / 2, 0), 1)"""
    return b.emit(graph.HardSigmoidOp(self, 1 / 6, 0.5))


@op("hardtanh")
def hardtanh(b: Builder, self: SSAValue, min_val: Number, max_val: Number) -> SSAValue:
    """x between bounds."""
    return clamp(b, self, min_val, max_val)


@op("relu6")
def relu6(b: Builder, self: SSAValue) -> SSAValue:
    """x between 0 and 6."""
    return clamp(b, self, 0, 6)


@op("softplus")
def softplus(b: Builder, self: SSAValue, beta: Number, threshold: Number) -> SSAValue:
    """log(1 + exp(beta * x)) / beta, and x where beta * x is above the threshold."""
    inner = common.scaled(b, self, float(beta))
    y = common.scaled(b, b.emit(graph.SoftplusOp(inner)), 1 / float(beta))
    if threshold >= LINEAR:
        return y
    return common.where(b, b.emit(graph.GtOp(inner, b.scalar(threshold, inner))), self, y)


@op("mish")
def mish(b: Builder, self: SSAValue) -> SSAValue:
    """x * tanh(log(1 + exp(x)))"""
    return common.mul(b, self, b.emit(graph.TanhOp(b.emit(graph.SoftplusOp(self)))))


@op("_prelu_kernel")
def prelu(b: Builder, self: SSAValue, weight: SSAValue) -> SSAValue:
    """x, or x times a weight where it is negative."""
    positive = b.emit(graph.GtOp(self, b.scalar(0, self)))
    return common.where(b, positive, self, common.mul(b, self, weight))


# Types and copies


@op("_to_copy", "clone", "alias", "detach", "lift_fresh_copy", "contiguous")
def copy(b: Builder, self: SSAValue) -> SSAValue:
    """The same values; the importer gives them the result's type."""
    if not b.dtype.is_float and dtype_of(self).is_float and b.dtype is not dtypes.bool_:
        return common.cast(b, _trunc(b, self), b.dtype)
    return common.truth(b, self) if b.dtype is dtypes.bool_ else self


@op("dropout")
def dropout(b: Builder, input: SSAValue, p: float, train: bool) -> SSAValue:
    """Nothing, in inference."""
    if train:
        raise NotExpressible("dropout in training")
    return input


@op("native_dropout")
def native_dropout(b: Builder, input: SSAValue, p: float, train: bool | None) -> list[SSAValue]:
    """Nothing, in inference; and what is kept."""
    if train is not False and p not in (0, 1):
        raise NotExpressible("dropout in training")
    keeps = train is False or p == 0
    y = input if keeps else common.broadcast(b, b.scalar(0, input), b.shape)
    return [y, b.constant(np.full(b.shape, keeps, np.bool_))]
