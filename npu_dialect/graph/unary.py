"""Functions of one operand. Each means the function of its name in `npu_dialect.numerics`."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

import numpy as np
from xdsl.dialects.builtin import I64, Float32Type, FloatAttr, IntegerAttr, LocationAttr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import numerics
from npu_dialect.graph.attributes import Real, real, scalar, scalar_of
from npu_dialect.graph.base import (
    WIDE,
    Array,
    Properties,
    Tensor,
    Types,
    UnaryOp,
    Value,
    dtype_of,
    quant_of,
    restore,
)

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
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8", "quant16")

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
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8", "quant16")

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
]
