"""Convolution and matrix multiplication: exact integer accumulators, or ordered f32 sums."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

from xdsl.dialects.builtin import LocationAttr, StringAttr, TensorType, f32, i32, i64
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, opt_prop_def, prop_def

from npu_dialect import functional, numerics
from npu_dialect.graph import shapes
from npu_dialect.graph.attributes import (
    Integer,
    Integers,
    four,
    integer,
    integers,
    pair,
    string,
    values,
)
from npu_dialect.graph.base import (
    Array,
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
    require_rank,
    restore,
    shape_of,
    tensor_type,
)


class ContractionOp(InferredOp, ABC):
    """Products of two operands, summed; then an optional bias, one value per channel.

    f32 with f32 gives f32. Two operands of f16, or of bf16, whose products f32 holds exactly, give
    f32 where `sums` states it ("f32"). Quantized with quantized gives plain integers, of
    (a - zero_a) * (b - zero_b): i32 where both have 8 bits, i64 where one has 16. `sums` may state
    the other one ("i32", "i64"); sums wrap modulo 2**32 or 2**64. The bias has the type of the
    sums. The second operand may have one scale per index of its last dimension.
    """

    sums = opt_prop_def(StringAttr)

    @property
    def is_wide(self) -> bool:
        """Whether the sums are of 64 bits."""
        return self.type.element_type == i64

    def _finish(self, sums: Array, bias: Sequence[Array]) -> tuple[Array, ...]:
        return (restore(numerics.add(sums, bias[0]) if bias else sums, self.result),)

    def _zeros(self) -> tuple[int, int | Array]:
        """The zero points of the first two operands; 0 for f32."""
        first, second = (quant_of(v) for v in self.operands[:2])
        return first.zero_point if first else 0, second.zero() if second else 0


SUMS = {"i32": i32, "i64": i64}
"""The types that sums of integers can have."""


def result_element(a: Tensor, b: Tensor, properties: Properties) -> Attribute:
    """The element type of the sums of products of `a` and `b`."""
    for what, found in (("the first operand", a), ("the second operand", b)):
        require_element(what, found, ("f32", "f16", "bf16", "quant8", "quant16"))
    if (quant_of(a) is None) != (quant_of(b) is None):
        raise ValueError(f"both operands must be floats or both quantized; found {a} and {b}")
    if quant_of(a) is None and a.element_type != b.element_type:
        raise ValueError(f"both operands must have the same type of floats; found {a} and {b}")
    require_per_tensor("the first operand", a)
    quant = quant_of(b)
    if quant is not None and quant.axis not in (None, b.get_num_dims() - 1):
        raise ValueError(
            f"the second operand must be quantized along its last dimension; found {b}"
        )
    return _sums(a, b, properties.get("sums"))


def _sums(a: Tensor, b: Tensor, stated: Attribute | None) -> Attribute:
    """The stated type of the sums of integers, else the one that their storage types give."""
    if quant_of(a) is None:
        stated_as = stated.data if isinstance(stated, StringAttr) else None
        expected = None if a.element_type == f32 else "f32"
        if stated_as != expected:
            rule = "sums of f32 are f32" if expected is None else "sums of halves are stated as f32"
            raise ValueError(f"{rule}; found {stated or 'none'}")
        return f32
    if stated is None:
        return i32 if dtype_of(a).itemsize == dtype_of(b).itemsize == 1 else i64
    if not isinstance(stated, StringAttr) or stated.data not in SUMS:
        raise ValueError(f"sums must be {' or '.join(SUMS)}; found {stated}")
    return SUMS[stated.data]


def _stated(sums: str | None) -> dict[str, Attribute]:
    """The property that states the type of the sums, where it is stated."""
    return {} if sums is None else {"sums": string(sums)}


def check_bias(bias: Sequence[Tensor], channels: int, element: Attribute) -> None:
    """Raise ValueError unless the bias (if any) has one value of `element` per channel."""
    expected = tensor_type((channels,), element)
    if bias and bias[0] != expected:
        raise ValueError(f"the bias must be {expected}; found {bias[0]}")


@irdl_op_definition
class Conv2DOp(ContractionOp):
    """Two-dimensional convolution, channels last.

    x [N, H, W, C], w [KH, KW, C / groups, OC], bias [OC] -> [N, OH, OW, OC]. `pads` are top, left,
    bottom, right; padding holds the real number 0. A depthwise convolution has groups = C = OC. An
    f32 sum starts from +0.0 and ascends in (kh, kw, c), padding included; the bias comes last.

    `%3 = graph.conv2d %0, %1, %2
    {strides = [2, 2], pads = [0, 0, 1, 1], dilations = [1, 1], groups = 1}
    : (tensor<1x8x8x3xf32>, tensor<3x3x3x16xf32>, tensor<16xf32>) -> tensor<1x4x4x16xf32>`
    """

    name = "graph.conv2d"

    x = operand_def(TensorType)
    w = operand_def(TensorType)
    bias = opt_operand_def(TensorType)
    strides = prop_def(Integers)
    pads = prop_def(Integers)
    dilations = prop_def(Integers)
    groups = prop_def(Integer)

    def __init__(
        self,
        x: Value,
        w: Value,
        bias: Value | None = None,
        strides: Sequence[int] = (1, 1),
        pads: Sequence[int] = (0, 0, 0, 0),
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
        sums: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        properties = {
            "strides": integers(strides),
            "pads": integers(pads),
            "dilations": integers(dilations),
            "groups": integer(groups),
            **_stated(sums),
        }
        self._init([x, w, bias], properties, location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        x, w, *bias = types
        element = result_element(x, w, properties)
        batch, height, width, channels = require_rank("the input", x, 4)
        kh, kw, depth, out_channels = require_rank("the weights", w, 4)
        _check_groups(channels, depth, out_channels, integer_of(properties["groups"]))
        strides, pads, dilations = (values(properties[k]) for k in ("strides", "pads", "dilations"))
        rows, columns = shapes.window_shape((height, width), (kh, kw), strides, pads, dilations)
        check_bias(bias, out_channels, element)
        return tensor_type((batch, rows, columns, out_channels), element)

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel is convolved on its own, with one filter."""
        channels = shape_of(self.x)[3]
        return self.groups.value.data == channels == shape_of(self.w)[3] and channels > 1

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        x, w, *bias = operands
        x_zero, w_zero = self._zeros()
        sums = functional.conv2d(
            x,
            w,
            strides=pair(self.strides),
            dilations=pair(self.dilations),
            pads=four(self.pads),
            groups=self.groups.value.data,
            x_zero=x_zero,
            w_zero=w_zero,
            wide=self.is_wide,
        )
        return self._finish(sums, bias)


def _check_groups(channels: int, depth: int, out_channels: int, groups: int) -> None:
    if groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(
            f"groups must divide the {channels} channels of the input and the {out_channels} of "
            f"the result; found {groups}"
        )
    if depth * groups != channels:
        raise ValueError(
            f"the weights must have {channels // groups} input channels ({channels} in {groups} "
            f"groups); found {depth}"
        )


@irdl_op_definition
class MatmulOp(ContractionOp):
    """Matrix product: a [..., M, K], b [..., K, N], bias [N] -> [..., M, N].

    Leading dimensions broadcast. An f32 sum starts from +0.0 and ascends in k; the bias comes last.

    `%2 = graph.matmul %0, %1 : (tensor<1x4x8xf32>, tensor<8x16xf32>) -> tensor<1x4x16xf32>`
    """

    name = "graph.matmul"

    a = operand_def(TensorType)
    b = operand_def(TensorType)
    bias = opt_operand_def(TensorType)

    def __init__(
        self,
        a: Value,
        b: Value,
        bias: Value | None = None,
        sums: str | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        self._init([a, b, bias], _stated(sums), location)

    @classmethod
    def infer(cls, types: Types, properties: Properties) -> Tensor:
        a, b, *bias = types
        element = result_element(a, b, properties)
        left, right = a.get_shape(), b.get_shape()
        if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
            raise ValueError(f"the operands must be [..., M, K] and [..., K, N]; found {a} and {b}")
        check_bias(bias, right[-1], element)
        batch = shapes.broadcast(left[:-2], right[:-2])
        return tensor_type((*batch, left[-2], right[-1]), element)

    def evaluate(self, *operands: Array) -> tuple[Array, ...]:
        a, b, *bias = operands
        a_zero, b_zero = self._zeros()
        return self._finish(functional.matmul(a, b, a_zero, b_zero, wide=self.is_wide), bias)


OPS = [Conv2DOp, MatmulOp]
