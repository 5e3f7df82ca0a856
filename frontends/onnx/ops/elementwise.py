"""Elementwise operators: arithmetic, activations, comparisons, logic, casts."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from onnx import TensorProto

from npu_dialect import dtypes, graph
from npu_dialect.frontends.onnx import tensors
from npu_dialect.frontends.onnx.ops import common
from npu_dialect.frontends.onnx.ops.common import (
    Builder,
    Misfit,
    NotExpressible,
    SSAValue,
    dtype_of,
)
from npu_dialect.frontends.onnx.registry import op, register

UNARY: dict[str, type[Any]] = {
    "Abs": graph.AbsOp,
    "Ceil": graph.CeilOp,
    "Cos": graph.CosOp,
    "Erf": graph.ErfOp,
    "Exp": graph.ExpOp,
    "Floor": graph.FloorOp,
    "HardSwish": graph.HardSwishOp,
    "Log": graph.LogOp,
    "Neg": graph.NegOp,
    "Not": graph.NotOp,
    "Reciprocal": graph.ReciprocalOp,
    "Relu": graph.ReluOp,
    "Round": graph.RoundOp,
    "Sigmoid": graph.SigmoidOp,
    "Sign": graph.SignOp,
    "Sin": graph.SinOp,
    "Softplus": graph.SoftplusOp,
    "Sqrt": graph.SqrtOp,
    "Tanh": graph.TanhOp,
}

BINARY: dict[str, type[Any]] = {
    "Add": graph.AddOp,
    "And": graph.AndOp,
    "BitwiseAnd": graph.AndOp,
    "BitwiseOr": graph.OrOp,
    "BitwiseXor": graph.XorOp,
    "Div": graph.DivOp,
    "Equal": graph.EqOp,
    "Greater": graph.GtOp,
    "GreaterOrEqual": graph.GeOp,
    "Less": graph.LtOp,
    "LessOrEqual": graph.LeOp,
    "Mul": graph.MulOp,
    "Or": graph.OrOp,
    "Sub": graph.SubOp,
    "Xor": graph.XorOp,
}

BEFORE_7 = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Sub", "Xor")
"""Operators whose broadcasting was stated by attributes before opset 7."""

VARIADIC: dict[str, type[Any]] = {
    "Max": graph.MaxOp,
    "Min": graph.MinOp,
    "Sum": graph.AddOp,
}


def _register_unary(name: str, operation: type[Any]) -> None:
    def unary(b: Builder, x: SSAValue) -> SSAValue:
        return b.emit(operation(x))

    register(unary, name)


def _register_binary(name: str, operation: type[Any]) -> None:
    def binary(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
        return b.emit(operation(x, y))

    def binary_1(
        b: Builder, x: SSAValue, y: SSAValue, *, axis: int | None = None, broadcast: int = 0
    ) -> SSAValue:
        return binary(b, x, _from_axis(b, x, y, axis if broadcast else None))

    register(binary, name)
    if name in BEFORE_7:
        register(binary_1, name, since=1)


def _register_variadic(name: str, operation: type[Any]) -> None:
    def variadic(b: Builder, *xs: SSAValue) -> SSAValue:
        return reduce(lambda x, y: b.emit(operation(x, y)), xs)

    register(variadic, name)


def _from_axis(b: Builder, x: SSAValue, y: SSAValue, axis: int | None) -> SSAValue:
    """Before opset 7: the dimensions of `y` are those of `x` from `axis` on."""
    if axis is None:
        return y
    shape = common.shape_of(y)
    after = len(common.shape_of(x)) - axis - len(shape)
    return common.reshape(b, y, (*shape, *[1] * after))


for _name, _operation in UNARY.items():
    _register_unary(_name, _operation)
for _name, _operation in BINARY.items():
    _register_binary(_name, _operation)
for _name, _operation in VARIADIC.items():
    _register_variadic(_name, _operation)


@op("Mean")
def mean(b: Builder, *xs: SSAValue) -> SSAValue:
    """The mean of several tensors."""
    total = reduce(lambda x, y: common.add(b, x, y), xs)
    return common.div(b, total, b.scalar(len(xs), total))


@op("Pow")
def power(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Small constant powers are products; an exponent of another type is cast."""
    exponent = b.array(y)
    if exponent is not None and exponent.ndim == 0 and exponent.item() in (1, 2, 3):
        return reduce(lambda p, q: common.mul(b, p, q), [x] * int(exponent))
    if not dtype_of(x).is_float:
        return _integer_power(b, x, y)
    return b.emit(graph.PowOp(x, common.cast(b, y, dtype_of(x))))


def _integer_power(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """Exactly where `y` is whole, wrapping; else the power of floats, rounded to zero."""
    whole = _whole_power(b, x, common.cast(b, y, dtype_of(x)))
    if not dtype_of(y).is_float:
        return whole
    real = common.cast(b, y, dtypes.f32)
    power = b.emit(graph.PowOp(common.cast(b, x, dtypes.f32), real))
    is_whole = b.emit(graph.EqOp(real, b.emit(graph.FloorOp(real))))
    return common.where(b, is_whole, whole, common.cast(b, power, dtype_of(x)))


def _whole_power(b: Builder, x: SSAValue, y: SSAValue) -> SSAValue:
    """By repeated squares. Powers from 64 on, which wrap, are only right of 0, 1 and -1."""
    zero, one = b.scalar(0, x), b.scalar(1, x)
    size = b.emit(graph.AbsOp(y))
    odd = b.emit(graph.AndOp(size, one))
    large = b.emit(graph.GeOp(size, b.scalar(64, x)))
    left = common.where(b, large, common.add(b, odd, b.scalar(62, x)), size)
    result, square = one, x
    for bit in range(6):
        hit = b.emit(graph.NeOp(b.emit(graph.AndOp(left, b.scalar(1 << bit, x))), zero))
        result = common.where(b, hit, common.mul(b, result, square), result)
        square = common.mul(b, square, square)
    is_unit = b.emit(graph.EqOp(b.emit(graph.AbsOp(x)), one))
    small = common.where(b, is_unit, result, zero)
    return common.where(b, b.emit(graph.LtOp(y, zero)), small, result)


@op("Pow", since=1)
def power_1(b: Builder, x: SSAValue, y: SSAValue, *, axis: int | None, broadcast: int) -> SSAValue:
    """Before opset 7, with broadcasting by attributes."""
    return power(b, x, _from_axis(b, x, y, axis if broadcast else None))


@op("Mod")
def modulo(b: Builder, x: SSAValue, y: SSAValue, *, fmod: int) -> SSAValue:
    """The remainder of integers: signed as the divisor, or with `fmod` as the dividend."""
    if dtype_of(x).is_float:
        raise NotExpressible("the remainder of floats")
    rest = common.sub(b, x, common.mul(b, common.div(b, x, y), y))
    if fmod:
        return rest
    zero = b.scalar(0, rest)
    differ = b.emit(graph.XorOp(b.emit(graph.LtOp(rest, zero)), b.emit(graph.LtOp(y, zero))))
    wrong = b.emit(graph.AndOp(b.emit(graph.NeOp(rest, zero)), differ))
    return common.where(b, wrong, common.add(b, rest, y), rest)


@op("Tan")
def tangent(b: Builder, x: SSAValue) -> SSAValue:
    """sin(x) / cos(x)"""
    return common.div(b, b.emit(graph.SinOp(x)), b.emit(graph.CosOp(x)))


@op("Softsign")
def softsign(b: Builder, x: SSAValue) -> SSAValue:
    """x / (1 + |x|)"""
    denominator = b.emit(graph.AbsOp(x))
    return common.div(b, x, common.add(b, denominator, b.scalar(1, x)))


@op("LeakyRelu")
def leaky_relu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x, or alpha * x where that is negative."""
    return b.emit(graph.LeakyReluOp(x, alpha))


@op("Elu")
def elu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x, or alpha * (e**x - 1) where x is negative."""
    return b.emit(graph.EluOp(x, alpha))


@op("Celu")
def celu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """alpha * elu(x / alpha)"""
    inner = common.div(b, x, b.scalar(alpha, x))
    return common.scaled(b, b.emit(graph.EluOp(inner, 1.0)), alpha)


@op("Selu")
def selu(b: Builder, x: SSAValue, *, alpha: float, gamma: float) -> SSAValue:
    """gamma * elu(x)"""
    return common.scaled(b, b.emit(graph.EluOp(x, alpha)), gamma)


@op("HardSigmoid")
def hard_sigmoid(b: Builder, x: SSAValue, *, alpha: float, beta: float) -> SSAValue:
    """min(max(alpha * x + beta, 0), 1)"""
    return b.emit(graph.HardSigmoidOp(x, alpha, beta))


@op("ThresholdedRelu")
def thresholded_relu(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x where it is above alpha, else 0."""
    above = b.emit(graph.GtOp(x, b.scalar(alpha, x)))
    return common.where(b, above, x, b.scalar(0, x))


@op("PRelu")
def prelu(b: Builder, x: SSAValue, slope: SSAValue) -> SSAValue:
    """x, or slope * x where x is negative."""
    negative = b.emit(graph.LtOp(x, b.scalar(0, x)))
    return common.where(b, negative, common.mul(b, x, slope), x)


@op("PRelu", since=1)
def prelu_1(b: Builder, x: SSAValue, slope: SSAValue) -> SSAValue:
    """Before opset 7 a list of slopes is one per channel."""
    rank = len(common.shape_of(x))
    if len(common.shape_of(slope)) == 1 and rank > 1:
        slope = common.reshape(b, slope, (*common.shape_of(slope), *[1] * (rank - 2)))
    return prelu(b, x, slope)


@op("Gelu")
def gelu(b: Builder, x: SSAValue, *, approximate: str) -> SSAValue:
    """By erf; the approximation by tanh is ONNX's own function body."""
    if approximate != "none":
        raise NotExpressible(f"Gelu by {approximate}")
    return b.emit(graph.GeluOp(x))


@op("Swish")
def swish(b: Builder, x: SSAValue, *, alpha: float) -> SSAValue:
    """x * sigmoid(alpha * x)"""
    if alpha == 1.0:
        return b.emit(graph.SiluOp(x))
    return common.mul(b, x, b.emit(graph.SigmoidOp(common.scaled(b, x, alpha))))


@op("IsNaN")
def is_nan(b: Builder, x: SSAValue) -> SSAValue:
    """A number that differs from itself."""
    return b.emit(graph.NeOp(x, x))


@op("IsInf")
def is_inf(b: Builder, x: SSAValue, *, detect_negative: int, detect_positive: int) -> SSAValue:
    """Equal to an infinity of the wanted signs."""
    if not detect_negative and not detect_positive:
        return b.emit(graph.LtOp(x, x))
    if detect_negative and detect_positive:
        x = b.emit(graph.AbsOp(x))
    infinity = np.inf if detect_positive else -np.inf
    return b.emit(graph.EqOp(x, b.scalar(infinity, x)))


@op("Clip")
def clip_6(b: Builder, x: SSAValue, *, min: float, max: float) -> SSAValue:
    """Bounds as attributes."""
    return _clamp(b, x, min, max)


@op("Clip", since=11)
def clip(
    b: Builder, x: SSAValue, low: SSAValue | None = None, high: SSAValue | None = None
) -> SSAValue:
    """By `clamp` if the bounds are known, else by `max` and `min`."""
    least, most = _limits(x)
    lowest = least if low is None else b.array(low)
    highest = most if high is None else b.array(high)
    if lowest is not None and highest is not None:
        return _clamp(b, x, np.asarray(lowest).item(), np.asarray(highest).item())
    if low is not None:
        x = b.emit(graph.MaxOp(x, low))
    return x if high is None else b.emit(graph.MinOp(x, high))


def _limits(x: SSAValue) -> tuple[float, float]:
    dtype = dtype_of(x)
    return (-np.inf, np.inf) if dtype.is_float else (dtype.low, dtype.high)


def _clamp(b: Builder, x: SSAValue, low: float, high: float) -> SSAValue:
    """min(max(x, low), high): the upper bound wins where the bounds cross."""
    return b.emit(graph.ClampOp(x, min(low, high), high))


@op("Cast")
def cast(b: Builder, x: SSAValue, *, to: int, saturate: int, round_mode: str = "up") -> SSAValue:
    """`saturate` and `round_mode` concern 8-bit floats only, which no tensor of ours has."""
    del saturate, round_mode
    if to == TensorProto.UNDEFINED:
        raise Misfit("a cast to no type")
    return common.cast(b, x, tensors.dtype_of(to, b.source))


@op("CastLike")
def cast_like(
    b: Builder, x: SSAValue, like: SSAValue, *, saturate: int, round_mode: str = "up"
) -> SSAValue:
    """A cast to the type of `like`."""
    del saturate, round_mode
    return common.cast(b, x, dtype_of(like))


@op("Where")
def where(b: Builder, condition: SSAValue, x: SSAValue, y: SSAValue) -> SSAValue:
    """x where the condition holds, else y."""
    return common.where(b, condition, x, y)


@op("Identity", storage=True)
def identity(b: Builder, x: SSAValue) -> SSAValue:
    """`x` itself."""
    del b
    return x


@op("Dropout", storage=True)
def dropout_7(b: Builder, x: SSAValue, *, ratio: float) -> list[SSAValue]:
    """Inference: `x` itself, and a mask of ones."""
    del ratio
    return [x, _ones(b, x)] if b.wants(1) else [x]


@op("Dropout", since=12, storage=True)
def dropout(
    b: Builder,
    x: SSAValue,
    ratio: SSAValue | None = None,
    training_mode: SSAValue | None = None,
    *,
    seed: int = 0,
) -> list[SSAValue]:
    """Inference: `x` itself, and a mask of ones."""
    del seed
    if training_mode is not None and b.known(training_mode, "training_mode").any():
        rate = b.array(ratio)
        if rate is None or rate.any():
            raise NotExpressible("Dropout in training")
    return [x, _ones(b, x)] if b.wants(1) else [x]


def _ones(b: Builder, x: SSAValue) -> SSAValue:
    return common.broadcast(b, b.constant(np.array(True)), common.shape_of(x))
