"""The vector unit's operations on tiles: kernels, reductions, pools; and what the host computes.

Every operand is a whole buffer value (take a view for a part).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    ArrayAttr,
    IntegerAttr,
    LocationAttr,
    MemRefType,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
)
from xdsl.ir import SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    var_operand_def,
)
from xdsl.utils.exceptions import VerifyException

from npu_dialect import dtypes
from npu_dialect.dtypes import DType
from npu_dialect.kernel import Kernel, KernelAttr, widened
from npu_dialect.tile.attributes import Span, WindowAttr, spans_of, windows_of
from npu_dialect.tile.kernels import (
    KernelOp,
    Pair,
    broadcasts,
    check_pairs,
    image_dims,
    kernel_attr,
    type_names,
)
from npu_dialect.tile.structure import check_windows
from npu_dialect.tile.syntax import (
    INDEX,
    TileOp,
    Value,
    dtype_of,
    int_attr,
    ints,
    ints_constraint,
    shape_of,
    values_of,
)

REDUCTIONS = ("sum", "max", "min", "prod")
POOLS = ("max", "sum", "avg")


@irdl_op_definition
class VectorOp(KernelOp):
    """Applies a kernel elementwise to one to three operands, which broadcast (dimensions of extent
    1) to `out`.

    ```
    tile.vector ins(%a, %b : memref<8x16xi8, "spm">, memref<1x16xi8, "spm">)
      out(%y : memref<8x16xi8, "spm">)
      {kernel = #npu.kernel<"(t0: i8, t1: i8) -> i8: v0 = add.i32 t0, t1">}
    ```
    """

    INS: ClassVar[tuple[str, ...]] = ("inputs",)
    name = "tile.vector"

    inputs = var_operand_def(MemRefType)
    out = operand_def(MemRefType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        inputs: Sequence[Value],
        out: Value,
        kernel: Kernel | KernelAttr,
        *,
        params: Value | None = None,
        table: Value | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=self.arrange(params=params, table=table, inputs=list(inputs), out=out),
            properties={"kernel": kernel_attr(kernel)},
        )
        self.place(location)

    def verify_(self) -> None:
        self.check_memrefs()
        if self.kernel is None:
            raise VerifyException("a vector operation must have a kernel")
        if not 1 <= len(self.inputs) <= 3:
            raise VerifyException(f"there must be one to three inputs, found {len(self.inputs)}")
        for value in self.inputs:
            if not broadcasts(shape_of(value), shape_of(self.out)):
                raise VerifyException(
                    f"inputs must have the rank of out and broadcast to it, "
                    f"found {value.type} and {self.out.type}"
                )
        self.check_kernel([dtype_of(v) for v in self.inputs], self.out)


def _check_plain(
    op: KernelOp, x: SSAValue, out: SSAValue, allowed: Sequence[DType], value: DType
) -> None:
    """The types of an operation whose kernel is optional: without one, `out` must be one of
    `allowed`.
    """
    if op.kernel is not None:
        op.check_kernel([value], out)
    elif op.params is not None or op.table is not None:
        raise VerifyException("params and a table must have a kernel that uses them")
    elif dtype_of(out) not in allowed:
        raise VerifyException(
            f"out of {dtype_of(x)} must be one of ({type_names(allowed)}), found {dtype_of(out)}"
        )


@irdl_op_definition
class ReduceOp(KernelOp):
    """Reduces `axes`, which keep extent 1: kind sum, max, min or prod, in ascending row-major
    order.

    Sums and products are i32 (of x - x_zero, wrapping; i64 for i64) or f32, and that is what a
    kernel takes. Maximum and minimum keep the storage type when there is no kernel; a kernel takes
    them as i32, i64 or f32.

    ```
    tile.reduce ins(%x : memref<8x16xi8, "spm">) out(%y : memref<8x1xi32, "spm">)
      {kind = "sum", axes = [1], x_zero = 3}
    ```
    """

    INS: ClassVar[tuple[str, ...]] = ("x",)
    name = "tile.reduce"

    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    kind = prop_def(StringAttr)
    axes = prop_def(ints_constraint())
    x_zero = prop_def(IntegerAttr, default_value=int_attr(0))

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        x: Value,
        out: Value,
        kind: str,
        axes: Sequence[int],
        *,
        x_zero: int = 0,
        kernel: Kernel | KernelAttr | None = None,
        params: Value | None = None,
        table: Value | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=self.arrange(params=params, table=table, x=x, out=out),
            properties={
                "kernel": kernel_attr(kernel),
                "kind": StringAttr(kind),
                "axes": ints(axes),
                "x_zero": int_attr(x_zero),
            },
        )
        self.place(location)

    def verify_(self) -> None:
        self.check_memrefs()
        if self.kind.data not in REDUCTIONS:
            raise VerifyException(
                f"kind must be one of {', '.join(REDUCTIONS)}, found {self.kind.data}"
            )
        shape, axes = shape_of(self.x), values_of(self.axes)
        if sorted(set(axes)) != list(axes) or any(not 0 <= a < len(shape) for a in axes):
            raise VerifyException(
                f"axes must be ascending dimensions of x ({len(shape)}), found {list(axes)}"
            )
        expected = tuple(1 if a in axes else s for a, s in enumerate(shape))
        if shape_of(self.out) != expected:
            raise VerifyException(
                f"out must have the shape {list(expected)}, found {self.out.type}"
            )
        value = dtypes.BY_NAME[widened(dtype_of(self.x))]
        kept = self.kind.data in ("max", "min")
        allowed = [dtype_of(self.x)] if kept else [value]
        _check_plain(self, self.x, self.out, allowed, value)


@irdl_op_definition
class Pool2DOp(KernelOp):
    """Pools a tile: x [H, W, C], out [OH, OW, C]; kind max, sum (integers: of x - x_zero, i32) or
    avg (f32).

    `windows` are as in `tile.conv2d`. Padding is the least value for max and 0 for sum and avg,
    which divides by the whole window with `count_include_pad` and by the elements inside x
    otherwise. A maximum keeps the storage type when there is no kernel; a kernel takes i32 or f32.

    ```
    tile.pool2d ins(%x : memref<4x4x16xi8, "spm">) out(%y : memref<2x2x16xi8, "spm">)
      window [%i * 4 : 4, 0 : 4]
      {kind = "max", size = [2, 2], strides = [2, 2]}
    ```
    """

    INS: ClassVar[tuple[str, ...]] = ("x",)
    name = "tile.pool2d"

    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    ivs = var_operand_def(INDEX)
    windows = prop_def(ArrayAttr[WindowAttr])
    kind = prop_def(StringAttr)
    size = prop_def(ints_constraint())
    strides = prop_def(ints_constraint(), default_value=ints([1, 1]))
    dilations = prop_def(ints_constraint(), default_value=ints([1, 1]))
    count_include_pad = opt_prop_def(UnitAttr)
    x_zero = prop_def(IntegerAttr, default_value=int_attr(0))

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        x: Value,
        out: Value,
        kind: str,
        size: Pair,
        windows: Sequence[Span],
        *,
        strides: Pair = (1, 1),
        dilations: Pair = (1, 1),
        count_include_pad: bool = False,
        x_zero: int = 0,
        kernel: Kernel | KernelAttr | None = None,
        params: Value | None = None,
        table: Value | None = None,
        location: LocationAttr | None = None,
    ) -> None:
        """`windows`: the rows and the columns of the input, before clamping."""
        indices, windows_attr = windows_of(windows)
        super().__init__(
            operands=self.arrange(params=params, table=table, x=x, out=out, ivs=indices),
            properties={
                "kernel": kernel_attr(kernel),
                "windows": windows_attr,
                "kind": StringAttr(kind),
                "size": ints(size),
                "strides": ints(strides),
                "dilations": ints(dilations),
                "count_include_pad": UnitAttr() if count_include_pad else None,
                "x_zero": int_attr(x_zero),
            },
        )
        self.place(location)

    @property
    def spans(self) -> list[Span]:
        """The windows (rows, columns), named by their loop indices."""
        return spans_of(self.ivs, self.windows)

    def verify_(self) -> None:
        self.check_memrefs()
        kind, x = self.kind.data, dtype_of(self.x)
        if kind not in POOLS:
            raise VerifyException(f"kind must be one of {', '.join(POOLS)}, found {kind}")
        check_windows(self.windows, 2, len(self.ivs))
        check_pairs(size=self.size, strides=self.strides, dilations=self.dilations)
        image, result = image_dims("x", shape_of(self.x)), image_dims("out", shape_of(self.out))
        if image[2] != result[2] or len(shape_of(self.x)) != len(shape_of(self.out)):
            raise VerifyException(
                "x and out must have the same rank and channels, "
                f"found {self.x.type} and {self.out.type}"
            )
        if x.is_float == (kind == "sum") and kind != "max":
            raise VerifyException(f"sum must pool integers and avg floats, found {kind} of {x}")
        value = dtypes.BY_NAME[widened(x)]
        _check_plain(self, self.x, self.out, [x if kind == "max" else value], value)


@irdl_op_definition
class HostOp(TileOp):
    """Runs a function of graph operations on whole arrays in dram, by the host CPU or the io
    engine.

    ```
    tile.host ins(%a : memref<1x8xf32, "dram">) outs(%b : memref<1x8xi64, "dram">)
      {callee = @host_0, engine = "host"}
    ```
    """

    name = "tile.host"

    ins = var_operand_def(MemRefType)
    outs = var_operand_def(MemRefType)
    callee = prop_def(SymbolRefAttr)
    engine = prop_def(StringAttr, default_value=StringAttr("host"))

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        callee: str,
        ins: Sequence[Value],
        outs: Sequence[Value],
        *,
        engine: str = "host",
        location: LocationAttr | None = None,
    ) -> None:
        super().__init__(
            operands=self.arrange(ins=list(ins), outs=list(outs)),
            properties={"callee": SymbolRefAttr(callee), "engine": StringAttr(engine)},
        )
        self.place(location)

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.callee.root_reference.data

    def verify_(self) -> None:
        self.check_memrefs()
        if self.engine.data not in ("host", "io"):
            raise VerifyException(f'engine must be "host" or "io", found "{self.engine.data}"')
