"""The array's operations: convolutions and matrix products of tiles, and their output stage.

Every operand is a whole buffer value (take a view for a part).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    ArrayAttr,
    IntegerAttr,
    LocationAttr,
    MemRefType,
)
from xdsl.ir import BlockArgument, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    var_operand_def,
)
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel, KernelAttr
from npu_dialect.tile.attributes import Span, WindowAttr, spans_of, windows_of
from npu_dialect.tile.kernels import (
    KernelOp,
    Pair,
    broadcasts,
    check_pairs,
    image_dims,
    int_of,
    kernel_attr,
)
from npu_dialect.tile.structure import ForOp, check_windows
from npu_dialect.tile.syntax import (
    INDEX,
    Value,
    dtype_of,
    int_attr,
    ints,
    ints_constraint,
    shape_of,
)

STREAMED = ("w", "params")
"""The operands that an array may read in dram, if they are parts of constants."""


def sum_types(dtype: DType) -> tuple[DType, ...]:
    """The types that sums of products of `dtype` may have."""
    return (dtypes.f32,) if dtype.is_float else (dtypes.i32, dtypes.i64)


class ArrayOp(KernelOp, ABC):
    """Shape shared by the array's operations: sums of products (i32 or i64, wrapping, for integers,
    as `acc` holds and the kernel takes; f32 for floats).

    The sums go through the kernel (first tensor: the sum; second: `residual`, where there is one)
    to `out`. Without a kernel they stay in `acc`. `reduction` lists the indices of the loops that
    cut one sum into parts: the sum starts from zero where all of them are 0 and from `acc`
    otherwise, and the kernel runs only where all are at their last trip; before that, `acc` is
    written. `w` and `params` may be parts of constants in dram, on a target whose array reads
    there; all else lies on the chip.
    """

    INS: ClassVar[tuple[str, ...]] = ("x", "w")

    x = operand_def(MemRefType)
    w = operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    acc = opt_operand_def(MemRefType)
    out = opt_operand_def(MemRefType)
    reduction = var_operand_def(INDEX)
    x_zero = prop_def(IntegerAttr, default_value=int_attr(0))
    w_zero = prop_def(IntegerAttr, default_value=int_attr(0))

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @property
    def zero_points(self) -> Pair:
        """What is subtracted from every element of x and of w."""
        return int_of(self.x_zero), int_of(self.w_zero)

    @property
    def target(self) -> SSAValue:
        """The buffer with the extents of the result: `out`, or `acc` where there is none."""
        target = self.acc if self.out is None else self.out
        assert target is not None
        return target

    @property
    def sum_type(self) -> DType:
        """The type of the sums: that of `acc`, else what the kernel takes."""
        if self.acc is not None:
            return dtype_of(self.acc)
        kernel = self.kernel
        assert kernel is not None, "verified"
        known = sum_types(dtype_of(self.x))
        first = kernel.data.tensors[0] if kernel.data.tensors else known[0]
        return first if first in known else known[0]

    def verify_(self) -> None:
        self.check_memrefs()
        if (self.kernel is None) != (self.out is None):
            raise VerifyException("there must be both a kernel and an out, or neither")
        if self.acc is None and (self.out is None or self.reduction):
            raise VerifyException("there must be an acc, for sums that are partial or stay")
        if self.residual is not None and self.out is None:
            raise VerifyException("a residual must have a kernel that adds it")
        self._check_types()
        self._check_shapes()
        check_reduction(self.reduction)

    def _check_types(self) -> None:
        x, w = dtype_of(self.x), dtype_of(self.w)
        if x.is_float != w.is_float:
            raise VerifyException(
                f"x and w must both be integers or both floats, found {x} and {w}"
            )
        total, known = self.sum_type, sum_types(x)
        if total not in known:
            names = " or ".join(map(str, known))
            raise VerifyException(f"acc must be {names}, found {total}")
        if self.out is not None:
            extra = [] if self.residual is None else [dtype_of(self.residual)]
            self.check_kernel([total, *extra], self.out)

    def _check_shapes(self) -> None:
        shape = self.result_shape(shape_of(self.x), shape_of(self.w), shape_of(self.target))
        for name in ("acc", "out"):
            for value in self.operands_named(name):
                if shape_of(value) != shape:
                    raise VerifyException(
                        f"{name} must have the shape {list(shape)}, found {list(shape_of(value))}"
                    )
        if self.residual is not None and not broadcasts(shape_of(self.residual), shape):
            raise VerifyException(
                f"residual must broadcast to {list(shape)}, found {self.residual.type}"
            )

    def result_shape(
        self, x: tuple[int, ...], w: tuple[int, ...], found: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The shape that the result must have. Raises VerifyException where x and w do not fit."""
        raise NotImplementedError


def check_reduction(indices: Sequence[SSAValue]) -> None:
    """Raises VerifyException unless the values are indices of `tile.for` loops."""
    for index in indices:
        if not isinstance(index, BlockArgument) or not isinstance(index.block.parent_op(), ForOp):
            raise VerifyException(
                "reduction must list indices of tile.for loops, found another value"
            )


class WindowedOp(ArrayOp, ABC):
    """Shape shared by the convolutions: x [H, W, C] or [1, H, W, C], result of the same rank.

    `windows` are the rows and columns of the input that the result needs, before clamping: what
    lies before index 0 is zero padding above and to the left. Padding below and to the right
    follows from the extents of the result.
    """

    ivs = var_operand_def(INDEX)
    windows = prop_def(ArrayAttr[WindowAttr])
    strides = prop_def(ints_constraint(), default_value=ints([1, 1]))
    dilations = prop_def(ints_constraint(), default_value=ints([1, 1]))

    def __init__(
        self,
        x: Value,
        w: Value,
        windows: Sequence[Span],
        *,
        out: Value | None = None,
        kernel: Kernel | KernelAttr | None = None,
        params: Value | None = None,
        table: Value | None = None,
        residual: Value | None = None,
        acc: Value | None = None,
        reduction: Sequence[SSAValue] = (),
        strides: Pair = (1, 1),
        dilations: Pair = (1, 1),
        x_zero: int = 0,
        w_zero: int = 0,
        location: LocationAttr | None = None,
    ) -> None:
        """`windows`: the rows and the columns of the input, before clamping."""
        indices, windows_attr = windows_of(windows)
        super().__init__(
            operands=self.arrange(
                params=params,
                table=table,
                x=x,
                w=w,
                residual=residual,
                acc=acc,
                out=out,
                reduction=list(reduction),
                ivs=indices,
            ),
            properties={
                "kernel": kernel_attr(kernel),
                "x_zero": int_attr(x_zero),
                "w_zero": int_attr(w_zero),
                "windows": windows_attr,
                "strides": ints(strides),
                "dilations": ints(dilations),
            },
        )
        self.place(location)

    @property
    def spans(self) -> list[Span]:
        """The windows (rows, columns), named by their loop indices."""
        return spans_of(self.ivs, self.windows)

    def verify_(self) -> None:
        check_windows(self.windows, 2, len(self.ivs))
        check_pairs(strides=self.strides, dilations=self.dilations)
        super().verify_()

    @property
    def kernel_size(self) -> Pair:
        """Rows and columns of the filter."""
        shape = shape_of(self.w)
        return shape[0], shape[1]


@irdl_op_definition
class Conv2DOp(WindowedOp):
    """Convolution of a tile: x [H, W, IC], w [KH, KW, IC, OC], result [OH, OW, OC].

    ```
    tile.conv2d ins(%x, %w : memref<10x34x16xi8, "spm">, memref<3x3x16x32xi8, "spm">)
      out(%y : memref<8x32x32xi8, "spm">) params(%p : memref<2x32xi32, "spm">)
      window [%i * 8 - 1 : 10, -1 : 34] {kernel = #npu.kernel<"...">, x_zero = 3}
    ```
    """

    name = "tile.conv2d"

    def result_shape(
        self, x: tuple[int, ...], w: tuple[int, ...], found: tuple[int, ...]
    ) -> tuple[int, ...]:
        image = image_dims("x", x)
        if len(w) != 4 or w[2] != image[2]:
            raise VerifyException(
                f"w must have the shape [KH, KW, {image[2]}, OC], found {list(w)}"
            )
        rows, columns, _ = image_dims("the result", found)
        return (*x[:-3], rows, columns, w[3])


@irdl_op_definition
class DepthwiseConv2DOp(WindowedOp):
    """Depthwise convolution of a tile: x [H, W, C], w [KH, KW, C], result [OH, OW, C].

    ```
    tile.depthwise_conv2d ins(%x, %w : memref<10x34x16xi8, "spm">, memref<3x3x16xi8, "spm">)
      acc(%a : memref<8x32x16xi32, "acc">) window [%i * 8 - 1 : 10, -1 : 34]
    ```
    """

    name = "tile.depthwise_conv2d"

    def result_shape(
        self, x: tuple[int, ...], w: tuple[int, ...], found: tuple[int, ...]
    ) -> tuple[int, ...]:
        image = image_dims("x", x)
        if len(w) != 3 or w[2] != image[2]:
            raise VerifyException(f"w must have the shape [KH, KW, {image[2]}], found {list(w)}")
        rows, columns, _ = image_dims("the result", found)
        return (*x[:-3], rows, columns, w[2])


@irdl_op_definition
class MatmulOp(ArrayOp):
    """Matrix product of a tile: x [M, K], w [K, N], result [M, N].

    ```
    tile.matmul ins(%a, %b : memref<4x8xi8, "spm">, memref<8x16xi8, "spm">)
      acc(%c : memref<4x16xi32, "acc">) out(%y : memref<4x16xi8, "spm">) reduction [%k]
      {kernel = #npu.kernel<"...">}
    ```
    """

    name = "tile.matmul"

    def __init__(
        self,
        x: Value,
        w: Value,
        *,
        out: Value | None = None,
        kernel: Kernel | KernelAttr | None = None,
        params: Value | None = None,
        table: Value | None = None,
        residual: Value | None = None,
        acc: Value | None = None,
        reduction: Sequence[SSAValue] = (),
        x_zero: int = 0,
        w_zero: int = 0,
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=self.arrange(
                params=params,
                table=table,
                x=x,
                w=w,
                residual=residual,
                acc=acc,
                out=out,
                reduction=list(reduction),
            ),
            properties={
                "kernel": kernel_attr(kernel),
                "x_zero": int_attr(x_zero),
                "w_zero": int_attr(w_zero),
            },
        )
        self.place(location)

    def result_shape(
        self, x: tuple[int, ...], w: tuple[int, ...], found: tuple[int, ...]
    ) -> tuple[int, ...]:
        if len(x) != 2 or len(w) != 2 or x[1] != w[0]:
            raise VerifyException(
                f"x and w must have the shapes [M, K] and [K, N], found {list(x)} and {list(w)}"
            )
        return (x[0], w[1])
