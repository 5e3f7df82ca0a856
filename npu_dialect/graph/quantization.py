"""Between real numbers and stored integers, and from one quantization to another."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import LocationAttr, StringAttr, TensorType, f32
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import dtypes, numerics
from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import (
    ROUNDINGS,
    Integer,
    RequantAttr,
    integer,
    string,
)
from npu_dialect.graph.base import (
    ANY,
    FLOAT,
    Array,
    DeclaredOp,
    InferredOp,
    Properties,
    Tensor,
    Types,
    Value,
    dtype_of,
    integer_of,
    quant_of,
    require_element,
    require_per_tensor,
    require_shape,
    restore,
    shape_of,
    tensor_type,
    type_of,
)
from npu_dialect.graph.quant import QuantType


@irdl_op_definition
class QuantizeOp(DeclaredOp):
    """saturate(rint(x / scale) + zero point), as ONNX QuantizeLinear; the division in f32.

    `%1 = graph.quantize %0 : (tensor<4xf32>) -> tensor<4x!quant.uniform<i8:f32, 0.05:-3>>`
    """

    name = "graph.quantize"

    x = operand_def(TensorType)

    def __init__(self, x: Value, type: QuantType, location: LocationAttr | None = None) -> None:
        self._init([x], {}, tensor_type(shape_of(SSAValue.get(x)), type), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        require_element("the operand", types[0], FLOAT)
        require_element("the result", result, ("quant",))
        require_shape(result, types[0].get_shape())

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        quant = _quant(self.type)
        scale, zero = quant.along(operands[0].ndim)
        found = numerics.quantize(operands[0], scale, zero, quant.storage_dtype)
        return (restore(_into_range(found, quant), self.result),)


def _quant(found: Tensor) -> QuantType:
    quant = quant_of(found)
    assert quant is not None, "verified"
    return quant


def _into_range(found: Array, quant: QuantType) -> Array:
    """Saturate to a storage range that is narrower than the storage type."""
    return numerics.clamp(found, quant.low, quant.high)


@irdl_op_definition
class DequantizeOp(InferredOp):
    """(x - zero point) * scale in f32, rounded once.

    `%1 = graph.dequantize %0 : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>) -> tensor<4xf32>`
    """

    name = "graph.dequantize"

    x = operand_def(TensorType)

    def __init__(self, x: Value, location: LocationAttr | None = None) -> None:
        self._init([x], {}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        require_element("the operand", types[0], ("quant",))
        return tensor_type(types[0].get_shape(), f32)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        scale, zero = _quant(type_of(self.x)).along(operands[0].ndim)
        return (restore(numerics.dequantize(operands[0], scale, zero), self.result),)


@irdl_op_definition
class RequantizeOp(DeclaredOp):
    """saturate(rescale(x - zero point of x) + zero point of the result), as the recipe says.

    x is i32 or i64 (zero point 0) or quantized; the result is quantized, or i32 (zero point 0). A
    recipe with several multipliers has one per index of the last dimension. The scales of the types
    take no part.

    `%1 = graph.requantize %0 {recipe = #graph.requant<f32, [0.0123]>}
    : (tensor<1x4x4x8xi32>) -> tensor<1x4x4x8x!quant.uniform<i8:f32, 0.05:-3>>`
    """

    name = "graph.requantize"

    x = operand_def(TensorType)
    recipe = prop_def(RequantAttr)

    def __init__(
        self,
        x: Value,
        recipe: RequantAttr,
        type: Attribute,
        location: LocationAttr | None = None,
    ) -> None:
        result = tensor_type(shape_of(SSAValue.get(x)), type)
        self._init([x], {"recipe": recipe}, result, location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        require_element("the operand", types[0], ("i32", "i64", "quant"))
        require_element("the result", result, ("i32", "quant"))
        for what, found in (("the operand", types[0]), ("the result", result)):
            require_per_tensor(what, found)
        shape = types[0].get_shape()
        require_shape(result, shape)
        recipe = properties["recipe"]
        assert isinstance(recipe, RequantAttr)
        if recipe.data.rounding == "double" and dtype_of(types[0]) is dtypes.i64:
            raise ValueError(f"double rounding must be of 32 bits; found {types[0]}")
        last = shape[-1] if shape else 1
        if recipe.data.channels not in (1, last):
            raise ValueError(
                f"the recipe must have 1 multiplier or {last} (the last dimension); "
                f"found {recipe.data.channels}"
            )

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        recipe, source, target = self.recipe.data, quant_of(self.x), quant_of(self.result)
        zero_in = source.zero_point if source else 0
        zero_out = target.zero_point if target else 0
        bounds = (target.low, target.high) if target else (dtypes.i32.low, dtypes.i32.high)
        if recipe.kind == "f32":
            found = numerics.requantize_f32(
                operands[0], recipe.multiplier, zero_in, zero_out, *bounds
            )
        else:
            found = numerics.requantize_fixed(
                operands[0],
                recipe.multiplier,
                recipe.shift,
                recipe.rounding,
                zero_in,
                zero_out,
                *bounds,
            )
        return (restore(found.reshape(operands[0].shape), self.result),)


MOST_SHIFT = 62
"""The greatest right shift of a 64-bit product."""


@irdl_op_definition
class RescaleOp(DeclaredOp):
    """saturate((x - zero point of x) * multiplier / 2**shift + zero point of the result).

    The multiplier is i32, of run time, and broadcasts with x as in numpy. The product is exact in
    64 bits, and the quotient rounded as `rounding` says (`numerics.requantize_fixed`). x is i32
    (zero point 0) or quantized; the result is quantized, or i32 (zero point 0). The scales of the
    types take no part.

    `%2 = graph.rescale %0, %1 {shift = 30, rounding = "half_even"}
    : (tensor<2x4xi32>, tensor<2x1xi32>) -> tensor<2x4x!quant.uniform<i8:f32, 0.05:-3>>`
    """

    name = "graph.rescale"

    x = operand_def(TensorType)
    multiplier = operand_def(TensorType)
    shift = prop_def(Integer)
    rounding = prop_def(StringAttr)

    def __init__(
        self,
        x: Value,
        multiplier: Value,
        shift: int,
        type: Attribute,
        rounding: str = "half_even",
        location: LocationAttr | None = None,
    ) -> None:
        operands = [SSAValue.get(x), SSAValue.get(multiplier)]
        result = tensor_type(shapes.broadcast(*map(shape_of, operands)), type)
        properties = {"shift": integer(shift), "rounding": string(rounding)}
        self._init(operands, properties, result, location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        for what, found in (("the operand", types[0]), ("the result", result)):
            require_element(what, found, ("i32", "quant"))
            require_per_tensor(what, found)
        require_element("the multiplier", types[1], ("i32",))
        require_shape(result, shapes.broadcast(*(t.get_shape() for t in types)))
        shift, rounding = integer_of(properties["shift"]), properties["rounding"]
        if not 0 <= shift <= MOST_SHIFT:
            raise ValueError(f"the shift must be 0 to {MOST_SHIFT}; found {shift}")
        if not isinstance(rounding, StringAttr) or rounding.data not in ROUNDINGS:
            raise ValueError(f"the rounding must be {' or '.join(ROUNDINGS)}; found {rounding}")

    @property
    def ends(self) -> tuple[int, int, int, int]:
        """Zero point of the operand, zero point, least and greatest value of the result."""
        source, target = quant_of(self.x), quant_of(self.result)
        zero_in = source.zero_point if source else 0
        if target is None:
            return zero_in, 0, dtypes.i32.low, dtypes.i32.high
        return zero_in, target.zero_point, target.low, target.high

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        x, multiplier = np.broadcast_arrays(*operands)
        shift, rounding = self.shift.value.data, self.rounding.data
        found = numerics.requantize_fixed(x, multiplier, shift, rounding, *self.ends)
        return (restore(found.reshape(shape_of(self.result)), self.result),)


@irdl_op_definition
class LookupOp(DeclaredOp):
    """table[i], where i is a stored value of 8 bits: as it is for u8, plus 128 for i8.

    `%2 = graph.lookup %0, %1
    : (tensor<4x!quant.uniform<i8:f32, 0.05:-3>>, tensor<256xi8>)
    -> tensor<4x!quant.uniform<i8:f32, 0.1>>`
    """

    name = "graph.lookup"

    x = operand_def(TensorType)
    table = operand_def(TensorType)

    def __init__(
        self, x: Value, table: Value, type: Attribute, location: LocationAttr | None = None
    ) -> None:
        self._init([x, table], {}, tensor_type(shape_of(SSAValue.get(x)), type), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        x, table = types
        require_element("the operand", x, ("i8", "u8", "quant8"))
        require_element("the table", table, (*ANY, "quant"))
        if table.get_shape() != (256,):
            raise ValueError(f"the table must have the shape [256]; found {table}")
        require_shape(result, x.get_shape())
        if dtype_of(result) != dtype_of(table):
            raise ValueError(
                f"the result must have the storage type of the table; found {result} from {table}"
            )

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(numerics.lookup(*operands), self.result),)


@irdl_op_definition
class InterpolateOp(DeclaredOp):
    """The line between two entries of a table, for stored values of 16 bits.

    The table has 2**k + 1 entries, k from 4 to 12, for values 2**(16 - k) apart, from -2**15 to
    2**15; what lies between is computed as `numerics.interpolate` states, and wraps to the result's
    storage type.

    `%2 = graph.interpolate %0, %1
    : (tensor<4x!quant.uniform<i16:f32, 0.001>>, tensor<513xi16>)
    -> tensor<4x!quant.uniform<i16:f32, 0.1>>`
    """

    name = "graph.interpolate"

    x = operand_def(TensorType)
    table = operand_def(TensorType)

    def __init__(
        self, x: Value, table: Value, type: Attribute, location: LocationAttr | None = None
    ) -> None:
        self._init([x, table], {}, tensor_type(shape_of(SSAValue.get(x)), type), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        x, table = types
        require_element("the operand", x, ("i16", "quant16"))
        if dtype_of(x) is not dtypes.i16:
            raise ValueError(f"the operand must be stored as i16; found {x}")
        require_element("the table", table, ("i8", "u8", "i16", "u16", "i32"))
        if table.get_shape() not in TABLE_SHAPES:
            raise ValueError(f"the table must have 2**k + 1 entries, k 4 to 12; found {table}")
        require_shape(result, x.get_shape())
        if dtype_of(result) != dtype_of(table):
            raise ValueError(
                f"the result must have the storage type of the table; found {result} from {table}"
            )

    @property
    def shift(self) -> int:
        """Bits of a value that lie between two entries."""
        return 16 - (shape_of(self.table)[0] - 1).bit_length() + 1

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        x, table = operands
        found = numerics.interpolate(x, table, self.shift)
        return (restore(found.astype(dtype_of(self.result).numpy), self.result),)


TABLE_SHAPES = tuple(((1 << k) + 1,) for k in range(4, 13))
"""Those of the tables between whose entries is interpolated."""

OPS = [QuantizeOp, DequantizeOp, RequantizeOp, RescaleOp, LookupOp, InterpolateOp]
