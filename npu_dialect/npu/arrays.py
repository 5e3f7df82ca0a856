"""Instructions of the mxu engine: convolutions and matrix products, with the output stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
from xdsl.irdl import irdl_op_definition, opt_prop_def, prop_def
from xdsl.utils.exceptions import VerifyException

from npu_dialect import cost, dtypes, functional
from npu_dialect.cost import ArrayWork
from npu_dialect.dtypes import DType
from npu_dialect.functional import Weights
from npu_dialect.functional.products import Window
from npu_dialect.kernel import Kernel
from npu_dialect.machine import Array, Machine, Operand
from npu_dialect.npu.base import Instruction, Values, kernel_of
from npu_dialect.npu.fields import Int, Ints, OperandField
from npu_dialect.npu.prepared import prepare, prepared
from npu_dialect.npu.streams import check_stream, stored_weights
from npu_dialect.target import Target
from npu_dialect.zeros import ALL_MADE


class ArrayInstruction(Instruction):
    """Shape shared by the array's instructions: sums of products, then the output stage.

    Sums are f32 for float operands and i32 or i64 (wrapping) for integer ones: what `partial` holds
    and the kernel takes. With `accumulate` they start from `partial`, else from zero. With `kernel`
    the output stage applies that kernel to them (first tensor: the sum; second: the residual, where
    there is one) and writes `output`; without it they are left in `partial`.

    Weights and parameters in dram are parts of constants. With `stream` and `row`, the weights are
    decoded as `npu.dma_decode` does, and lie densely then, in the order of their strides. An
    instruction that reads dram takes the place of the dma engine as long as its own is busy.
    """

    ENGINE: ClassVar[str] = "mxu"
    DEPTHWISE: ClassVar[bool] = False

    input = prop_def(OperandField("read", ("spm",)))
    weights = prop_def(OperandField("read", ("spm", "dram")))
    params = opt_prop_def(OperandField("read", ("spm", "dram")))
    """[rows, channels] 4-byte words for the kernel."""
    residual = opt_prop_def(OperandField("read", ("spm",)))
    """Shaped like the output."""
    table = opt_prop_def(OperandField("read", ("spm",)))
    """Entries for the kernel's look-ups: 256, or what interpolation takes."""
    partial = opt_prop_def(OperandField("update", ("acc",)))
    """Sums that come in or stay; shaped like the output."""
    output = opt_prop_def(OperandField("write", ("spm",)))
    accumulate = prop_def(Int(1))
    """Whether the sums start from `partial`."""
    kernel = opt_prop_def(Int(16))
    """Number of the kernel."""
    x_zero = prop_def(Int(17, signed=True))
    """Subtracted from every input element; padding is zero after that."""
    w_zero = prop_def(Int(17, signed=True))
    """Subtracted from every weight."""
    made = opt_prop_def(Int(6))
    """Of 64 parts of the products, those that the array makes: the others have weights of zero and
    are left out. Without it the array makes all.
    """
    stream = opt_prop_def(Int(32))
    """Bytes at the address of the weights of which these are decoded; without it they lie there."""
    row = opt_prop_def(Int(32))
    """Elements after which blocks of the stream begin anew."""

    def verify_(self) -> None:
        values = self.values()
        check_stream(values)
        if ("kernel" in values) != ("output" in values):
            raise VerifyException(
                "an array instruction must have both a kernel and an output, or neither"
            )
        needs_partial = values["accumulate"] or "kernel" not in values
        if needs_partial and "partial" not in values:
            raise VerifyException("an array instruction that accumulates must have partial sums")

    def places(self) -> Sequence[tuple[str, str, Operand]]:
        if self.stream is None:
            return self.operand_fields()
        read = stored_weights(self.values())
        return [(n, r, read if n == "weights" else o) for n, r, o in self.operand_fields()]

    def reads(self) -> list[Operand]:
        skip = () if cast(Any, self.accumulate).value.data else ("partial",)
        return [o for n, r, o in self.places() if r != "write" and n not in skip]

    @property
    def takes_dma(self) -> bool:
        return any(o.space == "dram" for _, _, o in self.operand_fields())

    def writes(self) -> list[Operand]:
        finished = self.kernel is not None
        name = "output" if finished else "partial"
        return [o for n, _, o in self.operand_fields() if n == name]

    @abstractmethod
    def sums(
        self, machine: Machine, values: Values, weights: Weights, start: Array | None, wide: bool
    ) -> Array:
        """The sums of products, shaped like the output, from `start` or zero; i64 where `wide`."""

    @abstractmethod
    def window(self, values: Values) -> Window:
        """How it goes over its input; a matrix product takes the rows as pixels."""

    @abstractmethod
    def work(self, values: Values) -> dict[str, int | bool]:
        """positions, taps, in_channels, out_channels, depthwise."""

    def execute(self, machine: Machine, values: Values) -> None:
        ready = prepared(machine, values)
        if ready is None:
            ready = prepare(machine, values, self.window(values), self.DEPTHWISE)
        if ready.run():
            return
        start = machine.view(values["partial"]) if values["accumulate"] else None
        wide = sum_type(values, machine.kernels) is dtypes.i64
        sums = ready.sums(start, wide)
        if sums is None:
            sums = self.sums(machine, values, ready.weights, start, wide)
        if "kernel" not in values:
            np.copyto(machine.view(values["partial"]), sums)
            return
        tensors = [sums]
        if "residual" in values:
            tensors.append(machine.view(values["residual"]))
        params = machine.view(values["params"]) if "params" in values else None
        table = machine.view(values["table"]) if "table" in values else None
        result = kernel_of(machine.kernels, values).evaluate(tensors, params, table)
        np.copyto(machine.view(values["output"]), result)

    def cost(self, target: Target, kernels: Sequence[Kernel]) -> cost.Cost:
        values = self.values()
        work = array_work(target, values, self.work(values), self.window(values), kernels)
        return cost.array(target, work)


def sum_type(values: Values, kernels: Sequence[Kernel]) -> DType:
    """The type of the sums: that of the partial ones, else what the kernel takes."""
    if "partial" in values:
        return values["partial"].dtype
    return kernel_of(kernels, values).tensors[0]


def array_work(
    target: Target,
    values: Values,
    work: dict[str, int | bool],
    window: Window,
    kernels: Sequence[Kernel],
) -> ArrayWork:
    """The numbers that an array instruction's cost depends on."""
    weights: Operand = values["weights"]
    sides: list[Operand] = [values[n] for n in ("params", "residual", "table") if n in values]
    constants = [o for o in (stored_weights(values), *sides) if o.space == "dram"]
    partial = values["partial"].size if "partial" in values else 0
    finished = "kernel" in values
    return ArrayWork(
        dtype=values["input"].dtype.name,
        passes=cost.weight_passes(weights.dtype.name),
        input_bytes=values["input"].size,
        weight_bytes=weights.size if weights.space == "spm" else 0,
        output_bytes=values["output"].size if finished else 0,
        side_bytes=sum(o.size for o in sides if o.space == "spm"),
        partial_reads=partial if values["accumulate"] else 0,
        partial_writes=0 if finished else partial,
        kernel_costs=kernel_of(kernels, values).costs() if finished else (),
        has_residual="residual" in values,
        rows=window.out_hw[0],
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        input_pixel=values["input"].strides[-2],
        output_pixel=values["output"].strides[-2] if finished else 0,
        made=values.get("made", ALL_MADE),
        dram_bytes=sum(int(cost.accessed(target, *o.runs)) for o in constants if o.size),
        decoded_bytes=weights.size if "stream" in values else 0,
        **work,  # type: ignore[arg-type]
    )


class WindowedInstruction(ArrayInstruction):
    """Shape shared by the convolutions: strides, dilations and implicit zero padding, all as (rows,
    columns).

    Padding below and to the right follows from the extents of the output.
    """

    strides = prop_def(Ints(2, 12))
    dilations = prop_def(Ints(2, 12))
    pads = prop_def(Ints(2, 12))
    """Rows above and columns to the left of the input."""

    def _positions(self, values: Values) -> tuple[int, ...]:
        return (values["output"] if "output" in values else values["partial"]).dims

    def window(self, values: Values) -> Window:
        rows, columns, _ = self._positions(values)
        return Window(
            image=values["input"].dims,
            kernel=values["weights"].dims[:2],
            out_hw=(rows, columns),
            strides=tuple(values["strides"]),
            dilations=tuple(values["dilations"]),
            corner=tuple(values["pads"]),
            fill=values["x_zero"],
        )

    def _convolve(
        self,
        function: Any,
        machine: Machine,
        values: Values,
        weights: Weights,
        start: Array | None,
        wide: bool,
    ) -> Array:
        rows, columns, _ = self._positions(values)
        top, left = values["pads"]
        result = function(
            machine.view(values["input"])[None],
            weights,
            strides=values["strides"],
            dilations=values["dilations"],
            pads=(top, left, 0, 0),
            x_zero=values["x_zero"],
            out_hw=(rows, columns),
            acc=None if start is None else start[None],
            wide=wide,
        )
        return result[0]


@irdl_op_definition
class Conv2DOp(WindowedInstruction):
    """Convolution of one tile: input [H, W, IC], weights [KH, KW, IC, OC], output [OH, OW, OC].

    ```
    npu.conv2d strides = [1, 1], input = <spm, 0x0, i8, [10, 34, 16], [544, 16, 1]>, ...
    ```
    """

    name = "npu.conv2d"
    OPCODE: ClassVar[int] = 3

    def sums(
        self, machine: Machine, values: Values, weights: Weights, start: Array | None, wide: bool
    ) -> Array:
        return self._convolve(functional.conv2d, machine, values, weights, start, wide)

    def work(self, values: Values) -> dict[str, int | bool]:
        rows, columns, channels = self._positions(values)
        kh, kw, ic, _ = values["weights"].dims
        return {
            "positions": rows * columns,
            "taps": kh * kw,
            "in_channels": ic,
            "out_channels": channels,
        }


@irdl_op_definition
class DepthwiseConv2DOp(WindowedInstruction):
    """Depthwise convolution of one tile: input [H, W, C], weights [KH, KW, C], output [OH, OW, C].

    ```
    npu.depthwise_conv2d input = <spm, 0x0, i8, [10, 34, 16], [544, 16, 1]>, weights = <...>, ...
    ```
    """

    name = "npu.depthwise_conv2d"
    OPCODE: ClassVar[int] = 4
    DEPTHWISE: ClassVar[bool] = True

    def sums(
        self, machine: Machine, values: Values, weights: Weights, start: Array | None, wide: bool
    ) -> Array:
        return self._convolve(functional.depthwise_conv2d, machine, values, weights, start, wide)

    def work(self, values: Values) -> dict[str, int | bool]:
        rows, columns, channels = self._positions(values)
        kh, kw, _ = values["weights"].dims
        return {
            "positions": rows * columns,
            "taps": kh * kw,
            "in_channels": 1,
            "out_channels": channels,
            "depthwise": True,
        }


@irdl_op_definition
class MatmulOp(ArrayInstruction):
    """Matrix product of one tile: input [M, K], weights [K, N], output [M, N].

    Sums run over ascending k.

    ```
    npu.matmul input = <spm, 0x0, i8, [4, 32], [32, 1]>, weights = <...>, accumulate = 0, ...
    ```
    """

    name = "npu.matmul"
    OPCODE: ClassVar[int] = 5

    def sums(
        self, machine: Machine, values: Values, weights: Weights, start: Array | None, wide: bool
    ) -> Array:
        return functional.matmul(
            machine.view(values["input"]),
            weights,
            x_zero=values["x_zero"],
            acc=start,
            wide=wide,
        )

    def window(self, values: Values) -> Window:
        m, k = values["input"].dims
        return Window((1, m, k), (1, 1), (1, m), fill=values["x_zero"])

    def work(self, values: Values) -> dict[str, int | bool]:
        m, k = values["input"].dims
        n = values["weights"].dims[1]
        return {"positions": m, "taps": 1, "in_channels": k, "out_channels": n}
