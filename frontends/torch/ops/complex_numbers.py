"""Complex tensors: a pair of real ones, which exists during the import only.

Operators that treat all elements alike are applied to both parts (`PARTWISE`); the arithmetic is
here, and the importers of operators that make or take complex numbers, which are rows of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from npu_dialect import dtypes, graph
from npu_dialect.frontends.torch.ops import common
from npu_dialect.frontends.torch.ops.common import (
    Builder,
    NotExpressible,
    Number,
    SSAValue,
    operand,
    shape_of,
)
from npu_dialect.frontends.torch.ops.transcendental import angle_of
from npu_dialect.frontends.torch.registry import full_name, op


@dataclass(frozen=True)
class Complex:
    """A complex tensor of run time: two f32 tensors of its shape."""

    real: SSAValue
    imag: SSAValue

    def map(self, function: Callable[[SSAValue], Any]) -> Complex:
        """A function of each part."""
        return Complex(function(self.real), function(self.imag))


Value = SSAValue | Complex

PARTWISE = frozenset(
    full_name(name)
    for name in ("alias", "cat", "clone", "detach", "expand", "flip", "index.Tensor",
                 "index_select", "mean", "mean.dim", "neg", "permute", "repeat", "reshape",
                 "roll", "select.int", "slice.Tensor", "split_with_sizes", "squeeze",
                 "squeeze.dim", "squeeze.dims",
                 "stack", "sum", "sum.dim_IntList", "t", "transpose.int", "unbind.int", "unfold",
                 "unsqueeze", "view", "_unsafe_view", "constant_pad_nd", "as_strided", "tril",
                 "triu", "diagonal", "where.self", "cumsum", "contiguous", "lift_fresh_copy")
)  # fmt: skip
"""Operators that do the same to both parts."""


def called(
    b: Builder,
    name: str,
    function: Callable[..., Any],
    positional: Sequence[Any],
    named: Mapping[str, Any],
) -> Any:
    """The results of an importer; if operands are complex, of both parts or of its counterpart."""
    if name in TAKES_COMPLEX or not _has_complex([*positional, *named.values()]):
        return function(b, *positional, **named)
    if name in ARITHMETIC:
        return ARITHMETIC[name](b, *positional, **named)
    if name not in PARTWISE:
        raise NotExpressible(f"{name} of complex numbers")
    real = function(b, *_parts(b, positional, "real"), **named)
    imag = function(b, *_parts(b, positional, "imag"), **named)
    if isinstance(real, list):
        return [Complex(*pair) for pair in zip(cast("list[Any]", real), imag, strict=True)]
    return Complex(real, imag)


def _has_complex(tree: Any) -> bool:
    if isinstance(tree, list | tuple):
        return any(_has_complex(v) for v in cast("Sequence[Any]", tree))
    return isinstance(tree, Complex)


def _parts(b: Builder, tree: Any, part: str) -> Any:
    """One part of each complex value; a float is real, and its imaginary part is 0."""
    if isinstance(tree, list | tuple):
        return [_parts(b, v, part) for v in cast("Sequence[Any]", tree)]
    if isinstance(tree, Complex):
        return getattr(tree, part)
    if not isinstance(tree, SSAValue) or part == "real":
        return cast("Any", tree)
    value = cast("SSAValue", tree)
    return common.scaled(b, value, 0) if common.dtype_of(value).is_float else value


def _pair(b: Builder, x: Value | Number) -> Complex:
    if isinstance(x, Complex):
        return x
    real = operand(b, x, dtypes.f32)
    return Complex(real, b.scalar(0, real))


# Arithmetic


def add(b: Builder, self: Value, other: Value | Number, *, alpha: Number) -> Complex:
    """self + alpha * other"""
    return _combined(b, graph.AddOp, self, other, alpha)


def sub(b: Builder, self: Value, other: Value | Number, *, alpha: Number) -> Complex:
    """self - alpha * other"""
    return _combined(b, graph.SubOp, self, other, alpha)


def _combined(
    b: Builder, operation: type[Any], x: Value, y: Value | Number, alpha: Number
) -> Complex:
    x, y = _pair(b, x), _pair(b, y).map(lambda v: common.scaled(b, v, alpha))
    made = Complex(b.emit(operation(x.real, y.real)), b.emit(operation(x.imag, y.imag)))
    return made.map(lambda v: common.broadcast(b, v, b.shape))


def mul(b: Builder, self: Value | Number, other: Value | Number) -> Complex:
    """(a + bi) (c + di) = ac - bd + (ad + bc) i"""
    if not isinstance(self, Complex):
        self, other = other, self
    assert isinstance(self, Complex)
    if not isinstance(other, Complex):
        factor = operand(b, other, dtypes.f32)
        return self.map(lambda v: common.mul(b, v, factor))
    x, y = self, other
    real = common.sub(b, common.mul(b, x.real, y.real), common.mul(b, x.imag, y.imag))
    imag = common.add(b, common.mul(b, x.real, y.imag), common.mul(b, x.imag, y.real))
    return Complex(real, imag)


def div(b: Builder, self: Value, other: Value | Number) -> Complex:
    """x / y, by the conjugate and the square of y."""
    if not isinstance(other, Complex):
        divisor = operand(b, other, dtypes.f32)
        return _pair(b, self).map(lambda v: common.div(b, v, divisor))
    square = _square(b, other)
    turned = Complex(other.real, b.emit(graph.NegOp(other.imag)))
    return mul(b, self, turned).map(lambda v: common.div(b, v, square))


def _square(b: Builder, x: Complex) -> SSAValue:
    return common.add(b, common.mul(b, x.real, x.real), common.mul(b, x.imag, x.imag))


def absolute(b: Builder, self: Complex) -> SSAValue:
    """sqrt(a * a + b * b)"""
    return b.emit(graph.SqrtOp(_square(b, self)))


def angle(b: Builder, self: Complex) -> SSAValue:
    """The angle of the point."""
    return angle_of(b, self.imag, self.real)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    full_name(name): function
    for function, names in (
        (add, ("add.Tensor",)), (sub, ("sub.Tensor",)),
        (mul, ("mul.Tensor", "mul.Scalar")), (div, ("div.Tensor", "div.Scalar")),
        (absolute, ("abs",)),
    )
    for name in names
}  # fmt: skip
"""Operators of real numbers that have another meaning for complex ones."""


# What makes and takes complex numbers


@op("view_as_real")
def view_as_real(b: Builder, self: Complex) -> SSAValue:
    """The parts along a new last dimension."""
    parts = [common.reshape(b, v, (*shape_of(v), 1)) for v in (self.real, self.imag)]
    return common.concat(b, parts, len(shape_of(self.real)))


@op("view_as_complex")
def view_as_complex(b: Builder, self: SSAValue) -> Complex:
    """The last dimension, of size 2, as the parts."""
    rank = len(shape_of(self))
    real, imag = (common.along(b, self, rank - 1, k, 1) for k in (0, 1))
    return Complex(*(common.squeeze(b, v, [rank - 1]) for v in (real, imag)))


@op("complex")
def pair(b: Builder, real: SSAValue, imag: SSAValue) -> Complex:
    """Of its parts."""
    return Complex(*(common.broadcast(b, v, b.shape) for v in (real, imag)))


@op("polar")
def polar(b: Builder, abs: SSAValue, angle: SSAValue) -> Complex:
    """Of its length and angle."""
    parts = (b.emit(graph.CosOp(angle)), b.emit(graph.SinOp(angle)))
    return Complex(*(common.mul(b, abs, v) for v in parts))


@op("real")
def real(b: Builder, self: Value) -> SSAValue:
    """The real part."""
    return self.real if isinstance(self, Complex) else self


@op("imag")
def imag(b: Builder, self: Complex) -> SSAValue:
    """The imaginary part."""
    return self.imag


@op("angle")
def angle_or_sign(b: Builder, self: Value) -> SSAValue:
    """The angle; of a real number 0, or pi where it is negative."""
    if isinstance(self, Complex):
        return angle(b, self)
    x = common.cast(b, self, b.dtype)
    pi = common.where(b, b.emit(graph.LtOp(x, b.scalar(0, x))), b.scalar(3.14159265, x),
                      b.scalar(0, x))  # fmt: skip
    return common.where(b, b.emit(graph.EqOp(x, x)), pi, x)


@op("_conj", "_conj_physical", "conj_physical", "resolve_conj")
def conjugate(b: Builder, self: Value) -> Value:
    """a - bi, where `resolve_conj` has nothing left to do."""
    if not isinstance(self, Complex):
        return self
    return Complex(self.real, b.emit(graph.NegOp(self.imag)))


TAKES_COMPLEX = frozenset(
    full_name(name) for name in ("view_as_real", "real", "imag", "angle", "_conj", "_conj_physical",
                                 "conj_physical", "_fft_c2c", "_fft_c2r")
)  # fmt: skip
"""Rows of the table whose functions take complex values themselves."""
