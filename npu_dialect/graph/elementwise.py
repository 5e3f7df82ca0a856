"""Elementwise operations. Each means the function of its name in `npu_dialect.numerics`."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, Float32Type, FloatAttr, IntegerAttr, LocationAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import dtypes, numerics
from npu_dialect.dtypes import DType
from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import Real, integer, real
from npu_dialect.graph.base import (
    ANY,
    FLOAT,
    INTS,
    WIDE,
    Array,
    DeclaredOp,
    InferredOp,
    Properties,
    Tensor,
    Types,
    UnaryOp,
    Value,
    dtype_of,
    quant_of,
    require_element,
    require_per_tensor,
    require_shape,
    restore,
    shape_of,
    tensor_type,
)

BOOL = dtypes.element_type(dtypes.bool_)


# One operand


class FunctionOp(UnaryOp, ABC):
    """A function of one operand without parameters."""

    x = operand_def(TensorType)

    def __init__(self, x: Value, location: LocationAttr | None = None) -> None:
        self._init([x], {}, location)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (
            restore(numerics.UNARY[self.name.removeprefix("graph.")](operands[0]), self.result),
        )


@irdl_op_definition
class ReluOp(FunctionOp):
    """max(x, 0); of a quantized tensor, max(x, zero point) of the stored values.

    `%1 = graph.relu %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.relu"
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8")

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        quant = quant_of(self.result)
        if quant is None:
            return super().evaluate(*operands)
        x = operands[0]
        _, zero = quant.along(x.ndim)
        return (restore(numerics.maximum(x, np.asarray(zero, x.dtype)), self.result),)


@irdl_op_definition
class NegOp(FunctionOp):
    """-x; integers wrap.

    `%1 = graph.neg %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.neg"
    ELEMENTS: ClassVar[tuple[str, ...]] = WIDE


@irdl_op_definition
class AbsOp(FunctionOp):
    """|x|; the smallest integer maps to itself.

    `%1 = graph.abs %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.abs"
    ELEMENTS: ClassVar[tuple[str, ...]] = WIDE


@irdl_op_definition
class NotOp(FunctionOp):
    """The logical opposite.

    `%1 = graph.not %0 : (tensor<4xi1>) -> tensor<4xi1>`
    """

    name = "graph.not"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("bool",)


@irdl_op_definition
class ExpOp(FunctionOp):
    """e**x.

    `%1 = graph.exp %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.exp"


@irdl_op_definition
class LogOp(FunctionOp):
    """The natural logarithm.

    `%1 = graph.log %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.log"


@irdl_op_definition
class SqrtOp(FunctionOp):
    """The square root, rounded once.

    `%1 = graph.sqrt %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.sqrt"


@irdl_op_definition
class RsqrtOp(FunctionOp):
    """1 / sqrt(x), rounded after the root and after the division.

    `%1 = graph.rsqrt %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.rsqrt"


@irdl_op_definition
class ReciprocalOp(FunctionOp):
    """1 / x.

    `%1 = graph.reciprocal %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.reciprocal"


@irdl_op_definition
class TanhOp(FunctionOp):
    """The hyperbolic tangent.

    `%1 = graph.tanh %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.tanh"


@irdl_op_definition
class SigmoidOp(FunctionOp):
    """1 / (1 + exp(-x)).

    `%1 = graph.sigmoid %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.sigmoid"


@irdl_op_definition
class ErfOp(FunctionOp):
    """The error function.

    `%1 = graph.erf %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.erf"


@irdl_op_definition
class FloorOp(FunctionOp):
    """The greatest whole number that is not above x.

    `%1 = graph.floor %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.floor"


@irdl_op_definition
class CeilOp(FunctionOp):
    """The smallest whole number that is not below x.

    `%1 = graph.ceil %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.ceil"


@irdl_op_definition
class RoundOp(FunctionOp):
    """The nearest whole number, of two equally near ones the even one.

    `%1 = graph.round %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.round"


@irdl_op_definition
class SinOp(FunctionOp):
    """The sine of x in radians.

    `%1 = graph.sin %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.sin"


@irdl_op_definition
class CosOp(FunctionOp):
    """The cosine of x in radians.

    `%1 = graph.cos %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.cos"


@irdl_op_definition
class SignOp(FunctionOp):
    """-1, 0 or 1.

    `%1 = graph.sign %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.sign"


@irdl_op_definition
class GeluOp(FunctionOp):
    """x * (1 + erf(x / sqrt(2))) / 2, the exact form.

    `%1 = graph.gelu %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.gelu"


@irdl_op_definition
class SiluOp(FunctionOp):
    """x * sigmoid(x).

    `%1 = graph.silu %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.silu"


@irdl_op_definition
class HardSwishOp(FunctionOp):
    """x * min(max(x + 3, 0), 6) / 6.

    `%1 = graph.hard_swish %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.hard_swish"


@irdl_op_definition
class SoftplusOp(FunctionOp):
    """log(1 + exp(x)).

    `%1 = graph.softplus %0 : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.softplus"


# One operand, with parameters


@irdl_op_definition
class ClampOp(UnaryOp):
    """min(max(x, min), max).

    Bounds are real numbers for f32, else integers; of a quantized tensor, stored values.

    `%1 = graph.clamp %0 {min = 0.0 : f32, max = 6.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.clamp"
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8")

    x = operand_def(TensorType)
    min = prop_def(IntegerAttr[I64] | FloatAttr[Float32Type])
    max = prop_def(IntegerAttr[I64] | FloatAttr[Float32Type])

    def __init__(
        self, x: Value, min: float, max: float, location: LocationAttr | None = None
    ) -> None:
        dtype = dtype_of(SSAValue.get(x))
        self._init([x], {"min": scalar(min, dtype), "max": scalar(max, dtype)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        dtype = dtype_of(types[0])
        low, high = (scalar_of(properties[k], dtype, k) for k in ("min", "max"))
        if low > high:
            raise ValueError(f"min must not be above max; found {low} and {high}")
        return super().infer(types, properties)

    @property
    def bounds(self) -> tuple[float, float]:
        """min and max as Python numbers (int for integer storage)."""
        return self.min.value.data, self.max.value.data

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.clamp(operands[0], *self.bounds), self.result),)


def scalar(value: float, dtype: DType) -> Attribute:
    """The attribute of one number of a storage type: f32 for floats, i64 for integers and bool."""
    return real(value) if dtype.is_float else integer(int(value))


def scalar_of(attribute: Attribute, dtype: DType, what: str) -> float:
    """The number of an attribute that `scalar` makes for `dtype`. ValueError for any other."""
    if dtype.is_float and isinstance(attribute, FloatAttr):
        return attribute.value.data
    if not dtype.is_float and isinstance(attribute, IntegerAttr):
        value = attribute.value.data
        low, high = (0, 1) if dtype is dtypes.bool_ else (dtype.low, dtype.high)
        if low <= value <= high:
            return value
    kind = "a number : f32" if dtype.is_float else f"an integer that {dtype} can hold"
    raise ValueError(f"{what} must be {kind}; found {attribute}")


@irdl_op_definition
class LeakyReluOp(UnaryOp):
    """x, or alpha * x where x < 0.

    `%1 = graph.leaky_relu %0 {alpha = 0.1 : f32} : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.leaky_relu"

    x = operand_def(TensorType)
    alpha = prop_def(Real)

    def __init__(self, x: Value, alpha: float = 0.01, location: LocationAttr | None = None) -> None:
        self._init([x], {"alpha": real(alpha)}, location)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.leaky_relu(operands[0], self.alpha.value.data), self.result),)


@irdl_op_definition
class EluOp(UnaryOp):
    """x, or alpha * (exp(x) - 1) where x < 0.

    `%1 = graph.elu %0 {alpha = 1.0 : f32} : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.elu"

    x = operand_def(TensorType)
    alpha = prop_def(Real)

    def __init__(self, x: Value, alpha: float = 1.0, location: LocationAttr | None = None) -> None:
        self._init([x], {"alpha": real(alpha)}, location)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.elu(operands[0], self.alpha.value.data), self.result),)


@irdl_op_definition
class HardSigmoidOp(UnaryOp):
    """min(max(alpha * x + beta, 0), 1).

    `%1 = graph.hard_sigmoid %0 {alpha = 0.2 : f32, beta = 0.5 : f32}
    : (tensor<4xf32>) -> tensor<4xf32>`
    """

    name = "graph.hard_sigmoid"

    x = operand_def(TensorType)
    alpha = prop_def(Real)
    beta = prop_def(Real)

    def __init__(
        self,
        x: Value,
        alpha: float = 0.2,
        beta: float = 0.5,
        location: LocationAttr | None = None,
    ) -> None:
        self._init([x], {"alpha": real(alpha), "beta": real(beta)}, location)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        alpha, beta = self.alpha.value.data, self.beta.value.data
        return (restore(numerics.hard_sigmoid(operands[0], alpha, beta), self.result),)


# Two operands


class BinaryOp(InferredOp, ABC):
    """Two operands of the same element type, which broadcast as in numpy."""

    ELEMENTS: ClassVar[tuple[str, ...]] = WIDE

    lhs = operand_def(TensorType)
    rhs = operand_def(TensorType)

    def __init__(self, lhs: Value, rhs: Value, location: LocationAttr | None = None) -> None:
        self._init([lhs, rhs], {}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        lhs, rhs = types
        require_element("the operands", lhs, cls.ELEMENTS)
        require_same_element(lhs, rhs)
        return tensor_type(_broadcast(types), cls.result_element(lhs.element_type))

    @classmethod
    def result_element(cls, operand: Attribute) -> Attribute:
        """The element type of the result."""
        return operand

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.BINARY[self.name.removeprefix("graph.")](*operands), self.result),)


def require_same_element(a: Tensor, b: Tensor) -> None:
    """Raise ValueError for tensors of different element types."""
    if a.element_type != b.element_type:
        raise ValueError(f"the operands must have the same element type; found {a} and {b}")


def _broadcast(types: Types) -> tuple[int, ...]:
    return shapes.broadcast(*(t.get_shape() for t in types))


@irdl_op_definition
class AddOp(BinaryOp):
    """a + b; integers wrap.

    `%2 = graph.add %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.add"


@irdl_op_definition
class SubOp(BinaryOp):
    """a - b; integers wrap.

    `%2 = graph.sub %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.sub"


@irdl_op_definition
class MulOp(BinaryOp):
    """a * b; integers wrap.

    `%2 = graph.mul %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.mul"


@irdl_op_definition
class DivOp(BinaryOp):
    """a / b; of integers, the quotient rounded toward zero (0 where b is 0).

    `%2 = graph.div %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.div"


@irdl_op_definition
class MaxOp(BinaryOp):
    """The greater of a and b; NaN where either is.

    `%2 = graph.max %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.max"


@irdl_op_definition
class MinOp(BinaryOp):
    """The smaller of a and b; NaN where either is.

    `%2 = graph.min %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.min"


@irdl_op_definition
class PowOp(BinaryOp):
    """a ** b.

    `%2 = graph.pow %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xf32>`
    """

    name = "graph.pow"
    ELEMENTS: ClassVar[tuple[str, ...]] = FLOAT


@irdl_op_definition
class AndOp(BinaryOp):
    """Bits set in both; of bool, whether both hold.

    `%2 = graph.and %0, %1 : (tensor<2x4xi1>, tensor<4xi1>) -> tensor<2x4xi1>`
    """

    name = "graph.and"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("bool", *INTS)


@irdl_op_definition
class OrOp(BinaryOp):
    """Bits set in either; of bool, whether at least one holds.

    `%2 = graph.or %0, %1 : (tensor<2x4xi1>, tensor<4xi1>) -> tensor<2x4xi1>`
    """

    name = "graph.or"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("bool", *INTS)


@irdl_op_definition
class XorOp(BinaryOp):
    """Bits set in exactly one; of bool, whether exactly one holds.

    `%2 = graph.xor %0, %1 : (tensor<2x4xi1>, tensor<4xi1>) -> tensor<2x4xi1>`
    """

    name = "graph.xor"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("bool", *INTS)


class ComparisonOp(BinaryOp, ABC):
    """Two operands of the same element type; a bool result."""

    ELEMENTS: ClassVar[tuple[str, ...]] = ("f32", "bool", *INTS)

    @classmethod
    def result_element(cls, operand: Attribute) -> Attribute:
        return BOOL

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        function = numerics.COMPARISON[self.name.removeprefix("graph.")]
        return (restore(function(*operands), self.result),)


@irdl_op_definition
class EqOp(ComparisonOp):
    """a == b.

    `%2 = graph.eq %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.eq"


@irdl_op_definition
class NeOp(ComparisonOp):
    """a != b.

    `%2 = graph.ne %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.ne"


@irdl_op_definition
class LtOp(ComparisonOp):
    """a < b.

    `%2 = graph.lt %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.lt"


@irdl_op_definition
class LeOp(ComparisonOp):
    """a <= b.

    `%2 = graph.le %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.le"


@irdl_op_definition
class GtOp(ComparisonOp):
    """a > b.

    `%2 = graph.gt %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.gt"


@irdl_op_definition
class GeOp(ComparisonOp):
    """a >= b.

    `%2 = graph.ge %0, %1 : (tensor<2x4xf32>, tensor<4xf32>) -> tensor<2x4xi1>`
    """

    name = "graph.ge"


# Selection and conversion


@irdl_op_definition
class WhereOp(InferredOp):
    """a where the condition holds, else b; all three broadcast.

    `%3 = graph.where %0, %1, %2 : (tensor<4xi1>, tensor<4xf32>, tensor<1xf32>) -> tensor<4xf32>`
    """

    name = "graph.where"

    condition = operand_def(TensorType)
    a = operand_def(TensorType)
    b = operand_def(TensorType)

    def __init__(
        self, condition: Value, a: Value, b: Value, location: LocationAttr | None = None
    ) -> None:
        self._init([condition, a, b], {}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        condition, a, b = types
        require_element("the condition", condition, ("bool",))
        require_same_element(a, b)
        require_per_tensor("the operands", a)
        return tensor_type(_broadcast(types), a.element_type)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.where(*operands), self.result),)


@irdl_op_definition
class CastOp(DeclaredOp):
    """The same numbers as another type; floats are truncated toward integers and saturate.

    `%1 = graph.cast %0 : (tensor<4xf32>) -> tensor<4xi32>`
    """

    name = "graph.cast"

    x = operand_def(TensorType)

    def __init__(self, x: Value, dtype: DType, location: LocationAttr | None = None) -> None:
        shape = shape_of(SSAValue.get(x))
        self._init([x], {}, tensor_type(shape, dtypes.element_type(dtype)), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        require_element("the operand", types[0], ANY)
        require_element("the result", result, ANY)
        require_shape(result, types[0].get_shape())

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.cast(operands[0], dtype_of(self.result)), self.result),)


OPS = [
    ReluOp,
    NegOp,
    AbsOp,
    NotOp,
    ExpOp,
    LogOp,
    SqrtOp,
    RsqrtOp,
    ReciprocalOp,
    TanhOp,
    SigmoidOp,
    ErfOp,
    FloorOp,
    CeilOp,
    RoundOp,
    SinOp,
    CosOp,
    SignOp,
    GeluOp,
    SiluOp,
    HardSwishOp,
    SoftplusOp,
    ClampOp,
    LeakyReluOp,
    EluOp,
    HardSigmoidOp,
    AddOp,
    SubOp,
    MulOp,
    DivOp,
    MaxOp,
    MinOp,
    PowOp,
    AndOp,
    OrOp,
    XorOp,
    EqOp,
    NeOp,
    LtOp,
    LeOp,
    GtOp,
    GeOp,
    WhereOp,
    CastOp,
]
