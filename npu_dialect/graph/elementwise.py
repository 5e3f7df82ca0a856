"""Functions of several operands, selection, conversion: those of `npu_dialect.numerics`."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

from xdsl.dialects.builtin import LocationAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def

from npu_dialect import dtypes, numerics
from npu_dialect.dtypes import DType
from npu_dialect.graph import shapes
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
    Value,
    dtype_of,
    require_element,
    require_per_tensor,
    require_shape,
    restore,
    shape_of,
    tensor_type,
)

BOOL = dtypes.element_type(dtypes.bool_)


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
