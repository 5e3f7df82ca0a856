"""Operations that move elements and compute nothing, on every element type; scales move along."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import (
    I64,
    Float32Type,
    FloatAttr,
    IntegerAttr,
    LocationAttr,
    TensorType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, var_operand_def

from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import (
    Integer,
    Integers,
    integer,
    integers,
    scalar,
    scalar_of,
    values,
)
from npu_dialect.graph.base import (
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
    restore,
    shape_of,
    tensor_type,
    type_of,
)
from npu_dialect.graph.quant import QuantType


@irdl_op_definition
class ReshapeOp(DeclaredOp):
    """The same elements in row-major order in another shape.

    `%1 = graph.reshape %0 : (tensor<1x4x4x8xf32>) -> tensor<1x128xf32>`
    """

    name = "graph.reshape"

    x = operand_def(TensorType)

    def __init__(
        self, x: Value, shape: Sequence[int], location: LocationAttr | None = None
    ) -> None:
        source, target = type_of(SSAValue.get(x)), tuple(map(int, shape))
        self._init([x], {}, tensor_type(target, _reshaped_element(source, target)), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        old, new = types[0].get_shape(), result.get_shape()
        if shapes.size(old) != shapes.size(new):
            raise ValueError(
                f"the result must have as many elements as the operand; found {list(new)} for "
                f"{list(old)}"
            )
        require_element_type(result, _reshaped_element(types[0], new))

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (operands[0].reshape(shape_of(self.result)),)


def _reshaped_element(source: Tensor, shape: tuple[int, ...]) -> Attribute:
    """A per-axis type follows its dimension, which must survive with as many elements before it."""
    quant = quant_of(source)
    if quant is None or quant.axis is None:
        return source.element_type
    old = source.get_shape()
    before = math.prod(old[: quant.axis])
    for axis, size in enumerate(shape):
        if size == old[quant.axis] and math.prod(shape[:axis]) == before:
            return quant.with_axis(axis)
    raise ValueError(
        f"a reshape must keep the dimension {quant.axis}, along which the operand is quantized; "
        f"found {list(old)} to {list(shape)}"
    )


def require_element_type(result: Tensor, element: Attribute) -> None:
    """Raise ValueError unless the result has that element type."""
    if result.element_type != element:
        raise ValueError(f"the result must have elements of type {element}; found {result}")


@irdl_op_definition
class TransposeOp(InferredOp):
    """Dimension i of the result is dimension permutation[i] of the operand.

    `%1 = graph.transpose %0 {permutation = [0, 2, 3, 1]}
    : (tensor<1x3x8x8xf32>) -> tensor<1x8x8x3xf32>`
    """

    name = "graph.transpose"

    x = operand_def(TensorType)
    permutation = prop_def(Integers)

    def __init__(
        self, x: Value, permutation: Sequence[int], location: LocationAttr | None = None
    ) -> None:
        self._init([x], {"permutation": integers(permutation)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        (x,) = types
        shape, order = x.get_shape(), values(properties["permutation"])
        if sorted(order) != list(range(len(shape))):
            raise ValueError(
                f"the permutation must name each of the {len(shape)} dimensions once; "
                f"found {list(order)}"
            )
        quant, element = quant_of(x), x.element_type
        if quant is not None and quant.axis is not None:
            element = quant.with_axis(order.index(quant.axis))
        return tensor_type(tuple(shape[i] for i in order), element)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (np.asarray(operands[0].transpose(values(self.permutation)), order="C"),)


@irdl_op_definition
class ConcatOp(InferredOp):
    """The operands one after the other along `axis`.

    `%2 = graph.concat %0, %1 {axis = 1} : (tensor<1x4xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>`
    """

    name = "graph.concat"

    inputs = var_operand_def(TensorType)
    axis = prop_def(Integer)

    def __init__(
        self, inputs: Sequence[Value], axis: int, location: LocationAttr | None = None
    ) -> None:
        self._init(inputs, {"axis": integer(axis)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        if not types:
            raise ValueError("there must be at least one operand; found none")
        first = types[0].get_shape()
        axis = shapes.check_axis(integer_of(properties["axis"]), len(first))
        for found in types[1:]:
            _check_alike(types[0], found, axis)
        total = sum(t.get_shape()[axis] for t in types)
        return tensor_type((*first[:axis], total, *first[axis + 1 :]), _joined_element(types, axis))

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (np.concatenate(operands, axis=self.axis.value.data),)


def _check_alike(first: Tensor, found: Tensor, axis: int) -> None:
    a, b = list(first.get_shape()), list(found.get_shape())
    if len(a) != len(b) or a[:axis] + a[axis + 1 :] != b[:axis] + b[axis + 1 :]:
        raise ValueError(
            f"the operands must agree except in dimension {axis}; found {first} and {found}"
        )


def _joined_element(types: Types, axis: int) -> Attribute:
    quants = [q for q in map(quant_of, types) if q is not None and q.axis == axis]
    if len(quants) == len(types):
        return _joined_quant(quants)
    for found in types[1:]:
        if found.element_type != types[0].element_type:
            raise ValueError(
                f"the operands must have the same element type; found {types[0]} and {found}"
            )
    return types[0].element_type


def _joined_quant(quants: Sequence[QuantType]) -> QuantType:
    """The type of tensors joined along the dimension along which they are quantized."""
    if len({(q.storage_dtype, q.low, q.high) for q in quants}) > 1:
        raise ValueError(f"the operands must have the same storage; found {quants[0]} and others")
    scales = np.concatenate([q.scales for q in quants])
    return quants[0].with_parameters(scales, np.concatenate([q.zero_points for q in quants]))


@irdl_op_definition
class SliceOp(InferredOp):
    """result[i] = x[starts + i * strides], of `sizes` elements; strides may be negative.

    `%1 = graph.slice %0 {starts = [0, 3], sizes = [1, 2], strides = [1, -2]}
    : (tensor<1x4xf32>) -> tensor<1x2xf32>`
    """

    name = "graph.slice"

    x = operand_def(TensorType)
    starts = prop_def(Integers)
    sizes = prop_def(Integers)
    strides = prop_def(Integers)

    def __init__(
        self,
        x: Value,
        starts: Sequence[int],
        sizes: Sequence[int],
        strides: Sequence[int] | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        steps = (1,) * len(starts) if strides is None else strides
        properties = {
            "starts": integers(starts),
            "sizes": integers(sizes),
            "strides": integers(steps),
        }
        self._init([x], properties, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        (x,) = types
        shape = x.get_shape()
        starts, sizes, strides = (
            shapes.check_length(k, values(properties[k]), len(shape)) for k in _SLICE
        )
        for dim, bounds in enumerate(zip(shape, starts, sizes, strides, strict=True)):
            _check_slice(dim, *bounds)
        quant, element = quant_of(x), x.element_type
        if quant is not None and quant.axis is not None:
            at = _indices(starts[quant.axis], sizes[quant.axis], strides[quant.axis])
            element = quant.with_parameters(quant.scales[at], quant.zero_points[at])
        return tensor_type(sizes, element)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        bounds = zip(*(values(self.properties[k]) for k in _SLICE), strict=True)
        return (np.asarray(operands[0][tuple(_slice(*b) for b in bounds)], order="C"),)


_SLICE = ("starts", "sizes", "strides")


def _check_slice(dim: int, extent: int, start: int, size: int, stride: int) -> None:
    last = start + (size - 1) * stride
    if stride == 0 or size < 0 or (size > 0 and not (0 <= start < extent and 0 <= last < extent)):
        raise ValueError(
            f"a slice must lie in the operand and its stride must not be 0; found start {start}, "
            f"size {size}, stride {stride} in dimension {dim} of {extent}"
        )


def _indices(start: int, size: int, stride: int) -> Array:
    return start + stride * np.arange(size)


def _slice(start: int, size: int, stride: int) -> slice:
    if size == 0:
        return slice(0, 0)
    stop = start + (size - 1) * stride + (1 if stride > 0 else -1)
    return slice(start, stop if stop >= 0 else None, stride)


@irdl_op_definition
class PadOp(InferredOp):
    """x with `low` elements of `value` before and `high` after it, per dimension.

    The value is a number : f32 for floats, else an integer; of a quantized tensor, a stored value.

    `%1 = graph.pad %0 {low = [0, 1], high = [0, 2], value = 0.0 : f32}
    : (tensor<1x4xf32>) -> tensor<1x7xf32>`
    """

    name = "graph.pad"

    x = operand_def(TensorType)
    low = prop_def(Integers)
    high = prop_def(Integers)
    value = prop_def(IntegerAttr[I64] | FloatAttr[Float32Type])

    def __init__(
        self,
        x: Value,
        low: Sequence[int],
        high: Sequence[int],
        value: float = 0,
        location: LocationAttr | None = None,
    ) -> None:
        fill = scalar(value, dtype_of(SSAValue.get(x)))
        self._init([x], {"low": integers(low), "high": integers(high), "value": fill}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        (x,) = types
        shape = x.get_shape()
        low, high = (
            shapes.check_least(k, shapes.check_length(k, values(properties[k]), len(shape)), 0)
            for k in ("low", "high")
        )
        scalar_of(properties["value"], dtype_of(x), "value")
        quant = quant_of(x)
        if quant is not None and quant.axis is not None and low[quant.axis] + high[quant.axis]:
            raise ValueError(f"the dimension of the scales must not be padded; found {x}")
        padded = tuple(a + b + c for a, b, c in zip(low, shape, high, strict=True))
        return tensor_type(padded, x.element_type)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        x, low = operands[0], values(self.low)
        result = np.full(shape_of(self.result), self.value.value.data, x.dtype)
        result[tuple(slice(a, a + d) for a, d in zip(low, x.shape, strict=True))] = x
        return (result,)


@irdl_op_definition
class BroadcastToOp(DeclaredOp):
    """x repeated to a shape that it broadcasts to, as in numpy.

    `%1 = graph.broadcast_to %0 : (tensor<4xf32>) -> tensor<2x3x4xf32>`
    """

    name = "graph.broadcast_to"

    x = operand_def(TensorType)

    def __init__(
        self, x: Value, shape: Sequence[int], location: LocationAttr | None = None
    ) -> None:
        source, target = type_of(SSAValue.get(x)), tuple(map(int, shape))
        self._init([x], {}, tensor_type(target, _broadcast_element(source, target)), location)

    @classmethod
    def check(cls, types: Types, properties: Properties, result: Tensor) -> None:
        old, new = types[0].get_shape(), result.get_shape()
        if len(old) > len(new) or shapes.broadcast(old, new) != new:
            raise ValueError(
                f"the operand must broadcast to the result; found {list(old)} and {list(new)}"
            )
        require_element_type(result, _broadcast_element(types[0], new))

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(operands[0], self.result),)


def _broadcast_element(source: Tensor, shape: tuple[int, ...]) -> Attribute:
    quant = quant_of(source)
    if quant is None or quant.axis is None:
        return source.element_type
    return quant.with_axis(quant.axis + len(shape) - source.get_num_dims())


OPS = [ReshapeOp, TransposeOp, ConcatOp, SliceOp, PadOp, BroadcastToOp]
