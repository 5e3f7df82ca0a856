"""Pooling over windows of height and width, channels last."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, TypedDict

from xdsl.dialects.builtin import I1, BoolAttr, IntegerAttr, LocationAttr, TensorType, i32
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, prop_def

from npu_dialect import functional
from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import Integers, four, integers, pair, values
from npu_dialect.graph.base import (
    FLOAT,
    Array,
    InferredOp,
    Properties,
    Tensor,
    Types,
    Value,
    quant_of,
    require_element,
    require_per_tensor,
    require_rank,
    restore,
    tensor_type,
)


class Window(TypedDict):
    """The windows of a pooling operation as `npu_dialect.functional` takes them."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]


class Pool2DOp(InferredOp, ABC):
    """One value per window and channel: x [N, H, W, C] -> [N, OH, OW, C].

    `pads` are top, left, bottom, right.
    """

    ELEMENTS: ClassVar[tuple[str, ...]] = FLOAT

    x = operand_def(TensorType)
    kernel = prop_def(Integers)
    strides = prop_def(Integers)
    pads = prop_def(Integers)
    dilations = prop_def(Integers)

    def __init__(
        self,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        location: LocationAttr | None = None,
    ) -> None:
        self._init([x], _window_properties(kernel, strides, pads, dilations), location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        (x,) = types
        require_element("the input", x, cls.ELEMENTS)
        batch, height, width, channels = require_rank("the input", x, 4)
        kernel, strides, pads, dilations = (values(properties[k]) for k in _WINDOW)
        rows, columns = shapes.window_shape((height, width), kernel, strides, pads, dilations)
        return tensor_type((batch, rows, columns, channels), cls.result_element(x))

    @classmethod
    def result_element(cls, x: Tensor) -> Attribute:
        """The element type of the result."""
        return x.element_type

    @property
    def window(self) -> Window:
        """kernel, strides, pads and dilations as tuples, by name."""
        return Window(
            kernel=pair(self.kernel),
            strides=pair(self.strides),
            pads=four(self.pads),
            dilations=pair(self.dilations),
        )


_WINDOW = ("kernel", "strides", "pads", "dilations")


def _window_properties(*lists: Sequence[int]) -> dict[str, Attribute]:
    return {name: integers(found) for name, found in zip(_WINDOW, lists, strict=True)}


@irdl_op_definition
class MaxPool2DOp(Pool2DOp):
    """The greatest value of each window; padding is -infinity or the smallest stored value.

    `%1 = graph.max_pool2d %0
    {kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]}
    : (tensor<1x4x4x8xf32>) -> tensor<1x2x2x8xf32>`
    """

    name = "graph.max_pool2d"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("f32", "i8", "u8", "i32", "quant8", "quant16")

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        return (restore(functional.max_pool2d(operands[0], **self.window), self.result),)


@irdl_op_definition
class SumPool2DOp(Pool2DOp):
    """The int32 sum of (x - zero point) of each window; padding adds nothing.

    `%1 = graph.sum_pool2d %0
    {kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1]}
    : (tensor<1x4x4x8x!quant.uniform<i8:f32, 0.5:3>>) -> tensor<1x2x2x8xi32>`
    """

    name = "graph.sum_pool2d"
    ELEMENTS: ClassVar[tuple[str, ...]] = ("quant8", "quant16")

    @classmethod
    def result_element(cls, x: Tensor) -> Attribute:
        require_per_tensor("the input", x)
        return i32

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        quant = quant_of(self.x)
        zero = quant.zero_point if quant else 0
        return (
            restore(functional.sum_pool2d(operands[0], **self.window, x_zero=zero), self.result),
        )


@irdl_op_definition
class AvgPool2DOp(Pool2DOp):
    """The mean of each window: the sum in row-major order, then divided by the count.

    The count is that of the positions inside x, or with `count_include_pad` inside the padded x.

    `%1 = graph.avg_pool2d %0
    {kernel = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1],
    count_include_pad = false}
    : (tensor<1x4x4x8xf32>) -> tensor<1x2x2x8xf32>`
    """

    name = "graph.avg_pool2d"

    count_include_pad = prop_def(IntegerAttr[I1])

    def __init__(
        self,
        x: Value,
        kernel: Sequence[int],
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        count_include_pad: bool = False,
        location: LocationAttr | None = None,
    ) -> None:
        properties = _window_properties(kernel, strides, pads, dilations)
        properties["count_include_pad"] = BoolAttr.from_bool(count_include_pad)
        self._init([x], properties, location)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        includes = bool(self.count_include_pad.value.data)
        result = functional.avg_pool2d(operands[0], **self.window, count_include_pad=includes)
        return (restore(result, self.result),)


OPS = [MaxPool2DOp, AvgPool2DOp, SumPool2DOp]
