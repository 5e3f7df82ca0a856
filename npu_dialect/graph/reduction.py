"""Reductions over dimensions, and the normalizations that are made of them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import LocationAttr, TensorType, i32
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import functional, numerics
from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import Integer, Integers, Real, integer, integers, real, values
from npu_dialect.graph.base import (
    FLOAT,
    WIDE,
    Array,
    InferredOp,
    Properties,
    Tensor,
    Types,
    UnaryOp,
    Value,
    dtype_of,
    integer_of,
    quant_of,
    require_element,
    require_per_tensor,
    restore,
    tensor_type,
)


class ReduceOp(InferredOp, ABC):
    """One value per index of the other dimensions; the reduced `axes` stay, with length 1.

    f32 sums and products ascend in row-major order over the reduced dimensions; integers wrap.
    """

    ELEMENTS: ClassVar[tuple[str, ...]] = WIDE

    x = operand_def(TensorType)
    axes = prop_def(Integers)

    def __init__(self, x: Value, axes: Sequence[int], location: LocationAttr | None = None) -> None:
        self._init([x], {"axes": integers(axes)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        (x,) = types
        require_element("the operand", x, cls.ELEMENTS)
        require_per_tensor("the operand", x)
        shape = x.get_shape()
        axes = shapes.check_axes(values(properties["axes"]), len(shape))
        kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
        return tensor_type(kept, cls.result_element(x))

    @classmethod
    def result_element(cls, x: Tensor) -> Attribute:
        """The element type of the result."""
        return x.element_type

    @classmethod
    def kind(cls) -> str:
        """ "sum", "mean", "max", "min" or "prod"."""
        return cls.name.removeprefix("graph.reduce_")

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        quant = quant_of(self.x)
        zero = quant.zero_point if quant else 0
        found = functional.reduce(self.kind(), operands[0], values(self.axes), zero)
        return (restore(found, self.result),)


@irdl_op_definition
class ReduceSumOp(ReduceOp):
    """The sum; of a quantized tensor, the int32 sum of (x - zero point); of u16, the int32 sum.

    `%1 = graph.reduce_sum %0 {axes = [1, 2]} : (tensor<1x4x4x8xf32>) -> tensor<1x1x1x8xf32>`
    """

    name = "graph.reduce_sum"
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "u16", "quant8", "quant16")

    @classmethod
    def result_element(cls, x: Tensor) -> Attribute:
        return x.element_type if dtype_of(x).name in WIDE else i32


@irdl_op_definition
class ReduceMeanOp(ReduceOp):
    """The sum divided by the count.

    `%1 = graph.reduce_mean %0 {axes = [1, 2]} : (tensor<1x4x4x8xf32>) -> tensor<1x1x1x8xf32>`
    """

    name = "graph.reduce_mean"
    ELEMENTS: ClassVar[tuple[str, ...]] = FLOAT


@irdl_op_definition
class ReduceMaxOp(ReduceOp):
    """The greatest value; NaN where there is one.

    `%1 = graph.reduce_max %0 {axes = [3]} : (tensor<1x4x4x8xf32>) -> tensor<1x4x4x1xf32>`
    """

    name = "graph.reduce_max"
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8", "quant16")


@irdl_op_definition
class ReduceMinOp(ReduceOp):
    """The smallest value; NaN where there is one.

    `%1 = graph.reduce_min %0 {axes = [3]} : (tensor<1x4x4x8xf32>) -> tensor<1x4x4x1xf32>`
    """

    name = "graph.reduce_min"
    ELEMENTS: ClassVar[tuple[str, ...]] = (*WIDE, "quant8", "quant16")


@irdl_op_definition
class ReduceProdOp(ReduceOp):
    """The product.

    `%1 = graph.reduce_prod %0 {axes = [3]} : (tensor<1x4x4x8xf32>) -> tensor<1x4x4x1xf32>`
    """

    name = "graph.reduce_prod"


# Normalizations: they mean the elementwise operations and reductions that they state, in sequence.


class AxisOp(UnaryOp, ABC):
    """f32 in, f32 of the same shape out, along one `axis`."""

    x = operand_def(TensorType)
    axis = prop_def(Integer)

    def __init__(self, x: Value, axis: int, location: LocationAttr | None = None) -> None:
        self._init([x], {"axis": integer(axis)}, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        shapes.check_axis(integer_of(properties["axis"]), types[0].get_num_dims())
        return super().infer(types, properties)

    def _shifted(self, x: Array) -> Array:
        """x - max(x) along the axis."""
        return numerics.sub(x, functional.reduce("max", x, (self.axis.value.data,)))


@irdl_op_definition
class SoftmaxOp(AxisOp):
    """d = x - reduce_max(x); e = exp(d); e / reduce_sum(e).

    `%1 = graph.softmax %0 {axis = 1} : (tensor<1x10xf32>) -> tensor<1x10xf32>`
    """

    name = "graph.softmax"

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        e = numerics.exp(self._shifted(operands[0]))
        total = functional.reduce("sum", e, (self.axis.value.data,))
        return (restore(numerics.div(e, total), self.result),)


@irdl_op_definition
class LogSoftmaxOp(AxisOp):
    """d = x - reduce_max(x); d - log(reduce_sum(exp(d))).

    `%1 = graph.log_softmax %0 {axis = 1} : (tensor<1x10xf32>) -> tensor<1x10xf32>`
    """

    name = "graph.log_softmax"

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        d = self._shifted(operands[0])
        total = functional.reduce("sum", numerics.exp(d), (self.axis.value.data,))
        return (restore(numerics.sub(d, numerics.log(total)), self.result),)


@irdl_op_definition
class BatchNormOp(InferredOp):
    """s = scale / sqrt(variance + epsilon); (x - mean) * s + bias, parameters along `axis`.

    `%5 = graph.batch_norm %0, %1, %2, %3, %4 {axis = 3, epsilon = 1.0e-05 : f32}
    : (tensor<1x4x4x8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>, tensor<8xf32>)
    -> tensor<1x4x4x8xf32>`
    """

    name = "graph.batch_norm"

    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    bias = operand_def(TensorType)
    mean = operand_def(TensorType)
    variance = operand_def(TensorType)
    axis = prop_def(Integer)
    epsilon = prop_def(Real)

    def __init__(
        self,
        x: Value,
        scale: Value,
        bias: Value,
        mean: Value,
        variance: Value,
        axis: int,
        epsilon: float = 1e-5,
        location: LocationAttr | None = None,
    ) -> None:
        properties = {"axis": integer(axis), "epsilon": real(epsilon)}
        self._init([x, scale, bias, mean, variance], properties, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        x, *parameters = types
        require_element("the operand", x, FLOAT)
        axis = shapes.check_axis(integer_of(properties["axis"]), x.get_num_dims())
        _check_parameters(parameters, tensor_type((x.get_shape()[axis],), x.element_type))
        return x

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        along = [1] * operands[0].ndim
        along[self.axis.value.data] = -1
        scale, bias, mean, variance = (p.reshape(along) for p in operands[1:])
        deviation = numerics.sqrt(numerics.add(variance, self.epsilon.value.data))
        centred = numerics.sub(operands[0], mean)
        scaled = numerics.mul(centred, numerics.div(scale, deviation))
        return (restore(numerics.add(scaled, bias), self.result),)


@irdl_op_definition
class LayerNormOp(InferredOp):
    """Over the dimensions from `axis` on, whose shape scale and bias have:

    d = x - reduce_mean(x); d * rsqrt(reduce_mean(d * d) + epsilon) * scale + bias.

    `%3 = graph.layer_norm %0, %1, %2 {axis = 2, epsilon = 1.0e-05 : f32}
    : (tensor<1x4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> tensor<1x4x8xf32>`
    """

    name = "graph.layer_norm"

    x = operand_def(TensorType)
    scale = operand_def(TensorType)
    bias = operand_def(TensorType)
    axis = prop_def(Integer)
    epsilon = prop_def(Real)

    def __init__(
        self,
        x: Value,
        scale: Value,
        bias: Value,
        axis: int,
        epsilon: float = 1e-5,
        location: LocationAttr | None = None,
    ) -> None:
        properties = {"axis": integer(axis), "epsilon": real(epsilon)}
        self._init([x, scale, bias], properties, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        x, *parameters = types
        require_element("the operand", x, FLOAT)
        axis = shapes.check_axis(integer_of(properties["axis"]), x.get_num_dims())
        _check_parameters(parameters, tensor_type(x.get_shape()[axis:], x.element_type))
        return x

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        x, scale, bias = operands
        axes = range(self.axis.value.data, x.ndim)
        d = numerics.sub(x, functional.reduce("mean", x, axes))
        variance = functional.reduce("mean", numerics.mul(d, d), axes)
        inverse = numerics.rsqrt(numerics.add(variance, self.epsilon.value.data))
        scaled = numerics.mul(numerics.mul(d, inverse), scale)
        return (restore(numerics.add(scaled, bias), self.result),)


def _check_parameters(parameters: Types, expected: Tensor) -> None:
    for found in parameters:
        if found != expected:
            raise ValueError(f"every parameter must be {expected}; found {found}")


OPS = [
    ReduceSumOp,
    ReduceMeanOp,
    ReduceMaxOp,
    ReduceMinOp,
    ReduceProdOp,
    SoftmaxOp,
    LogSoftmaxOp,
    BatchNormOp,
    LayerNormOp,
]
